"""Flips, turns, zoom and aspect in one resampling, in the padded frame."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from napari_kdsam.training.student import image_part

# Less than this share of the object left in view, and the image stays as it was.
_LEAST_VISIBLE = 0.25
_LEAST_PIXELS = 30


@dataclass(frozen=True)
class Window:
    """What part of an image is shown, and how it is turned.

    Attributes
    ----------
    centre : tuple of float
        (row, column) in the image part, in pixels.
    extent : tuple of float
        (height, width) of the window before it is turned.
    angle : float
        In degrees, counterclockwise as displayed.
    flip_rows, flip_columns : bool
        Mirror top and bottom, left and right.
    """

    centre: tuple[float, float]
    extent: tuple[float, float]
    angle: float = 0.0
    flip_rows: bool = False
    flip_columns: bool = False


def whole(size: Sequence[int]) -> Window:
    """Return the window that changes nothing of an image of (height, width)."""
    height, width = size
    return Window((height / 2, width / 2), (height, width))


def draw_window(
    size: Sequence[int], middle: tuple[float, float], modality: str, strength: float
) -> Window:
    """Draw a window that keeps the object's middle in view.

    Parameters
    ----------
    size : sequence of int
        (height, width) of the image part.
    middle : tuple of float
        (row, column) of the object's centre of mass.
    modality : str
        Ultrasound has a top and a bottom; dermoscopy and endoscopy have none.
    strength : float
        Scales rotation, zoom and aspect.

    Returns
    -------
    Window
    """
    height, width = size

    def uniform(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand(()))

    turns = modality in ('dermoscopy', 'endoscopy')
    upside = 0.5 if turns else 0.1 if modality == 'ultrasound' else 0.0
    most = (20.0 if turns else 10.0) * strength
    angle = uniform(-most, most)
    if turns and float(torch.rand(())) < 0.5:
        angle += 90.0 * int(torch.randint(1, 4, ()))
    zoom = math.exp(uniform(strength * math.log(0.6), strength * math.log(1.15)))
    stretch = math.exp(uniform(-0.16, 0.16) * strength)
    extent = (height * zoom * stretch**0.5, width * zoom / stretch**0.5)
    centre = []
    for length, part, place in zip(size, extent, middle, strict=True):
        # Somewhere inside the image, and never so far that the object is cut in half.
        low = max(part / 2, place - part / 2) if part < length else length / 2
        high = min(length - part / 2, place + part / 2) if part < length else length / 2
        centre.append(uniform(min(low, high), max(low, high)))
    return Window(
        (centre[0], centre[1]),
        extent,
        angle,
        float(torch.rand(())) < upside,
        float(torch.rand(())) < 0.5,
    )


def output_size(window: Window, side: int) -> tuple[int, int]:
    """(height, width) of the window scaled so that its longest side is `side`."""
    scale = side / max(window.extent)
    height, width = (max(1, round(length * scale)) for length in window.extent)
    return height, width


def sampling_grid(windows: Sequence[Window], side: int) -> torch.Tensor:
    """Where each pixel of the output comes from.

    Parameters
    ----------
    windows : sequence of Window
        B of them.
    side : int
        Of the padded square, in and out.

    Returns
    -------
    torch.Tensor
        (B, side, side, 2) for `torch.nn.functional.grid_sample` without aligned
        corners.
    """
    grids = []
    line = torch.arange(side, dtype=torch.float32) + 0.5
    for window in windows:
        height, width = output_size(window, side)
        # Offsets from the window's middle, in pixels of the source.
        rows = (line / height - 0.5) * window.extent[0]
        columns = (line / width - 0.5) * window.extent[1]
        rows = -rows if window.flip_rows else rows
        columns = -columns if window.flip_columns else columns
        turn = math.radians(window.angle)
        down, right = rows[:, None], columns[None, :]
        row = window.centre[0] + down * math.cos(turn) + right * math.sin(turn)
        column = window.centre[1] - down * math.sin(turn) + right * math.cos(turn)
        grids.append(torch.stack([column, row], dim=-1) * (2 / side) - 1)
    return torch.stack(grids)


def apply_windows(
    pixels: torch.Tensor, masks: torch.Tensor, windows: Sequence[Window]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Resample images and masks together.

    Parameters
    ----------
    pixels : torch.Tensor
        (B, 3, S, S) float, 0 outside the image part.
    masks : torch.Tensor
        (B, 1, S, S) float 0..1.
    windows : sequence of Window
        B of them.

    Returns
    -------
    pixels, masks : torch.Tensor
        Of the same shapes; black where the window leaves the image, 0 on padding.
    sizes : torch.Tensor
        (B, 2) int64 (height, width) of the image parts, longest side S.
    """
    side = pixels.shape[-1]
    grid = sampling_grid(windows, side).to(pixels.device)
    both = functional.grid_sample(
        torch.cat([pixels, masks], dim=1), grid, align_corners=False
    )
    sizes = torch.tensor([output_size(window, side) for window in windows])
    both = both * image_part(sizes, side, pixels.device)
    return both[:, :3], both[:, 3:], sizes


def vary_geometry(
    pixels: torch.Tensor,
    masks: torch.Tensor,
    sizes: torch.Tensor,
    modalities: Sequence[str],
    strength: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Draw and apply a window for each image; see `Augmentation` for the arguments."""
    side = pixels.shape[-1]
    line = torch.arange(side, device=masks.device) + 0.5
    area = masks.sum((1, 2, 3))
    total = area.clamp(min=1e-6)
    row = (masks.sum((1, 3)) @ line) / total
    column = (masks.sum((1, 2)) @ line) / total
    middles = torch.stack([row, column], dim=1).tolist()
    parts = sizes.tolist()
    windows = [
        draw_window(size, tuple(middle), modality, strength)
        for size, middle, modality in zip(parts, middles, modalities, strict=True)
    ]
    moved = apply_windows(pixels, masks, windows)
    scales = torch.tensor(
        [(side / max(window.extent)) ** 2 for window in windows], device=masks.device
    )
    visible = moved[1].sum((1, 2, 3))
    lost = (visible < _LEAST_VISIBLE * area * scales) | (visible < _LEAST_PIXELS)
    if not bool(lost.any()):
        return moved
    for index in lost.nonzero()[:, 0].tolist():
        windows[index] = whole(parts[index])
    return apply_windows(pixels, masks, windows)
