"""Flips, turns, zoom and aspect of a whole batch in one resampling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch.nn import functional

from napari_kdsam.training.randomness import Draws
from napari_kdsam.training.squares import image_part

# Less than this share of the object left in view, and the image stays as it was.
_LEAST_VISIBLE = 0.25
_LEAST_PIXELS = 30
# Shares of all images, at strength 1.
_CLOSE_UPS = 0.3
_ZOOM_OUTS = 0.15
# Of a close-up's window to the object's extent.
_MARGIN = (1.3, 4.0)
# Of a close-up's window to the image: a smaller one would show little but JPEG's blocks.
_LEAST_WINDOW = 0.25
# How far a zoom out shrinks an image.
_SHRUNK = (0.4, 0.9)
# Of any other window to the image.
_ZOOM = (0.6, 1.15)
# Logarithm of a window's aspect relative to the image's, either way.
_ASPECT = 0.16
# Windows longer than the square by this are sampled from a copy of half the size.
_COARSE = 1.5
# A published mask's stray pixels do not widen its object: rows and columns count that
# hold this share of what the fullest holds.
_STRAY = 0.03
# Side at which it is counted how much of an object is in view.
_COUNTED = 128


class Windows(NamedTuple):
    """What part of each image is shown, and how it is turned.

    Attributes
    ----------
    centre : torch.Tensor
        (B, 2) float (row, column) in the image part, in pixels.
    extent : torch.Tensor
        (B, 2) float (height, width) of the window as it is shown, in pixels.
    angle : torch.Tensor
        (B, 1) float degrees, counterclockwise as displayed.
    flips : torch.Tensor
        (B, 2) bool: mirror top and bottom, left and right.
    """

    centre: torch.Tensor
    extent: torch.Tensor
    angle: torch.Tensor
    flips: torch.Tensor


class Plan(NamedTuple):
    """What chance and modality decide about windows before the object is looked at.

    All (B,) float32.

    Attributes
    ----------
    close : torch.Tensor
        1 for a close-up, else 0.
    zoom : torch.Tensor
        Window to image, or of a close-up to the object.
    aspect : torch.Tensor
        Height to width, relative to the image's.
    angle : torch.Tensor
        In degrees.
    odd : torch.Tensor
        1 where the angle includes one or three quarter turns, else 0.
    row, column : torch.Tensor
        0..1: where the window is, between the places where it may be.
    flip_rows, flip_columns : torch.Tensor
        0 or 1.
    """

    close: torch.Tensor
    zoom: torch.Tensor
    aspect: torch.Tensor
    angle: torch.Tensor
    odd: torch.Tensor
    row: torch.Tensor
    column: torch.Tensor
    flip_rows: torch.Tensor
    flip_columns: torch.Tensor

    def to(self, device: torch.device) -> Plan:
        """Return the plan on a device, in one copy that is not waited for."""
        return Plan(*torch.stack(self).to(device, non_blocking=True))


def whole(sizes: torch.Tensor) -> Windows:
    """Windows that change nothing of images of (B, 2) (height, width)."""
    extent = sizes.float()
    flips = torch.zeros_like(sizes, dtype=torch.bool)
    return Windows(extent / 2, extent, torch.zeros_like(extent[:, :1]), flips)


def _between(unit: torch.Tensor, low: float, high: float) -> torch.Tensor:
    return low + (high - low) * unit


def _log_between(unit: torch.Tensor, low: float, high: float) -> torch.Tensor:
    return _between(unit, math.log(low), math.log(high)).exp()


def draw_plan(modalities: Sequence[str], strength: float, draws: Draws) -> Plan:
    """Draw a plan for each image, on the host.

    Parameters
    ----------
    modalities : sequence of str
        Ultrasound has a top and a bottom; dermoscopy and endoscopy have none; anything
        else is mirrored left and right only.
    strength : float
        Scales rotation, zoom, aspect and the chance of close-ups and zoom outs.
    draws : Draws
        Of the images.
    """
    units = torch.from_numpy(draws.on_host('window', 9))
    kind, zoom, aspect, angle, quarter, row, column, rows, columns = units.unbind(1)
    turns = torch.tensor([name in ('dermoscopy', 'endoscopy') for name in modalities])
    scan = torch.tensor([name == 'ultrasound' for name in modalities])
    close = kind < _CLOSE_UPS * strength
    out = ~close & (kind >= 1 - _ZOOM_OUTS * strength)
    zooms = _log_between(zoom, *_ZOOM) ** strength
    zooms = torch.where(out, 1 / _between(zoom, *_SHRUNK), zooms)
    zooms = torch.where(close, _log_between(zoom, *_MARGIN), zooms)
    # Half of those that may be turned get 1, 2 or 3 quarter turns.
    quarters = (quarter * 6).floor().sub(2).clamp(min=0) * turns
    most = (10.0 + 10.0 * turns) * strength
    return Plan(
        close=close.float(),
        zoom=zooms,
        aspect=(_between(aspect, -_ASPECT, _ASPECT) * strength).exp(),
        angle=(2 * angle - 1) * most + 90 * quarters,
        odd=quarters % 2,
        row=row,
        column=column,
        flip_rows=(rows < 0.5 * turns + 0.1 * scan).float(),
        flip_columns=(columns < 0.5).float(),
    )


def _found(masks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """First and last edge, and centre of mass, (B, 2) each, of (B, S, S) masks."""
    line = torch.arange(masks.shape[-1], device=masks.device)
    filled = torch.stack([masks.sum(2), masks.sum(1)], dim=1)
    counted = filled > _STRAY * filled.amax(2, keepdim=True)
    first = torch.where(counted, line, masks.shape[-1]).amin(2)
    last = torch.where(counted, line + 1, 0).amax(2)
    total = filled.sum(2).clamp(min=1e-6)
    return first.float(), last.float(), (filled * (line + 0.5)).sum(2) / total


def place_windows(plan: Plan, sizes: torch.Tensor, masks: torch.Tensor) -> Windows:
    """Place planned windows so that the object is in view.

    Parameters
    ----------
    plan : Plan
        On the device of the others.
    sizes : torch.Tensor
        (B, 2) (height, width) of the image parts.
    masks : torch.Tensor
        (B, S, S) float 0..1: a close-up holds all of the object, any other window its
        centre of mass, turns apart.
    """
    first, last, middle = _found(masks)
    lengths = sizes.float()
    aspect = plan.aspect.sqrt()
    shape = lengths * torch.stack([aspect, 1 / aspect], dim=1)
    close = plan.close[:, None] > 0
    least = _LEAST_WINDOW * lengths.amax(1) / shape.amax(1)
    around = plan.zoom * ((last - first) / shape).amax(1)
    around = torch.minimum(torch.maximum(around, least), torch.ones_like(least))
    # As long as the window before it is turned by quarters.
    extent = shape * torch.where(close, around[:, None], plan.zoom[:, None])
    far = lengths - extent / 2
    low = torch.maximum(
        torch.minimum(extent / 2, far), torch.where(close, last, middle) - extent / 2
    )
    high = torch.minimum(
        torch.maximum(extent / 2, far), torch.where(close, first, middle) + extent / 2
    )
    place = torch.stack([plan.row, plan.column], dim=1)
    return Windows(
        centre=low + (high - low) * place,
        extent=torch.where(plan.odd[:, None] > 0, extent.flip(1), extent),
        angle=plan.angle[:, None],
        flips=torch.stack([plan.flip_rows, plan.flip_columns], dim=1) > 0,
    )


def in_view(windows: Windows, masks: torch.Tensor) -> torch.Tensor:
    """(B,) bool: whether the windows show enough of the object of (B, S, S) masks."""
    side = masks.shape[-1]
    counted = min(side, _COUNTED)
    small = functional.interpolate(masks[:, None], (counted, counted), mode='area')[
        :, 0
    ]
    step = side / counted
    line = (torch.arange(counted, device=masks.device) + 0.5) * step
    rows = (line - windows.centre[:, :1])[:, :, None]
    columns = (line - windows.centre[:, 1:])[:, None, :]
    angle = windows.angle[:, :, None].deg2rad()
    half = windows.extent[:, :, None, None] / 2
    down = rows * angle.cos() - columns * angle.sin()
    right = rows * angle.sin() + columns * angle.cos()
    shown = (down.abs() <= half[:, 0]) & (right.abs() <= half[:, 1])
    visible = (small * shown).sum((1, 2)) * step**2
    area = small.sum((1, 2)) * step**2
    scale = side / windows.extent.amax(1)
    return (visible >= _LEAST_VISIBLE * area) & (visible * scale**2 >= _LEAST_PIXELS)


def output_sizes(windows: Windows, side: int) -> torch.Tensor:
    """(B, 2) int64 (height, width) of the windows with their longest side at `side`."""
    scale = side / windows.extent.amax(1, keepdim=True)
    return (windows.extent * scale).round().clamp(min=1).long()


def sampling_grid(windows: Windows, side: int) -> torch.Tensor:
    """Where each pixel of the output comes from.

    Parameters
    ----------
    windows : Windows
        B of them.
    side : int
        Of the padded square, in and out.

    Returns
    -------
    torch.Tensor
        (B, side, side, 2) for `torch.nn.functional.grid_sample` without aligned
        corners.
    """
    line = torch.arange(side, device=windows.centre.device) + 0.5
    sizes = output_sizes(windows, side)
    # Offsets from the window's middle, in the units of the grid.
    offsets = (line / sizes[:, :, None] - 0.5) * windows.extent[:, :, None] * (2 / side)
    offsets = torch.where(windows.flips[:, :, None], -offsets, offsets)
    down, right = offsets[:, 0, :, None], offsets[:, 1, None, :]
    angle = windows.angle[:, :, None].deg2rad()
    middle = windows.centre[:, :, None, None] * (2 / side) - 1
    # Sums rather than a matrix product, which would be rounded to TF32.
    grid = torch.empty(len(sizes), side, side, 2, device=sizes.device)
    columns = middle[:, 1] - down * angle.sin()
    rows = middle[:, 0] + down * angle.cos()
    torch.add(columns, right * angle.cos(), out=grid[..., 0])
    torch.add(rows, right * angle.sin(), out=grid[..., 1])
    return grid


def apply_windows(
    pixels: torch.Tensor,
    masks: torch.Tensor,
    windows: Windows,
    shrinking: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Resample images and masks together.

    Parameters
    ----------
    pixels : torch.Tensor
        (B, 3, S, S) float, 0 outside the image part.
    masks : torch.Tensor
        (B, C, S, S) float 0..1.
    windows : Windows
        B of them.
    shrinking : torch.Tensor or None
        (n,) int64 places of the images that may be shrunk much; those that are, are
        sampled from a copy of half the size, against aliasing.

    Returns
    -------
    pixels, masks : torch.Tensor
        Of the same shapes; black where the window leaves the image, 0 on padding.
    sizes : torch.Tensor
        (B, 2) int64 (height, width) of the image parts, longest side S.
    """
    side = pixels.shape[-1]
    grid = sampling_grid(windows, side)
    both = torch.cat([pixels, masks], dim=1)
    moved = functional.grid_sample(both, grid, align_corners=False)
    if shrinking is not None and len(shrinking):
        half = (side + 1) // 2
        copy = functional.interpolate(both[shrinking], (half, half), mode='area')
        coarse = functional.grid_sample(copy, grid[shrinking], align_corners=False)
        long = windows.extent[shrinking].amax(1) > _COARSE * side
        chosen = torch.where(long[:, None, None, None], coarse, moved[shrinking])
        moved.index_copy_(0, shrinking, chosen)
    sizes = output_sizes(windows, side)
    moved.mul_(image_part(sizes, side, pixels.device))
    return moved[:, :3], moved[:, 3:], sizes


def vary_geometry(
    pixels: torch.Tensor,
    masks: torch.Tensor,
    sizes: torch.Tensor,
    modalities: Sequence[str],
    strength: float,
    draws: Draws,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Draw and apply a window for each image; see `Augmentation` for the arguments."""
    plan = draw_plan(modalities, strength, draws)
    chosen = place_windows(plan.to(pixels.device), sizes, masks[:, 0])
    seen = in_view(chosen, masks[:, 0])[:, None]
    windows = Windows(
        *(torch.where(seen, a, b) for a, b in zip(chosen, whole(sizes), strict=True))
    )
    # Known on the host, since no image part is longer than the square.
    longest = plan.zoom * torch.maximum(plan.aspect, 1 / plan.aspect).sqrt()
    shrinking = ((longest > _COARSE) & (plan.close == 0)).nonzero()[:, 0]
    shrinking = shrinking.to(pixels.device, non_blocking=True)
    return apply_windows(pixels, masks, windows, shrinking)
