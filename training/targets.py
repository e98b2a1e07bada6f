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

# A mask pixel of a large image keeps about this much of itself when scaled down.
_TRACE = 0.03


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
    extents : numpy.ndarray
        (K, 4) float64 (x0, y0, x1, y1) on the 256 grid: what holds every trace of the
        object, also specks too small for the grid, as the box of a whole mask does.
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
    extents: NDArray[np.float64]
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
        extents_of((batch['masks'][kept, 0] > _TRACE).cpu().numpy()) / cell,
        sizes.cpu().numpy(),
        [generator_of(seed, step, name) for name in names],
    )


def extents_of(masks: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(B, 4) half-open (x0, y0, x1, y1) around (B, H, W) masks, none of them empty."""
    boxes = np.empty((len(masks), 4))
    for number, mask in enumerate(masks):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        boxes[number] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return boxes
