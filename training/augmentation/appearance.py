"""How scanners, lamps and lenses differ: changes that leave the mask as it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import kornia
import torch
from torch.nn import functional

Change = Callable[[torch.Tensor], torch.Tensor]


def _uniform(low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand(()))


def _field(image: torch.Tensor, cells: int) -> torch.Tensor:
    """(1, 1, h, w) smooth random field of about unit variance."""
    coarse = torch.randn(1, 1, cells, cells).to(image.device)
    size = image.shape[-2:]
    return functional.interpolate(coarse, size, mode='bicubic', align_corners=False)


def _axes(image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows (h, 1) and columns (1, w) from -1 to 1."""
    height, width = image.shape[-2:]
    rows = torch.linspace(-1, 1, height, device=image.device)[:, None]
    columns = torch.linspace(-1, 1, width, device=image.device)[None, :]
    return rows, columns


def gamma(image: torch.Tensor) -> torch.Tensor:
    """Darken or brighten the middle tones."""
    return image.clamp(0, 1) ** math.exp(_uniform(-0.5, 0.5))


def contrast(image: torch.Tensor) -> torch.Tensor:
    """Change contrast about the mean, and brightness."""
    mean = image.mean()
    return (image - mean) * _uniform(0.7, 1.35) + mean + _uniform(-0.1, 0.1)


def noise(image: torch.Tensor) -> torch.Tensor:
    """Add grey Gaussian noise."""
    grain = torch.randn(1, 1, *image.shape[-2:]).to(image.device)
    return image + grain * _uniform(0.01, 0.06)


def blur(image: torch.Tensor) -> torch.Tensor:
    """Blur as a lens out of focus does."""
    sigma = _uniform(0.5, 2.0)
    return kornia.filters.gaussian_blur2d(image, (9, 9), (sigma, sigma))


def motion(image: torch.Tensor) -> torch.Tensor:
    """Blur along a line, as a moving endoscope does."""
    size = 2 * int(torch.randint(2, 6, ())) + 1
    return kornia.filters.motion_blur(image, size, _uniform(0, 360), 0.0)


def low_resolution(image: torch.Tensor) -> torch.Tensor:
    """Shrink and enlarge."""
    scale = _uniform(0.4, 0.8)
    size = [max(8, int(length * scale)) for length in image.shape[-2:]]
    small = functional.interpolate(image, size, mode='area')
    return functional.interpolate(
        small, image.shape[-2:], mode='bilinear', align_corners=False
    )


def compression(image: torch.Tensor) -> torch.Tensor:
    """Compress as a JPEG of low quality."""
    height, width = image.shape[-2:]
    padding = (0, -width % 16, 0, -height % 16)
    padded = functional.pad(image.clamp(0, 1), padding, mode='replicate')
    quality = torch.tensor([_uniform(25, 80)], device=image.device)
    return kornia.enhance.jpeg_codec_differentiable(padded, quality)[
        ..., :height, :width
    ]


def colour_cast(image: torch.Tensor) -> torch.Tensor:
    """Shift the white balance and the saturation."""
    gains = torch.exp(0.08 * torch.randn(1, 3, 1, 1)).to(image.device)
    grey = image.mean(1, keepdim=True)
    return (grey + (image - grey) * _uniform(0.6, 1.4)) * gains


def vignette(image: torch.Tensor) -> torch.Tensor:
    """Darken towards the corners."""
    rows, columns = _axes(image)
    return image * (1 - _uniform(0.1, 0.5) * (rows**2 + columns**2) / 2)


def speckle(image: torch.Tensor) -> torch.Tensor:
    """Multiply by correlated speckle, coarser sideways than in depth."""
    height, width = image.shape[-2:]
    coarse = torch.randn(1, 1, max(8, height // 2), max(8, width // 4))
    grain = functional.interpolate(
        coarse.to(image.device), (height, width), mode='bilinear', align_corners=False
    )
    return image * (1 + grain * _uniform(0.1, 0.35))


def depth_gain(image: torch.Tensor) -> torch.Tensor:
    """Change the gain smoothly along depth (time-gain compensation)."""
    knots = (0.25 * torch.randn(1, 1, 5, 1)).to(image.device)
    curve = functional.interpolate(
        knots, (image.shape[-2], 1), mode='bicubic', align_corners=True
    )
    return image * torch.exp(curve)


def shadow(image: torch.Tensor) -> torch.Tensor:
    """Darken a stripe below some depth, as bone and gas do."""
    rows, columns = _axes(image)
    place, width = _uniform(-0.9, 0.9), _uniform(0.05, 0.2)
    across = torch.exp(-(((columns - place) / width) ** 2))
    below = torch.sigmoid((rows - _uniform(-0.8, 0.3)) * 12)
    return image * (1 - _uniform(0.3, 0.8) * across * below)


def sector(image: torch.Tensor) -> torch.Tensor:
    """Black out what a convex probe does not see."""
    rows, columns = _axes(image)
    apex, half = _uniform(-1.8, -1.3), math.radians(_uniform(38, 60))
    angle = torch.atan2(columns, rows - apex)
    radius = ((rows - apex) ** 2 + columns**2).sqrt()
    seen = (angle.abs() < half) & (radius < 1 - apex + 0.1)
    return image * seen


def burnt_in(image: torch.Tensor) -> torch.Tensor:
    """Draw calliper crosses, a dotted line between them, or a thin box."""
    image = image.clone()
    height, width = image.shape[-2:]
    value = _uniform(0.7, 1.0)

    def place() -> tuple[int, int]:
        return int(_uniform(0.1, 0.9) * height), int(_uniform(0.1, 0.9) * width)

    (row, column), (row2, column2) = place(), place()
    if float(torch.rand(())) < 0.3:
        top, bottom = sorted((row, row2))
        left, right = sorted((column, column2))
        for line in (top, bottom):
            image[..., line, left : right + 1] = value
        for line in (left, right):
            image[..., top : bottom + 1, line] = value
        return image
    reach = max(3, height // 80)
    for r, c in ((row, column), (row2, column2)):
        image[..., r, max(0, c - reach) : c + reach + 1] = value
        image[..., max(0, r - reach) : r + reach + 1, c] = value
    if float(torch.rand(())) < 0.5:
        share = torch.linspace(0, 1, 25)
        rows = (row + share * (row2 - row)).long()
        columns = (column + share * (column2 - column)).long()
        image[..., rows, columns] = value
    return image


def hairs(image: torch.Tensor) -> torch.Tensor:
    """Draw a few dark or light curved hairs."""
    rows, columns = _axes(image)
    height = image.shape[-2]
    cover = torch.zeros(image.shape[-2:], device=image.device)
    for _ in range(int(torch.randint(2, 9, ()))):
        turn, bend = _uniform(0, math.pi), _uniform(-0.6, 0.6)
        r = rows - _uniform(-0.8, 0.8)
        c = columns - _uniform(-0.8, 0.8)
        along = c * math.cos(turn) + r * math.sin(turn)
        away = r * math.cos(turn) - c * math.sin(turn) - bend * along**2
        line = torch.sigmoid((_uniform(1.0, 2.5) - away.abs() * height / 2) * 2)
        line = line * (along.abs() < _uniform(0.3, 1.2))
        cover = torch.maximum(cover, line)
    tone = _uniform(0.05, 0.3) if float(torch.rand(())) < 0.85 else _uniform(0.8, 1.0)
    cover = cover * _uniform(0.6, 1.0)
    return image * (1 - cover) + tone * cover


def lens_circle(image: torch.Tensor) -> torch.Tensor:
    """Black out the corners beyond a dermatoscope's or endoscope's round view."""
    rows, columns = _axes(image)
    height, width = image.shape[-2:]
    longest = max(height, width)
    radius = ((rows * height / longest) ** 2 + (columns * width / longest) ** 2).sqrt()
    return image * torch.sigmoid((_uniform(0.85, 1.1) - radius) * 60)


def highlights(image: torch.Tensor) -> torch.Tensor:
    """Add small saturated reflections of the lamp."""
    blobs = _field(image, int(torch.randint(24, 64, ())))
    shine = torch.sigmoid((blobs - _uniform(2.0, 2.6)) * 12)
    return image * (1 - shine) + shine


_COMMON: tuple[tuple[float, Change], ...] = (
    (0.4, gamma),
    (0.4, contrast),
    (0.15, blur),
    (0.15, noise),
    (0.15, low_resolution),
    (0.1, compression),
)
CHANGES: dict[str, tuple[tuple[float, Change], ...]] = {
    'ultrasound': (
        (0.3, speckle),
        (0.3, depth_gain),
        (0.2, shadow),
        (0.1, sector),
        (0.2, burnt_in),
        *_COMMON,
    ),
    'dermoscopy': (
        (0.4, colour_cast),
        (0.25, hairs),
        (0.15, lens_circle),
        (0.2, vignette),
        *_COMMON,
    ),
    'endoscopy': (
        (0.4, colour_cast),
        (0.3, highlights),
        (0.2, vignette),
        (0.1, lens_circle),
        (0.15, motion),
        *_COMMON,
    ),
    'other': _COMMON,
}


def vary_appearance(
    pixels: torch.Tensor,
    sizes: torch.Tensor,
    modalities: Sequence[str],
    strength: float,
) -> torch.Tensor:
    """Change each image's part of the padded frame as its modality suggests.

    Parameters
    ----------
    pixels : torch.Tensor
        (B, 3, S, S) float 0..255.
    sizes : torch.Tensor
        (B, 2) (height, width) of the image parts.
    modalities : sequence of str
        Keys of `CHANGES`.
    strength : float
        Multiplies the probability of every change.

    Returns
    -------
    torch.Tensor
        (B, 3, S, S) float 0..255, the padding untouched.
    """
    pixels = pixels.clone()
    for index, (size, modality) in enumerate(
        zip(sizes.tolist(), modalities, strict=True)
    ):
        height, width = size
        part = pixels[index : index + 1, :, :height, :width] / 255
        for chance, change in CHANGES[modality]:
            if float(torch.rand(())) < min(0.95, chance * strength):
                part = change(part).clamp(0, 1)
        pixels[index, :, :height, :width] = part[0] * 255
    return pixels
