"""Pixels of one object, packed small so that undo can keep thousands, and their changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_kdsam.core.geometry import box_of_mask
from napari_kdsam.core.stack_index import FrameIndex, indices_on

PixelIndices = tuple[NDArray[np.intp], ...]
PixelBox = tuple[int, int, int, int]


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
    box: PixelBox
    packed: bytes

    @classmethod
    def of_mask(
        cls,
        frame: FrameIndex,
        mask: NDArray[np.bool_],
        corner: tuple[int, int] = (0, 0),
    ) -> PixelRegion | None:
        """Pack a (rows, columns) mask whose first pixel is at `corner`; None if empty."""
        box = box_of_mask(mask)
        if box is None:
            return None
        row0, col0, row1, col1 = box
        packed = np.packbits(mask[row0:row1, col0:col1]).tobytes()
        row, column = corner
        placed = (row0 + row, col0 + column, row1 + row, col1 + column)
        return cls(frame, placed, packed)

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns of the box."""
        row0, col0, row1, col1 = self.box
        return slice(row0, row1), slice(col0, col1)

    def mask(self) -> NDArray[np.bool_]:
        """The mask within the box, (row1 - row0, col1 - col0) bool."""
        row0, col0, row1, col1 = self.box
        shape = (row1 - row0, col1 - col0)
        packed = np.frombuffer(self.packed, np.uint8)
        bits = np.unpackbits(packed, count=shape[0] * shape[1])
        return bits.reshape(shape).astype(np.bool_)

    def full_mask(self, shape: tuple[int, int]) -> NDArray[np.bool_]:
        """The mask within an image of (rows, columns) `shape`."""
        full = np.zeros(shape, np.bool_)
        full[self.slices] = self.mask()
        return full

    def mask_in(self, box: PixelBox) -> NDArray[np.bool_]:
        """The mask within another box, which may cut it."""
        mask = np.zeros((box[2] - box[0], box[3] - box[1]), np.bool_)
        row0, col0 = max(self.box[0], box[0]), max(self.box[1], box[1])
        row1, col1 = min(self.box[2], box[2]), min(self.box[3], box[3])
        if row0 < row1 and col0 < col1:
            own = self.mask()[
                row0 - self.box[0] : row1 - self.box[0],
                col0 - self.box[1] : col1 - self.box[1],
            ]
            mask[row0 - box[0] : row1 - box[0], col0 - box[1] : col1 - box[1]] = own
        return mask

    def contains(self, row: int, column: int) -> bool:
        """Whether a pixel of the frame belongs to the region."""
        row0, col0, row1, col1 = self.box
        near = row0 <= row < row1 and col0 <= column < col1
        return near and bool(self.mask()[row - row0, column - col0])

    def overlaps(self, other: PixelRegion) -> bool:
        """Whether the boxes of two regions on one frame overlap."""
        if self.frame != other.frame:
            return False
        a, b = self.box, other.box
        return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]

    def minus(self, other: PixelRegion) -> PixelRegion | None:
        """The pixels that are not in another region of the frame; None if none is left."""
        if not self.overlaps(other):
            return self
        box, (mine, theirs) = _together(self, other)
        return PixelRegion.of_mask(self.frame, mine & ~theirs, box[:2])

    def plus(self, other: PixelRegion) -> PixelRegion:
        """The pixels of both regions of the frame."""
        box, (mine, theirs) = _together(self, other)
        both = PixelRegion.of_mask(self.frame, mine | theirs, box[:2])
        assert both is not None
        return both

    def common(self, other: PixelRegion) -> PixelRegion | None:
        """The pixels that are in both regions of the frame; None if there is none."""
        if not self.overlaps(other):
            return None
        box, (mine, theirs) = _together(self, other)
        return PixelRegion.of_mask(self.frame, mine & theirs, box[:2])

    def indices(self, within: NDArray[np.bool_] | None = None) -> PixelIndices:
        """Index arrays of the pixels, one for each axis of the label array.

        Parameters
        ----------
        within : numpy.ndarray, optional
            Mask of the box's shape; only pixels also set there are returned.
        """
        mask = self.mask()
        rows, columns = np.nonzero(mask if within is None else mask & within)
        return indices_on(self.frame, rows + self.box[0], columns + self.box[1])


def _together(
    first: PixelRegion, second: PixelRegion
) -> tuple[PixelBox, list[NDArray[np.bool_]]]:
    """The box around two regions, and the mask of each in it."""
    a, b = first.box, second.box
    box = (min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3]))
    return box, [first.mask_in(box), second.mask_in(box)]


Values = int | NDArray[Any]


@dataclass(frozen=True, eq=False)
class PixelChange:
    """Label values of a region before and after a command.

    Attributes
    ----------
    region : PixelRegion
    before, after : int or numpy.ndarray
        One value for all pixels, or one each in the order of `region.indices`.
    """

    region: PixelRegion
    before: Values
    after: Values

    def values(self, value: Values) -> NDArray[Any]:
        """(rows, columns) of the box: `before` or `after` at each pixel, 0 elsewhere."""
        mask = self.region.mask()
        dtype = np.asarray(value).dtype
        grid = np.zeros(mask.shape, dtype if dtype.kind in 'iu' else np.int64)
        grid[mask] = value
        return grid
