"""The table that says what became of every frame of a batch."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from napari_kdsam.batch.records import THERE_ALREADY, FrameResult, Status
from napari_kdsam.core.errors import ImageError
from napari_kdsam.core.files import atomic_path
from napari_kdsam.core.names import csv_cell, text_of_cell

MANIFEST = 'manifest.csv'
_COLUMNS = (
    'image',
    'frame',
    'status',
    'reason',
    'objects',
    'score',
    'pixels',
    'names',
    'labels',
)
_NAMES = _COLUMNS.index('names')
# Earlier versions wrote no names.
_EARLIER_COLUMNS = (*_COLUMNS[:_NAMES], *_COLUMNS[_NAMES + 1 :])


def write_manifest(
    path: Path, results: Iterable[FrameResult], labels: Mapping[str, str]
) -> None:
    """List what became of every frame.

    Lines of an earlier run stay where they are about other images and other results.

    Parameters
    ----------
    path : pathlib.Path
        The CSV file.
    results : iterable of FrameResult
        In the order of the rows.
    labels : mapping of str to str
        Location of each source to the name of its label file.

    Raises
    ------
    ImageError
        If it cannot be written, or the earlier one is damaged.
    """
    rows = [_row(result, labels.get(result.location, '')) for result in results]
    kept = _of_others(path, {row[0] for row in rows}, set(labels.values()))
    with (
        atomic_path(path) as part,
        part.open('w', encoding='utf-8', newline='') as file,
    ):
        writer = csv.writer(file, lineterminator='\n')
        writer.writerow(_COLUMNS)
        writer.writerows(kept)
        writer.writerows(rows)


def is_manifest(path: Path) -> bool:
    """Whether a file is a manifest, and not another table of that name."""
    try:
        with path.open(encoding='utf-8', newline='') as file:
            header = tuple(next(csv.reader(file), ()))
    except (OSError, ValueError, csv.Error):
        return False
    return header in (_COLUMNS, _EARLIER_COLUMNS)


def labels_of_images(path: Path) -> dict[str, str]:
    """Read what the label files of images are called.

    Parameters
    ----------
    path : pathlib.Path
        The manifest; one that is missing, or another table, names none.

    Returns
    -------
    dict
        Location of an image to the name of its label file.

    Raises
    ------
    ImageError
        If it is damaged.
    """
    if not is_manifest(path):
        return {}
    return {
        text_of_cell(row[0]): text_of_cell(row[-1])
        for row in _rows(path)
        if row[-1] and '\0' not in row[0]
    }


def _place(cell: str) -> str:
    return os.path.realpath(text_of_cell(cell))


def _row(result: FrameResult, labels: str) -> list[str]:
    is_there = result.status is Status.done or result.reason.endswith(THERE_ALREADY)
    return [
        csv_cell(result.location),
        str(result.frame),
        result.status.value,
        csv_cell(result.reason),
        str(len(result.objects)),
        '' if result.score is None else f'{result.score:.4f}',
        str(result.pixels),
        csv_cell('; '.join(item.name for item in result.objects if item.name)),
        csv_cell(labels) if is_there else '',
    ]


def _of_others(path: Path, images: set[str], labels: set[str]) -> list[list[str]]:
    """Lines of an earlier manifest about neither these images nor these labels."""
    if not is_manifest(path):
        return []
    taken = {csv_cell(name) for name in labels}
    places = {_place(cell) for cell in images}
    return [
        row
        for row in _rows(path)
        if '\0' not in row[0] and row[-1] not in taken and _place(row[0]) not in places
    ]


def _rows(path: Path) -> Iterator[list[str]]:
    with path.open(encoding='utf-8', errors='replace', newline='') as file:
        lines = csv.reader(file)
        columns = len(next(lines, ()))
        try:
            for row in lines:
                if len(row) != columns:
                    continue
                if columns == len(_EARLIER_COLUMNS):
                    row.insert(_NAMES, '')
                yield row
        except csv.Error as error:
            raise ImageError(
                f'{path.name} is damaged in line {lines.line_num} ({error}); correct it '
                'or move it elsewhere.'
            ) from error
