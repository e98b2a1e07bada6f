"""Low-resolution logits to masks of the image's size."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from napari_kdsam.core.geometry import PaddedSquare
from napari_kdsam.core.sizes import PROMPT_SIDE

# Above this, full-size float logits would cost gigabytes; bands keep them small.
_WHOLE_PIXELS = 4_000_000


def mask_of_logits(
    logits: NDArray[np.float32], image_shape: tuple[int, int]
) -> NDArray[np.bool_]:
    """Upscale logits to a mask as SAM does.

    Bilinear to the 1024-pixel square, cut to the image, bilinear to the image's size,
    above 0. Large images are done in bands of rows, so memory beyond the mask
    itself stays bounded.

    Parameters
    ----------
    logits : numpy.ndarray
        (256, 256) float32 over the padded square.
    image_shape : tuple of int
        (rows, columns).

    Returns
    -------
    numpy.ndarray
        (rows, columns) bool.
    """
    placed = PaddedSquare(image_shape, PROMPT_SIDE)
    rows, columns = placed.scaled_shape
    square = torch.as_tensor(logits, dtype=torch.float32)[None, None]
    square = functional.interpolate(
        square, (PROMPT_SIDE, PROMPT_SIDE), mode='bilinear', align_corners=False
    )
    scaled = square[:, :, :rows, :columns]
    if image_shape[0] * image_shape[1] <= _WHOLE_PIXELS:
        full = functional.interpolate(
            scaled, image_shape, mode='bilinear', align_corners=False
        )
        return (full[0, 0] > 0).numpy()
    return _mask_in_bands(scaled[0, 0], image_shape)


def _mask_in_bands(
    scaled: torch.Tensor, image_shape: tuple[int, int]
) -> NDArray[np.bool_]:
    height, width = image_shape
    mask = np.empty(image_shape, np.bool_)
    left, right, column_weight = _neighbours(scaled.shape[1], width, 0, width)
    band = max(1, _WHOLE_PIXELS // width)
    for start in range(0, height, band):
        stop = min(start + band, height)
        above, below, row_weight = _neighbours(scaled.shape[0], height, start, stop)
        lines = torch.lerp(scaled[above], scaled[below], row_weight[:, None])
        values = torch.lerp(lines[:, left], lines[:, right], column_weight)
        mask[start:stop] = (values > 0).numpy()
    return mask


def _neighbours(
    source: int, target: int, start: int, stop: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Source indices and weights of bilinear scaling with pixel-centre alignment."""
    position = (torch.arange(start, stop, dtype=torch.float64) + 0.5) * source / target
    position = (position - 0.5).clamp(0, source - 1)
    low = position.floor().long()
    return low, (low + 1).clamp(max=source - 1), (position - low).float()
