"""Where things are: image pixels, the model's square, and back.

Image coordinates are (row, column), float, with pixel centres at integers. The
model's square is SAM's: the longest side scaled to `side`, padded at the bottom
and right, coordinates as (x, y). Only this module converts between them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_kdsam.core.errors import ImageError

FloatArray = NDArray[np.float64]
Box = tuple[float, float, float, float]
# (rows, columns) bool.
Mask = NDArray[np.bool_]
# By label.
Masks = Mapping[int, Mask]
# Half-open (row0, column0, row1, column1) in whole pixels.
Window = tuple[int, int, int, int]


@dataclass(frozen=True)
class PaddedSquare:
    """The square an image is scaled into.

    Parameters
    ----------
    image_shape : tuple of int
        (rows, columns) of the image.
    side : int
        Side of the square in pixels: the encoder's input size, or 1024 for prompts.
    """

    image_shape: tuple[int, int]
    side: int

    def __post_init__(self) -> None:
        if min(self.image_shape) < 1:
            raise ImageError(
                f'The image is empty: it has {self.image_shape[0]} rows and '
                f'{self.image_shape[1]} columns.'
            )

    @property
    def scaled_shape(self) -> tuple[int, int]:
        """(rows, columns) of the scaled image inside the square, at least 1 each."""
        scale = self.side / max(self.image_shape)
        rows, columns = (max(1, int(n * scale + 0.5)) for n in self.image_shape)
        return rows, columns

    @property
    def scale(self) -> tuple[float, float]:
        """Square pixels per image pixel along (rows, columns)."""
        return (
            self.scaled_shape[0] / self.image_shape[0],
            self.scaled_shape[1] / self.image_shape[1],
        )

    def points_to_square(self, points: ArrayLike) -> FloatArray:
        """Convert image points to square points.

        Parameters
        ----------
        points : array-like
            (N, 2) float (row, column), pixel centres at integers.

        Returns
        -------
        numpy.ndarray
            (N, 2) float64 (x, y), pixel centres at integers, as SAM's prompt
            encoder expects before it adds its half pixel.
        """
        points = np.asarray(points, np.float64).reshape(-1, 2)
        return np.ascontiguousarray(((points + 0.5) * self.scale - 0.5)[:, ::-1])

    def points_from_square(self, points: ArrayLike) -> FloatArray:
        """Convert (N, 2) square points (x, y) to image points (row, column)."""
        points = np.asarray(points, np.float64).reshape(-1, 2)
        return (points[:, ::-1] + 0.5) / self.scale - 0.5

    def box_to_square(self, box: Sequence[float]) -> FloatArray:
        """Convert an image box to a square box.

        Parameters
        ----------
        box : sequence of float
            (row0, col0, row1, col1), half-open: the first row and column inside,
            then one past the last, so a box around one pixel is 1 wide.

        Returns
        -------
        numpy.ndarray
            (4,) float64 (x0, y0, x1, y1).
        """
        row0, col0, row1, col1 = box
        rows, columns = self.scale
        return np.array([col0 * columns, row0 * rows, col1 * columns, row1 * rows])

    def contains(self, point: Sequence[float]) -> bool:
        """Whether an image point (row, column) lies on a pixel of the image."""
        return all(
            -0.5 <= value <= size - 0.5
            for value, size in zip(point, self.image_shape, strict=True)
        )

    def clip_box(self, box: Sequence[float]) -> Box | None:
        """Cut a box to the image; None if nothing of it is inside."""
        row0, col0, row1, col1 = box
        rows, columns = self.image_shape
        row0, row1 = max(row0, 0.0), min(row1, float(rows))
        col0, col1 = max(col0, 0.0), min(col1, float(columns))
        return (row0, col0, row1, col1) if row0 < row1 and col0 < col1 else None


def box_of_mask(mask: NDArray[np.bool_]) -> tuple[int, int, int, int] | None:
    """Smallest half-open box around a mask.

    Parameters
    ----------
    mask : numpy.ndarray
        (H, W) bool.

    Returns
    -------
    tuple of int or None
        (row0, col0, row1, col1), first pixel to last pixel + 1; None if empty.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        return None
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1
