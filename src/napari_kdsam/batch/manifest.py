"""The table that says what became of every frame of a batch."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path

from napari_kdsam.batch.records import FrameResult, Status
from napari_kdsam.core.files import atomic_path

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


def write_manifest(
    path: Path, results: Iterable[FrameResult], labels: Mapping[str, str]
) -> None:
    """List what became of every frame.

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
        If it cannot be written.
    """
    with (
        atomic_path(path) as part,
        part.open('w', encoding='utf-8', newline='') as file,
    ):
        writer = csv.writer(file, lineterminator='\n')
        writer.writerow(_COLUMNS)
        for result in results:
            score = '' if result.score is None else f'{result.score:.4f}'
            done = result.status is Status.done
            writer.writerow(
                (
                    result.location,
                    result.frame,
                    result.status.value,
                    result.reason,
                    len(result.objects),
                    score,
                    result.pixels,
                    '; '.join(item.name for item in result.objects if item.name),
                    labels.get(result.location, '') if done else '',
                )
            )
