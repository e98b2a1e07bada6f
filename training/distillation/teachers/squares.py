"""Images in squares: each at the top left of its own, scaled to the square's side."""

from __future__ import annotations

from typing import Protocol

import torch


class SquareStore(Protocol):
    """Images that are asked for by number."""

    def __len__(self) -> int:
        """Number of images."""

    def squares(self, indices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Give some of the images.

        Parameters
        ----------
        indices : torch.Tensor
            (B,) int64 on the CPU.

        Returns
        -------
        pixels : torch.Tensor
            (B, 3, S, S) uint8 RGB, on the device that trains.
        sizes : torch.Tensor
            (B, 2) int rows and columns of each image in its square.
        """


def extend_edges(pixels: torch.Tensor, sizes: torch.Tensor) -> torch.Tensor:
    """Fill the padding with the image's last row and column.

    Parameters
    ----------
    pixels : torch.Tensor
        (B, C, S, S), any dtype.
    sizes : torch.Tensor
        (B, 2) int rows and columns, on the same device.

    Returns
    -------
    torch.Tensor
        As `pixels`. Interpolated, it does not mix the padding into the image.
    """
    steps = torch.arange(pixels.shape[-1], device=pixels.device)
    last_rows, last_columns = (sizes[:, axis, None] - 1 for axis in (0, 1))
    rows = torch.minimum(steps, last_rows)
    return take(pixels, rows, torch.minimum(steps, last_columns))


def take(
    pixels: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor
) -> torch.Tensor:
    """Pick (B, S) rows and (B, S) columns of each of (B, C, S, S) squares."""
    batch, channels = (
        torch.arange(size, device=pixels.device) for size in pixels.shape[:2]
    )
    return pixels[
        batch[:, None, None, None],
        channels[:, None, None],
        rows[:, None, :, None],
        columns[:, None, None, :],
    ]
