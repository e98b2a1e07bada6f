"""How well a mask agrees with a reference: overlap, distances of outlines, area."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SURFACE_TOLERANCE = 2.0
_NOWHERE: NDArray[np.float64] = np.zeros(0)
# Multiples of a pixel's extent are not exact, and must not fall on the wrong side.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Scores:
    """Agreement of two masks.

    Attributes
    ----------
    dice, iou : float
        Overlap, 0 to 1; 1 if both masks are empty.
    hd95 : float
        95th percentile of the symmetric Hausdorff distance, in the unit of the pixel
        size: the larger of the percentiles of both directions. 0 if both masks are
        empty, infinite if one is.
    nsd : float
        Normalised surface distance (surface Dice), 0 to 1: share of the outlines'
        pixels that are within the tolerance of the other outline. 1 if both masks are
        empty, 0 if one is.
    """

    dice: float
    iou: float
    hd95: float
    nsd: float


def dice_and_iou(
    mask: NDArray[np.bool_], reference: NDArray[np.bool_]
) -> tuple[float, float]:
    """Overlap of two masks, without the cost of the distances.

    Parameters
    ----------
    mask, reference : numpy.ndarray
        bool of one shape.

    Returns
    -------
    dice, iou : float
        0 to 1; 1 if both masks are empty.
    """
    return _dice_and_iou(
        int(np.count_nonzero(mask & reference)),
        int(np.count_nonzero(mask)) + int(np.count_nonzero(reference)),
    )


def compare_masks(
    mask: NDArray[np.bool_],
    reference: NDArray[np.bool_],
    pixel_size: tuple[float, float] = (1.0, 1.0),
    tolerance: float = SURFACE_TOLERANCE,
) -> Scores:
    """Compare two masks; the order of the two does not matter.

    An outline is the pixels of a mask with a neighbour above, below, left or right
    that is not in it; the image's edge counts as such a neighbour.

    Parameters
    ----------
    mask, reference : numpy.ndarray
        (rows, columns) bool.
    pixel_size : tuple of float
        Extent of a pixel along rows and columns, in any unit of length.
    tolerance : float
        Distance in the same unit up to which outlines agree.
    """
    return scores_of([Overlap.of(mask, reference, pixel_size)], tolerance)


def area_ratio(mask: NDArray[np.bool_], reference: NDArray[np.bool_]) -> float:
    """Area of a mask, as a multiple of its reference's.

    Parameters
    ----------
    mask, reference : numpy.ndarray
        bool; `reference` must not be empty.

    Returns
    -------
    float
        Above 1 where the mask is too large.
    """
    return int(np.count_nonzero(mask)) / int(np.count_nonzero(reference))


@dataclass(frozen=True)
class Overlap:
    """What the scores of two masks are made of.

    Attributes
    ----------
    pixels, reference_pixels, shared : int
    outwards, inwards : numpy.ndarray
        Distances from the mask's outline to the reference's, and back.
    """

    pixels: int
    reference_pixels: int
    shared: int
    outwards: NDArray[np.float64]
    inwards: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        mask: NDArray[np.bool_],
        reference: NDArray[np.bool_],
        pixel_size: tuple[float, float],
    ) -> Overlap:
        """Measure two masks; see `compare_masks`."""
        from scipy.spatial import KDTree

        ours, theirs = _outline(mask, pixel_size), _outline(reference, pixel_size)
        if len(ours) and len(theirs):
            outwards = KDTree(theirs).query(ours)[0]
            inwards = KDTree(ours).query(theirs)[0]
        else:
            outwards = np.full(len(ours), np.inf)
            inwards = np.full(len(theirs), np.inf)
        return cls(
            int(np.count_nonzero(mask)),
            int(np.count_nonzero(reference)),
            int(np.count_nonzero(mask & reference)),
            outwards,
            inwards,
        )


def scores_of(parts: Sequence[Overlap], tolerance: float) -> Scores:
    """Scores of several pairs of masks taken together.

    Parameters
    ----------
    parts : sequence of Overlap
        Of one pixel size.
    tolerance : float
        See `compare_masks`.

    Returns
    -------
    Scores
        Perfect ones without any pixel.
    """
    both = sum(part.pixels + part.reference_pixels for part in parts)
    if not both:
        return Scores(1.0, 1.0, 0.0, 1.0)
    outwards = np.concatenate([_NOWHERE, *(part.outwards for part in parts)])
    inwards = np.concatenate([_NOWHERE, *(part.inwards for part in parts)])
    within = tolerance * (1 + _ROUNDING)
    near = sum(int(np.count_nonzero(way <= within)) for way in (outwards, inwards))
    return Scores(
        *_dice_and_iou(sum(part.shared for part in parts), both),
        max(_percentile(outwards), _percentile(inwards)),
        near / (len(outwards) + len(inwards)),
    )


def _dice_and_iou(shared: int, both: int) -> tuple[float, float]:
    return (2 * shared / both, shared / (both - shared)) if both else (1.0, 1.0)


def _outline(
    mask: NDArray[np.bool_], pixel_size: tuple[float, float]
) -> NDArray[np.float64]:
    """(points, 2) positions of the pixels on the outline."""
    from scipy.ndimage import binary_erosion

    return np.argwhere(mask & ~binary_erosion(mask)) * np.asarray(pixel_size)


def _percentile(distances: NDArray[np.float64]) -> float:
    if not len(distances):
        return 0.0
    if np.isfinite(distances).all():
        return float(np.percentile(distances, 95))
    # Interpolating towards infinity would give NaN.
    return float(np.percentile(distances, 95, method='higher'))
