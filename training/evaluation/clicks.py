"""Prompts a simulated user gives: boxes around the object and clicks on the errors."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from napari_kdsam.core.geometry import Box, Mask, box_of_mask

# An off-centre click is at least this share as far inside as the deepest pixel.
_INNER_DEPTH = 0.25

Click = tuple[tuple[int, int], int]


def next_click(
    found_mask: Mask, truth_mask: Mask, taken: Sequence[tuple[int, int]] = ()
) -> Click | None:
    """Click where a careful user would: the middle of the largest error.

    The usual rule of interactive segmentation (Sofiiuk et al., RITM, 2022): the
    largest error is the one that holds the largest circle, and the click goes to the
    circle's centre, positive on a missed part, negative on a wrongly included one.

    Parameters
    ----------
    found_mask : numpy.ndarray
        (H, W) bool, the current prediction; all False before the first click.
    truth_mask : numpy.ndarray
        (H, W) bool.
    taken : sequence of (row, column)
        Pixels clicked before, which are not clicked again.

    Returns
    -------
    tuple or None
        ((row, column), label) with label 1 for inside and 0 for outside; None if
        every error pixel has been clicked already, or there is none.
    """
    missed = _deepest(truth_mask & ~found_mask, taken)
    excess = _deepest(found_mask & ~truth_mask, taken)
    if missed is None and excess is None:
        return None
    if excess is None or (missed is not None and missed[0] >= excess[0]):
        assert missed is not None
        return missed[1], 1
    return excess[1], 0


def _deepest(
    errors: Mask, taken: Sequence[tuple[int, int]]
) -> tuple[float, tuple[int, int]] | None:
    box = box_of_mask(errors)
    if box is None:
        return None
    top, left, bottom, right = box
    depth = _depth(errors[top:bottom, left:right])
    for row, column in taken:
        if top <= row < bottom and left <= column < right:
            depth[row - top, column - left] = 0
    deepest = np.unravel_index(int(depth.argmax()), depth.shape)
    if depth[deepest] <= 0:
        return None
    return float(depth[deepest]), (int(deepest[0]) + top, int(deepest[1]) + left)


def _depth(region: Mask) -> NDArray[np.float64]:
    """Distance of each pixel to the nearest outside the region or the image.

    Outside a region's box there is none of it, so a crop gives the same distances.
    """
    return np.asarray(distance_transform_edt(np.pad(region, 1))[1:-1, 1:-1])


def off_centre_click(truth_mask: Mask, rng: np.random.Generator) -> tuple[int, int]:
    """Click somewhere in the inner part of an object, as a person would.

    Parameters
    ----------
    truth_mask : numpy.ndarray
        (H, W) bool, not empty.
    rng : numpy.random.Generator
        From `generator_for`.

    Returns
    -------
    tuple of int
        (row, column), uniform over the object's pixels that are at least a quarter as
        far inside as its deepest one.
    """
    box = box_of_mask(truth_mask)
    assert box is not None
    top, left, bottom, right = box
    depth = _depth(truth_mask[top:bottom, left:right])
    rows, columns = np.nonzero(depth >= _INNER_DEPTH * depth.max())
    chosen = int(rng.integers(len(rows)))
    return int(rows[chosen]) + top, int(columns[chosen]) + left


def generator_for(name: str) -> np.random.Generator:
    """Make the random numbers of one object: the same in every run and for every model.

    Parameters
    ----------
    name : str
        `Sample.name`, or more where one object needs several independent draws.
    """
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return np.random.default_rng(int.from_bytes(digest, 'big'))


def jittered_box(
    box: Box,
    fraction: float,
    rng: np.random.Generator,
    image_shape: tuple[int, int],
) -> Box:
    """Move each side of a box as an imprecise user would.

    Parameters
    ----------
    box : (row0, col0, row1, col1)
        Half-open, in image pixels, within the image.
    fraction : float
        Each side moves by up to this share of the box's extent across it, in
        either direction, uniformly; 0 to below 0.5, so that the sides cannot swap.
    rng : numpy.random.Generator
        From `generator_for`.
    image_shape : tuple of int
        (rows, columns) to clip to.

    Returns
    -------
    tuple of float
        (row0, col0, row1, col1), at least one pixel in extent.

    Raises
    ------
    ValueError
        If `fraction` is negative or at least 0.5.
    """
    if not 0 <= fraction < 0.5:
        raise ValueError('The fraction must be from 0 to below 0.5.')
    row0, col0, row1, col1 = box
    moves = rng.uniform(-fraction, fraction, 4)
    height, width = row1 - row0, col1 - col0
    row0, row1 = _side(
        row0 + moves[0] * height, row1 + moves[2] * height, image_shape[0]
    )
    col0, col1 = _side(col0 + moves[1] * width, col1 + moves[3] * width, image_shape[1])
    return row0, col0, row1, col1


def _side(low: float, high: float, size: int) -> tuple[float, float]:
    low, high = max(float(low), 0.0), min(float(high), float(size))
    if high - low < 1:
        low = min(max((low + high) / 2 - 0.5, 0.0), size - 1.0)
        high = low + 1
    return low, high
