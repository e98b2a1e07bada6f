"""True masks on the decoder's grid, with what simulated prompts need."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from napari_kdsam.inference.prompts import LOGITS_SIZE
from napari_kdsam.training.data.dataset import Batch
from napari_kdsam.training.stage import generator_of
from napari_kdsam.training.student import image_part


@dataclass(frozen=True, eq=False)
class MaskTargets:
    """The images of a batch whose object is still there at 256 pixels.

    Attributes
    ----------
    kept : torch.Tensor
        (K,) int64, their places in the batch.
    names : list of str
        K of them.
    soft : torch.Tensor
        (K, 1, 256, 256) float, the share of each cell that is object.
    inside : torch.Tensor
        (K, 1, 256, 256) float, 1 on the image part.
    truth : numpy.ndarray
        (K, 256, 256) bool, none empty.
    sizes : numpy.ndarray
        (K, 2) int64 rows and columns of the image part, rounded up.
    generators : list of numpy.random.Generator
        One for each image, the same on whichever process.
    """

    kept: torch.Tensor
    names: list[str]
    soft: torch.Tensor
    inside: torch.Tensor
    truth: NDArray[np.bool_]
    sizes: NDArray[np.int64]
    generators: list[np.random.Generator]


def mask_targets(batch: Batch, seed: int, step: int) -> MaskTargets | None:
    """Bring the masks of a batch to the grid of the decoder's logits.

    Parameters
    ----------
    batch : Batch
        With masks as float 0..1.
    seed, step : int
        Of the simulated prompts' random numbers.

    Returns
    -------
    MaskTargets or None
        None if no object is left.
    """
    soft = functional.interpolate(
        batch['masks'], (LOGITS_SIZE, LOGITS_SIZE), mode='area'
    )
    kept = (soft.amax((1, 2, 3)) > 0.5).nonzero()[:, 0]
    if len(kept) == 0:
        return None
    soft = soft[kept]
    cell = batch['pixels'].shape[-1] // LOGITS_SIZE
    sizes = torch.div(batch['sizes'] + cell - 1, cell, rounding_mode='floor')
    sizes = sizes[kept.to(sizes.device)]
    names = [batch['names'][index] for index in kept.tolist()]
    return MaskTargets(
        kept,
        names,
        soft,
        image_part(sizes, LOGITS_SIZE, soft.device),
        (soft[:, 0] > 0.5).cpu().numpy(),
        sizes.cpu().numpy(),
        [generator_of(seed, step, name) for name in names],
    )
