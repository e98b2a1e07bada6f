"""Where a batch writes: a Labels layer, frame by frame."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_kdsam.core.stack_index import FrameIndex
from napari_kdsam.segmentation.frame_labels import FrameLabels
from napari_kdsam.widgets.shared.labels_writer import (
    check_label,
    frame_data,
    set_pixels,
)

if TYPE_CHECKING:
    from napari.layers import Labels

Written = dict[FrameIndex, frozenset[int]]


class LabelsSink:
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

    def write(self, frame: FrameIndex, found: FrameLabels) -> None:
        """Write the objects of a frame.

        Raises
        ------
        ImageError
            If the layer cannot be written or cannot hold a label.
        """
        labels = found.labels
        present = frozenset(int(label) for label in np.unique(labels) if label > 0)
        check_label(self.layer, max(present, default=0))
        before = self.reader()(frame)
        gone = self._written.get(frame, frozenset())
        if self.overwrite:
            gone |= present
        after = np.where(np.isin(before, list(gone)), 0, before)
        new = labels > 0
        if not self.overwrite:
            new &= after == 0
        after[new] = labels[new]
        rows, columns = np.nonzero(before != after)
        if rows.size == 0:
            # Labels that were there already, as on a key frame, stay the user's.
            return
        leading = tuple(np.full(rows.size, i, np.intp) for i in frame)
        set_pixels(self.layer, (*leading, rows, columns), after[rows, columns])
        self._written[frame] = present


def labels_reader(layer: Labels) -> Callable[[FrameIndex], NDArray[Any]]:
    """Make a function that reads a frame of what a Labels layer holds now."""
    return partial(frame_data, layer.data)
