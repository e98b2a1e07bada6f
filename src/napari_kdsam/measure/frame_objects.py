"""The objects in one frame of labels, and which of them belong to those of another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BoxSlices = tuple[slice, slice]
# Beyond it, a table of all possible values costs more than sorting those there are.
_MOST_VALUES = 65535


@dataclass(frozen=True, eq=False)
class FrameObjects:
    """The objects of a frame, numbered from 1 in the order of their values.

    Attributes
    ----------
    values : list of int
        Value of each object by its number; the first one, 0, is the background's.
    codes : numpy.ndarray
        (rows, columns) numbers instead of values.
    boxes : list of tuple of slice
        Rows and columns around each object, by its number less one.
    """

    values: list[int]
    codes: NDArray[np.intp]
    boxes: list[BoxSlices]

    @classmethod
    def of(cls, labels: NDArray[Any]) -> FrameObjects:
        """Find the objects of a frame.

        Parameters
        ----------
        labels : numpy.ndarray
            (rows, columns) whole numbers; each positive one is an object.
        """
        from scipy.ndimage import find_objects

        if labels.dtype.kind == 'i':
            labels = np.maximum(labels, 0)
        if labels.max(initial=0) <= _MOST_VALUES:
            flat = labels.ravel().astype(np.intp)
            there = np.bincount(flat, minlength=1) > 0
            there[0] = True
            values = np.flatnonzero(there)
            codes = (np.cumsum(there) - 1)[flat]
        else:
            values, codes = np.unique(labels, return_inverse=True)
            if values[0]:
                values, codes = np.concatenate([values[:1] * 0, values]), codes + 1
        codes = codes.reshape(labels.shape)
        return cls(values.tolist(), codes, find_objects(codes))

    @property
    def count(self) -> int:
        """How many objects there are."""
        return len(self.boxes)

    def mask(self, number: int, box: BoxSlices) -> NDArray[np.bool_]:
        """Pixels of an object in a box; none for number 0."""
        if not number:
            return np.zeros(self.codes[box].shape, np.bool_)
        return self.codes[box] == number

    def joint_box(
        self, number: int, other: FrameObjects, counterpart: int
    ) -> BoxSlices:
        """The box around an object and one of another frame; one of them may be 0."""
        boxes = self.boxes[number - 1 : number] if number else []
        if counterpart:
            boxes = [*boxes, other.boxes[counterpart - 1]]
        return _around(boxes)

    def box_around(self, other: FrameObjects) -> BoxSlices:
        """The box around all objects of both; everything if there are none."""
        boxes = [*self.boxes, *other.boxes]
        if not boxes:
            rows, columns = self.codes.shape
            return slice(0, rows), slice(0, columns)
        return _around(boxes)

    def equal_values(self, other: FrameObjects) -> dict[int, int]:
        """Numbers of the objects with equal values, ours to the other's."""
        theirs = {value: number for number, value in enumerate(other.values)}
        return {
            number: theirs[value]
            for number, value in enumerate(self.values)
            if number and value in theirs
        }

    def best_overlaps(self, other: FrameObjects) -> dict[int, int]:
        """Pair objects that overlap so that the sum of their IoU is greatest.

        Parameters
        ----------
        other : FrameObjects
            Of as many rows and columns.

        Returns
        -------
        dict of int to int
            Numbers of our objects to the other's.
        """
        from scipy.sparse import coo_matrix
        from scipy.sparse.csgraph import connected_components

        both = (self.codes > 0) & (other.codes > 0)
        ours, theirs = self.codes[both], other.codes[both]
        shape = (len(self.values), len(other.values))
        shared = coo_matrix((np.ones(len(ours), np.int64), (ours, theirs)), shape)
        shared.sum_duplicates()
        sizes = np.bincount(self.codes.ravel(), minlength=shape[0])[shared.row]
        other_sizes = np.bincount(other.codes.ravel(), minlength=shape[1])[shared.col]
        iou = shared.data / (sizes + other_sizes - shared.data)
        # A table of all objects by all could fill memory, one of neighbours does not.
        side = sum(shape)
        joined = coo_matrix((iou, (shared.row, shared.col + shape[0])), (side, side))
        groups = connected_components(joined, directed=False)[1][shared.row]
        pairs: dict[int, int] = {}
        order = np.argsort(groups, kind='stable')
        for part in np.split(order, np.flatnonzero(np.diff(groups[order])) + 1):
            pairs.update(_assigned(shared.row[part], shared.col[part], iou[part]))
        return pairs


def _around(boxes: list[BoxSlices]) -> BoxSlices:
    rows, columns = zip(*boxes, strict=True)
    return _span(rows), _span(columns)


def _span(parts: tuple[slice, ...]) -> slice:
    return slice(min(p.start for p in parts), max(p.stop for p in parts))


def _assigned(
    rows: NDArray[Any], columns: NDArray[Any], iou: NDArray[np.float64]
) -> dict[int, int]:
    """Solve one group of overlapping objects."""
    from scipy.optimize import linear_sum_assignment

    ours, down = np.unique(rows, return_inverse=True)
    theirs, right = np.unique(columns, return_inverse=True)
    gain = np.zeros((len(ours), len(theirs)))
    gain[down, right] = iou
    found = zip(*linear_sum_assignment(gain, maximize=True), strict=True)
    return {int(ours[i]): int(theirs[j]) for i, j in found if gain[i, j] > 0}
