"""Draw masks and prompts on an image, for people to look at."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from napari_kdsam.core.prompts import Prompt

MAX_SIDE = 2048
# Smaller images are enlarged, so that marks do not hide what they point at.
_MIN_SIDE, _MAX_ENLARGEMENT = 768, 8
# The colours of Okabe and Ito, which stay apart with every kind of colour vision.
PALETTE = np.array(
    [
        (86, 180, 233),
        (230, 159, 0),
        (0, 158, 115),
        (204, 121, 167),
        (240, 228, 66),
        (0, 114, 178),
        (213, 94, 0),
    ],
    np.uint8,
)
_OPACITY = 0.35
_INSIDE, _OUTSIDE, _HALO = (0, 200, 0), (230, 30, 30), (255, 255, 255)
_BOX = (255, 255, 255)
_GAP = 8


def draw_overlay(
    image8: NDArray[np.uint8],
    labels: NDArray[Any],
    prompts: Iterable[Prompt] = (),
    *,
    caption: str = '',
    max_side: int = MAX_SIDE,
) -> NDArray[np.uint8]:
    """Draw semi-transparent masks with crisp outlines, and the prompts.

    Points inside an object are a plus on green, points outside a minus on red; boxes
    are white with a dark border. Images with a longest side above `max_side` are
    reduced, small ones enlarged by a whole factor.

    Parameters
    ----------
    image8 : numpy.ndarray
        (H, W) or (H, W, 3) uint8.
    labels : numpy.ndarray
        (H, W) whole numbers, 0 for background.
    prompts : iterable of Prompt
        In image pixel coordinates.
    caption : str
        Written in the top left corner.
    max_side : int
        Limit for the longest side in pixels.

    Returns
    -------
    numpy.ndarray
        (h, w, 3) uint8.
    """
    size = _drawn_size((image8.shape[0], image8.shape[1]), max_side)
    canvas = _resized(image8, size)
    rows, columns = (
        (np.arange(new) * old // new)
        for new, old in zip(size, labels.shape, strict=True)
    )
    drawn = labels[np.ix_(rows, columns)]
    scale = size[0] / image8.shape[0], size[1] / image8.shape[1]
    unit = max(1, round(max(size) / 640))
    picture = Image.fromarray(_tinted(canvas, drawn, unit))
    pen = ImageDraw.Draw(picture)
    for prompt in prompts:
        _draw_prompt(pen, prompt, scale, unit)
    if caption:
        _draw_caption(pen, caption)
    return np.asarray(picture)


def contact_sheet(
    tiles: Sequence[NDArray[np.uint8]], columns: int = 3
) -> NDArray[np.uint8]:
    """Lay equally large pictures out in rows.

    Parameters
    ----------
    tiles : sequence of numpy.ndarray
        (h, w, 3) uint8, at least one.
    columns : int
        Pictures in a row.

    Returns
    -------
    numpy.ndarray
        (H, W, 3) uint8, black between the pictures.
    """
    height, width = tiles[0].shape[:2]
    columns = min(columns, len(tiles))
    lines = -(-len(tiles) // columns)
    sheet = np.zeros(
        (lines * (height + _GAP) - _GAP, columns * (width + _GAP) - _GAP, 3), np.uint8
    )
    for number, tile in enumerate(tiles):
        top = number // columns * (height + _GAP)
        left = number % columns * (width + _GAP)
        sheet[top : top + height, left : left + width] = tile
    return sheet


def _drawn_size(shape: tuple[int, int], max_side: int) -> tuple[int, int]:
    longest = max(shape)
    if longest > max_side:
        rows, columns = (max(1, round(n * max_side / longest)) for n in shape)
        return rows, columns
    wanted = -(-min(_MIN_SIDE, max_side) // longest)
    factor = max(1, min(wanted, max_side // longest, _MAX_ENLARGEMENT))
    return shape[0] * factor, shape[1] * factor


def _resized(image8: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    picture = Image.fromarray(np.ascontiguousarray(image8))
    scaled = picture.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return np.asarray(scaled.convert('RGB'))


def _tinted(
    canvas: NDArray[np.uint8], labels: NDArray[Any], thickness: int
) -> NDArray[np.uint8]:
    inside = labels > 0
    colors = PALETTE[(labels.astype(np.int64) - 1) % len(PALETTE)]
    mixed = canvas * (1 - _OPACITY) + colors * _OPACITY
    out = np.where(inside[..., None], mixed, canvas).astype(np.uint8)
    outline = inside & ~_interior(labels, thickness)
    out[outline] = colors[outline]
    return out


def _interior(labels: NDArray[Any], steps: int) -> NDArray[np.bool_]:
    """Pixels whose neighbours up to `steps` away have the same label."""
    same = np.ones(labels.shape, np.bool_)
    padded = np.pad(labels, steps)
    height, width = labels.shape
    for step in range(1, steps + 1):
        for down, right in ((step, 0), (-step, 0), (0, step), (0, -step)):
            top, left = steps + down, steps + right
            same &= labels == padded[top : top + height, left : left + width]
    return same


def _draw_caption(pen: ImageDraw.ImageDraw, caption: str) -> None:
    font = ImageFont.load_default()
    left, top, right, bottom = pen.textbbox((4, 3), caption, font)
    pen.rectangle((left - 4, top - 3, right + 4, bottom + 3), fill=(0, 0, 0))
    pen.text((4, 3), caption, _HALO, font)


def _draw_prompt(
    pen: ImageDraw.ImageDraw, prompt: Prompt, scale: tuple[float, float], unit: int
) -> None:
    if prompt.box is not None:
        row0, col0, row1, col1 = prompt.box
        corners = (
            col0 * scale[1],
            row0 * scale[0],
            max(col0 * scale[1], col1 * scale[1] - 1),
            max(row0 * scale[0], row1 * scale[0] - 1),
        )
        pen.rectangle(corners, outline=(0, 0, 0), width=3 * unit)
        inner = (corners[0] + unit, corners[1] + unit)
        outer = (
            max(inner[0], corners[2] - unit),
            max(inner[1], corners[3] - unit),
        )
        pen.rectangle((*inner, *outer), outline=_BOX, width=unit)
    for (row, column), label in zip(prompt.points, prompt.labels or (), strict=True):
        _draw_point(
            pen, (column + 0.5) * scale[1], (row + 0.5) * scale[0], label == 1, unit
        )


def _draw_point(
    pen: ImageDraw.ImageDraw, x: float, y: float, inside: bool, unit: int
) -> None:
    radius, arm = 6 * unit, 3 * unit
    for grown, color in (
        (unit + 1, (0, 0, 0)),
        (unit, _HALO),
        (0, _INSIDE if inside else _OUTSIDE),
    ):
        reach = radius + grown
        pen.ellipse((x - reach, y - reach, x + reach, y + reach), fill=color)
    pen.line((x - arm, y, x + arm, y), fill=_HALO, width=2 * unit)
    if inside:
        pen.line((x, y - arm, x, y + arm), fill=_HALO, width=2 * unit)
