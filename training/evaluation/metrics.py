"""How well a mask agrees with the truth: overlap and boundary distances."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from napari_kdsam.inference.geometry import box_of_mask
from napari_kdsam.model.torchvision_guard import import_segment_anything

Mask = NDArray[np.bool_]
SURFACE_TOLERANCE = 2.0


@dataclass(frozen=True)
class Scores:
    """Agreement of one mask with the truth.

    Attributes
    ----------
    dice, iou : float
        Overlap, 0 to 1.
    hd95_px : float
        95th percentile of the symmetric Hausdorff distance, in pixels.
    nsd : float
        Normalised surface distance (surface Dice), 0 to 1.
    """

    dice: float
    iou: float
    hd95_px: float
    nsd: float


def dice_and_iou(found: Mask, truth: Mask) -> tuple[float, float]:
    """Overlap of two masks.

    Parameters
    ----------
    found, truth : numpy.ndarray
        (H, W) bool; `truth` must not be empty.

    Returns
    -------
    dice, iou : float
        0 to 1.
    """
    both = int(np.count_nonzero(found & truth))
    total = int(np.count_nonzero(found)) + int(np.count_nonzero(truth))
    return 2 * both / total, both / (total - both)


def boundary_distances(
    found: Mask, truth: Mask, tolerance: float = SURFACE_TOLERANCE
) -> tuple[float, float]:
    """Distances between outlines, by MONAI.

    Parameters
    ----------
    found, truth : numpy.ndarray
        (H, W) bool; `truth` must not be empty.
    tolerance : float
        Distance in pixels up to which outlines count as equal for the normalised
        surface distance.

    Returns
    -------
    hd95 : float
        In pixels; the image's diagonal for an empty prediction.
    nsd : float
        0 to 1; 0 for an empty prediction.
    """
    # MONAI would leave segment_anything half imported where torchvision is unusable.
    import_segment_anything()
    from monai.metrics.hausdorff_distance import compute_hausdorff_distance
    from monai.metrics.surface_dice import compute_surface_dice

    if not found.any():
        return math.hypot(*truth.shape), 0.0
    box = box_of_mask(found | truth)
    assert box is not None
    top, left, bottom, right = box

    def cropped(mask: Mask) -> torch.Tensor:
        crop = np.pad(mask[top:bottom, left:right], 1)
        return torch.from_numpy(crop[None, None].astype(np.float32))

    a, b = cropped(found), cropped(truth)
    hd95 = compute_hausdorff_distance(a, b, include_background=True, percentile=95)
    nsd = compute_surface_dice(a, b, [tolerance], include_background=True)
    return float(hd95), float(nsd)


def score_mask(
    found: Mask, truth: Mask, tolerance: float = SURFACE_TOLERANCE
) -> Scores:
    """Every score of one mask; see `dice_and_iou` and `boundary_distances`."""
    return Scores(
        *dice_and_iou(found, truth), *boundary_distances(found, truth, tolerance)
    )
