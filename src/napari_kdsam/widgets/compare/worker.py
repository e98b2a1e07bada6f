"""Compare labels with a reference in a thread of its own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal  # type: ignore[attr-defined]

from napari_kdsam.measure.comparison import Matching, compare_stack
from napari_kdsam.measure.comparison_tables import (
    ScoreSummary,
    summary_of,
    tables_of,
    write_comparison,
)
from napari_kdsam.measure.reference_masks import open_reference
from napari_kdsam.widgets.shared.background import BackgroundWorker

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class CompareRequest:
    """What is compared, and how.

    Attributes
    ----------
    labels : array-like
        (..., rows, columns) whole numbers.
    reference : array-like or pathlib.Path
        Of the same shape, or a folder of masks.
    names : tuple of str
        What the labels or their image are called, to find the mask in a folder.
    pixel_size : tuple of float
        Extent of a pixel along rows and columns.
    unit : str
        Its unit of length.
    tolerance : float
        That of the normalised surface distance, in this unit.
    matching : Matching
    """

    labels: Any
    reference: Any
    names: tuple[str, ...]
    pixel_size: tuple[float, float]
    unit: str
    tolerance: float
    matching: Matching


@dataclass(frozen=True, eq=False)
class StackComparison:
    """What was found.

    Attributes
    ----------
    request : CompareRequest
    reference : array-like
        The reference that was compared with; masks of a folder are read when asked for.
    objects, frames : pandas.DataFrame
        As `tables_of` makes them.
    """

    request: CompareRequest
    reference: Any
    objects: pd.DataFrame
    frames: pd.DataFrame

    def table(self, *, by_frame: bool) -> pd.DataFrame:
        """The rows of frames or of objects."""
        return self.frames if by_frame else self.objects

    def summary(self, *, by_frame: bool) -> ScoreSummary:
        """Mean and worst of frames or of objects."""
        return summary_of(self.table(by_frame=by_frame))


class CompareWorker(BackgroundWorker):
    """Compare in a thread; a newer request replaces an older one.

    Attributes
    ----------
    compared : Signal
        (request number, StackComparison).
    """

    compared = Signal(int, object)

    def __init__(self) -> None:
        super().__init__('Comparing')

    def compare(self, request: CompareRequest) -> int:
        """Ask for a comparison.

        Returns
        -------
        int
            Number of this request; answers to lower ones are out of date.
        """
        return self.request(
            lambda number: self._compared(number, request), self.compared
        )

    def save(self, path: Path, found: StackComparison, *, by_frame: bool) -> None:
        """Write a CSV file; also if the window is closed meanwhile."""
        table, request = found.table(by_frame=by_frame), found.request
        count = f'{len(table)} {"frame" if by_frame else "object"}'
        self.write(
            partial(write_comparison, path, table, request.unit, request.tolerance),
            f'Saved {count}{"s" * (len(table) != 1)} to {path.name}.',
        )

    def _compared(self, number: int, request: CompareRequest) -> StackComparison:
        shape = tuple(request.labels.shape)
        reference = request.reference
        if isinstance(reference, Path):
            reference = open_reference(reference, shape, request.names)
        frames = compare_stack(
            request.labels,
            reference,
            request.pixel_size,
            request.tolerance,
            request.matching,
        )
        leading = shape[:-2]
        found = list(self.watched(number, frames, math.prod(leading)))
        return StackComparison(request, reference, *tables_of(found, leading))
