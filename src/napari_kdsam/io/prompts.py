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
from pathlib import Path
from typing import Any

from napari_kdsam.core.errors import PromptError
from napari_kdsam.core.files import write_json
from napari_kdsam.core.prompts import ObjectPrompt, PromptSet

FORMAT_VERSION = 1
_IGNORED = ('image', 'result')


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
