"""The ellipse that fits a mask, and its lengths."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from napari_kdsam.core.geometry import Mask, box_of_mask
from napari_kdsam.core.mask_shapes import Ends, fill_holes, fill_rows, pixels_between

# An ellipse has five parameters.
_FEWEST_PIXELS = 5
# Semi-axes beyond these are those of an outline that is no ellipse at all.
_THINNEST, _LONGEST = 1e-3, 1e6


@dataclass(frozen=True)
class Ellipse:
    """An ellipse in image pixels.

    Attributes
    ----------
    row, column : float
        Centre, pixel centres at integers.
    major, minor : float
        Semi-axes in pixels, above 0, the longer one first.
    angle : float
        Direction of the major axis in radians, from 0 to pi: 0 along growing
        columns, pi / 2 along growing rows.
    """

    row: float
    column: float
    major: float
    minor: float
    angle: float

    def mask(self, shape: tuple[int, ...]) -> Mask:
        """Draw the ellipse.

        Parameters
        ----------
        shape : tuple of int
            (rows, columns) of the image; what lies beyond is cut off.

        Returns
        -------
        numpy.ndarray
            (rows, columns) bool, true where a pixel centre is inside.
        """
        return fill_rows(*self._ends(shape), shape[1])

    def _ends(self, shape: tuple[int, ...]) -> tuple[Ends, Ends]:
        """First and last column of each row."""
        # Row by row, as skimage.draw.ellipse is too slow to follow a drag.
        cosine, sine = math.cos(self.angle), math.sin(self.angle)
        down = np.arange(shape[0]) - self.row
        # Where a row meets the ellipse: square * x**2 + 2 * mixed * x = rest.
        square = (cosine / self.major) ** 2 + (sine / self.minor) ** 2
        mixed = cosine * sine * (self.major**-2 - self.minor**-2)
        inside = square - (down / (self.major * self.minor)) ** 2
        half = np.sqrt(np.maximum(inside, 0)) / square
        middle = self.column - mixed / square * down
        met = inside >= 0
        return pixels_between(
            np.where(met, middle - half, np.inf),
            np.where(met, middle + half, -np.inf),
            shape[1],
        )

    def measurements(self, pixel_size: tuple[float, float]) -> dict[str, float]:
        """Measure the ellipse.

        Parameters
        ----------
        pixel_size : tuple of float
            Extent of a pixel along rows and columns; they may differ.

        Returns
        -------
        dict
            ``long_axis``, ``short_axis`` (full lengths) and ``circumference``
            (Ramanujan's second approximation), in the unit of `pixel_size`.
        """
        cosine, sine = math.cos(self.angle), math.sin(self.angle)
        # Columns are the semi-axes as vectors (row, column) in the unit. Stretched, they
        # need not be at right angles; the ellipse's own are the singular values.
        axes = np.array(
            [
                [self.major * sine, self.minor * cosine],
                [self.major * cosine, -self.minor * sine],
            ]
        ) * np.reshape(pixel_size, (2, 1))
        a, b = (float(value) for value in np.linalg.svd(axes, compute_uv=False))
        h = ((a - b) / (a + b)) ** 2
        around = math.pi * (a + b) * (1 + 3 * h / (10 + math.sqrt(4 - 3 * h)))
        return {'long_axis': 2 * a, 'short_axis': 2 * b, 'circumference': around}


def fit_ellipse(mask: Mask) -> Ellipse | None:
    """Fit an ellipse to the outer outline of a mask.

    Where the image's edge cuts the mask off there is no outline, so the ellipse may
    reach beyond the image. If the outline is so rough that an ellipse with the centre,
    the spread and the area of the mask overlaps the mask better, it is that one.

    Parameters
    ----------
    mask : numpy.ndarray
        (rows, columns) bool. Holes do not count, all parts do.

    Returns
    -------
    Ellipse or None
        None if the mask has fewer than 5 pixels, or parts so far apart that the ellipse
        misses them.
    """
    box = box_of_mask(mask)
    if box is None:
        return None
    top, left = max(0, box[0] - 1), max(0, box[1] - 1)
    part = fill_holes(mask[top : box[2] + 1, left : box[3] + 1])
    if np.count_nonzero(part) < _FEWEST_PIXELS:
        return None
    best, most = None, 0.0
    for ellipse in (_ellipse_of_outline(part), _ellipse_of_moments(part)):
        if ellipse is not None:
            placed = replace(
                ellipse, row=ellipse.row + top, column=ellipse.column + left
            )
            overlap = _overlap(placed, part, (top, left), mask.shape)
            if overlap > most:
                best, most = placed, overlap
    return best


def _ellipse_of_outline(part: Mask) -> Ellipse | None:
    # Half-way between neighbours that differ, so there is none at the image's edge.
    down = np.argwhere(part[1:] != part[:-1]) + (0.5, 0)
    across = np.argwhere(part[:, 1:] != part[:, :-1]) + (0, 0.5)
    points = np.concatenate([down, across])[:, ::-1]
    if len(points) < _FEWEST_PIXELS:
        return None
    try:
        # What a degenerate outline leads to is refused below.
        with np.errstate(all='ignore'):
            found = _estimate(points)
    except (TypeError, np.linalg.LinAlgError):
        # scikit-image fails where no ellipse solves the equations.
        return None
    if found is None:
        return None
    column, row, major, minor, angle = (float(value) for value in found)
    if not _THINNEST < minor <= major < _LONGEST:
        return None
    return Ellipse(row, column, major, minor, angle % math.pi)


def _estimate(points: NDArray[np.float64]) -> Sequence[float] | None:
    """Centre (x, y), semi-axes, the longer first, and its angle; None if there is none."""
    from skimage.measure import EllipseModel

    if hasattr(EllipseModel, 'from_estimate'):
        model = EllipseModel.from_estimate(points)
        return (*model.center, *model.axis_lengths, model.theta) if model else None
    # scikit-image before 0.26.
    model = EllipseModel()
    return model.params if model.estimate(points) else None


def _ellipse_of_moments(part: Mask) -> Ellipse:
    """The ellipse with the centre, the area and the ratio of spreads of a mask."""
    rows, columns = (np.arange(size, dtype=np.float64) for size in part.shape)
    in_row, in_column = (np.count_nonzero(part, axis=axis) for axis in (1, 0))
    area = in_row.sum()
    row, column = (in_row * rows).sum() / area, (in_column * columns).sum() / area
    rows, columns = rows - row, columns - column
    # Not a matrix product, whose threads would wait for those of the model.
    mixed = (rows * np.where(part, columns, 0).sum(axis=1)).sum() / area
    # A pixel is a square, not a point.
    spread = np.array(
        [
            [(in_column * columns**2).sum() / area + 1 / 12, mixed],
            [mixed, (in_row * rows**2).sum() / area + 1 / 12],
        ]
    )
    values, vectors = np.linalg.eigh(spread)
    minor, major = np.sqrt(values)
    scale = math.sqrt(area / (math.pi * major * minor))
    angle = math.atan2(vectors[1, 1], vectors[0, 1]) % math.pi
    return Ellipse(
        float(row), float(column), float(major * scale), float(minor * scale), angle
    )


def _overlap(
    ellipse: Ellipse, part: Mask, offset: tuple[int, int], shape: tuple[int, ...]
) -> float:
    """Intersection over union within an image, of which `part` starts at `offset`."""
    first, last = ellipse._ends(shape)
    drawn = int(np.maximum(last - first + 1, 0).sum())
    (top, left), (rows, columns) = offset, part.shape
    beside = slice(top, top + rows)
    both = fill_rows(first[beside] - left, last[beside] - left, columns) & part
    common = int(np.count_nonzero(both))
    return common / (drawn + int(np.count_nonzero(part)) - common)
