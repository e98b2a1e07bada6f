"""Compare labels with a reference in a thread of its own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal  # type: ignore[attr-defined]

from napari_kdsam.core.errors import KDSAMError
from napari_kdsam.measure.comparison import Matching, compare_stack
from napari_kdsam.measure.comparison_tables import (
    ScoreSummary,
    summary_of,
    tables_of,
    write_comparison,
)
from napari_kdsam.measure.reference_masks import open_reference
from napari_kdsam.widgets.shared.background_frames import BackgroundFrames

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Source:
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
class Comparison:
    """What was found.

    Attributes
    ----------
    source : Source
    reference : array-like
        The reference that was compared with; masks of a folder are read when asked for.
    objects, frames : pandas.DataFrame
        As `tables_of` makes them.
    """

    source: Source
    reference: Any
    objects: pd.DataFrame
    frames: pd.DataFrame

    def table(self, *, by_frame: bool) -> pd.DataFrame:
        """The rows of frames or of objects."""
        return self.frames if by_frame else self.objects

    def summary(self, *, by_frame: bool) -> ScoreSummary:
        """Mean and worst of frames or of objects."""
        return summary_of(self.table(by_frame=by_frame))


class Comparing(BackgroundFrames):
    """Compare in a thread; a newer request replaces an older one.

    Attributes
    ----------
    compared : Signal
        (request number, Comparison).
    written : Signal
        (sentence,) after a file was written, or why it was not.
    """

    compared = Signal(int, object)
    written = Signal(str)

    def __init__(self) -> None:
        super().__init__('Comparing')

    def compare(self, source: Source) -> int:
        """Ask for a comparison.

        Returns
        -------
        int
            Number of this request; answers to lower ones are out of date.
        """

        def work(number: int) -> Comparison:
            return self._compared(number, source)

        return self._ask(work, self.compared)

    def write(self, path: Path, comparison: Comparison, *, by_frame: bool) -> None:
        """Write a CSV file; also if the window is closed meanwhile."""
        self._thread.submit(self._write, path, comparison, by_frame)

    def _compared(self, number: int, source: Source) -> Comparison:
        shape = tuple(source.labels.shape)
        reference = source.reference
        if isinstance(reference, Path):
            reference = open_reference(reference, shape, source.names)
        frames = compare_stack(
            source.labels,
            reference,
            source.pixel_size,
            source.tolerance,
            source.matching,
        )
        leading = shape[:-2]
        found = list(self._watched(number, frames, math.prod(leading)))
        return Comparison(source, reference, *tables_of(found, leading))

    def _write(self, path: Path, comparison: Comparison, by_frame: bool) -> None:
        table = comparison.table(by_frame=by_frame)
        rows = (
            f'{len(table)} {"frame" if by_frame else "object"}{"s" * (len(table) != 1)}'
        )
        text = f'Saved {rows} to {path.name}.'
        try:
            source = comparison.source
            write_comparison(path, table, source.unit, source.tolerance)
        except (KDSAMError, ValueError) as error:
            # The second for names that no file can hold.
            text = str(error)
        self._emit(self.written, text)
