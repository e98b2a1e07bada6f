"""Losses of the proposal head: of the centre heatmap, the boxes and the names."""

from __future__ import annotations

import torch
from torch.nn import functional

from napari_kdsam.model.torchvision_guard import import_torchvision
from napari_kdsam.training.proposals.targets import UNNAMED, CentreMaps

# Cells less central than this learn neither box nor name.
_CENTRAL = 0.3


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


def overlap_loss(boxes: torch.Tensor, targets: CentreMaps) -> torch.Tensor:
    """1 - generalised IoU of boxes and targets, weighted by how central a cell is.

    Parameters
    ----------
    boxes : torch.Tensor
        (B, 4, S, S) float (row0, col0, row1, col1).
    targets : CentreMaps
    """
    losses = import_torchvision().ops.generalized_box_iou_loss(
        boxes.movedim(1, -1), targets.boxes.movedim(1, -1)
    )
    return _weighted(losses, targets.heatmap > _CENTRAL, targets)


def class_loss(logits: torch.Tensor, targets: CentreMaps) -> torch.Tensor:
    """Cross entropy of names, weighted by how central a cell is.

    Parameters
    ----------
    logits : torch.Tensor
        (B, C, S, S) float.
    targets : CentreMaps
        What has no name teaches none.
    """
    if logits.shape[1] == 0:
        return logits.float().sum()
    named = targets.kinds != UNNAMED
    losses = functional.cross_entropy(
        logits.float(), targets.kinds.clamp(min=0), reduction='none'
    )
    return _weighted(losses, named & (targets.heatmap > _CENTRAL), targets)


def _weighted(
    losses: torch.Tensor, counts: torch.Tensor, targets: CentreMaps
) -> torch.Tensor:
    # Without picking cells out, so that no device is waited for.
    weights = torch.where(counts, targets.heatmap, 0.0)
    return (losses * weights).sum() / weights.sum().clamp(min=1e-6)
