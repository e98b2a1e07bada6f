"""Windows: parts of an image, by whole pixels, that are seen as images of their own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from napari_kdsam.core.geometry import PaddedSquare, Window
from napari_kdsam.core.prompts import Prompt
from napari_kdsam.core.sizes import LOGITS_SIZE, PROMPT_SIDE
from napari_kdsam.inference.masks import mask_of_logits

# Half-open (row0, col0, row1, col1), as in ``image[row0:row1, col0:col1]``.
# What the network says of pixels that are surely not the object.
_OUTSIDE_LOGIT = -10.0


@dataclass(frozen=True, eq=False)
class CloseUp:
    """What was found in a window of an image.

    Attributes
    ----------
    window : tuple of int
        Half-open (row0, col0, row1, col1).
    logits : numpy.ndarray
        (256, 256) float32 over the window's padded square.
    """

    window: Window
    logits: NDArray[np.float32]

    @property
    def part(self) -> NDArray[np.bool_]:
        """Mask of the window alone, (rows, columns) bool."""
        return mask_of_logits(self.logits, shape_of(self.window))

    def mask(self, image_shape: tuple[int, int]) -> NDArray[np.bool_]:
        """Mask of the whole image, (rows, columns) bool, empty outside the window."""
        row0, col0, row1, col1 = self.window
        mask = np.zeros(image_shape, np.bool_)
        mask[row0:row1, col0:col1] = self.part
        return mask


def shape_of(window: Window) -> tuple[int, int]:
    """(rows, columns) of a window."""
    return window[2] - window[0], window[3] - window[1]


def window_around(
    box: Sequence[float], image_shape: tuple[int, int], factor: float, least: int = 1
) -> Window:
    """The square window around the middle of a box, moved into the image.

    Parameters
    ----------
    box : sequence of float
        Half-open (row0, col0, row1, col1), within the image.
    image_shape : tuple of int
        (rows, columns).
    factor : float
        Side of the square in longest sides of the box, at least 1.
    least : int
        Its least side in pixels.

    Returns
    -------
    tuple of int
        Half-open (row0, col0, row1, col1); it holds the box, and is a square unless
        the image is too narrow for one.
    """
    row0, col0, row1, col1 = box
    # Two pixels more, because a box's sides need not lie between pixels.
    side = max(math.ceil(factor * max(row1 - row0, col1 - col0)) + 2, least)
    rows = _span(row0, row1, side, image_shape[0])
    columns = _span(col0, col1, side, image_shape[1])
    return rows[0], columns[0], rows[1], columns[1]


def _span(low: float, high: float, side: int, size: int) -> tuple[int, int]:
    side = min(side, size)
    start = math.floor((low + high - side) / 2)
    start = min(max(start, 0), size - side)
    return start, start + side


def prompt_in_window(prompt: Prompt, window: Window) -> Prompt:
    """Translate points and box to a window; points that are not in it are left out.

    Parameters
    ----------
    prompt : Prompt
        In coordinates of the image. Its logits are left out.
    window : tuple of int
        Half-open (row0, col0, row1, col1).

    Raises
    ------
    PromptError
        If nothing that says where the object is lies in the window.
    """
    square = PaddedSquare(shape_of(window), 1)
    row0, col0 = window[:2]
    moved = [(row - row0, column - col0) for row, column in prompt.points]
    kept = [
        (point, label)
        for point, label in zip(moved, prompt.labels or (), strict=True)
        if square.contains(point)
    ]
    box = prompt.box
    if box is not None:
        box = (box[0] - row0, box[1] - col0, box[2] - row0, box[3] - col0)
    return Prompt([point for point, _ in kept], [label for _, label in kept], box)


def logits_in_window(
    logits: NDArray[np.float32], image_shape: tuple[int, int], window: Window
) -> NDArray[np.float32]:
    """Cut logits of an image to a window of it.

    Parameters
    ----------
    logits : numpy.ndarray
        (256, 256) float32 over the image's padded square.
    image_shape : tuple of int
        (rows, columns) of the image.
    window : tuple of int
        Half-open (row0, col0, row1, col1).

    Returns
    -------
    numpy.ndarray
        (256, 256) float32 over the window's padded square, interpolated bilinearly.
    """
    # By way of the 1024-pixel square, as `mask_of_logits` places them.
    placed = PaddedSquare(image_shape, PROMPT_SIDE).box_to_square(window)
    x0, y0, x1, y1 = (placed * LOGITS_SIZE / PROMPT_SIDE).tolist()
    rows, columns = PaddedSquare(shape_of(window), LOGITS_SIZE).scaled_shape
    cut = Image.fromarray(np.ascontiguousarray(logits, np.float32)).resize(
        (columns, rows), Image.Resampling.BILINEAR, box=(x0, y0, x1, y1)
    )
    square = np.full((LOGITS_SIZE, LOGITS_SIZE), _OUTSIDE_LOGIT, np.float32)
    square[:rows, :columns] = np.asarray(cut)
    return square
