"""How far one embedding is from another, over the cells that count."""

from __future__ import annotations

import torch
from torch.nn import functional

from napari_kdsam.core.sizes import EMBEDDING_SIZE

_TINY = 1e-6


def padding_weight(
    sizes: torch.Tensor, input_size: int, inside: float = 1.0, outside: float = 0.1
) -> torch.Tensor:
    """Weigh the padding of the square input less than the image.

    Parameters
    ----------
    sizes : torch.Tensor
        (B, 2) (rows, columns) of the scaled images in the padded input, in pixels.
    input_size : int
        Side of that input in pixels.
    inside, outside : float
        Weights of cells on the image and on the padding; a cell on the border has
        the mean by area.

    Returns
    -------
    torch.Tensor
        (B, 1, 64, 64) float32 on the device of `sizes`.
    """
    cells = sizes.to(torch.float32) * (EMBEDDING_SIZE / input_size)
    starts = torch.arange(EMBEDDING_SIZE, dtype=torch.float32, device=sizes.device)
    covered = (cells[..., None] - starts).clamp(0, 1)
    share = covered[:, 0, :, None] * covered[:, 1, None, :]
    return (outside + (inside - outside) * share)[:, None]


def _weighted_mean(values: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
    if weight is None:
        return values.mean()
    weight = weight.to(values.dtype).expand(values.shape[0], 1, *values.shape[2:])
    return (values * weight).sum() / (weight.sum() * values.shape[1]).clamp_min(_TINY)


def weighted_mse(
    student: torch.Tensor, teacher: torch.Tensor, weight: torch.Tensor | None = None
) -> torch.Tensor:
    """Mean squared error, weighted by position.

    Parameters
    ----------
    student, teacher : torch.Tensor
        (B, C, H, W); no gradient flows to `teacher`.
    weight : torch.Tensor, optional
        (B, 1, H, W), such as from `padding_weight`; only its proportions matter.

    Returns
    -------
    torch.Tensor
        Scalar float32.
    """
    error = (student.float() - teacher.detach().float()).square()
    return _weighted_mean(error, weight)


def cosine_distance(
    student: torch.Tensor, teacher: torch.Tensor, weight: torch.Tensor | None = None
) -> torch.Tensor:
    """One minus the cosine of the angle between channel vectors, over positions.

    Parameters
    ----------
    student, teacher : torch.Tensor
        (B, C, H, W); no gradient flows to `teacher`.
    weight : torch.Tensor, optional
        (B, 1, H, W).

    Returns
    -------
    torch.Tensor
        Scalar float32 in 0..2.
    """
    cosine = functional.cosine_similarity(
        student.float(), teacher.detach().float(), dim=1
    )
    return _weighted_mean((1 - cosine)[:, None], weight)
