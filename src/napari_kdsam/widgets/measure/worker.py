"""Measure a Labels layer in a thread of its own, only the frames that changed."""

from __future__ import annotations

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, Signal  # type: ignore[attr-defined]

from napari_kdsam.core.errors import KDSAMError
from napari_kdsam.measure.measurements import measure_stack, write_measurements

if TYPE_CHECKING:
    import pandas as pd

    from napari_kdsam.core.stack_index import FrameIndex

_logger = logging.getLogger(__name__)
_PROGRESS_SECONDS = 0.2


@dataclass(frozen=True, eq=False)
class Source:
    """What is measured.

    Attributes
    ----------
    labels : array-like
        (..., rows, columns) whole numbers.
    image : array-like or None
        (..., rows, columns[, 3 or 4]).
    pixel_size : tuple of float
        Extent of a pixel along rows and columns.
    """

    labels: Any
    image: Any
    pixel_size: tuple[float, float]

    def same(self, other: Source | None) -> bool:
        """Whether another source has the same arrays and pixels."""
        return (
            other is not None
            and self.labels is other.labels
            and self.image is other.image
            and self.pixel_size == other.pixel_size
        )


@dataclass(eq=False)
class _Kept:
    """What was measured so far; only the thread touches it."""

    source: Source | None = None
    tables: dict[FrameIndex, pd.DataFrame] = field(default_factory=dict)


class Measuring(QObject):
    """Measure in a thread; a newer request replaces an older one.

    Signals reach the main thread through Qt's event queue.

    Attributes
    ----------
    measured : Signal
        (request number, pandas.DataFrame of all frames).
    progressed : Signal
        (request number, frames done, frames in all), several times a second.
    failed : Signal
        (request number, sentence).
    written : Signal
        (sentence,) after a file was written, or why it was not.
    """

    measured = Signal(int, object)
    progressed = Signal(int, int, int)
    failed = Signal(int, str)
    written = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self._latest = 0
        self._closed = False
        self._kept = _Kept()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix='kdsam-measuring')

    def measure(
        self, source: Source | None, changed: frozenset[FrameIndex] | None
    ) -> int:
        """Ask for the measurements of a source.

        Parameters
        ----------
        source : Source or None
            None forgets the last one, so that its arrays can go; nothing is answered.
        changed : frozenset of tuple of int or None
            Frames to measure again; None for all.

        Returns
        -------
        int
            Number of this request; answers to lower ones are out of date.
        """
        self._latest += 1
        self._thread.submit(self._measure, self._latest, source, changed)
        return self._latest

    def write(self, path: Path, table: pd.DataFrame, unit: str) -> None:
        """Write a CSV file; also if the window is closed meanwhile."""
        self._thread.submit(self._write, path, table, unit)

    def close(self) -> None:
        """Let the thread end after the frame it is at."""
        self._closed = True
        self._latest += 1
        self._thread.shutdown(wait=False)

    def _measure(
        self, number: int, source: Source | None, changed: frozenset[FrameIndex] | None
    ) -> None:
        kept = self._kept
        # Also done for a request that is out of date, or its changes would be lost.
        if source is None or changed is None or not source.same(kept.source):
            self._kept = kept = _Kept(source)
        else:
            for frame in changed:
                kept.tables.pop(frame, None)
        if source is None:
            return
        try:
            table = self._measured(number, source, kept.tables)
        except KDSAMError as error:
            self._emit(self.failed, number, str(error))
        except MemoryError:
            text = 'There is not enough memory to measure; close other programs.'
            self._emit(self.failed, number, text)
        except Exception as error:
            # A defect, or what a lazy array's reader raises, must show as a message.
            _logger.exception('Measuring failed')
            self._emit(self.failed, number, f'Measuring failed: {error}')
        else:
            if table is not None:
                self._emit(self.measured, number, table)
        if self._closed:
            self._kept = _Kept()

    def _measured(
        self, number: int, source: Source, tables: dict[FrameIndex, pd.DataFrame]
    ) -> pd.DataFrame | None:
        """Everything in one table; None if a newer request came in between."""
        import pandas as pd

        frames = list(np.ndindex(*source.labels.shape[:-2]))
        missing = [frame for frame in frames if frame not in tables]
        found = measure_stack(source.labels, source.image, source.pixel_size, missing)
        told = time.monotonic()
        for frame in missing:
            if number != self._latest:
                return None
            tables[frame] = next(found)
            if time.monotonic() - told > _PROGRESS_SECONDS:
                told = time.monotonic()
                self._emit(self.progressed, number, len(tables), len(frames))
        if number != self._latest:
            return None
        # Empty tables would cost time, but one at least gives the columns.
        filled = [tables[frame] for frame in frames if len(tables[frame])]
        return pd.concat(filled or [tables[frames[0]]], ignore_index=True)

    def _write(self, path: Path, table: pd.DataFrame, unit: str) -> None:
        count = len(table)
        text = f'Saved {count} object{"s" * (count != 1)} to {path.name}.'
        try:
            write_measurements(path, table, unit)
        except (KDSAMError, ValueError) as error:
            # The second for names that no file can hold.
            text = str(error)
        self._emit(self.written, text)

    def _emit(self, signal: Any, *values: Any) -> None:
        if self._closed:
            return
        try:
            signal.emit(*values)
        except RuntimeError:
            # The window was closed, and Qt has deleted this object, in between.
            self._closed = True


def frames_of_paint(atoms: Any, shape: tuple[int, ...]) -> frozenset[FrameIndex] | None:
    """Which frames a Labels layer's paint event changed.

    Parameters
    ----------
    atoms : sequence
        The event's value. An atom is (indices, old values, new value) or, since
        napari 0.9, has ``slice_key``.
    shape : tuple of int
        Of the layer's data.

    Returns
    -------
    frozenset of tuple of int, or None
        None if the value is of a form that is not known.
    """
    leading = shape[:-2]
    frames: set[FrameIndex] = set()
    try:
        for atom in atoms:
            if hasattr(atom, 'slice_key'):
                ranges = [
                    range(*part.indices(size))
                    for part, size in zip(atom.slice_key, leading, strict=False)
                ]
                starts = [places.start for places in ranges]
                sizes = [len(places) for places in ranges]
                frames.update(
                    tuple(int(i) + s for i, s in zip(place, starts, strict=True))
                    for place in np.ndindex(*sizes)
                )
            else:
                indices, _, _ = atom
                axes = [np.ravel(index) for index in indices[: len(leading)]]
                places = np.unique(np.stack(axes, 1), axis=0) if axes else [()]
                frames.update(tuple(int(i) for i in place) for place in places)
    except (TypeError, ValueError, AttributeError):
        return None
    return frozenset(frames)
