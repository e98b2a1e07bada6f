"""Tables of how well labels agree with a reference, their summary and their file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_kdsam.core.stack_index import FrameIndex
from napari_kdsam.measure.comparison import FrameComparison, ObjectComparison
from napari_kdsam.measure.csv_table import write_csv
from napari_kdsam.measure.measurements import frame_columns, unit_suffix
from napari_kdsam.measure.scores import Scores

if TYPE_CHECKING:
    import pandas as pd

SCORES = ('dice', 'iou', 'hd95', 'nsd')
_PLACE = ('pixels', 'reference_pixels', 'row', 'column')


@dataclass(frozen=True)
class ScoreSummary:
    """Mean and worst of the rows of a table.

    Attributes
    ----------
    mean : Scores
        NaN if nothing is counted. That of the distance is over the finite ones.
    worst : Scores
        Each the worst there is; they may be of different rows.
    counted : int
        Rows that are counted: those with a labelled pixel.
    without_distance : int
        Rows among them whose distance is infinite.
    """

    mean: Scores
    worst: Scores
    counted: int
    without_distance: int


def tables_of(
    found: Sequence[FrameComparison], leading: Sequence[int] = ()
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Put what was found into tables.

    Parameters
    ----------
    found : sequence of FrameComparison
        As `compare_stack` yields them, all of them.
    leading : sequence of int
        Lengths of the axes before rows and columns.

    Returns
    -------
    objects : pandas.DataFrame
        One row for each object: the columns of `frame_columns`, ``label``,
        ``reference``, ``result``, `SCORES`, ``pixels``, ``reference_pixels``, and
        ``row`` and ``column`` of the centre in pixels.
    frames : pandas.DataFrame
        One row for each frame: the columns of `frame_columns`, `SCORES`, how many
        objects are ``matched``, ``missed`` and ``extra``, ``pixels``,
        ``reference_pixels``, ``row`` and ``column``.
    """
    import pandas as pd

    indices: list[FrameIndex] = list(np.ndindex(*leading))
    names = frame_columns(len(leading))
    objects: list[dict[str, Any]] = []
    frames: list[dict[str, Any]] = []
    for index, frame in zip(indices, found, strict=True):
        place = dict(zip(names, index or (0,), strict=True))
        results = [item.result for item in frame.objects]
        counts = {name: results.count(name) for name in ('matched', 'missed', 'extra')}
        frames.append({**place, **_numbers(frame, counts)})
        for item, result in zip(frame.objects, results, strict=True):
            named = {'label': item.label, 'reference': item.reference}
            objects.append({**place, **named, 'result': result, **_numbers(item, {})})
    columns = [*names, 'label', 'reference', 'result', *SCORES, *_PLACE]
    # Without a row there is nothing to tell types from.
    types = dict.fromkeys((*SCORES, 'row', 'column'), np.float64)
    return (
        pd.DataFrame(objects, columns=columns).astype(types),
        pd.DataFrame(frames).astype(types),
    )


def _numbers(
    item: ObjectComparison | FrameComparison, counts: dict[str, int]
) -> dict[str, Any]:
    place = (item.pixels, item.reference_pixels, *item.centre)
    scores = {name: getattr(item.scores, name) for name in SCORES}
    return {**scores, **counts, **dict(zip(_PLACE, place, strict=True))}


def summary_of(table: pd.DataFrame) -> ScoreSummary:
    """Mean and worst of a table that `tables_of` made.

    Frames without a label in either are left out: they agree perfectly, and would hide
    what happens where there is something.
    """
    counted = table[table['pixels'] + table['reference_pixels'] > 0]
    finite = counted['hd95'][np.isfinite(counted['hd95'])]
    means = {name: float(counted[name].mean()) for name in SCORES}
    worst = {name: float(counted[name].min()) for name in SCORES}
    return ScoreSummary(
        Scores(**{**means, 'hd95': float(finite.mean())}),
        Scores(**{**worst, 'hd95': float(counted['hd95'].max())}),
        len(counted),
        len(counted) - len(finite),
    )


def write_comparison(
    path: str | os.PathLike[str], table: pd.DataFrame, unit: str, tolerance: float
) -> None:
    """Write a table as CSV, with unit and tolerance in the names of the columns.

    Nothing about the image or the patient is written but what the table holds.

    Parameters
    ----------
    path : path-like
        The CSV file; it is complete or, after an error, as it was before.
    table : pandas.DataFrame
        As `tables_of` makes it. Infinite distances are written as ``inf``.
    unit : str
        Short name of the unit of length, such as ``mm`` or ``px``.
    tolerance : float
        That of the normalised surface distance, in this unit.

    Raises
    ------
    ImageError
        If the file cannot be written.
    """
    plain = unit_suffix(unit)
    names = {
        'hd95': f'hd95_{plain}',
        'nsd': f'nsd_at_{tolerance:g}_{plain}',
        'row': 'row_px',
        'column': 'column_px',
    }
    write_csv(path, table.rename(columns=names))
