"""Distance to the outside of masks, for whole batches on any device."""

from __future__ import annotations

import torch

# Rows compared at once: more need more memory, fewer more launches.
_CHUNK = 16


def depth_of(masks: torch.Tensor) -> torch.Tensor:
    """Distance of each pixel of a mask to the nearest pixel outside.

    What lies beyond the array is outside. Exact: distances along rows, then the lower
    envelope of their parabolas along columns (Felzenszwalb and Huttenlocher 2012,
    "Distance Transforms of Sampled Functions"), here by comparing all rows.

    Parameters
    ----------
    masks : torch.Tensor
        (B, H, W) bool.

    Returns
    -------
    torch.Tensor
        (B, H, W) float32 in pixels, 0 outside the mask.
    """
    height, width = masks.shape[-2:]
    column = torch.arange(width, device=masks.device)
    to_left = column - torch.where(masks, -1, column).cummax(-1).values
    mirrored = torch.where(masks.flip(-1), -1, column).cummax(-1).values
    to_right = (column - mirrored).flip(-1)
    along = torch.minimum(to_left, to_right).float().square()
    row = torch.arange(height, device=masks.device, dtype=torch.float32)
    # The rows above and below the array are outside.
    beyond = torch.minimum(row + 1, height - row).square()
    nearest = beyond[None, :, None].expand(masks.shape).clone()
    for start in range(0, height, _CHUNK):
        part = along[:, start : start + _CHUNK, None, :]
        apart = (row[start : start + _CHUNK, None] - row[None, :]).square()
        nearest = torch.minimum(nearest, (part + apart[None, :, :, None]).amin(1))
    return nearest.sqrt()
