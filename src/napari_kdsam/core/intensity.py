"""From any image array to the 8-bit RGB pixels a model sees.

The mapping is explicit so that it can be shown to the user and be part of an
embedding's identity:

- 8-bit images are taken as they are; booleans become 0 and 255.
- RGB(A) floats within 0..1 are multiplied by 255.
- Everything else is stretched from its 0.1 to its 99.9 percentile (over all colour
  channels together), or between the limits the user gave.
- NaN becomes the low end; infinities the ends.
- Alpha is laid over black, as napari shows it; grey becomes equal R, G and B.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from napari_kdsam.core.errors import ImageError
from napari_kdsam.core.geometry import PaddedSquare

_PERCENTILES = (0.1, 99.9)
# Enough pixels for stable percentiles, few enough to be instant on huge images.
_SAMPLED_PIXELS = 1_000_000
_BAND_PIXELS = 4_000_000


@dataclass(frozen=True)
class IntensityMapping:
    """How stored values become 0..255.

    Parameters
    ----------
    low, high : float, optional
        Values that become 0 and 255; both None for the automatic choice
        described in this module.

    Raises
    ------
    ImageError
        If only one limit is given, or they are not finite and increasing.
    """

    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        if self.low is None and self.high is None:
            return
        if (
            self.low is None
            or self.high is None
            or not np.isfinite([self.low, self.high]).all()
            or self.low >= self.high
        ):
            raise ImageError(
                f'Intensity limits must be two increasing numbers, not '
                f'{self.low} and {self.high}.'
            )

    @property
    def automatic(self) -> bool:
        """Whether the limits are chosen from the image."""
        return self.low is None

    def resolve(self, image: NDArray[Any]) -> IntensityMapping:
        """Choose the limits for an image.

        Parameters
        ----------
        image : numpy.ndarray
            (H, W), (H, W, 3) or (H, W, 4), real dtype.

        Returns
        -------
        IntensityMapping
            With both limits set.

        Raises
        ------
        ImageError
            If no pixel is finite.
        """
        if not self.automatic:
            return self
        if image.dtype == np.bool_:
            return IntensityMapping(0.0, 1.0)
        if image.dtype == np.uint8:
            return IntensityMapping(0.0, 255.0)
        step = max(1, int(np.sqrt(image.size / _SAMPLED_PIXELS)))
        sample = (
            image[::step, ::step, ..., :3] if image.ndim == 3 else image[::step, ::step]
        )
        values = sample[np.isfinite(sample)].astype(np.float64)
        if values.size == 0 and step > 1:
            colors = image[..., :3] if image.ndim == 3 else image
            values = colors[np.isfinite(colors)].astype(np.float64)
        if values.size == 0:
            raise ImageError('The image has no finite pixel: all are NaN or infinite.')
        unit = values.min() >= 0 and values.max() <= 1
        if image.ndim == 3 and image.dtype.kind == 'f' and unit:
            return IntensityMapping(0.0, 1.0)
        low, high = np.percentile(values, _PERCENTILES)
        if low >= high:
            low, high = values.min(), values.max()
        if low >= high:
            # A constant image has no contrast to keep; any increasing limits do.
            high = low + max(1.0, abs(low) * 1e-6)
        return IntensityMapping(float(low), float(high))

    def describe(self) -> str:
        """Say what the mapping does, for a status line."""
        if self.automatic:
            return 'automatic'
        return f'{self.low:g}..{self.high:g} shown as 0..255'


def check_image(image: NDArray[Any]) -> NDArray[Any]:
    """Bring an image to (H, W), (H, W, 3) or (H, W, 4), or say why it cannot be.

    Parameters
    ----------
    image : numpy.ndarray
        (H, W), (H, W, 1), (1, H, W), (H, W, 3) or (H, W, 4); boolean, integer or
        float.

    Returns
    -------
    numpy.ndarray
        A view of `image`.

    Raises
    ------
    ImageError
        For any other shape or dtype, and for an image without pixels.
    """
    if image.dtype.kind not in 'buif':
        raise ImageError(
            f'Pixels of type {image.dtype} cannot be segmented; convert the image to '
            'whole or real numbers.'
        )
    if image.size == 0:
        raise ImageError(f'The image is empty: its shape is {image.shape}.')
    if image.ndim == 3 and image.shape[-1] == 1:
        return image[..., 0]
    if image.ndim == 3 and image.shape[0] == 1 and image.shape[-1] not in (3, 4):
        return image[0]
    if image.ndim == 2 or (image.ndim == 3 and image.shape[-1] in (3, 4)):
        return image
    advice = 'pass one image of shape (rows, columns) or (rows, columns, 3)'
    if image.ndim == 3 and image.shape[0] in (3, 4):
        advice = 'its channels come first: move them last with numpy.moveaxis(a, 0, -1)'
    elif image.ndim == 3 and image.shape[-1] == 2:
        advice = 'it has two channels: choose one of them'
    elif image.ndim in (3, 4):
        advice = 'it looks like a stack: pass one frame at a time'
    raise ImageError(f'An image of shape {image.shape} cannot be used; {advice}.')


def to_eight_bit(image: NDArray[Any], mapping: IntensityMapping) -> NDArray[np.uint8]:
    """Map values to 8 bits, band by band so that memory stays bounded.

    Parameters
    ----------
    image : numpy.ndarray
        As returned by `check_image`.
    mapping : IntensityMapping
        Resolved with `IntensityMapping.resolve`.

    Returns
    -------
    numpy.ndarray
        (H, W) or (H, W, 3) uint8; `image` itself where nothing changes.
    """
    low, high = mapping.low, mapping.high
    if low is None or high is None:
        raise ValueError('resolve the intensity mapping first')
    has_alpha = image.ndim == 3 and image.shape[-1] == 4
    if image.dtype == np.uint8 and (low, high) == (0.0, 255.0) and not has_alpha:
        return image
    out = np.empty(image.shape[:2] + (3,) * (image.ndim - 2), np.uint8)
    rows = max(1, _BAND_PIXELS // max(1, image[0].size))
    for start in range(0, image.shape[0], rows):
        band = image[start : start + rows]
        values = _stretch(band[..., :3] if has_alpha else band, low, high)
        if has_alpha:
            values *= _opacity(band[..., 3:])
        out[start : start + rows] = np.rint(values)
    return out


def _stretch(values: NDArray[Any], low: float, high: float) -> NDArray[np.float64]:
    with np.errstate(invalid='ignore', over='ignore'):
        scaled = (values.astype(np.float64) - low) * (255.0 / (high - low))
    np.nan_to_num(scaled, copy=False, nan=0.0, posinf=255.0, neginf=0.0)
    return np.clip(scaled, 0.0, 255.0, out=scaled)


def _opacity(alpha: NDArray[Any]) -> NDArray[np.float64]:
    full = float(np.iinfo(alpha.dtype).max) if alpha.dtype.kind in 'ui' else 1.0
    return _stretch(alpha, 0.0, full) / 255.0


def to_model_pixels(
    image: NDArray[Any], mapping: IntensityMapping, side: int
) -> NDArray[np.uint8]:
    """Make the RGB pixels a model sees, before padding and normalisation.

    Parameters
    ----------
    image : numpy.ndarray
        As returned by `check_image`.
    mapping : IntensityMapping
        Resolved with `IntensityMapping.resolve`.
    side : int
        The encoder's input size.

    Returns
    -------
    numpy.ndarray
        (h, w, 3) uint8 with max(h, w) == side, scaled with Pillow's anti-aliased
        bilinear filter (SAM's convention).
    """
    placed = PaddedSquare((image.shape[0], image.shape[1]), side)
    eight_bit = np.ascontiguousarray(to_eight_bit(image, mapping))
    rows, columns = placed.scaled_shape
    scaled = Image.fromarray(eight_bit).resize(
        (columns, rows), Image.Resampling.BILINEAR
    )
    return np.asarray(scaled.convert('RGB'))
