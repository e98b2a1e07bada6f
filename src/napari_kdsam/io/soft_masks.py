"""Grey masks with soft outlines: told from label images, and cut at half of white."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_kdsam.core.errors import ImageError, SoftMaskWarning

# A ramp has more values between black and white than this, and a white above that.
_FEW_VALUES = 2
_LEAST_WHITE = 64
_AROUND = 3
# Parts of white.
_BLACK, _NEAR_BLACK, _NEAR_WHITE, _LEVEL = 0.1, 0.25, 0.9, 0.1
# Parts of what is drawn.
_LEAST_WHITE_AREA = 0.2
_MOST_GREY_AREA = 0.05


@dataclass(frozen=True, eq=False)
class _Surroundings:
    """Lowest and highest value among each pixel and its eight neighbours."""

    lowest: NDArray[np.float32]
    highest: NDArray[np.float32]


def _surroundings(values: NDArray[np.float32]) -> _Surroundings:
    return _Surroundings(
        ndimage.minimum_filter(values, _AROUND, mode='nearest'),
        ndimage.maximum_filter(values, _AROUND, mode='nearest'),
    )


def is_soft(values: NDArray[np.float32]) -> bool:
    """Whether grey values are a ramp, such as a smoothed outline, rather than labels.

    Labels are areas of one value. Most values of a ramp have no pixel whose neighbours
    are all equal to it, and most of its pixels have a brighter neighbour.

    Parameters
    ----------
    values : numpy.ndarray
        (H, W), from 0 on.
    """
    white = values.max(initial=0)
    between = (values > 0) & (values < white)
    levels = np.unique(values[between])
    if white < _LEAST_WHITE or len(levels) <= _FEW_VALUES:
        return False
    around = _surroundings(values)
    even = np.unique(values[between & (around.lowest == around.highest)])
    brighter = (around.highest > values)[between].mean()
    return bool(len(even) < len(levels) / 2 and brighter > 0.5)


def cut_at_half(name: str, values: NDArray[np.float32]) -> NDArray[np.int64]:
    """Take what is brighter than half of the brightest for one object.

    Parameters
    ----------
    name : str
        Of the file, for messages.
    values : numpy.ndarray
        (H, W), from 0 on.

    Returns
    -------
    numpy.ndarray
        (H, W), 1 for the object.

    Raises
    ------
    ImageError
        If there are grey areas, or hardly any white ones, so that half of white means
        nothing.
    """
    white = values.max(initial=0)
    drawn = (values > _BLACK * white).sum()
    around = _surroundings(values)
    even = around.highest - around.lowest <= _LEVEL * white
    grey = (values > _NEAR_BLACK * white) & (values < _NEAR_WHITE * white) & even
    is_white = values >= _NEAR_WHITE * white
    if (
        white < _LEAST_WHITE
        or is_white.sum() < _LEAST_WHITE_AREA * drawn
        or grey.sum() > _MOST_GREY_AREA * drawn
    ):
        raise ImageError(
            f'{name} has {len(np.unique(values))} shades of grey, which are neither '
            'labels nor black and white; save the mask in two values, or the labels '
            'themselves as PNG or TIFF.'
        )
    return (values > white / 2).astype(np.int64)


def warn_of_soft(name: str, values: NDArray[Any]) -> None:
    """Say that a mask was cut, which its author may not expect."""
    warnings.warn(
        f'{name} has soft outlines ({len(np.unique(values))} shades of grey): one '
        'object is taken, where it is brighter than half of its white.',
        SoftMaskWarning,
        stacklevel=2,
    )
