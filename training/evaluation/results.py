"""Results on disk: one CSV per model that a killed run continues, and its sidecar."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from napari_kdsam.errors import KDSAMError
from napari_kdsam.io.writers import atomic_path

PER_IMAGE, FAILURES = 'per_image', 'failures.csv'
_FAILURE_COLUMNS = ('data_set', 'split', 'stem', 'model', 'reason')


class EvaluationError(KDSAMError, ValueError):
    """An evaluation that cannot be run or continued as asked."""


@dataclass(frozen=True)
class Row:
    """The scores of one image, model and kind of prompt.

    Attributes
    ----------
    data_set, split, stem, model : str
        Which image and which model.
    prompt : str
        ``box``, ``box_jittered``, ``clicks_N`` or ``noc_T`` (clicks until IoU T/100).
    dice, iou, hd95_px, nsd : float
        See `metrics.Scores`.
    hd95_mm : float or None
        Where the size of a pixel is known.
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
    model: str
    prompt: str
    dice: float
    iou: float
    hd95_px: float
    hd95_mm: float | None
    nsd: float
    clicks: int
    seconds: float
    encode_seconds: float

    @property
    def image(self) -> tuple[str, str, str]:
        """(data set, split, stem): equal for rows of one image."""
        return self.data_set, self.split, self.stem


COLUMNS = tuple(item.name for item in fields(Row))


def _line(row: Row) -> list[str]:
    values = asdict(row).values()
    return [
        '' if v is None else f'{v:.6g}' if isinstance(v, float) else str(v)
        for v in values
    ]


def _text(rows: Iterable[Row], header: bool) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator='\n')
    if header:
        writer.writerow(COLUMNS)
    writer.writerows(_line(row) for row in rows)
    return buffer.getvalue()


def _parsed(values: Sequence[str]) -> Row | None:
    if len(values) != len(COLUMNS):
        return None
    data_set, split, stem, model, prompt = values[:5]
    dice, iou, hd95_px, hd95_mm, nsd, clicks, seconds, encode = values[5:]
    try:
        return Row(
            data_set,
            split,
            stem,
            model,
            prompt,
            dice=float(dice),
            iou=float(iou),
            hd95_px=float(hd95_px),
            hd95_mm=float(hd95_mm) if hd95_mm else None,
            nsd=float(nsd),
            clicks=int(clicks),
            seconds=float(seconds),
            encode_seconds=float(encode),
        )
    except ValueError:
        return None


def read_rows(path: Path) -> list[Row]:
    """Read a CSV of results; a torn last line is left out.

    Raises
    ------
    EvaluationError
        If the file is not such a CSV.
    """
    text = path.read_text(encoding='utf-8')
    complete, newline, _torn = text.rpartition('\n')
    lines = list(csv.reader(complete.splitlines())) if newline else []
    if lines and tuple(lines[0]) != COLUMNS:
        raise EvaluationError(
            f'{path} is not a table of results of this version; give --overwrite to '
            'start anew.'
        )
    rows = []
    for number, values in enumerate(lines[1:], 2):
        row = _parsed(values)
        if row is None:
            raise EvaluationError(
                f'Line {number} of {path} is damaged; delete the line, or give '
                '--overwrite to start anew.'
            )
        rows.append(row)
    return rows


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write a CSV of results in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as part:
        part.write_text(_text(rows, header=True), encoding='utf-8')


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
        The rows every image has.
    overwrite : bool
        Start anew whatever is there.

    Raises
    ------
    EvaluationError
        If there are results made with other weights or settings.
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
        before = read_notes(self.sidecar).get('settings')
        if before != self.settings:
            known = before or {}
            keys = {*known, *self.settings}
            differing = sorted(k for k in keys if known.get(k) != self.settings.get(k))
            raise EvaluationError(
                f'{self.path} was made with other settings ({", ".join(differing)}); '
                'give --overwrite to replace it, or another --out folder.'
            )
        by_image: dict[tuple[str, str, str], list[Row]] = {}
        for row in read_rows(self.path):
            by_image.setdefault(row.image, []).append(row)
        whole = [r for r in by_image.values() if [x.prompt for x in r] == list(prompts)]
        return [row for rows in whole for row in rows]

    @property
    def images(self) -> set[tuple[str, str, str]]:
        """The images that are done."""
        return {row.image for row in self.rows}

    def append(self, rows: Sequence[Row]) -> None:
        """Add one image's rows; they are on disk when this returns."""
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
    """An image that could not be evaluated, and why."""

    data_set: str
    split: str
    stem: str
    model: str
    reason: str


def read_failures(out: Path) -> list[Failure]:
    """Read ``failures.csv``; empty if there is none."""
    path = out / FAILURES
    if not path.is_file():
        return []
    with path.open(encoding='utf-8', newline='') as file:
        return [
            Failure(*(row[key] for key in _FAILURE_COLUMNS))
            for row in csv.DictReader(file)
        ]


def write_failures(out: Path, failures: Iterable[Failure]) -> None:
    """Write ``failures.csv`` in one step; with none, there is no file."""
    path, failures = out / FAILURES, list(failures)
    if not failures:
        path.unlink(missing_ok=True)
        return
    with atomic_path(path) as part, part.open('w', encoding='utf-8', newline='') as f:
        writer = csv.writer(f, lineterminator='\n')
        writer.writerow(_FAILURE_COLUMNS)
        writer.writerows(
            [getattr(x, key) for key in _FAILURE_COLUMNS] for x in failures
        )
