"""Measure a Labels layer in a thread of its own, only the frames that changed."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import Signal  # type: ignore[attr-defined]

from napari_kdsam.measure.measurements import measure_stack, write_measurements
from napari_kdsam.widgets.shared.background import BackgroundWorker, Stopped

if TYPE_CHECKING:
    import pandas as pd

    from napari_kdsam.core.stack_index import FrameIndex


@dataclass(frozen=True, eq=False)
class MeasureRequest:
    """What is measured.

    Attributes
    ----------
    labels : array-like
        (..., rows, columns) whole numbers.
    image : array-like or None
        (..., rows, columns[, 3 or 4]).
    pixel_size : tuple of float
        Extent of a pixel along rows and columns.
    millimetres : float or None
        How long the unit of the pixel size is; None if it is no length.
    heads : bool
        Whether objects are measured as fetal heads too.
    """

    labels: Any
    image: Any
    pixel_size: tuple[float, float]
    millimetres: float | None
    heads: bool

    def same(self, other: MeasureRequest | None) -> bool:
        """Whether another request has the same arrays and pixels."""
        return (
            other is not None
            and self.labels is other.labels
            and self.image is other.image
            and self.pixel_size == other.pixel_size
            and self.millimetres == other.millimetres
            and self.heads == other.heads
        )


@dataclass(eq=False)
class _Kept:
    """What was measured so far; only the thread touches it."""

    request: MeasureRequest | None = None
    tables: dict[FrameIndex, pd.DataFrame] = field(default_factory=dict)


class MeasureWorker(BackgroundWorker):
    """Measure in a thread; a newer request replaces an older one.

    Attributes
    ----------
    measured : Signal
        (request number, pandas.DataFrame of all frames).
    """

    measured = Signal(int, object)

    def __init__(self) -> None:
        super().__init__('Measuring')
        self._kept = _Kept()

    def measure(
        self, request: MeasureRequest | None, changed: Set[FrameIndex] | None
    ) -> int:
        """Ask for measurements.

        Parameters
        ----------
        request : MeasureRequest or None
            None forgets the last one, so that its arrays can go; nothing is answered.
        changed : set of tuple of int or None
            Frames to measure again; None for all.

        Returns
        -------
        int
            Number of this request; answers to lower ones are out of date.
        """
        return self.request(
            lambda number: self._measured(number, request, changed), self.measured
        )

    def save(self, path: Path, table: pd.DataFrame, unit: str) -> None:
        """Write a CSV file; also if the window is closed meanwhile."""
        count = len(table)
        self.write(
            partial(write_measurements, path, table, unit),
            f'Saved {count} object{"s" * (count != 1)} to {path.name}.',
        )

    def _measured(
        self,
        number: int,
        request: MeasureRequest | None,
        changed: Set[FrameIndex] | None,
    ) -> pd.DataFrame:
        import pandas as pd

        kept = self._kept
        # Also done for a request that is out of date, or its changes would be lost.
        if request is None or changed is None or not request.same(kept.request):
            self._kept = kept = _Kept(request)
        else:
            for frame in changed:
                kept.tables.pop(frame, None)
        if request is None:
            raise Stopped
        frames = list(np.ndindex(*request.labels.shape[:-2]))
        missing = [frame for frame in frames if frame not in kept.tables]
        tables = self.watched(
            number,
            measure_stack(
                request.labels,
                request.image,
                request.pixel_size,
                missing,
                request.heads,
                request.millimetres,
            ),
            len(frames),
            len(frames) - len(missing),
        )
        try:
            for frame, table in zip(missing, tables, strict=True):
                kept.tables[frame] = table
        finally:
            if self._closed:
                self._kept = _Kept()
        # Empty tables would cost time, but one at least gives the columns.
        filled = [kept.tables[frame] for frame in frames if len(kept.tables[frame])]
        return pd.concat(filled or [kept.tables[frames[0]]], ignore_index=True)
