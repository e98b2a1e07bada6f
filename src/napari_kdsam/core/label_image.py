"""Masks and label images: how objects are numbered, and who keeps a shared pixel."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_kdsam.core.errors import ImageError


def label_dtype(highest: int) -> np.dtype[Any]:
    """Smallest unsigned type that holds labels up to `highest`.

    Raises
    ------
    ImageError
        If there is none of 32 bits.
    """
    for dtype in (np.uint8, np.uint16, np.uint32):
        if highest <= np.iinfo(dtype).max:
            return np.dtype(dtype)
    raise ImageError(f'The label {highest} is too large to write; the limit is 2^32-1.')


def add_object(labels: NDArray[Any], label: int, mask: NDArray[np.bool_]) -> int:
    """Give an object the pixels of its mask, but for those of earlier objects.

    Parameters
    ----------
    labels : numpy.ndarray
        (rows, columns) whole numbers, 0 for background; changed in place.
    label : int
        Above 0.
    mask : numpy.ndarray
        (rows, columns) bool.

    Returns
    -------
    int
        How many pixels it got.
    """
    own = mask & (labels == 0)
    labels[own] = label
    return int(np.count_nonzero(own))


def masks_of_labels(
    labels: NDArray[Any], only: Collection[int] | None = None
) -> dict[int, NDArray[np.bool_]]:
    """The (rows, columns) bool mask of each label above 0, or of those in `only`."""
    present = (int(value) for value in np.unique(labels) if value > 0)
    return {n: labels == n for n in present if only is None or n in only}


def without_overlaps(
    masks: Mapping[int, NDArray[Any]],
) -> dict[int, NDArray[np.bool_]]:
    """Leave each pixel to one object, the one with the lowest label, as labels do.

    Objects without a pixel of their own are left out.
    """
    taken: Any = False
    found = {}
    for label in sorted(masks):
        mask = np.asarray(masks[label], np.bool_)
        own = mask & ~np.asarray(taken)
        if own.any():
            found[label] = own
        taken = mask | taken
    return found
