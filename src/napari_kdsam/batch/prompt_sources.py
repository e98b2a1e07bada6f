"""Prompts for many images from a file: JSON, a CSV table or COCO boxes."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from napari_kdsam.core.errors import PromptError
from napari_kdsam.core.prompts import ObjectPrompt, Prompt, PromptSet
from napari_kdsam.io.prompts import read_prompts

_POINT = ('row', 'column')
_BOX = ('row0', 'column0', 'row1', 'column1')
_COLUMNS = ('image', 'frame', 'object', *_POINT, 'label', *_BOX)


def read_any_prompts(path: Path) -> PromptSet:
    """Read prompts in any of the forms that there are.

    Parameters
    ----------
    path : pathlib.Path
        ``.csv`` (see `read_prompt_table`), COCO JSON (each annotation's box is an
        object of its image), or JSON as `read_prompts` reads it.

    Returns
    -------
    PromptSet

    Raises
    ------
    PromptError
        If the file cannot be read or is of another form.
    """
    if path.suffix.lower() == '.csv':
        return read_prompt_table(path)
    if _is_coco(path):
        from napari_kdsam.io.coco import read_coco_prompts

        return read_coco_prompts(path)
    return read_prompts(path)


def _is_coco(path: Path) -> bool:
    try:
        value = json.loads(path.read_text(encoding='utf-8-sig'))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(value, Mapping) and 'annotations' in value


@dataclass
class _Parts:
    """The lines of one object."""

    points: list[tuple[float, float]] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    box: tuple[float, float, float, float] | None = None


def read_prompt_table(path: Path) -> PromptSet:
    """Read prompts from a table, a line for each point or box.

    The columns, in any order: ``image`` (file name; empty for every image), ``frame``
    (counted from 0; empty for every frame), ``object`` (lines with the same number
    describe one object; empty for an object of its own), and either ``row`` and
    ``column`` with ``label`` (1 inside, the default, or 0 outside) or ``row0``,
    ``column0``, ``row1`` and ``column1`` (half-open).

    Parameters
    ----------
    path : pathlib.Path
        CSV with a line of column names.

    Returns
    -------
    PromptSet

    Raises
    ------
    PromptError
        If the file cannot be read, or a line makes no sense; the message names it.
    """
    try:
        text = path.read_text(encoding='utf-8-sig')
    except FileNotFoundError as error:
        raise PromptError(f'There is no prompts file {path.name}.') from error
    except (OSError, ValueError) as error:
        raise PromptError(f'{path.name} is not a readable CSV table.') from error
    reader = csv.DictReader(text.splitlines())
    unknown = set(reader.fieldnames or ()) - set(_COLUMNS)
    if unknown or not reader.fieldnames:
        raise PromptError(
            f'{path.name} has the column {sorted(map(str, unknown))[:1] or "names missing"}; '
            f'its columns may be {", ".join(_COLUMNS)}.'
        )
    parts: dict[tuple[str, int | None, str], _Parts] = {}
    for number, line in enumerate(reader, start=2):
        where = f'{path.name}, line {number}'
        image = (line.get('image') or '').strip()
        frame = _frame(line.get('frame'), where)
        name = (line.get('object') or '').strip() or f'line {number}'
        _add(parts.setdefault((image, frame, name), _Parts()), line, where)
    if not parts:
        raise PromptError(f'{path.name} has no prompts; add a line for each.')
    images: dict[str, list[ObjectPrompt]] = {}
    for (image, frame, name), found in parts.items():
        try:
            prompt = Prompt(found.points, found.labels, found.box)
        except PromptError as error:
            raise PromptError(f'{path.name}, object {name}: {error}') from error
        images.setdefault(image, []).append(ObjectPrompt(prompt, frame))
    shared = tuple(images.pop('', ()))
    return PromptSet(shared, {k: tuple(v) for k, v in images.items()}, path.name)


def _frame(text: str | None, where: str) -> int | None:
    if not (text or '').strip():
        return None
    number = _number(text, where, 'frame')
    if number < 0 or number != int(number):
        raise PromptError(f'{where}: a frame is a whole number from 0, not {text!r}.')
    return int(number)


def _add(parts: _Parts, line: Mapping[str, str | None], where: str) -> None:
    given = {key for key in (*_POINT, *_BOX) if (line.get(key) or '').strip()}
    if given == set(_POINT):
        row, column = (_number(line[key], where, key) for key in _POINT)
        parts.points.append((row, column))
        label = line.get('label') or ''
        parts.labels.append(int(_number(label, where, 'label')) if label.strip() else 1)
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


def _number(text: str | None, where: str, column: str) -> float:
    try:
        return float(text or '')
    except ValueError as error:
        raise PromptError(f'{where}: {column} is a number, not {text!r}.') from error
