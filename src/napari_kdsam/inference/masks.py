"""Low-resolution logits to masks of the image's size, and masks to logits."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional

from napari_kdsam.errors import PromptError
from napari_kdsam.inference.geometry import Frame
from napari_kdsam.inference.prompts import LOGITS_SIZE
from napari_kdsam.model.network import PROMPT_FRAME

# Above this, full-size float logits would cost gigabytes; bands keep them small.
_WHOLE_PIXELS = 4_000_000
_MASK_LOGIT = 10.0


def mask_of_logits(
    logits: NDArray[np.float32], image_shape: tuple[int, int]
) -> NDArray[np.bool_]:
    """Upscale logits to a mask as SAM does.

    Bilinear to the 1024 frame, cut to the image, bilinear to the image's size,
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
    frame = Frame(image_shape, PROMPT_FRAME)
    rows, columns = frame.scaled_shape
    square = torch.as_tensor(logits, dtype=torch.float32)[None, None]
    square = functional.interpolate(
        square, (PROMPT_FRAME, PROMPT_FRAME), mode='bilinear', align_corners=False
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


def logits_of_mask(mask: NDArray[Any]) -> NDArray[np.float32]:
    """Turn a mask into logits for `Prompt.logits`.

    Parameters
    ----------
    mask : numpy.ndarray
        (rows, columns); everything above 0 is the object.

    Returns
    -------
    numpy.ndarray
        (256, 256) float32, positive inside, negative outside and on the padding.

    Raises
    ------
    PromptError
        If the mask is not two-dimensional or is empty.
    """
    inside = np.asarray(mask) > 0
    if inside.ndim != 2 or not inside.any():
        raise PromptError('A mask prompt must be 2D and have at least one pixel set.')
    # By way of the 1024 frame, so that `mask_of_logits` finds it in the same place.
    frame = Frame((inside.shape[0], inside.shape[1]), PROMPT_FRAME)
    rows, columns = frame.scaled_shape
    opaque = Image.fromarray(inside.astype(np.uint8) * 255)
    scaled = opaque.resize((columns, rows), Image.Resampling.BILINEAR)
    square = np.zeros((PROMPT_FRAME, PROMPT_FRAME), np.float32)
    square[:rows, :columns] = np.asarray(scaled, np.float32) / 255
    step = PROMPT_FRAME // LOGITS_SIZE
    share = square.reshape(LOGITS_SIZE, step, LOGITS_SIZE, step).mean(axis=(1, 3))
    return (2 * share - 1) * _MASK_LOGIT
