"""Clean-up of masks, and the ellipse that fits one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from napari_kdsam.errors import KDSAMError
from napari_kdsam.inference.geometry import box_of_mask

Snap = Literal['none', 'convex', 'ellipse']
Mask = NDArray[np.bool_]
_LEAST_OUTLINE = 5


class CleanUpError(KDSAMError, ValueError):
    """Clean-up settings that cannot be used."""


@dataclass(frozen=True)
class CleanUp:
    """What is done to a mask before it is shown and committed, in this order.

    Attributes
    ----------
    speck_pixels : int
        Connected parts of fewer pixels are removed; 0 keeps all.
    largest_only : bool
        Whether only the largest connected part is kept.
    fill_holes : bool
        Whether holes are filled.
    smooth_pixels : float
        Radius in image pixels below which bends of the boundary are smoothed; 0 for
        none.
    snap : str
        ``convex`` for the convex hull, ``ellipse`` for the best ellipse, or ``none``.
    """

    speck_pixels: int = 0
    largest_only: bool = False
    fill_holes: bool = False
    smooth_pixels: float = 0.0
    snap: Snap = 'none'

    @property
    def active(self) -> bool:
        """Whether anything is done at all."""
        return self != CleanUp()

    def apply(self, mask: Mask) -> Mask:
        """Clean a (rows, columns) mask up; a new array, empty if the mask is."""
        box = box_of_mask(mask)
        if box is None or not self.active:
            return mask.copy()
        # Only the part around the object is looked at, or large images would be slow.
        margin = 2 + math.ceil(3 * self.smooth_pixels)
        row0, col0, row1, col1 = box
        part = np.pad(mask[row0:row1, col0:col1], margin)
        edges = (row0 == 0, col0 == 0, row1 == mask.shape[0], col1 == mask.shape[1])
        part = self._cleaned(part, edges, margin)
        cleaned = np.zeros_like(mask)
        top, left = max(0, row0 - margin), max(0, col0 - margin)
        bottom = min(mask.shape[0], row1 + margin)
        right = min(mask.shape[1], col1 + margin)
        cleaned[top:bottom, left:right] = part[
            top - row0 + margin : bottom - row0 + margin,
            left - col0 + margin : right - col0 + margin,
        ]
        if self.snap == 'ellipse':
            ellipse = fit_ellipse(cleaned)
            return cleaned if ellipse is None else ellipse.mask(cleaned.shape)
        return cleaned

    def _cleaned(
        self, part: Mask, edges: tuple[bool, bool, bool, bool], margin: int
    ) -> Mask:
        from scipy import ndimage
        from skimage.measure import label
        from skimage.morphology import convex_hull_image

        if self.speck_pixels > 1 or self.largest_only:
            parts = label(part, connectivity=2)
            sizes = np.bincount(parts.ravel())
            sizes[0] = 0
            kept = sizes >= self.speck_pixels
            if self.largest_only:
                kept &= np.arange(len(sizes)) == sizes.argmax()
            kept[0] = False
            part = kept[parts]
        if self.fill_holes:
            part = ndimage.binary_fill_holes(part)
        if self.smooth_pixels > 0 and part.any():
            part = _smoothed(part, self.smooth_pixels, edges, margin)
        if self.snap == 'convex' and part.any():
            part = convex_hull_image(part, offset_coordinates=False)
        return np.asarray(part, np.bool_)

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Any) -> CleanUp:
        """Read what `to_dict` wrote.

        Raises
        ------
        CleanUpError
            If a key is unknown or a value of the wrong kind.
        """
        if not isinstance(value, Mapping):
            raise CleanUpError('Clean-up settings must be an object of named values.')
        unknown = sorted(set(value) - {field.name for field in fields(cls)})
        if unknown:
            raise CleanUpError(f'There is no clean-up setting {unknown[0]!r}.')
        kinds: dict[str, tuple[type, ...]] = {
            'speck_pixels': (int,),
            'smooth_pixels': (int, float),
            'snap': (str,),
        }
        for name, setting in value.items():
            kind = kinds.get(name, (bool,))
            wrong = not isinstance(setting, kind)
            wrong |= isinstance(setting, bool) and bool not in kind
            wrong |= name == 'snap' and setting not in get_args(Snap)
            if wrong or (name.endswith('_pixels') and not 0 <= setting < 1e6):
                raise CleanUpError(f'{setting!r} is no value for {name!r}.')
        return cls(**value)


def _smoothed(
    part: Mask, radius: float, edges: tuple[bool, bool, bool, bool], margin: int
) -> Mask:
    """Blur and cut at half: straight sides stay where they are."""
    from scipy import ndimage

    solid = part.astype(np.float32)
    inner = solid[margin:-margin, margin:-margin]
    # What touches the image's edge goes on beyond it, or the blur would eat it.
    top, left, bottom, right = edges
    pad = (
        (margin if top else 0, margin if bottom else 0),
        (margin if left else 0, margin if right else 0),
    )
    grown = np.pad(inner, pad, mode='edge')
    full = np.pad(
        grown,
        (
            (margin - pad[0][0], margin - pad[0][1]),
            (margin - pad[1][0], margin - pad[1][1]),
        ),
    )
    blurred = ndimage.gaussian_filter(full, radius, truncate=3)
    return np.asarray(blurred > 0.5, np.bool_)


@dataclass(frozen=True)
class Ellipse:
    """An ellipse in image pixels.

    Attributes
    ----------
    row, column : float
        Centre, pixel centres at integers.
    major, minor : float
        Semi-axes in pixels.
    angle : float
        Of the major axis in radians, from the column axis towards growing rows.
    """

    row: float
    column: float
    major: float
    minor: float
    angle: float

    def mask(self, shape: tuple[int, ...]) -> Mask:
        """(rows, columns) mask of the ellipse within an image of `shape`."""
        rows, columns = np.ogrid[: shape[0], : shape[1]]
        down, right = rows - self.row, columns - self.column
        cosine, sine = math.cos(self.angle), math.sin(self.angle)
        along = right * cosine + down * sine
        across = down * cosine - right * sine
        inside = (along / self.major) ** 2 + (across / self.minor) ** 2 <= 1
        return np.asarray(inside, np.bool_)

    def measurements(self, pixel_size: tuple[float, float]) -> dict[str, float]:
        """Measure the ellipse.

        Parameters
        ----------
        pixel_size : tuple of float
            Extent of a pixel along rows and columns.

        Returns
        -------
        dict
            ``long_axis``, ``short_axis`` (full lengths) and ``circumference``
            (Ramanujan's second approximation), in the unit of `pixel_size`.
        """
        cosine, sine = math.cos(self.angle), math.sin(self.angle)
        height, width = pixel_size
        # Columns are the semi-axes in physical (column, row); an ellipse stays one.
        axes = np.array(
            [
                [self.major * cosine * width, -self.minor * sine * width],
                [self.major * sine * height, self.minor * cosine * height],
            ]
        )
        a, b = np.linalg.svd(axes, compute_uv=False)
        h = ((a - b) / (a + b)) ** 2
        around = math.pi * (a + b) * (1 + 3 * h / (10 + math.sqrt(4 - 3 * h)))
        return {
            'long_axis': float(2 * a),
            'short_axis': float(2 * b),
            'circumference': float(around),
        }


def fit_ellipse(mask: Mask) -> Ellipse | None:
    """Fit an ellipse to a mask by its moments; None if it is too small for one.

    The ellipse has the centre, area and second moments of the mask, so specks and
    dents hardly move it.
    """
    rows, columns = np.nonzero(mask)
    if len(rows) < _LEAST_OUTLINE:
        return None
    centre = rows.mean(), columns.mean()
    spread = np.cov(np.stack([columns, rows]), bias=True)
    # A pixel is a square, not a point.
    values, vectors = np.linalg.eigh(spread + np.eye(2) / 12)
    minor, major = 2 * np.sqrt(values)
    scale = math.sqrt(len(rows) / (math.pi * major * minor))
    direction = vectors[:, 1]
    angle = math.atan2(direction[1], direction[0]) % math.pi
    return Ellipse(
        float(centre[0]),
        float(centre[1]),
        float(major * scale),
        float(minor * scale),
        angle,
    )
