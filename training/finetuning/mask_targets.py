"""True masks on the decoder's grid, with what simulated prompts need."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

from napari_kdsam.core.sizes import LOGITS_SIZE
from napari_kdsam.training.data.store import Squares
from napari_kdsam.training.squares import image_part

# A mask pixel of a large image keeps about this much of itself when scaled down.
_TRACE = 0.03


@dataclass(frozen=True, eq=False)
class MaskTargets:
    """What is true of the images of a batch.

    Attributes
    ----------
    there : torch.Tensor
        (B,) float, 1 where the object is still there at 256 pixels, else 0: such an
        image counts for nothing.
    soft : torch.Tensor
        (B, 1, 256, 256) float, the share of each cell that is object.
    inside : torch.Tensor
        (B, 1, 256, 256) float, 1 on the image part.
    truth : torch.Tensor
        (B, 256, 256) bool.
    extents : torch.Tensor
        (B, 4) float32 (x0, y0, x1, y1) on the 256 grid: what holds every trace of the
        object, also specks too small for the grid, as the box of a whole mask does.
    sizes : torch.Tensor
        (B, 2) int64 rows and columns of the image part, rounded up.
    """

    there: torch.Tensor
    soft: torch.Tensor
    inside: torch.Tensor
    truth: torch.Tensor
    extents: torch.Tensor
    sizes: torch.Tensor

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """Mean of (B,) values over the images that count."""
        return (values * self.there).sum() / self.there.sum().clamp(min=1)


def mask_targets(squares: Squares) -> MaskTargets:
    """Bring the masks of a batch to the grid of the decoder's logits."""
    soft = functional.interpolate(
        squares.masks, (LOGITS_SIZE, LOGITS_SIZE), mode='area'
    )
    truth = soft[:, 0] > 0.5
    cell = squares.pixels.shape[-1] // LOGITS_SIZE
    sizes = torch.div(squares.sizes + cell - 1, cell, rounding_mode='floor')
    return MaskTargets(
        there=truth.any(-1).any(-1).float(),
        soft=soft,
        inside=image_part(sizes, LOGITS_SIZE, soft.device),
        truth=truth,
        extents=extents_of(squares.masks[:, 0] > _TRACE) / cell,
        sizes=sizes,
    )


def extents_of(masks: torch.Tensor) -> torch.Tensor:
    """(B, 4) float half-open (x0, y0, x1, y1) around (B, H, W) bool masks.

    An empty mask has the extent of the whole array.
    """
    rows, columns = masks.any(-1), masks.any(-2)
    sides = [
        columns.float().argmax(-1),
        rows.float().argmax(-1),
        columns.shape[-1] - columns.flip(-1).float().argmax(-1),
        rows.shape[-1] - rows.flip(-1).float().argmax(-1),
    ]
    return torch.stack(sides, dim=1).float()
