"""Pictures of validation answers, to see on the way what a run is learning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from numpy.typing import NDArray
from PIL import Image

from napari_kdsam.core.files import atomic_path
from napari_kdsam.core.prompts import Prompt
from napari_kdsam.io.overlay import contact_sheet, draw_overlay

MOST_TILES = 20
_TILE = 384
_COLUMNS = 5
_BOTH, _ONLY_FOUND, _ONLY_TRUE = 1, 2, 3


def draw_answer(
    pixels: torch.Tensor,
    truth: NDArray[np.bool_],
    found: NDArray[np.bool_],
    box: NDArray[np.float64],
    caption: str,
) -> NDArray[np.uint8]:
    """Draw one answer: agreement blue, found too much orange, missed green.

    Parameters
    ----------
    pixels : torch.Tensor
        (3, S, S) uint8, S a multiple of 256.
    truth, found : numpy.ndarray
        (256, 256) bool.
    box : numpy.ndarray
        (4,) (x0, y0, x1, y1) on the 256 grid, the prompt.
    caption : str
        Written in the corner.

    Returns
    -------
    numpy.ndarray
        (384, 384, 3) uint8.
    """
    labels = _BOTH * (found & truth) + _ONLY_FOUND * (found & ~truth)
    labels += _ONLY_TRUE * (truth & ~found)
    cell = pixels.shape[-1] // truth.shape[-1]
    x0, y0, x1, y1 = (float(side) * cell for side in box)
    return draw_overlay(
        pixels.permute(1, 2, 0).cpu().numpy(),
        labels.repeat(cell, 0).repeat(cell, 1),
        [Prompt(box=(y0, x0, y1, x1))],
        caption=caption,
        max_side=_TILE,
    )


class SampleOverlays(Callback):
    """Write the answers a stage keeps while validating as ``step-N.png``.

    Parameters
    ----------
    folder : pathlib.Path
        Made when there is something to write.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_validation_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        pl_module.tiles.clear()

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        if not pl_module.tiles or not trainer.is_global_zero:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        sheet = contact_sheet(pl_module.tiles, _COLUMNS)
        with atomic_path(self.folder / f'step-{trainer.global_step:06d}.png') as part:
            Image.fromarray(sheet).save(part, format='PNG')
