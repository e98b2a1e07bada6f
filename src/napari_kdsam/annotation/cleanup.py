"""Clean-up of masks, and the ellipse that fits one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

import numpy as np

from napari_kdsam.core.ellipse import Ellipse, fit_ellipse
from napari_kdsam.core.errors import KDSAMError
from napari_kdsam.core.geometry import Mask, box_of_mask
from napari_kdsam.core.mask_shapes import (
    SMOOTHING_REACH,
    convex_hull,
    fill_holes,
    smooth,
    without_parts,
)

__all__ = [
    'MOST_SMOOTH_PIXELS',
    'MOST_SPECK_PIXELS',
    'CleanUp',
    'CleanUpError',
    'Ellipse',
    'Snap',
    'fit_ellipse',
]

Snap = Literal['none', 'convex', 'ellipse']
MOST_SPECK_PIXELS = 100_000
MOST_SMOOTH_PIXELS = 50.0


class CleanUpError(KDSAMError, ValueError):
    """Clean-up settings that cannot be used."""


@dataclass(frozen=True)
class CleanUp:
    """What is done to a mask before it is shown and committed, in this order.

    Parts touch at sides or corners. Smoothing can cut thin bridges and close bays, so
    specks, parts and holes are looked at again after it.

    Attributes
    ----------
    speck_pixels : int
        Connected parts of fewer pixels are removed, at most `MOST_SPECK_PIXELS`; 0
        keeps all.
    largest_only : bool
        Whether only the largest connected part is kept.
    fill_holes : bool
        Whether background that does not reach the outside or the image's edge is
        filled.
    smooth_pixels : float
        Radius in image pixels, at most `MOST_SMOOTH_PIXELS`: bends of the boundary that
        are tighter are smoothed; 0 for none. A mask too small for it stays as it is.
    snap : str
        ``convex`` for the convex hull of the pixel centres, ``ellipse`` for the ellipse
        that fits best, or ``none``.

    Raises
    ------
    CleanUpError
        If a value is of the wrong kind or out of range.
    """

    speck_pixels: int = 0
    largest_only: bool = False
    fill_holes: bool = False
    smooth_pixels: float = 0.0
    snap: Snap = 'none'

    def __post_init__(self) -> None:
        allowed: dict[str, tuple[bool, str]] = {
            'speck_pixels': (
                _is_number(self.speck_pixels, MOST_SPECK_PIXELS, whole=True),
                f'a whole number from 0 to {MOST_SPECK_PIXELS}',
            ),
            'largest_only': (isinstance(self.largest_only, bool), 'true or false'),
            'fill_holes': (isinstance(self.fill_holes, bool), 'true or false'),
            'smooth_pixels': (
                _is_number(self.smooth_pixels, MOST_SMOOTH_PIXELS),
                f'a number from 0 to {MOST_SMOOTH_PIXELS:.0f}',
            ),
            'snap': (
                self.snap in get_args(Snap),
                f'one of {", ".join(get_args(Snap))}',
            ),
        }
        for name, (fits, kind) in allowed.items():
            if not fits:
                raise CleanUpError(
                    f'The clean-up setting {name} cannot be {getattr(self, name)!r}; '
                    f'give {kind}.'
                )

    @property
    def active(self) -> bool:
        """Whether anything is done at all."""
        return self != CleanUp()

    def apply(self, mask: Mask) -> Mask:
        """Clean a mask up.

        Parameters
        ----------
        mask : numpy.ndarray
            (rows, columns) bool; stays as it is.

        Returns
        -------
        numpy.ndarray
            (rows, columns) bool, a new array; empty if the mask is.
        """
        box = box_of_mask(mask)
        if box is None or not self.active:
            return mask.copy()
        # Only the part around the object is looked at, or large images would be slow.
        reach = math.ceil(SMOOTHING_REACH * self.smooth_pixels)
        (row0, col0, row1, col1), (rows, columns) = box, mask.shape
        window = (
            slice(max(0, row0 - reach), min(rows, row1 + reach)),
            slice(max(0, col0 - reach), min(columns, col1 + reach)),
        )
        part = self._picked(mask[window])
        if self.smooth_pixels > 0:
            # The object is taken to go on beyond the image, or the edge would eat it.
            beyond = (
                (max(0, reach - row0), max(0, row1 + reach - rows)),
                (max(0, reach - col0), max(0, col1 + reach - columns)),
            )
            smoothed = smooth(part, self.smooth_pixels, beyond)
            part = self._picked(smoothed) if smoothed.any() else part
        if self.snap == 'convex':
            part = convex_hull(part)
        cleaned = np.zeros_like(mask)
        cleaned[window] = part
        ellipse = fit_ellipse(cleaned) if self.snap == 'ellipse' else None
        return cleaned if ellipse is None else ellipse.mask(cleaned.shape)

    def _picked(self, part: Mask) -> Mask:
        """Without specks and holes, and the largest part alone, as far as wanted."""
        if self.speck_pixels > 1 or self.largest_only:
            part = without_parts(part, self.speck_pixels, self.largest_only)
        return fill_holes(part) if self.fill_holes else part

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Any) -> CleanUp:
        """Read what `to_dict` wrote; what is missing is off.

        Raises
        ------
        CleanUpError
            If a key is unknown, or a value of the wrong kind or out of range.
        """
        names = [field.name for field in fields(cls)]
        if not isinstance(value, Mapping):
            raise CleanUpError(
                f'Clean-up settings must be an object of named values, not {value!r}.'
            )
        unknown = [name for name in value if name not in names]
        if unknown:
            raise CleanUpError(
                f'There is no clean-up setting {unknown[0]!r}; '
                f'use some of {", ".join(names)}.'
            )
        return cls(**value)


def _is_number(value: Any, most: float, *, whole: bool = False) -> bool:
    # Python counts True as 1.
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
        return False
    return 0 <= value <= most
