"""Prompts as JSON, so that a segmentation can be repeated or carried to other images.

Version 1 is either one list of objects for every image::

    {"format": 1,
     "objects": [{"points": [[row, col], ...], "labels": [1, 0, ...],
                  "box": [row0, col0, row1, col1], "frame": 0}]}

or a list for each image, by its file name without folder::

    {"format": 1, "images": {"name.png": {"objects": [...]}}}

An object has points, a box, or both: coordinates in image pixels, pixel centres at
integers, boxes half-open; labels are 1 inside and 0 outside the object, all 1 if left
out. ``frame`` (counted from 0) limits an object to one frame of a stack; without it the
object is prompted in every frame.

``napari-kdsam segment`` writes its results in the first form, with what it found under
``image`` and ``result``; both are ignored here, so a result is also a prompts file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from napari_kdsam.errors import PromptError
from napari_kdsam.inference.prompts import Prompt
from napari_kdsam.io.writers import write_json

FORMAT_VERSION = 1
_IGNORED = ('image', 'result')


@dataclass(frozen=True)
class ObjectPrompt:
    """How one object is prompted.

    Attributes
    ----------
    prompt : Prompt
        Points and box in image pixel coordinates.
    frame : int or None
        The only frame the object is in; None for every frame.
    """

    prompt: Prompt
    frame: int | None = None

    def in_frame(self, index: int) -> bool:
        """Whether the object is prompted in a frame."""
        return self.frame is None or self.frame == index

    def to_dict(self) -> dict[str, Any]:
        """Write as plain values, for JSON; `from_dict` reads them."""
        value = self.prompt.to_dict()
        return value if self.frame is None else {**value, 'frame': self.frame}

    @classmethod
    def from_dict(cls, value: Any) -> ObjectPrompt:
        """Read one object.

        Raises
        ------
        PromptError
            If it is not of the form this module describes.
        """
        if not isinstance(value, Mapping):
            return cls(Prompt.from_dict(value))
        frame = value.get('frame')
        if frame is not None and (
            not isinstance(frame, int) or isinstance(frame, bool) or frame < 0
        ):
            raise PromptError(
                f'A frame must be a whole number counted from 0, not {frame!r}.'
            )
        rest = {key: value[key] for key in value if key not in ('frame', 'result')}
        return cls(Prompt.from_dict(rest), frame)


@dataclass(frozen=True)
class PromptSet:
    """The objects of a prompts file.

    Attributes
    ----------
    shared : tuple of ObjectPrompt
        Objects of every image that is not in `images`.
    images : dict
        File name to its tuple of `ObjectPrompt`.
    source : str
        Name of the file they came from, for messages.
    """

    shared: tuple[ObjectPrompt, ...] = ()
    images: Mapping[str, tuple[ObjectPrompt, ...]] = field(default_factory=dict)
    source: str = 'the prompts'

    def for_image(self, name: str) -> tuple[ObjectPrompt, ...]:
        """Find the objects of an image.

        Parameters
        ----------
        name : str
            File name without folder.

        Returns
        -------
        tuple of ObjectPrompt
            At least one.

        Raises
        ------
        PromptError
            If the image is not listed.
        """
        objects = self.images.get(name, self.shared)
        if not objects:
            raise PromptError(
                f'{self.source} has no objects for {name}; add it under "images".'
            )
        return objects


def read_prompts(path: str | os.PathLike[str]) -> PromptSet:
    """Read a prompts file, or a result of ``napari-kdsam segment``.

    Parameters
    ----------
    path : path-like
        JSON in the format this module describes.

    Returns
    -------
    PromptSet

    Raises
    ------
    PromptError
        If the file cannot be read or is not of that format; the message names the
        file and, where one is to blame, the object by its number counted from 1.
    """
    path = Path(path)
    try:
        value = json.loads(path.read_text(encoding='utf-8-sig'))
    except FileNotFoundError as error:
        raise PromptError(f'There is no prompts file {path.name}.') from error
    except OSError as error:
        reason = error.strerror or 'unknown reason'
        raise PromptError(f'{path.name} cannot be read ({reason}).') from error
    except (ValueError, RecursionError) as error:
        raise PromptError(
            f'{path.name} is not a JSON file; see napari-kdsam segment --help.'
        ) from error
    return _parse(value, path.name)


def _parse(value: Any, source: str) -> PromptSet:
    _check_keys(value, ('format', 'objects', 'images', *_IGNORED), source)
    if value.get('format') != FORMAT_VERSION:
        raise PromptError(
            f'{source} has the format {value.get("format")!r}; this napari-kdsam reads '
            f'"format": {FORMAT_VERSION}.'
        )
    if ('objects' in value) == ('images' in value):
        raise PromptError(f'{source} must have either "objects" or "images".')
    if 'objects' in value:
        return PromptSet(_objects(value['objects'], source), {}, source)
    if not isinstance(value['images'], Mapping):
        raise PromptError(f'{source}: "images" must map file names to their objects.')
    images = {}
    for name, entry in value['images'].items():
        where = f'{source}, image {name}'
        _check_keys(entry, ('objects', *_IGNORED), where)
        images[name] = _objects(entry.get('objects'), where)
    return PromptSet((), images, source)


def _check_keys(value: Any, known: Sequence[str], where: str) -> None:
    if not isinstance(value, Mapping):
        raise PromptError(f'{where} must be a JSON object like {{"objects": [...]}}.')
    unknown = sorted(set(value) - set(known))
    if unknown:
        usual = ', '.join(key for key in known if key not in _IGNORED)
        raise PromptError(f'{where} has the unknown key {unknown[0]!r}; use {usual}.')


def _objects(value: Any, where: str) -> tuple[ObjectPrompt, ...]:
    if not isinstance(value, list) or not value:
        raise PromptError(f'{where} must have a list of at least one object.')
    objects = []
    for number, item in enumerate(value, start=1):
        try:
            objects.append(ObjectPrompt.from_dict(item))
        except PromptError as error:
            raise PromptError(f'{where}, object {number}: {error}') from error
    return tuple(objects)


def write_prompts(path: str | os.PathLike[str], prompts: PromptSet) -> None:
    """Write a prompts file that `read_prompts` reads back.

    Parameters
    ----------
    path : path-like
        The file.
    prompts : PromptSet
        Shared objects, or objects of images.

    Raises
    ------
    PromptError
        If there are both shared objects and objects of images, or neither.
    ImageError
        If the file cannot be written.
    """
    if bool(prompts.shared) == bool(prompts.images):
        raise PromptError('Write either objects shared by all images, or by image.')
    value: dict[str, Any] = {'format': FORMAT_VERSION}
    if prompts.shared:
        value['objects'] = [item.to_dict() for item in prompts.shared]
    else:
        value['images'] = {
            name: {'objects': [item.to_dict() for item in objects]}
            for name, objects in prompts.images.items()
        }
    write_json(path, value)
