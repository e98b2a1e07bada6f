"""The table beside the labels: a line for each image that something is known of."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterable
from pathlib import Path

from napari_kdsam.core.errors import excerpt
from napari_kdsam.core.files import atomic_path
from napari_kdsam.core.names import csv_cell, text_of_cell
from napari_kdsam.series.entries import ImageStatus, SeriesEntry
from napari_kdsam.series.errors import SeriesError

TABLE = 'series.csv'
_COLUMNS = (
    'image',
    'status',
    'unsure',
    'checked',
    'tags',
    'note',
    'reason',
    'objects',
    'classes',
    'labels',
    'digest',
    'image key',
)
_YES = 'yes'
_BETWEEN = '; '
# A name may hold what stands between two of them.
_NEXT_CLASS = re.compile(r'; (?=\d+=)')


def write_table(path: Path, entries: Iterable[SeriesEntry]) -> None:
    """Write a line for each entry; the file is complete, or as it was before.

    Raises
    ------
    NotWrittenError
        If it cannot be written.
    """
    with (
        atomic_path(path) as part,
        part.open('w', encoding='utf-8', newline='') as file,
    ):
        writer = csv.writer(file, lineterminator='\n')
        writer.writerow(_COLUMNS)
        writer.writerows(map(_row, entries))
        file.flush()
        os.fsync(file.fileno())


def read_table(path: Path) -> dict[str, SeriesEntry]:
    """Read the entries of a table, by the names of their images; none without a table.

    Raises
    ------
    SeriesError
        If it is not such a table, or damaged.
    """
    try:
        with path.open(encoding='utf-8-sig', newline='') as file:
            lines = csv.reader(file, strict=True)
            if tuple(next(lines, ())) != _COLUMNS:
                raise SeriesError(
                    f'{path.name} in {path.parent} is another table than that of a '
                    'series; move it elsewhere, or choose another folder for the '
                    'labels.'
                )
            entries = [_entry(row) for row in lines]
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise SeriesError(
            f'{path.name} in {path.parent} cannot be read ({error.strerror}).'
        ) from error
    except (ValueError, csv.Error) as error:
        if isinstance(error, SeriesError):
            raise
        raise SeriesError(
            f'{path.name} in {path.parent} is damaged ({excerpt(error)}); bring back '
            'an earlier copy, or move it elsewhere to begin anew.'
        ) from error
    return {entry.name: entry for entry in entries}


def _row(entry: SeriesEntry) -> list[str]:
    texts = (
        entry.name,
        entry.status.value,
        _YES if entry.unsure else '',
        _YES if entry.checked else '',
        _BETWEEN.join(entry.tags),
        entry.note,
        entry.reason,
        str(entry.objects),
        _BETWEEN.join(f'{label}={name}' for label, name in entry.classes.items()),
        entry.labels,
        entry.digest,
        entry.image_key,
    )
    return [csv_cell(text) for text in texts]


def _entry(row: list[str]) -> SeriesEntry:
    if len(row) != len(_COLUMNS):
        raise ValueError(f'a line has {len(row)} cells')
    (
        name,
        status,
        unsure,
        checked,
        tags,
        note,
        reason,
        objects,
        classes,
        labels,
        digest,
        image_key,
    ) = map(text_of_cell, row)
    named = (item.partition('=') for item in _NEXT_CLASS.split(classes) if item)
    return SeriesEntry(
        name=name,
        status=ImageStatus(status),
        unsure=unsure == _YES,
        checked=checked == _YES,
        tags=_items(tags),
        note=note,
        reason=reason,
        objects=int(objects),
        classes={int(label): text for label, _, text in named},
        labels=labels,
        digest=digest,
        image_key=image_key,
    )


def _items(cell: str) -> tuple[str, ...]:
    return tuple(item for item in cell.split(_BETWEEN) if item)
