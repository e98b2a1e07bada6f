"""Losses of stage 2 on masks and on their predicted overlap."""

from __future__ import annotations

import torch
from torch.nn import functional

# In cells of the 256 grid: what is this near to the outline counts as its band.
_BAND = 2
# IoU differences of this size are worth telling apart.
_TEMPERATURE = 0.1


def band_of(soft: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """Cells near the outline of true masks.

    Parameters
    ----------
    soft : torch.Tensor
        (B, 1, H, W) float 0..1.
    inside : torch.Tensor
        (B, 1, H, W) float, 1 on the image part.

    Returns
    -------
    torch.Tensor
        (B, 1, H, W) float, 1 within two cells of the outline and on the image.
    """
    size = 2 * _BAND + 1
    highest = functional.max_pool2d(soft, size, 1, _BAND)
    lowest = -functional.max_pool2d(-soft, size, 1, _BAND)
    return ((highest > 0.5) & (lowest < 0.5)).float() * inside


def outline_loss(
    logits: torch.Tensor, soft: torch.Tensor, band: torch.Tensor
) -> torch.Tensor:
    """Cross entropy in the band around the true outline.

    Its soft targets say where within a cell the outline runs, which Dice hardly feels
    and a surface distance of two pixels is made of.

    Parameters
    ----------
    logits : torch.Tensor
        (B, C, H, W).
    soft : torch.Tensor
        (B, 1, H, W) or (B, C, H, W) float 0..1.
    band : torch.Tensor
        (B, 1, H, W) from `band_of`.

    Returns
    -------
    torch.Tensor
        (B, C) float.
    """
    entropy = functional.binary_cross_entropy_with_logits(
        logits, soft.expand_as(logits), reduction='none'
    )
    return (entropy * band).sum((2, 3)) / band.sum((2, 3)).clamp(min=1)


def ranking_loss(scores: torch.Tensor, overlaps: torch.Tensor) -> torch.Tensor:
    """Listwise loss of predicted overlaps: the best candidate should be given first.

    Cross entropy between the softmax of the true overlaps and of the predicted ones
    (ListNet: Cao et al. 2007, "Learning to Rank").

    Parameters
    ----------
    scores, overlaps : torch.Tensor
        (B, C) predicted and true IoU of C candidates; no gradient flows to `overlaps`.

    Returns
    -------
    torch.Tensor
        (B,) float, 0 where the order is certain and right.
    """
    wanted = (overlaps.detach() / _TEMPERATURE).softmax(1)
    found = (scores / _TEMPERATURE).log_softmax(1)
    return functional.kl_div(found, wanted, reduction='none').sum(1)
