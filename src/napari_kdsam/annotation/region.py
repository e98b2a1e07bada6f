"""The pixels of one object, packed small so that undo can keep thousands."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_kdsam.annotation.state import FrameIndex
from napari_kdsam.inference.geometry import box_of_mask

PixelIndices = tuple[NDArray[np.intp], ...]


@dataclass(frozen=True)
class PixelRegion:
    """Pixels of one frame, one bit each within their bounding box.

    Attributes
    ----------
    frame : tuple of int
        Index along the leading axes.
    box : tuple of int
        Half-open (row0, col0, row1, col1).
    packed : bytes
        From `numpy.packbits` of the mask within the box.
    """

    frame: FrameIndex
    box: tuple[int, int, int, int]
    packed: bytes

    @classmethod
    def of_mask(cls, frame: FrameIndex, mask: NDArray[np.bool_]) -> PixelRegion | None:
        """Pack a (rows, columns) mask; None if it is empty."""
        box = box_of_mask(mask)
        if box is None:
            return None
        row0, col0, row1, col1 = box
        return cls(frame, box, np.packbits(mask[row0:row1, col0:col1]).tobytes())

    def mask(self) -> NDArray[np.bool_]:
        """The mask within the box, (row1 - row0, col1 - col0) bool."""
        row0, col0, row1, col1 = self.box
        shape = (row1 - row0, col1 - col0)
        packed = np.frombuffer(self.packed, np.uint8)
        bits = np.unpackbits(packed, count=shape[0] * shape[1])
        return bits.reshape(shape).astype(np.bool_)

    def indices(self, within: NDArray[np.bool_] | None = None) -> PixelIndices:
        """Index arrays of the pixels, one for each axis of the label array.

        Parameters
        ----------
        within : numpy.ndarray, optional
            Mask of the box's shape; only pixels also set there are returned.
        """
        mask = self.mask()
        rows, columns = np.nonzero(mask if within is None else mask & within)
        leading = (np.full(rows.shape, index, np.intp) for index in self.frame)
        return (*leading, rows + self.box[0], columns + self.box[1])
