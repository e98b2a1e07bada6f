"""Targets and losses of the proposal head: a centre heatmap and boxes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional

from napari_kdsam.model.torchvision_guard import import_torchvision

# Width of a centre's Gaussian as a share of the box, as in "Objects as Points".
_WIDTH = 1 / 6
# Cells less central than this do not learn a box.
_CENTRAL = 0.3


def centre_targets(
    boxes: Sequence[Sequence[Sequence[float]]], side: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw what the maps should show.

    Parameters
    ----------
    boxes : sequence of sequence of sequence of float
        For each of B images, its (row0, col0, row1, col1) as shares of the square.
    side : int
        S, cells along a side of the heatmap.

    Returns
    -------
    heatmap : torch.Tensor
        (B, S, S) float: 1 in the cell of each box's centre, falling off as a Gaussian
        as wide as the box.
    targets : torch.Tensor
        (B, 4, S, S) float: in each cell the box whose Gaussian is highest there.
    """
    heatmap = torch.zeros(len(boxes), side, side)
    targets = torch.zeros(len(boxes), 4, side, side)
    line = torch.arange(side, dtype=torch.float32)
    for index, own in enumerate(boxes):
        for box in own:
            row0, col0, row1, col1 = box
            bells = []
            for low, high in ((row0, row1), (col0, col1)):
                cell = min(side - 1, int((low + high) / 2 * side))
                width = max(0.5, (high - low) * side * _WIDTH)
                bells.append(torch.exp(-((line - cell) ** 2) / (2 * width**2)))
            bell = bells[0][:, None] * bells[1][None, :]
            higher = bell > heatmap[index]
            heatmap[index] = torch.maximum(heatmap[index], bell)
            targets[index][:, higher] = torch.tensor(box)[:, None]
    return heatmap, targets


def heatmap_loss(logits: torch.Tensor, heatmap: torch.Tensor) -> torch.Tensor:
    """Penalty-reduced focal loss of a batch, over the number of centres.

    Parameters
    ----------
    logits, heatmap : torch.Tensor
        (B, S, S) float.
    """
    logits = logits.float()
    score = torch.sigmoid(logits)
    hit = -functional.logsigmoid(logits) * (1 - score) ** 2
    miss = -functional.logsigmoid(-logits) * score**2 * (1 - heatmap) ** 4
    centre = heatmap >= 1
    total = torch.where(centre, hit, miss).sum()
    return total / centre.sum().clamp(min=1)


def overlap_loss(
    boxes: torch.Tensor, targets: torch.Tensor, heatmap: torch.Tensor
) -> torch.Tensor:
    """1 - generalised IoU of boxes and targets, weighted by how central a cell is.

    Parameters
    ----------
    boxes, targets : torch.Tensor
        (B, 4, S, S) float (row0, col0, row1, col1).
    heatmap : torch.Tensor
        (B, S, S) float.
    """
    central = heatmap > _CENTRAL
    if not bool(central.any()):
        return boxes.sum() * 0
    chosen, wanted = boxes.movedim(1, -1)[central], targets.movedim(1, -1)[central]
    weights = heatmap[central]
    losses = import_torchvision().ops.generalized_box_iou_loss(chosen, wanted)
    return (losses * weights).sum() / weights.sum()
