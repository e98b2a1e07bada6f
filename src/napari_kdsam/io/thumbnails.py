"""Small pictures of candidate masks, quick enough to be made after every click.

Nothing is scaled or mapped to 8 bits that is not seen: images are cut and thinned out
first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from napari_kdsam.core.geometry import Window, box_of_mask
from napari_kdsam.core.intensity import IntensityMapping, to_eight_bit

# Context on each side of the masks, as a part of their longer side.
_MARGIN = 0.15
_SMALLEST_PART = 0.1
# Pixels kept for each pixel of the picture; fewer would flicker, more would be slow.
_OVERSAMPLING = 2
# The colour of the preview on the canvas, #00e5ff.
_COLOR = (0, 229, 255)
# Of 255: outside, on the outline, inside.
_OPACITIES = np.array((0, 255, 77), np.uint8)
_PIXELS_PER_LINE_WIDTH = 80


def common_window(masks: Sequence[NDArray[np.bool_]], shape: tuple[int, int]) -> Window:
    """Choose the part of an image that shows several masks side by side.

    It is the joint bounding box with a margin, made square where the image is large
    enough, so that the pictures have little empty space.

    Parameters
    ----------
    masks : sequence of numpy.ndarray
        (rows, columns) bool, of the image's shape.
    shape : tuple of int
        (rows, columns) of the image.

    Returns
    -------
    tuple of int
        Half-open (row0, col0, row1, col1) inside the image; along each axis at least
        a tenth of it. The whole image if every mask is empty.
    """
    boxes = [box for mask in masks if (box := box_of_mask(mask)) is not None]
    if not boxes:
        return 0, 0, *shape
    low = np.min(boxes, axis=0)[:2]
    high = np.max(boxes, axis=0)[2:]
    side = math.ceil((1 + 2 * _MARGIN) * (high - low).max())
    size = np.minimum(max(side, math.ceil(_SMALLEST_PART * max(shape))), shape)
    start = np.clip((low + high - size) // 2, 0, shape - size)
    stop = start + size
    return int(start[0]), int(start[1]), int(stop[0]), int(stop[1])


def candidate_thumbnails(
    image: NDArray[Any],
    masks: Sequence[NDArray[np.bool_]],
    mapping: IntensityMapping,
    side: int,
) -> list[NDArray[np.uint8]]:
    """Draw every candidate mask over the same part of an image.

    Parameters
    ----------
    image : numpy.ndarray
        (H, W), (H, W, 3) or (H, W, 4), as `check_image` returns it.
    masks : sequence of numpy.ndarray
        (H, W) bool.
    mapping : IntensityMapping
        Resolved with `IntensityMapping.resolve`.
    side : int
        Pixels along each side of a picture.

    Returns
    -------
    list of numpy.ndarray
        (side, side, 3) uint8, in the order of `masks`.
    """
    window = common_window(masks, (image.shape[0], image.shape[1]))
    part = to_eight_bit(_thinned(image, window, side), mapping)
    return [_drawn(part, _pooled(mask, window, side), window, side) for mask in masks]


def _cut(array: NDArray[Any], window: Window) -> NDArray[Any]:
    row0, col0, row1, col1 = window
    return array[row0:row1, col0:col1]


def _step(window: Window, side: int) -> int:
    """Every how many pixels one is kept."""
    row0, col0, row1, col1 = window
    return max(1, max(row1 - row0, col1 - col0) // (_OVERSAMPLING * side))


def _thinned(image: NDArray[Any], window: Window, side: int) -> NDArray[Any]:
    part, step = _cut(image, window), _step(window, side)
    rows, columns = (slice(min(step, n) // 2, None, step) for n in part.shape[:2])
    return part[rows, columns]


def _pooled(mask: NDArray[np.bool_], window: Window, side: int) -> NDArray[np.bool_]:
    """Blocks of pixels any of which is in the mask, so that specks are not lost."""
    step = _step(window, side)
    pooled = _cut(mask, window)
    if step > 1:
        pooled = _any_of(pooled, step)
        pooled = _any_of(pooled.T, step).T
    return pooled


def _any_of(mask: NDArray[np.bool_], step: int) -> NDArray[np.bool_]:
    found = mask[::step].copy()
    for first in range(1, step):
        rows = mask[first::step]
        found[: len(rows)] |= rows
    return found


def _drawn(
    part: NDArray[np.uint8], mask: NDArray[np.bool_], window: Window, side: int
) -> NDArray[np.uint8]:
    """Draw what is left of the image and of the mask within the window."""
    row0, col0, row1, col1 = window
    scale = side / max(row1 - row0, col1 - col0)
    size = max(1, round((col1 - col0) * scale)), max(1, round((row1 - row0) * scale))
    picture = Image.fromarray(np.ascontiguousarray(part))
    picture = picture.resize(size, Image.Resampling.BILINEAR).convert('RGB')
    picture.paste(_COLOR, mask=_opacity(mask, size, side))
    square = Image.new('RGB', (side, side))
    square.paste(picture, ((side - size[0]) // 2, (side - size[1]) // 2))
    return np.array(square)


def _opacity(mask: NDArray[np.bool_], size: tuple[int, int], side: int) -> Image.Image:
    """How much of the colour covers each pixel of the picture."""
    coverage = Image.fromarray(np.where(mask, np.uint8(255), np.uint8(0)))
    scaled = np.asarray(coverage.resize(size, Image.Resampling.BILINEAR))
    # Relative to the most covered pixel, so that a thin line is still seen.
    inside = scaled >= max(1, int(scaled.max()) // 2)
    interior = inside
    for _ in range(max(1, round(side / _PIXELS_PER_LINE_WIDTH))):
        interior = _shrunk(interior)
    return Image.fromarray(_OPACITIES[inside.astype(np.uint8) + interior])


def _shrunk(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Without the pixels beside others that are outside; beyond the edge none are."""
    inner = mask.copy()
    inner[1:] &= mask[:-1]
    inner[:-1] &= mask[1:]
    inner[:, 1:] &= mask[:, :-1]
    inner[:, :-1] &= mask[:, 1:]
    return inner
