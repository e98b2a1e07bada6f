"""Results on disk: one CSV per model that a killed run continues, and its sidecar."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path
from typing import Any

from napari_kdsam.core.errors import KDSAMError, first_of
from napari_kdsam.core.files import atomic_path
from napari_kdsam.core.names import csv_cell, text_of_cell
from napari_kdsam.training.data.samples import Sample

PER_IMAGE, FAILURES = 'per_image', 'failures.csv'
RESULTS, SUMMARY = 'results.csv', 'summary.csv'
REPORT = 'summary.md'


class EvaluationError(KDSAMError, ValueError):
    """An evaluation that cannot be run or continued as asked."""


# (data set, split, stem, class number or None): one object of one image.
Place = tuple[str, str, str, int | None]


def place_of(sample: Sample) -> Place:
    """Equal only for one and the same object of one image."""
    return (*sample.place, sample.object_number)


@dataclass(frozen=True)
class Row:
    """The scores of one object, model and kind of prompt.

    Attributes
    ----------
    data_set, split, stem : str
        Which image.
    object_number : int or None
        Which structure, by its class number; None where the mask has but one.
    model : str
        Which model.
    prompt : str
        ``box``, ``box_jittered``, ``clicks_N``, ``click_off`` or ``noc_T`` (clicks
        until IoU T/100).
    dice, iou, hd95_px, nsd : float
        See `metrics.MaskScores`, and for the next three.
    hd95_mm : float or None
    area_ratio : float or None
        None in files of earlier versions.
    circumference_error_mm : float or None
    predicted_iou : float or None
        What the model itself expected, where it says so.
    clicks : int
        Clicks given; for ``noc_T`` the clicks needed, the maximum if never reached.
    seconds : float
        Mean time of one answer, from prompt to mask.
    encode_seconds : float
        Time to embed the image.
    """

    data_set: str
    split: str
    stem: str
    object_number: int | None
    model: str
    prompt: str
    dice: float
    iou: float
    hd95_px: float
    hd95_mm: float | None
    nsd: float
    area_ratio: float | None
    circumference_error_mm: float | None
    predicted_iou: float | None
    clicks: int
    seconds: float
    encode_seconds: float

    @property
    def place(self) -> Place:
        """Equal for rows of one object, as `place_of`."""
        return self.data_set, self.split, self.stem, self.object_number

    @property
    def part(self) -> tuple[str, int | None]:
        """(data set, class number or None): what has a line of its own in tables."""
        return self.data_set, self.object_number


COLUMNS = tuple(item.name for item in fields(Row))
# What files of earlier versions lack.
_ADDED = {'object_number', 'area_ratio', 'circumference_error_mm', 'predicted_iou'}
_EARLIER_COLUMNS = tuple(name for name in COLUMNS if name not in _ADDED)
_TEXTS = ('data_set', 'split', 'stem', 'model', 'prompt')
_WHOLE = ('object_number', 'clicks')
_MAY_BE_EMPTY = {*_ADDED, 'hd95_mm'}


def _line(row: Row) -> list[str]:
    return [_written(value) for value in asdict(row).values()]


def _written(value: str | float | None) -> str:
    if isinstance(value, str):
        return csv_cell(value)
    if isinstance(value, float):
        return f'{value:.6g}'
    return '' if value is None else str(value)


def _text(rows: Iterable[Row], header: bool) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator='\n')
    if header:
        writer.writerow(COLUMNS)
    writer.writerows(_line(row) for row in rows)
    return buffer.getvalue()


def _parsed(columns: Sequence[str], values: Sequence[str]) -> Row | None:
    if len(values) != len(columns):
        return None
    found: dict[str, Any] = dict.fromkeys(_ADDED)
    try:
        for name, value in zip(columns, values, strict=True):
            found[name] = _value(name, value)
    except ValueError:
        return None
    return Row(**found)


def _value(name: str, text: str) -> str | int | float | None:
    if name in _TEXTS:
        return text_of_cell(text)
    if not text and name in _MAY_BE_EMPTY:
        return None
    return int(text) if name in _WHOLE else float(text)


def read_rows(path: Path) -> list[Row]:
    """Read a CSV of results, also of an earlier version; a torn last line is left out.

    Raises
    ------
    EvaluationError
        If the file is not such a CSV.
    """
    columns, lines = _read(path)
    if columns and columns not in (COLUMNS, _EARLIER_COLUMNS):
        raise EvaluationError(
            f'{path} is not a table of results of this version; give --overwrite to '
            'start anew.'
        )
    rows = []
    for number, values in enumerate(lines, 2):
        row = _parsed(columns, values)
        if row is None:
            raise EvaluationError(
                f'Line {number} of {path} is damaged; delete the line, or give '
                '--overwrite to start anew.'
            )
        rows.append(row)
    return rows


def _read(path: Path) -> tuple[tuple[str, ...], list[list[str]]]:
    """The heading and the complete lines after it; both empty if there is none."""
    text = path.read_text(encoding='utf-8')
    complete, newline, _torn = text.rpartition('\n')
    lines = list(csv.reader(complete.splitlines())) if newline else []
    return (tuple(lines[0]), lines[1:]) if lines else ((), [])


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write a CSV of results in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as part:
        part.write_text(_text(rows, header=True), encoding='utf-8')


def refuse_strangers(out: Path) -> None:
    """Keep an evaluation out of a folder with files of its names that none has made.

    Raises
    ------
    EvaluationError
        Naming the files.
    """
    if (out / PER_IMAGE).is_dir():
        return
    there = [
        name
        for name in (RESULTS, SUMMARY, REPORT, FAILURES, 'figures')
        if os.path.lexists(out / name)
    ]
    if there:
        raise EvaluationError(
            f'{first_of(there)} in {out} cannot be of an evaluation, as there is no '
            f'{PER_IMAGE} beside, and would be replaced; choose another --out folder.'
        )


class ResultFile:
    """The growing results of one model.

    Parameters
    ----------
    out : pathlib.Path
        Folder of the evaluation.
    model : str
        Name in tables; also the file's.
    settings : dict
        What the numbers depend on. A file made with other settings is refused.
    prompts : sequence of str
        The rows every object has.
    overwrite : bool
        Start anew whatever is there.

    Raises
    ------
    EvaluationError
        If there are results made with other weights or settings, or by an earlier
        version that kept fewer scores.
    """

    def __init__(
        self,
        out: Path,
        model: str,
        settings: dict[str, Any],
        prompts: Sequence[str],
        overwrite: bool = False,
    ) -> None:
        folder = out / PER_IMAGE
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f'{model}.csv'
        self.sidecar = folder / f'{model}.json'
        self.settings = settings
        if overwrite:
            self.path.unlink(missing_ok=True)
            self.sidecar.unlink(missing_ok=True)
        self.rows = self._continued(prompts) if self.path.is_file() else []
        self.notes: dict[str, Any] = {}
        if self.sidecar.is_file():
            self.notes = read_notes(self.sidecar)
        self.note()
        # Also drops what a kill left of the last image.
        write_rows(self.path, self.rows)

    def _continued(self, prompts: Sequence[str]) -> list[Row]:
        if _read(self.path)[0] == _EARLIER_COLUMNS:
            raise EvaluationError(
                f'{self.path} was made by an earlier version, which kept fewer scores '
                'and no single structures; give --overwrite to replace it, or another '
                '--out folder.'
            )
        before = read_notes(self.sidecar).get('settings')
        if before != self.settings:
            known = before or {}
            keys = {*known, *self.settings}
            differing = sorted(k for k in keys if known.get(k) != self.settings.get(k))
            raise EvaluationError(
                f'{self.path} was made with other settings ({", ".join(differing)}); '
                'give --overwrite to replace it, or another --out folder.'
            )
        by_object: dict[Place, list[Row]] = {}
        for row in read_rows(self.path):
            by_object.setdefault(row.place, []).append(row)
        asked = list(prompts)
        whole = [r for r in by_object.values() if [x.prompt for x in r] == asked]
        return [row for rows in whole for row in rows]

    @property
    def places(self) -> set[Place]:
        """The objects that are done."""
        return {row.place for row in self.rows}

    def append(self, rows: Sequence[Row]) -> None:
        """Add one object's rows; they are on disk when this returns."""
        with self.path.open('a', encoding='utf-8', newline='') as file:
            file.write(_text(rows, header=False))
        self.rows.extend(rows)

    def note(self, **values: Any) -> None:
        """Keep facts about the model beside the results."""
        self.notes = {**self.notes, **values, 'settings': self.settings}
        with atomic_path(self.sidecar) as part:
            part.write_text(json.dumps(self.notes, indent=2), encoding='utf-8')


def read_notes(path: Path) -> dict[str, Any]:
    """Read a sidecar; empty if it is missing or damaged."""
    try:
        found = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


@dataclass(frozen=True)
class Failure:
    """An object that could not be evaluated, and why; see `Row`."""

    data_set: str
    split: str
    stem: str
    object_number: int | None
    model: str
    reason: str

    @property
    def place(self) -> Place:
        """Equal for failures of one object, as `place_of`."""
        return self.data_set, self.split, self.stem, self.object_number


def read_failures(out: Path) -> list[Failure]:
    """Read ``failures.csv``; empty if there is none."""
    path = out / FAILURES
    if not path.is_file():
        return []
    with path.open(encoding='utf-8', newline='') as file:
        return [
            Failure(
                text_of_cell(line['data_set']),
                text_of_cell(line['split']),
                text_of_cell(line['stem']),
                # Files of earlier versions lack it.
                int(line.get('object_number') or 0) or None,
                text_of_cell(line['model']),
                text_of_cell(line['reason']),
            )
            for line in csv.DictReader(file)
        ]


def write_failures(out: Path, failures: Iterable[Failure]) -> None:
    """Write ``failures.csv`` in one step; with none, there is no file."""
    path, failures = out / FAILURES, list(failures)
    if not failures:
        path.unlink(missing_ok=True)
        return
    with atomic_path(path) as part, part.open('w', encoding='utf-8', newline='') as f:
        writer = csv.writer(f, lineterminator='\n')
        writer.writerow(item.name for item in fields(Failure))
        writer.writerows(map(_written, astuple(failure)) for failure in failures)
