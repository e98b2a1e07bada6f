"""Images in padded squares: each at the top left of its own, scaled to its side."""

from __future__ import annotations

from typing import Protocol

import torch

from napari_kdsam.model.network import normalise_pixels


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


def image_part(sizes: torch.Tensor, side: int, device: torch.device) -> torch.Tensor:
    """(B, 1, side, side) float: 1 on the image part of a padded square, else 0."""
    line = torch.arange(side, device=device)
    sizes = sizes.to(device)
    rows = line[None, :] < sizes[:, :1]
    columns = line[None, :] < sizes[:, 1:]
    return (rows[:, None, :, None] & columns[:, None, None, :]).float()


def normalise(pixels: torch.Tensor, sizes: torch.Tensor) -> torch.Tensor:
    """Normalise (B, 3, S, S) RGB 0..255 and set the padding to 0 (SAM's convention).

    Parameters
    ----------
    pixels : torch.Tensor
        (B, 3, S, S) float or uint8.
    sizes : torch.Tensor
        (B, 2) height and width of the image part.

    Returns
    -------
    torch.Tensor
        (B, 3, S, S) float32, channels last.
    """
    inside = image_part(sizes, pixels.shape[-1], pixels.device)
    normal = normalise_pixels(pixels.float()) * inside
    return normal.contiguous(memory_format=torch.channels_last)


def mirror_squares(
    pixels: torch.Tensor, sizes: torch.Tensor, mirrored: torch.Tensor
) -> torch.Tensor:
    """Mirror some of the images left and right, where they are.

    Parameters
    ----------
    pixels : torch.Tensor
        (B, C, S, S), any dtype.
    sizes : torch.Tensor
        (B, 2) int rows and columns, on the same device.
    mirrored : torch.Tensor
        (B,) bool, which; on any device.

    Returns
    -------
    torch.Tensor
        As `pixels`.
    """
    line = torch.arange(pixels.shape[-1], device=pixels.device)
    widths = sizes[:, 1:]
    across = torch.where(line < widths, widths - 1 - line, line)
    chosen = mirrored.to(pixels.device, non_blocking=True)[:, None]
    columns = torch.where(chosen, across, line)
    return pixels.gather(-1, columns[:, None, None].expand_as(pixels))


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
    side, channels = pixels.shape[-1], pixels.shape[1]
    line = torch.arange(side, device=pixels.device)
    last = (sizes - 1).long()[:, :, None, None, None]
    row = pixels.gather(2, last[:, 0].expand(-1, channels, 1, side))
    pixels = torch.where(line[:, None] <= last[:, 0], pixels, row)
    column = pixels.gather(3, last[:, 1].expand(-1, channels, side, 1))
    return torch.where(line <= last[:, 1], pixels, column)
