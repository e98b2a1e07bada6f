"""How well labels agree with a reference, frame by frame and object by object."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_kdsam.core.errors import ImageError
from napari_kdsam.measure.frame_objects import FrameObjects
from napari_kdsam.measure.scores import SURFACE_TOLERANCE, Overlap, Scores, scores_of

# Values of the error map; 0 is agreement.
MISSED, WRONG = 1, 2


class Matching(StrEnum):
    """Which object of the reference belongs to which of the labels.

    ``overlap`` pairs them so that the sum of their IoU is greatest (Hungarian
    algorithm), whatever their values; objects that share no pixel are never paired.
    ``label`` pairs equal values.
    """

    overlap = 'overlap'
    label = 'label'


@dataclass(frozen=True)
class ObjectComparison:
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
class FrameComparison:
    """Agreement of a frame, as a whole and object by object.

    Attributes
    ----------
    scores : Scores
        Of all labelled pixels together. With ``Matching.label`` a pixel agrees only
        where the values are equal, and outlines are those of each value.
    objects : tuple of ObjectComparison
        Matched and extra ones in the order of labels, then missed ones.
    pixels, reference_pixels : int
    centre : tuple of float
        (row, column) in pixels of the middle of the box around everything.
    """

    scores: Scores
    objects: tuple[ObjectComparison, ...]
    pixels: int
    reference_pixels: int
    centre: tuple[float, float]


def compare_frame(
    labels: NDArray[Any],
    reference: NDArray[Any],
    pixel_size: tuple[float, float] = (1.0, 1.0),
    tolerance: float = SURFACE_TOLERANCE,
    matching: Matching = Matching.overlap,
) -> FrameComparison:
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

    Raises
    ------
    ImageError
        If the arrays do not fit each other or do not hold whole numbers.
    """
    check_comparable(labels, reference)
    ours, theirs = FrameObjects.of(labels), FrameObjects.of(reference)
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
        overlap = Overlap.of(ours.mask(code, box), theirs.mask(other, box), pixel_size)
        overlaps.append(overlap)
        found.append(
            ObjectComparison(
                ours.values[code],
                theirs.values[other],
                scores_of([overlap], tolerance),
                overlap.pixels,
                overlap.reference_pixels,
                _middle(box),
            )
        )
    around = ours.box_around(theirs)
    if matching is Matching.overlap and len(order) != 1:
        mask, truth = ours.codes[around] > 0, theirs.codes[around] > 0
        overlaps = [Overlap.of(mask, truth, pixel_size)]
    return FrameComparison(
        scores_of(overlaps, tolerance),
        tuple(found),
        sum(overlap.pixels for overlap in overlaps),
        sum(overlap.reference_pixels for overlap in overlaps),
        _middle(around),
    )


def compare_stack(
    labels: Any,
    reference: Any,
    pixel_size: tuple[float, float] = (1.0, 1.0),
    tolerance: float = SURFACE_TOLERANCE,
    matching: Matching = Matching.overlap,
) -> Iterator[FrameComparison]:
    """Compare frame by frame, so that one is in memory.

    Parameters
    ----------
    labels, reference : array-like
        (..., rows, columns) whole numbers; may be lazy (dask, zarr).
    pixel_size, tolerance, matching
        See `compare_frame`.

    Yields
    ------
    FrameComparison
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


def _middle(box: tuple[slice, slice]) -> tuple[float, float]:
    row, column = ((part.start + part.stop - 1) / 2 for part in box)
    return row, column
