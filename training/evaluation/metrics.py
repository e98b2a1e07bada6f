"""The scores of one mask in an evaluation."""

from __future__ import annotations

import math
from dataclasses import dataclass

from napari_kdsam.core.ellipse import fit_ellipse
from napari_kdsam.core.geometry import Mask
from napari_kdsam.measure.scores import SURFACE_TOLERANCE, area_ratio, compare_masks


@dataclass(frozen=True)
class MaskScores:
    """Agreement of one mask with the truth.

    Attributes
    ----------
    dice, iou, nsd : float
        See `napari_kdsam.measure.scores.Scores`.
    hd95_px : float
        As there, in pixels; the image's diagonal for an empty mask, so that means stay
        finite.
    hd95_mm : float or None
        The same in millimetres, where the size of a pixel is known.
    area_ratio : float
        Area of the mask as a multiple of the truth's.
    circumference_error_mm : float or None
        See `circumference_error`, where the size of a pixel is known.
    """

    dice: float
    iou: float
    hd95_px: float
    hd95_mm: float | None
    nsd: float
    area_ratio: float
    circumference_error_mm: float | None


def score_mask(
    found: Mask,
    truth: Mask,
    tolerance: float = SURFACE_TOLERANCE,
    pixel_size_mm: float | None = None,
) -> MaskScores:
    """Every score of one mask.

    Parameters
    ----------
    found, truth : numpy.ndarray
        (H, W) bool; `truth` must not be empty.
    tolerance : float
        Distance in pixels up to which outlines count as equal for the normalised
        surface distance.
    pixel_size_mm : float or None
        Side of a pixel where known.
    """
    scores = compare_masks(found, truth, tolerance=tolerance)
    hd95 = scores.hd95 if math.isfinite(scores.hd95) else math.hypot(*truth.shape)
    hd95_mm = error = None
    if pixel_size_mm is not None:
        hd95_mm = hd95 * pixel_size_mm
        error = circumference_error(found, truth, pixel_size_mm)
    return MaskScores(
        scores.dice,
        scores.iou,
        hd95,
        hd95_mm,
        scores.nsd,
        area_ratio(found, truth),
        error,
    )


def circumference_error(found: Mask, truth: Mask, pixel_size: float) -> float:
    """How much longer the ellipse around a mask is than that around the truth.

    The head circumference of fetal biometry is measured so (van den Heuvel et al.,
    HC18, 2018).

    Parameters
    ----------
    found, truth : numpy.ndarray
        (H, W) bool; an ellipse is fitted to each.
    pixel_size : float
        Side of a pixel, in any unit of length.

    Returns
    -------
    float
        In the same unit, negative where the mask's is shorter; a mask that no ellipse
        fits counts as having none.
    """
    around = []
    for mask in (found, truth):
        ellipse = fit_ellipse(mask)
        lengths = ellipse.measurements((pixel_size, pixel_size)) if ellipse else {}
        around.append(lengths.get('circumference', 0.0))
    return around[0] - around[1]
