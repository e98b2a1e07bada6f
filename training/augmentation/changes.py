"""How scanners, lamps and lenses differ: changes that leave the mask as it is.

Each takes images (n, 3, S, S) float 0..1, image part at the top left, their (n, 2)
(height, width) on the same device, and the images' draws, and returns images of the
same shape, perhaps the same tensor. What it writes on the padding means nothing.
"""

from __future__ import annotations

import math

import kornia
import torch
from torch.nn import functional

from napari_kdsam.training.randomness import Draws
from napari_kdsam.training.squares import extend_edges, image_part

_MOTION_SIZES = (5, 7, 9, 11)
_HAIRS = (2, 8)
_DOTS = 25
_SHINE_CELLS = 64


def _amounts(
    draws: Draws, purpose: str, *bounds: tuple[float, float]
) -> tuple[torch.Tensor, ...]:
    """(n, 1, 1, 1) uniform numbers, one for each pair of bounds."""
    units = draws.uniform(purpose, len(bounds), 1, 1, 1)
    pairs = zip(bounds, units.unbind(1), strict=True)
    return tuple(low + (high - low) * unit for (low, high), unit in pairs)


def _lengths(sizes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(n, 1, 1, 1) float heights and widths."""
    height, width = sizes.float()[:, :, None, None, None].unbind(1)
    return height, width


def _axes(sizes: torch.Tensor, side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows (n, 1, S, 1) and columns (n, 1, 1, S), each image's part from -1 to 1."""
    height, width = _lengths(sizes)
    line = torch.arange(side, device=sizes.device) * 2.0
    rows = line[:, None] / (height - 1).clamp(min=1) - 1
    return rows, line / (width - 1).clamp(min=1) - 1


def _grid(rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """(n, S, S, 2) for `grid_sample` of rows (n, 1, S, 1) and columns (n, 1, 1, S)."""
    return torch.stack(torch.broadcast_tensors(columns, rows), dim=-1)[:, 0]


def _grain(draws: Draws, purpose: str, height: int, width: int) -> torch.Tensor:
    """(n, 1, height, width) standard normal numbers, cut off at 4.1."""
    # Two of 12 bits from one of 24, and both normal numbers of each pair: hashing is
    # what costs.
    radius = draws.uniform(purpose, 1, (height + 1) // 2, width).mul_(1 << 12)
    angle = radius.frac().mul_(2 * math.pi)
    radius = radius.floor_().add_(1).div_(1 << 12).log_().mul_(-2).sqrt_()
    both = torch.cat([radius * angle.cos(), radius.mul_(angle.sin_())], dim=2)
    return both[:, :, :height]


def gamma(images: torch.Tensor, sizes: torch.Tensor, draws: Draws) -> torch.Tensor:
    """Darken or brighten the middle tones."""
    (power,) = _amounts(draws, 'gamma', (-0.5, 0.5))
    return images.pow_(power.exp())


def contrast(images: torch.Tensor, sizes: torch.Tensor, draws: Draws) -> torch.Tensor:
    """Change contrast about the mean, and brightness."""
    factor, shift = _amounts(draws, 'contrast', (0.7, 1.35), (-0.1, 0.1))
    inside = image_part(sizes, images.shape[-1], images.device)
    grey = images.mean(1, keepdim=True).mul_(inside)
    mean = grey.sum((2, 3), keepdim=True) / sizes.prod(1)[:, None, None, None]
    return images.mul_(factor).add_(mean - mean * factor + shift)


def noise(images: torch.Tensor, sizes: torch.Tensor, draws: Draws) -> torch.Tensor:
    """Add grey Gaussian noise."""
    (amount,) = _amounts(draws, 'noise', (0.01, 0.06))
    return images.add_(_grain(draws, 'noise grain', *images.shape[-2:]) * amount)


def blur(images: torch.Tensor, sizes: torch.Tensor, draws: Draws) -> torch.Tensor:
    """Blur as a lens out of focus does."""
    # kornia looks at the numbers, so they must not be on a GPU.
    sigma = torch.from_numpy(draws.on_host('blur', 1, low=0.5, high=2.0))
    return kornia.filters.gaussian_blur2d(
        extend_edges(images, sizes), (9, 9), sigma.expand(-1, 2)
    )


def motion(images: torch.Tensor, sizes: torch.Tensor, draws: Draws) -> torch.Tensor:
    """Blur along a line, as a moving endoscope does."""
    # On the host, as kornia takes one size of kernels and looks at the angles.
    length, angle = torch.from_numpy(draws.on_host('motion', 2)).unbind(1)
    lengths = (length * len(_MOTION_SIZES)).long()
    for number, size in enumerate(_MOTION_SIZES):
        places = (lengths == number).nonzero()[:, 0]
        if not len(places):
            continue
        index = places.to(images.device, non_blocking=True)
        blurred = kornia.filters.motion_blur(
            extend_edges(images[index], sizes[index]),
            size,
            angle[places] * 360,
            torch.zeros(len(places)),
        )
        images.index_copy_(0, index, blurred)
    return images


def low_resolution(
    images: torch.Tensor, sizes: torch.Tensor, draws: Draws
) -> torch.Tensor:
    """Shrink into the top left corner, and enlarge again."""
    (scale,) = _amounts(draws, 'low resolution', (0.4, 0.8))
    side = images.shape[-1]
    middles = torch.arange(side, device=images.device) + 0.5
    last = torch.stack(_lengths(sizes)) - 0.5
    for factor in (1 / scale, scale):
        # Nothing is taken from beyond the last row and column, as the padding is.
        rows = torch.minimum(middles[:, None] * factor, last[0]) * (2 / side) - 1
        columns = torch.minimum(middles * factor, last[1]) * (2 / side) - 1
        images = functional.grid_sample(
            images, _grid(rows, columns), align_corners=False
        )
    return images


def compression(
    images: torch.Tensor, sizes: torch.Tensor, draws: Draws
) -> torch.Tensor:
    """Compress as a JPEG of low quality."""
    # kornia looks at the numbers, so they must not be on a GPU.
    quality = torch.from_numpy(draws.on_host('compression', low=25.0, high=80.0))
    return kornia.enhance.jpeg_codec_differentiable(
        extend_edges(images, sizes), quality
    )


def colour_cast(
    images: torch.Tensor, sizes: torch.Tensor, draws: Draws
) -> torch.Tensor:
    """Shift the white balance and the saturation."""
    (saturation,) = _amounts(draws, 'colour cast', (0.6, 1.4))
    gains = (0.08 * draws.normal('colour gains', 3, 1, 1)).exp()
    grey = images.mean(1, keepdim=True)
    return images.mul_(saturation).add_(grey * (1 - saturation)).mul_(gains)


def vignette(images: torch.Tensor, sizes: torch.Tensor, draws: Draws) -> torch.Tensor:
    """Darken towards the corners."""
    (amount,) = _amounts(draws, 'vignette', (0.1, 0.5))
    rows, columns = _axes(sizes, images.shape[-1])
    return images.mul_(1 - amount * (rows**2 + columns**2) / 2)


def lens_circle(
    images: torch.Tensor, sizes: torch.Tensor, draws: Draws
) -> torch.Tensor:
    """Black out the corners beyond a dermatoscope's or endoscope's round view."""
    (reach,) = _amounts(draws, 'lens circle', (0.85, 1.1))
    rows, columns = _axes(sizes, images.shape[-1])
    height, width = _lengths(sizes)
    longest = torch.maximum(height, width)
    radius = ((rows * height / longest) ** 2 + (columns * width / longest) ** 2).sqrt()
    return images.mul_(((reach - radius) * 60).sigmoid_())


def hairs(images: torch.Tensor, sizes: torch.Tensor, draws: Draws) -> torch.Tensor:
    """Draw a few dark or light curved hairs."""
    rows, columns = _axes(sizes, images.shape[-1])
    fewest, most = _HAIRS
    units = draws.on_host('number of hairs') * (most - fewest + 1)
    counts = fewest + torch.from_numpy(units).long()
    number = counts.to(images.device, non_blocking=True)[:, None, None, None]
    # From the axes' units to half pixels.
    scale = sizes[:, :1, None, None] / 4
    cover = torch.zeros_like(images[:, :1])
    for hair in range(int(counts.max())):
        turn, bend, row, column, width, reach = _amounts(
            draws,
            f'hair {hair}',
            (0, math.pi),
            (-0.6, 0.6),
            (-0.8, 0.8),
            (-0.8, 0.8),
            (1.0, 2.5),
            (0.3, 1.2),
        )
        down, right = rows - row, columns - column
        along = right * turn.cos() + down * turn.sin()
        away = down * turn.cos() - right * turn.sin()
        away.addcmul_(along * bend, along, value=-1).abs_()
        # Fades over two pixels; ends sharply.
        line = away.mul_(-scale).add_(width / 2 + 0.5).clamp_(0, 1)
        line.mul_((along.abs_() < reach) & (hair < number))
        torch.maximum(cover, line, out=cover)
    kind, dark, light, opacity = _amounts(
        draws, 'hairs', (0, 1), (0.05, 0.3), (0.8, 1.0), (0.6, 1.0)
    )
    return images.lerp_(torch.where(kind < 0.85, dark, light), cover.mul_(opacity))


def highlights(images: torch.Tensor, sizes: torch.Tensor, draws: Draws) -> torch.Tensor:
    """Add small saturated reflections of the lamp."""
    share, threshold = _amounts(draws, 'highlights', (0.375, 1.0), (2.0, 2.6))
    coarse = draws.normal('blobs', 1, _SHINE_CELLS, _SHINE_CELLS)
    # Smooth first, so that a bilinear zoom, which may differ from image to image, does.
    smooth = functional.interpolate(coarse, scale_factor=4, mode='bicubic')
    rows, columns = _axes(sizes, images.shape[-1])
    grid = _grid((rows + 1) * share - 1, (columns + 1) * share - 1)
    blobs = functional.grid_sample(
        smooth, grid, padding_mode='border', align_corners=True
    )
    shine = blobs.sub_(threshold).mul_(12).sigmoid_()
    return images.lerp_(torch.ones_like(share), shine)


def speckle(images: torch.Tensor, sizes: torch.Tensor, draws: Draws) -> torch.Tensor:
    """Multiply by correlated speckle, coarser sideways than in depth."""
    (amount,) = _amounts(draws, 'speckle', (0.1, 0.35))
    side = images.shape[-1]
    coarse = _grain(draws, 'speckle grain', max(8, side // 2), max(8, side // 4))
    grain = functional.interpolate(
        coarse, (side, side), mode='bilinear', align_corners=False
    )
    return images.mul_(grain.mul_(amount).add_(1))


def depth_gain(images: torch.Tensor, sizes: torch.Tensor, draws: Draws) -> torch.Tensor:
    """Change the gain smoothly along depth (time-gain compensation)."""
    knots = 0.25 * draws.normal('depth gain', 1, 5, 1)
    rows, _ = _axes(sizes, images.shape[-1])
    curve = functional.grid_sample(
        knots,
        _grid(rows, torch.zeros_like(rows)),
        mode='bicubic',
        padding_mode='border',
        align_corners=True,
    )
    return images.mul_(curve.exp())


def shadow(images: torch.Tensor, sizes: torch.Tensor, draws: Draws) -> torch.Tensor:
    """Darken a stripe below some depth, as bone and gas do."""
    place, width, depth, amount = _amounts(
        draws, 'shadow', (-0.9, 0.9), (0.05, 0.2), (-0.8, 0.3), (0.3, 0.8)
    )
    rows, columns = _axes(sizes, images.shape[-1])
    across = (-(((columns - place) / width) ** 2)).exp()
    below = ((rows - depth) * 12).sigmoid()
    return images.mul_(1 - amount * across * below)


def sector(images: torch.Tensor, sizes: torch.Tensor, draws: Draws) -> torch.Tensor:
    """Black out what a convex probe does not see."""
    apex, half = _amounts(
        draws, 'sector', (-1.8, -1.3), (math.radians(38), math.radians(60))
    )
    rows, columns = _axes(sizes, images.shape[-1])
    depth = rows - apex
    seen = columns.abs() < depth * half.tan()
    return images.mul_(seen & (depth**2 + columns**2 < (1.1 - apex) ** 2))


def burnt_in(images: torch.Tensor, sizes: torch.Tensor, draws: Draws) -> torch.Tensor:
    """Draw calliper crosses, a dotted line between them, or a thin box."""
    side = images.shape[-1]
    units = draws.uniform('burnt-in', 7)
    bright = 0.7 + 0.3 * units[:, :1, None, None]
    boxed = units[:, 1:2] < 0.3
    dotted = (units[:, 2:3] < 0.5) & ~boxed
    height, width = sizes[:, :1], sizes[:, 1:]
    row, row2 = ((0.1 + 0.8 * units[:, 3:5]) * height).long().split(1, 1)
    column, column2 = ((0.1 + 0.8 * units[:, 5:]) * width).long().split(1, 1)
    line = torch.arange(side, device=images.device)
    longest = max(3, side // 80)
    arm = torch.arange(-longest, longest + 1, device=images.device)
    share = torch.linspace(0, 1, _DOTS, device=images.device)
    # What an image does not get shrinks to a corner of what it gets.
    far_row, far_column = (
        torch.where(boxed, row2, row),
        torch.where(boxed, column2, column),
    )
    upright = line.clamp(torch.minimum(row, far_row), torch.maximum(row, far_row))
    level = line.clamp(
        torch.minimum(column, far_column), torch.maximum(column, far_column)
    )
    reach = (height // 80).clamp(min=3) * ~boxed
    arm = arm.clamp(-reach, reach)
    share = share * dotted
    points = [(row, level), (far_row, level), (upright, column), (upright, far_column)]
    for r, c in ((row, column), (row2, column2)):
        points.append((r, (c + arm).clamp(torch.zeros_like(width), width - 1)))
        points.append(((r + arm).clamp(torch.zeros_like(height), height - 1), c))
    points.append(
        (
            row + (share * (row2 - row)).long(),
            column + (share * (column2 - column)).long(),
        )
    )
    flat = torch.cat([r * side + c for r, c in points], dim=1)
    marks = torch.zeros(
        len(images), side * side, dtype=torch.bool, device=images.device
    )
    marks.scatter_(1, flat, True)
    return torch.where(marks.view(-1, 1, side, side), bright, images)
