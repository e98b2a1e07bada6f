"""Contours of an object whose corners can be moved, and the object that they make."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from napari_kdsam.annotation.region import PixelBox, PixelRegion
from napari_kdsam.annotation.state import Position
from napari_kdsam.core.geometry import Mask
from napari_kdsam.core.mask_outlines import Line, area_within, outlines_of

# More corners than this on one line are hard to tell apart.
_MOST_CORNERS = 40
_FEWEST_CORNERS = 3
# Pixels that a line between corners may be away from the boundary, and the steps by
# which that grows until the corners are few enough.
_CLOSE, _COARSER = 0.75, 1.4


@dataclass(frozen=True)
class Ring:
    """A closed line around a part of an object, or around a hole in it.

    Attributes
    ----------
    places : tuple of (row, column)
        Its corners in image pixel coordinates, pixel centres at integers; the last is
        joined to the first.
    hole : bool
    """

    places: tuple[Position, ...]
    hole: bool = False

    @property
    def edges(self) -> frozenset[tuple[Position, Position]]:
        """The straight lines that it is of, each from the smaller place to the other."""
        around = pairwise((*self.places, *self.places[:1]))
        return frozenset((min(pair), max(pair)) for pair in around)


@dataclass(frozen=True)
class Contour:
    """The rings of an object.

    Attributes
    ----------
    rings : tuple of Ring
    distance : float
        Pixels that they may be away from the boundary.
    """

    rings: tuple[Ring, ...]
    distance: float


def contour_of(region: PixelRegion) -> Contour:
    """Draw lines of few corners around the parts of a region, and around its holes."""
    corner = np.array(region.box[:2])
    rings: list[Ring] = []
    farthest = _CLOSE
    for lines in outlines_of(region.mask()):
        for number, line in enumerate(lines):
            places, distance = _with_few_corners(line + corner)
            farthest = max(farthest, distance)
            rings.append(Ring(places, number > 0))
    return Contour(tuple(rings), farthest)


def _with_few_corners(line: Line) -> tuple[tuple[Position, ...], float]:
    from skimage.measure import approximate_polygon

    distance = _CLOSE
    found = approximate_polygon(line, distance)
    while len(found) - 1 > _MOST_CORNERS:
        distance *= _COARSER
        found = approximate_polygon(line, distance)
    if len(found) - 1 < _FEWEST_CORNERS:
        found = line
    return tuple((float(row), float(column)) for row, column in found[:-1]), distance


def reshaped(
    region: PixelRegion,
    contour: Contour,
    rings: tuple[Ring, ...],
    shape: tuple[int, int],
) -> PixelRegion | None:
    """Change a region as its contour was changed.

    Pixels near lines that stay are not changed, so that no detail is lost there which
    the few corners do not show.

    Parameters
    ----------
    region : PixelRegion
    contour : Contour
        As it was.
    rings : tuple of Ring
        As they are now: corners moved, added or taken out, whole rings as well.
    shape : tuple of int
        (rows, columns) of the image, which the region does not leave.

    Returns
    -------
    PixelRegion or None
        None if no pixel is left.
    """
    if rings == contour.rings:
        return region
    box = _box_around(region, (*contour.rings, *rings), shape)
    if box is None:
        return None
    mask = region.mask_in(box)
    before, after = _filled(contour.rings, box), _filled(rings, box)
    gone = _edges(contour.rings) - _edges(rings)
    anew = (before != after) | _near(gone, box, contour.distance)
    return PixelRegion.of_mask(region.frame, np.where(anew, after, mask), box[:2])


def _edges(rings: tuple[Ring, ...]) -> frozenset[tuple[Position, Position]]:
    return frozenset().union(*(ring.edges for ring in rings))


def _box_around(
    region: PixelRegion, rings: tuple[Ring, ...], shape: tuple[int, int]
) -> PixelBox | None:
    row0, col0, row1, col1 = region.box
    places = np.array([place for ring in rings for place in ring.places])
    low = np.floor(places.min(axis=0, initial=np.inf)).clip(0, shape)
    high = np.ceil(places.max(axis=0, initial=-np.inf) + 1).clip(0, shape)
    box = (
        min(row0, int(low[0])),
        min(col0, int(low[1])),
        min(max(row1, int(high[0])), shape[0]),
        min(max(col1, int(high[1])), shape[1]),
    )
    return box if box[0] < box[2] and box[1] < box[3] else None


def _filled(rings: tuple[Ring, ...], box: PixelBox) -> Mask:
    """Pixels whose centres are within rings, those of holes taken out."""
    from skimage.draw import polygon

    mask = np.zeros((box[2] - box[0], box[3] - box[1]), np.bool_)
    lines = [(ring.hole, np.array(ring.places) - box[:2]) for ring in rings]
    # What is within a hole is a part of its own.
    for hole, line in sorted(lines, key=lambda each: -area_within(each[1])):
        rows, columns = line.T
        mask[polygon(rows, columns, mask.shape)] = not hole
    return mask


def _near(
    edges: frozenset[tuple[Position, Position]], box: PixelBox, distance: float
) -> NDArray[np.bool_]:
    """Pixels that are no farther from any of these lines than the boundary may be."""
    from scipy import ndimage
    from skimage.draw import line

    away = np.ones((box[2] - box[0], box[3] - box[1]), np.bool_)
    for start, end in edges:
        (row0, col0), (row1, col1) = (
            (round(row) - box[0], round(column) - box[1])
            for row, column in (start, end)
        )
        rows, columns = line(row0, col0, row1, col1)
        inside = (
            (rows >= 0)
            & (rows < away.shape[0])
            & (columns >= 0)
            & (columns < away.shape[1])
        )
        away[rows[inside], columns[inside]] = False
    if away.all():
        return ~away
    return np.asarray(ndimage.distance_transform_edt(away) <= distance + 1)
