"""How well labels agree with a reference: overlap and distances between outlines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_kdsam.annotation.frame_objects import objects_of
from napari_kdsam.errors import ImageError

Mask = NDArray[np.bool_]
# Values of the error map; 0 is agreement.
MISSED, WRONG = 1, 2
_NOWHERE: NDArray[np.float64] = np.zeros(0)
# Multiples of a pixel's extent are not exact, and must not fall on the wrong side.
_ROUNDING = 1e-6


class Matching(StrEnum):
    """Which object of the reference belongs to which of the labels.

    ``overlap`` pairs them so that the sum of their IoU is greatest (Hungarian
    algorithm), whatever their values; objects that share no pixel are never paired.
    ``label`` pairs equal values.
    """

    overlap = 'overlap'
    label = 'label'


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


@dataclass(frozen=True)
class ObjectAgreement:
    """Agreement of an object with its counterpart.

    Attributes
    ----------
    label, reference : int
        Values in the labels and in the reference; 0 for an object that the other has
        no counterpart of (missed and extra ones).
    scores : Scores
    pixels, reference_pixels : int
    centre : tuple of float
        (row, column) in pixels of the middle of the box around both.
    """

    label: int
    reference: int
    scores: Scores
    pixels: int
    reference_pixels: int
    centre: tuple[float, float]

    @property
    def result(self) -> str:
        """``matched``, ``missed`` or ``extra``."""
        if self.label and self.reference:
            return 'matched'
        return 'missed' if self.reference else 'extra'


@dataclass(frozen=True)
class FrameAgreement:
    """Agreement of a frame, as a whole and object by object.

    Attributes
    ----------
    scores : Scores
        Of all labelled pixels together. With ``Matching.label`` a pixel agrees only
        where the values are equal, and outlines are those of each value.
    objects : tuple of ObjectAgreement
        Matched and extra ones in the order of labels, then missed ones.
    pixels, reference_pixels : int
    centre : tuple of float
        (row, column) in pixels of the middle of the box around everything.
    """

    scores: Scores
    objects: tuple[ObjectAgreement, ...]
    pixels: int
    reference_pixels: int
    centre: tuple[float, float]


def compare_masks(
    mask: Mask,
    reference: Mask,
    pixel_size: tuple[float, float] = (1.0, 1.0),
    tolerance: float = 2.0,
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

    Returns
    -------
    Scores
    """
    found = _Overlap.of(mask, reference, pixel_size)
    return _scores([found], tolerance)


def compare_frame(
    labels: NDArray[Any],
    reference: NDArray[Any],
    pixel_size: tuple[float, float] = (1.0, 1.0),
    tolerance: float = 2.0,
    matching: Matching = Matching.overlap,
) -> FrameAgreement:
    """Compare the labels of one frame with a reference, object by object.

    Parameters
    ----------
    labels, reference : numpy.ndarray
        (rows, columns) whole numbers; each positive one is an object.
    pixel_size : tuple of float
        Extent of a pixel along rows and columns, in any unit of length.
    tolerance : float
        Distance in the same unit up to which outlines agree.
    matching : Matching

    Returns
    -------
    FrameAgreement

    Raises
    ------
    ImageError
        If the arrays do not fit each other or do not hold whole numbers.
    """
    check_comparable(labels, reference)
    ours, theirs = objects_of(labels), objects_of(reference)
    if matching is Matching.label:
        pairs = ours.equal_values(theirs)
    else:
        pairs = ours.best_overlaps(theirs)
    missed = sorted(set(range(1, theirs.count + 1)) - set(pairs.values()))
    order = [(code, pairs.get(code, 0)) for code in range(1, ours.count + 1)]
    order += [(0, code) for code in missed]
    overlaps, found = [], []
    for code, other in order:
        box = ours.joint_box(code, theirs, other)
        overlap = _Overlap.of(ours.mask(code, box), theirs.mask(other, box), pixel_size)
        overlaps.append(overlap)
        found.append(
            ObjectAgreement(
                ours.values[code],
                theirs.values[other],
                _scores([overlap], tolerance),
                overlap.pixels,
                overlap.reference_pixels,
                _middle(box),
            )
        )
    around = ours.box_around(theirs)
    if matching is Matching.overlap and len(order) != 1:
        mask, truth = ours.codes[around] > 0, theirs.codes[around] > 0
        overlaps = [_Overlap.of(mask, truth, pixel_size)]
    return FrameAgreement(
        _scores(overlaps, tolerance),
        tuple(found),
        sum(overlap.pixels for overlap in overlaps),
        sum(overlap.reference_pixels for overlap in overlaps),
        _middle(around),
    )


def compare_stack(
    labels: Any,
    reference: Any,
    pixel_size: tuple[float, float] = (1.0, 1.0),
    tolerance: float = 2.0,
    matching: Matching = Matching.overlap,
) -> Iterator[FrameAgreement]:
    """Compare frame by frame, so that one is in memory.

    Parameters
    ----------
    labels, reference : array-like
        (..., rows, columns) whole numbers; may be lazy (dask, zarr).
    pixel_size, tolerance, matching
        See `compare_frame`.

    Yields
    ------
    FrameAgreement
        One for each frame, in the order of the leading axes.

    Raises
    ------
    ImageError
        If the arrays do not fit each other or do not hold whole numbers.
    """
    check_comparable(labels, reference)
    for frame in np.ndindex(*labels.shape[:-2]):
        # Copies, because painting may go on while the frame is compared.
        ours, theirs = (
            np.array(layer[frame] if frame else layer) for layer in (labels, reference)
        )
        yield compare_frame(ours, theirs, pixel_size, tolerance, matching)


def check_comparable(labels: Any, reference: Any) -> None:
    """Check that labels can be compared with a reference, without loading them.

    Parameters
    ----------
    labels, reference : array-like
        With ``shape`` and ``dtype``.

    Raises
    ------
    ImageError
        If their shapes differ, they have fewer than two axes or no pixels, or do not
        hold whole numbers.
    """
    shape, other = tuple(labels.shape), tuple(reference.shape)
    if shape != other:
        raise ImageError(
            f'Labels of shape {shape} do not fit a reference of shape {other}; choose '
            'a reference with as many frames, rows and columns.'
        )
    for dtype in (labels.dtype, reference.dtype):
        if len(shape) < 2 or 0 in shape or np.dtype(dtype).kind not in 'bui':
            raise ImageError(
                'Labels are compared that are whole numbers of shape (rows, columns) '
                f'or a stack of them, not {dtype} of shape {shape}.'
            )


def error_map(
    labels: NDArray[Any], reference: NDArray[Any], matching: Matching
) -> NDArray[np.uint8]:
    """Mark the pixels that do not agree.

    Parameters
    ----------
    labels, reference : numpy.ndarray
        Whole numbers of one shape, whatever it is.
    matching : Matching
        With ``label``, unequal values do not agree.

    Returns
    -------
    numpy.ndarray
        uint8 of the same shape: `MISSED` where only the reference has a label,
        `WRONG` where the labels have one that the reference has not, 0 elsewhere.
    """
    ours, theirs = labels > 0, reference > 0
    agree = ours & theirs
    if matching is Matching.label:
        agree &= labels == reference
    errors = np.zeros(np.shape(labels), np.uint8)
    errors[ours & ~agree] = WRONG
    errors[theirs & ~ours] = MISSED
    return errors


@dataclass(frozen=True)
class _Overlap:
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
        cls, mask: Mask, reference: Mask, pixel_size: tuple[float, float]
    ) -> _Overlap:
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


def _outline(mask: Mask, pixel_size: tuple[float, float]) -> NDArray[np.float64]:
    """(points, 2) positions of the pixels on the outline."""
    from scipy.ndimage import binary_erosion

    return np.argwhere(mask & ~binary_erosion(mask)) * np.asarray(pixel_size)


def _scores(parts: Sequence[_Overlap], tolerance: float) -> Scores:
    """Scores of several pairs taken together."""
    both = sum(part.pixels + part.reference_pixels for part in parts)
    if not both:
        return Scores(1.0, 1.0, 0.0, 1.0)
    shared = sum(part.shared for part in parts)
    outwards = np.concatenate([_NOWHERE, *(part.outwards for part in parts)])
    inwards = np.concatenate([_NOWHERE, *(part.inwards for part in parts)])
    within = tolerance * (1 + _ROUNDING)
    near = sum(int(np.count_nonzero(way <= within)) for way in (outwards, inwards))
    return Scores(
        2 * shared / both,
        shared / (both - shared),
        max(_percentile(outwards), _percentile(inwards)),
        near / (len(outwards) + len(inwards)),
    )


def _percentile(distances: NDArray[np.float64]) -> float:
    if not len(distances):
        return 0.0
    if np.isfinite(distances).all():
        return float(np.percentile(distances, 95))
    # Interpolating towards infinity would give NaN.
    return float(np.percentile(distances, 95, method='higher'))


def _middle(box: tuple[slice, slice]) -> tuple[float, float]:
    row, column = ((part.start + part.stop - 1) / 2 for part in box)
    return row, column
