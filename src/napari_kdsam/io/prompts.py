"""Prompts files, so that a segmentation can be repeated or carried to other images.

There are three forms, told apart by their content: JSON of our own, a CSV table, and
COCO JSON, of which the box of each annotation is an object of its image.

Version 1 of our JSON is either one list of objects for every image::

    {"format": 1,
     "objects": [{"points": [[row, col], ...], "labels": [1, 0, ...],
                  "box": [row0, col0, row1, col1], "frame": 0}]}

or a list for each image, by its file name::

    {"format": 1, "images": {"name.png": {"objects": [...]}}}

An object has points, a box, or both: coordinates in image pixels, pixel centres at
integers, boxes half-open; labels are 1 inside and 0 outside the object, all 1 if left
out. ``frame`` (counted from 0) limits an object to one frame of a stack; without it the
object is prompted in every frame.

Where images of one name lie in several folders, the name has as many of the folders
before it as are needed, such as ``p1/frame_001.png``. Composed and decomposed letters
are equal.

``napari-kdsam segment`` writes its results in the first form, with what it found under
``image`` and ``result``; both are ignored here, so a result is also a prompts file.

The table has a line for each point or box. Its columns, in any order: ``image`` (file
name; empty for every image), ``frame`` (empty for every frame), ``object`` (lines with
the same number describe one object; empty for an object of its own), and either ``row``
and ``column`` with ``label`` (inside if empty) or ``row0``, ``column0``, ``row1`` and
``column1``. Every line has as many cells as the first (RFC 4180), and the decimal sign
is a point.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from napari_kdsam.core.errors import PromptError, excerpt, quoted
from napari_kdsam.core.files import write_json
from napari_kdsam.core.prompts import ObjectPrompt, Prompt, PromptSet

PROMPTS_FORMAT = 1
_IGNORED = ('image', 'result')
_POINT = ('row', 'column')
_BOX = ('row0', 'column0', 'row1', 'column1')
_COLUMNS = ('image', 'frame', 'object', *_POINT, 'label', *_BOX)


def read_prompts(path: str | os.PathLike[str]) -> PromptSet:
    """Read a prompts file, or a result of ``napari-kdsam segment``.

    Parameters
    ----------
    path : path-like
        In one of the forms that this module describes.

    Raises
    ------
    PromptError
        If the file cannot be read or is of another form; the message names the file
        and, where one is to blame, the line, or the object by its number counted from
        1.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding='utf-8-sig')
    except FileNotFoundError as error:
        raise PromptError(f'There is no prompts file {path.name}.') from error
    except OSError as error:
        reason = error.strerror or 'unknown reason'
        raise PromptError(f'{path.name} cannot be read ({reason}).') from error
    except ValueError as error:
        raise _of_no_form(path.name) from error
    if not text.lstrip().startswith(('{', '[')):
        try:
            return _parse_table(text, path.name)
        except csv.Error as error:
            raise _of_no_form(path.name) from error
    try:
        value = json.loads(text, object_pairs_hook=_without_doubles)
    except PromptError as error:
        raise PromptError(f'{path.name} {error}') from error
    except (ValueError, RecursionError) as error:
        raise PromptError(
            f'{path.name} is not a JSON file, or not complete; export it again.'
        ) from error
    if isinstance(value, Mapping) and 'annotations' in value:
        from napari_kdsam.io.coco import coco_prompts

        return coco_prompts(value, path.name)
    return _parse_json(value, path.name)


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse what would be lost, because a later value of the same key replaces it."""
    value = dict(pairs)
    if len(value) < len(pairs):
        ((twice, _),) = Counter(key for key, _ in pairs).most_common(1)
        raise PromptError(f'has the key {quoted(twice)} twice; keep one of them.')
    return value


def _of_no_form(source: str) -> PromptError:
    return PromptError(
        f'{source} is not a JSON file, nor a CSV table with the columns '
        f'{", ".join(_COLUMNS)}; see napari-kdsam segment --help.'
    )


def _parse_json(value: Any, source: str) -> PromptSet:
    _check_keys(value, ('format', 'objects', 'images', *_IGNORED), source)
    if value.get('format') != PROMPTS_FORMAT:
        raise PromptError(
            f'{source} has the format {quoted(value.get("format"))}; this napari-kdsam '
            f'reads "format": {PROMPTS_FORMAT}.'
        )
    if ('objects' in value) == ('images' in value):
        raise PromptError(f'{source} must have either "objects" or "images".')
    if 'objects' in value:
        return PromptSet(_objects(value['objects'], source), {}, source)
    if not isinstance(value['images'], Mapping):
        raise PromptError(f'{source}: "images" must map file names to their objects.')
    images = {}
    for name, entry in value['images'].items():
        where = f'{source}, image {excerpt(name)}'
        _check_keys(entry, ('objects', *_IGNORED), where)
        images[name] = _objects(entry.get('objects'), where)
    return PromptSet((), images, source)


def _check_keys(value: Any, known: Sequence[str], where: str) -> None:
    if not isinstance(value, Mapping):
        raise PromptError(f'{where} must be a JSON object like {{"objects": [...]}}.')
    unknown = sorted(set(value) - set(known))
    if unknown:
        usual = ', '.join(key for key in known if key not in _IGNORED)
        raise PromptError(
            f'{where} has the unknown key {quoted(unknown[0])}; use {usual}.'
        )


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


@dataclass
class _Parts:
    """The lines of one object."""

    points: list[tuple[float, float]] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    box: tuple[float, float, float, float] | None = None


def _parse_table(text: str, source: str) -> PromptSet:
    reader = csv.reader(io.StringIO(text, newline=''))
    columns = next((cells for cells in reader if cells), [])
    if not set(columns) & set(_COLUMNS):
        raise _of_no_form(source)
    if unknown := sorted(set(columns) - set(_COLUMNS)):
        raise PromptError(
            f'{source} has the unknown column {quoted(unknown[0])}; use '
            f'{", ".join(_COLUMNS)}.'
        )
    if len(set(columns)) < len(columns):
        raise PromptError(f'{source} has a column twice; keep one of them.')
    parts: dict[tuple[str, int | None, str], _Parts] = {}
    for cells in reader:
        if not cells:
            continue
        number = reader.line_num
        where = f'{source}, line {number}'
        if len(cells) != len(columns):
            raise PromptError(
                f'{where} has {len(cells)} cells, but there are {len(columns)} columns; '
                'write the decimal sign as a point, and every cell, even if it is empty.'
            )
        line = dict(zip(columns, cells, strict=True))
        # Lines of one image may have been written on different systems.
        image = unicodedata.normalize('NFC', line.get('image', '').strip())
        frame = _frame(line.get('frame', ''), where)
        name = line.get('object', '').strip() or f'line {number}'
        _add(parts.setdefault((image, frame, name), _Parts()), line, where)
    if not parts:
        raise PromptError(f'{source} has no prompts; add a line for each.')
    images: dict[str, list[ObjectPrompt]] = {}
    for (image, frame, name), found in parts.items():
        try:
            prompt = ObjectPrompt(Prompt(found.points, found.labels, found.box), frame)
        except PromptError as error:
            where = f'{source}, object {excerpt(name)}'
            raise PromptError(f'{where}: {error}') from error
        images.setdefault(image, []).append(prompt)
    shared = tuple(images.pop('', ()))
    return PromptSet(shared, {k: tuple(v) for k, v in images.items()}, source)


def _frame(text: str, where: str) -> int | None:
    if not text.strip():
        return None
    number = _number(text, where, 'frame')
    if number < 0 or number != int(number):
        raise PromptError(
            f'{where}: a frame is a whole number from 0, not {quoted(text)}.'
        )
    return int(number)


def _add(parts: _Parts, line: Mapping[str, str], where: str) -> None:
    given = {key for key in (*_POINT, *_BOX) if line.get(key, '').strip()}
    if given == set(_POINT):
        row, column = (_number(line[key], where, key) for key in _POINT)
        parts.points.append((row, column))
        label = line.get('label', '')
        inside = _number(label, where, 'label') if label.strip() else 1
        if inside not in (0, 1):
            raise PromptError(
                f'{where}: label is 1 (inside) or 0 (outside), not {quoted(label)}.'
            )
        parts.labels.append(int(inside))
    elif given == set(_BOX):
        if parts.box is not None:
            raise PromptError(f'{where}: this object has a box already.')
        row0, column0, row1, column1 = (_number(line[key], where, key) for key in _BOX)
        parts.box = (row0, column0, row1, column1)
    else:
        raise PromptError(
            f'{where}: give {", ".join(_POINT)} for a point or {", ".join(_BOX)} for a '
            'box.'
        )


def _number(text: str, where: str, column: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise PromptError(f'{where}: {column} is a number, not {quoted(text)}.')
    return number


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
    value: dict[str, Any] = {'format': PROMPTS_FORMAT}
    if prompts.shared:
        value['objects'] = [item.to_dict() for item in prompts.shared]
    else:
        value['images'] = {
            name: {'objects': [item.to_dict() for item in objects]}
            for name, objects in prompts.images.items()
        }
    write_json(path, value)
