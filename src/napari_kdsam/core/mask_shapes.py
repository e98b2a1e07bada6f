"""What clean-up does to masks, fast enough to follow a mask while it is drawn."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from napari_kdsam.core.geometry import Mask

Ends = NDArray[np.int32]
# How far smoothing reaches, in radii.
SMOOTHING_REACH = 4
# Of a blur and of the same blur done twice: with these a disc keeps its size.
_ONCE, _TWICE = 2 + math.sqrt(2), 1 + math.sqrt(2)
# Far below the distance of a pixel centre that is not on a line, far above rounding.
_ROUNDING = 1e-9


def without_parts(mask: Mask, least: int, largest_only: bool) -> Mask:
    """Remove connected parts; parts touch at sides or corners.

    Parameters
    ----------
    mask : numpy.ndarray
        (rows, columns) bool.
    least : int
        Parts of fewer pixels are removed.
    largest_only : bool
        Whether only the largest part is kept, of equal ones the first from the top.

    Returns
    -------
    numpy.ndarray
        (rows, columns) bool; the mask itself if nothing is removed.
    """
    from scipy import ndimage

    parts, _ = ndimage.label(mask, np.ones((3, 3), np.bool_))
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    kept = sizes >= max(1, least)
    if largest_only:
        kept &= np.arange(len(sizes)) == sizes.argmax()
    return mask if kept[1:].all() else kept[parts]


def fill_holes(mask: Mask) -> Mask:
    """Fill background that does not reach the outside, by sides, in a new array."""
    from scipy import ndimage

    # Ten times faster than binary_fill_holes, which grows the outside step by step.
    background, _ = ndimage.label(~np.pad(mask, 1))
    return (background != background[0, 0])[1:-1, 1:-1]


def smooth(
    mask: Mask, radius: float, beyond: tuple[tuple[int, int], tuple[int, int]]
) -> Mask:
    """Smooth bends of the boundary that are tighter than a radius.

    The mask is blurred and cut at one half. A blur alone shrinks what is round; taking
    some of the same blur done twice away leaves straight lines and, up to the radius,
    circles where they are.

    Parameters
    ----------
    mask : numpy.ndarray
        (rows, columns) bool, empty within `SMOOTHING_REACH` radii of its edges except
        where `beyond` says so.
    radius : float
        In pixels, above 0.
    beyond : pair of pairs of int
        Rows (above, below) and columns (left, right) by which the mask goes on as it is
        at its edge.

    Returns
    -------
    numpy.ndarray
        (rows, columns) bool.
    """
    from scipy import fft

    solid = np.pad(mask.astype(np.float32), beyond, mode='edge')
    # Fourier's blur takes as long for any radius.
    shape = [fft.next_fast_len(size, real=True) for size in solid.shape]
    blur = np.multiply.outer(
        _gaussian(fft.fftfreq(shape[0]), radius),
        _gaussian(fft.rfftfreq(shape[1]), radius),
    )
    spectrum = fft.rfft2(solid, shape)
    spectrum *= blur * (_ONCE - _TWICE * blur)
    blurred = fft.irfft2(spectrum, shape, overwrite_x=True)
    (above, _), (before, _) = beyond
    rows, columns = mask.shape
    return blurred[above : above + rows, before : before + columns] > 0.5


def _gaussian(
    frequencies: NDArray[np.float64], deviation: float
) -> NDArray[np.float32]:
    return np.exp(-2 * (math.pi * deviation * frequencies) ** 2).astype(np.float32)


def convex_hull(mask: Mask) -> Mask:
    """All pixels whose centres lie in the convex hull of those of a mask.

    skimage.morphology.convex_hull_image takes a hundred times as long and knows no
    hull of pixels in a line.

    Parameters
    ----------
    mask : numpy.ndarray
        (rows, columns) bool.

    Returns
    -------
    numpy.ndarray
        (rows, columns) bool.
    """
    columns = mask.shape[1]
    rows = np.flatnonzero(mask.any(axis=1))
    if rows.size == 0:
        return mask
    first = mask.argmax(axis=1)[rows]
    last = columns - 1 - mask[:, ::-1].argmax(axis=1)[rows]
    every = np.arange(mask.shape[0])
    left = np.interp(every, *_lower_hull(rows, first), left=np.inf, right=np.inf)
    right = np.interp(every, *_lower_hull(rows, -last), left=np.inf, right=np.inf)
    return fill_rows(*pixels_between(left, -right, columns), columns)


def _lower_hull(
    x: NDArray[np.intp], y: NDArray[np.intp]
) -> tuple[list[int], list[int]]:
    """Corners of the lower convex hull of points in the order of x."""
    corners: list[tuple[int, int]] = []
    for point in zip(x.tolist(), y.tolist(), strict=True):
        while len(corners) > 1:
            (x0, y0), (x1, y1) = corners[-2:]
            if (x1 - x0) * (point[1] - y0) > (y1 - y0) * (point[0] - x0):
                break
            corners.pop()
        corners.append(point)
    return [corner[0] for corner in corners], [corner[1] for corner in corners]


def pixels_between(
    left: NDArray[np.float64], right: NDArray[np.float64], columns: int
) -> tuple[Ends, Ends]:
    """First and last pixel of each row that is between two positions.

    Parameters
    ----------
    left, right : numpy.ndarray
        (rows,) float64 columns, infinite ones allowed.
    columns : int
        Of the image; pixels are not beyond it.

    Returns
    -------
    tuple of numpy.ndarray
        (rows,) int each; the first is greater than the last if there is none.
    """
    first = np.ceil(np.clip(left - _ROUNDING, 0, columns)).astype(np.int32)
    last = np.floor(np.clip(right + _ROUNDING, -1, columns - 1)).astype(np.int32)
    return first, last


def fill_rows(first: Ends, last: Ends, columns: int) -> Mask:
    """(rows, columns) mask of the pixels from the first to the last of each row."""
    mask = np.zeros((len(first), columns), np.bool_)
    rows = np.flatnonzero(first <= last)
    if rows.size:
        # Most of a large image is far from the shape.
        window = slice(rows[0], rows[-1] + 1)
        first, last = first[window, None], last[window, None]
        left, right = max(0, int(first.min())), min(columns, int(last.max()) + 1)
        every = np.arange(left, right, dtype=np.int32)
        mask[window, left:right] = (every >= first) & (every <= last)
    return mask
