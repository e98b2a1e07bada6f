"""Masks as prompts; without torch, because the window makes prompts too."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from napari_kdsam.core.errors import PromptError
from napari_kdsam.core.geometry import PaddedSquare
from napari_kdsam.core.sizes import LOGITS_SIZE, PROMPT_SIDE

_MASK_LOGIT = 10.0


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
    # By way of the 1024-pixel square, so that `mask_of_logits` finds it in the same place.
    placed = PaddedSquare((inside.shape[0], inside.shape[1]), PROMPT_SIDE)
    rows, columns = placed.scaled_shape
    opaque = Image.fromarray(inside.astype(np.uint8) * 255)
    scaled = opaque.resize((columns, rows), Image.Resampling.BILINEAR)
    square = np.zeros((PROMPT_SIDE, PROMPT_SIDE), np.float32)
    square[:rows, :columns] = np.asarray(scaled, np.float32) / 255
    step = PROMPT_SIDE // LOGITS_SIZE
    share = square.reshape(LOGITS_SIZE, step, LOGITS_SIZE, step).mean(axis=(1, 3))
    return (2 * share - 1) * _MASK_LOGIT
