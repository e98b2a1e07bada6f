"""Where a batch writes: a Labels layer, frame by frame."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_kdsam.annotation.region import PixelRegion
from napari_kdsam.core.errors import ImageError
from napari_kdsam.core.stack_index import FrameIndex

if TYPE_CHECKING:
    from napari.layers import Labels

Written = dict[FrameIndex, frozenset[int]]
_CANNOT_WRITE = (
    ValueError,
    TypeError,
    IndexError,
    OSError,
    NotImplementedError,
    MemoryError,
)


class BatchOutput:
    """Write objects into a Labels layer, and remember which ones are the batch's own.

    Parameters
    ----------
    layer : napari.layers.Labels
    overwrite : bool
        Whether labels that were there give way to new ones, also those with the same
        value; what a batch wrote is replaced by a later result in any case.
    written : dict of tuple of int to frozenset of int, optional
        Labels that earlier batches wrote, by frame; kept up to date.
    """

    def __init__(
        self, layer: Labels, overwrite: bool = False, written: Written | None = None
    ) -> None:
        self.layer = layer
        self.overwrite = overwrite
        self._written = {} if written is None else written

    def written(self, frame: FrameIndex) -> frozenset[int] | None:
        """Labels that the batch wrote on a frame; None if it is the user's."""
        return self._written.get(frame)

    def release(self, frame: FrameIndex) -> None:
        """Take the labels of a frame as the user's from now on."""
        self._written.pop(frame, None)

    def reader(self) -> Callable[[FrameIndex], NDArray[Any]]:
        """Make a function that reads the (rows, columns) labels of a frame, in a thread."""
        return labels_reader(self.layer)

    def write(self, frame: FrameIndex, regions: Mapping[int, PixelRegion]) -> None:
        """Write the objects of a frame; of two on one pixel the lower label stays.

        Raises
        ------
        ImageError
            If the layer cannot be written or cannot hold a label.
        """
        highest = max(regions, default=0)
        if highest > np.iinfo(self.layer.data.dtype).max:
            raise ImageError(
                f'{self.layer.data.dtype} labels cannot hold the label {highest}; '
                'choose a new labels layer.'
            )
        try:
            before = self.reader()(frame)
            after = self._with(frame, before, regions)
            changed = self._set(frame, before, after)
        except _CANNOT_WRITE as error:
            raise ImageError(
                f'The labels layer cannot be written ({error}); choose a new labels '
                'layer.'
            ) from error
        # Labels that were there already, as on a key frame, stay the user's.
        if changed:
            self._written[frame] = frozenset(regions)

    def _with(
        self,
        frame: FrameIndex,
        before: NDArray[Any],
        regions: Mapping[int, PixelRegion],
    ) -> NDArray[Any]:
        after = before.copy()
        gone = set(self._written.get(frame, ()))
        if self.overwrite:
            gone |= set(regions)
        after[np.isin(after, list(gone))] = 0
        for label in sorted(regions, reverse=True):
            region = regions[label]
            window, mask = after[region.slices], region.mask()
            if not self.overwrite:
                kept = before[region.slices]
                mask &= (kept == 0) | np.isin(kept, list(gone))
            window[mask] = label
        return after

    def _set(
        self, frame: FrameIndex, before: NDArray[Any], after: NDArray[Any]
    ) -> bool:
        changed = before != after
        if not changed.any():
            return False
        rows, columns = np.nonzero(changed)
        values = after[rows, columns]
        with self.layer.block_history():
            for value in np.unique(values):
                places = values == value
                leading = tuple(np.full(places.sum(), i, np.intp) for i in frame)
                self.layer.data_setitem(
                    (*leading, rows[places], columns[places]), int(value)
                )
        return True


def labels_reader(layer: Labels) -> Callable[[FrameIndex], NDArray[Any]]:
    """Make a function that reads a frame of what a Labels layer holds now."""
    return partial(_read, layer.data)


def _read(data: Any, frame: FrameIndex) -> NDArray[Any]:
    return np.asarray(data[frame] if frame else data)
