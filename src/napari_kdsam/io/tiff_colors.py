"""Colour forms of TIFF pages: stored samples become grey, RGB or RGBA."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tifffile import COMPRESSION, EXTRASAMPLE, PHOTOMETRIC

from napari_kdsam.core.errors import ImageError, excerpt

# Samples that the colour itself takes.
_COLOR_SAMPLES = {
    PHOTOMETRIC.MINISWHITE: 1,
    PHOTOMETRIC.MINISBLACK: 1,
    PHOTOMETRIC.RGB: 3,
    PHOTOMETRIC.PALETTE: 1,
    PHOTOMETRIC.MASK: 1,
    PHOTOMETRIC.SEPARATED: 4,
    PHOTOMETRIC.YCBCR: 3,
    PHOTOMETRIC.CIELAB: 3,
    PHOTOMETRIC.ICCLAB: 3,
}
_GREY = (PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.MINISWHITE, PHOTOMETRIC.MASK)
_LAB = (PHOTOMETRIC.CIELAB, PHOTOMETRIC.ICCLAB)
# Turned into RGB, 8 bits for each channel.
_CONVERTED = (PHOTOMETRIC.SEPARATED, PHOTOMETRIC.YCBCR, *_LAB)
_JPEG = (
    COMPRESSION.OJPEG,
    COMPRESSION.JPEG,
    COMPRESSION.JPEG_LOSSY,
    COMPRESSION.ALT_JPEG,
)
# Compressions that give the samples back as they were.
_PLAIN = (
    COMPRESSION.NONE,
    COMPRESSION.LZW,
    COMPRESSION.ADOBE_DEFLATE,
    COMPRESSION.DEFLATE,
    COMPRESSION.PACKBITS,
    COMPRESSION.LZMA,
    COMPRESSION.ZSTD,
)
_INK_SET, _CMYK_INKS = 332, 1
_YCBCR_COEFFICIENTS = 529, (299, 1000, 587, 1000, 114, 1000)
_REFERENCE_BLACK_WHITE = 532, (0, 1, 255, 1, 128, 1, 255, 1, 128, 1, 255, 1)
_BAND_PIXELS = 1_000_000
_SIXTEEN_BITS = 2


@dataclass(frozen=True)
class TiffColor:
    """How the samples of a page are to be understood.

    Attributes
    ----------
    colors : int
        Leading samples that are the colour: 1, 3 or 4.
    alpha : bool
        Whether the next one is the opacity.
    channels : tuple of int
        Of the finished picture: () grey, (3,) RGB or (4,) RGBA.
    dtype : numpy.dtype
        Of the finished picture.
    """

    colors: int
    alpha: bool
    channels: tuple[int, ...]
    dtype: np.dtype[Any]


def tiff_color_of(name: str, page: Any) -> TiffColor:
    """Find out what the samples of a page are, without decoding it.

    Parameters
    ----------
    name : str
        File name for the message.
    page : tifffile.TiffPage
        The page.

    Raises
    ------
    ImageError
        If the colour form is not supported; it is named.
    """
    kind = page.photometric
    if kind not in _COLOR_SAMPLES or page.dtype is None:
        raise _unsupported(name, getattr(kind, 'name', f'number {kind}'))
    colors = _COLOR_SAMPLES[kind]
    extra = page.samplesperpixel - colors
    alpha = bool(page.extrasamples) and page.extrasamples[-1] in (
        EXTRASAMPLE.ASSOCALPHA,
        EXTRASAMPLE.UNASSALPHA,
    )
    if kind in _GREY and extra - alpha == 2:
        # Who does not know RGB's number calls its three samples grey.
        colors, extra = 3, int(alpha)
    if extra == 1 and not page.extrasamples:
        alpha = True
    if extra > 1 or (extra and not alpha and colors == 1) or extra < 0:
        raise ImageError(
            f'{name} has {page.samplesperpixel} separate channels; save it as RGB, or '
            'save one channel.'
        )
    _check_supported(name, page)
    channels: tuple[int, ...] = () if colors == 1 and not alpha else (3 + alpha,)
    dtype: np.dtype[Any] = page.dtype.newbyteorder('=')
    if kind in _CONVERTED or kind == PHOTOMETRIC.PALETTE:
        channels, dtype = (3 + alpha,), np.dtype(np.uint8)
    elif _depth(page) == 1 and not channels:
        dtype = np.dtype(np.bool_)
    elif _depth(page) < 8:
        dtype = np.dtype(np.uint8)
    return TiffColor(colors, alpha, channels, dtype)


def _check_supported(name: str, page: Any) -> None:
    kind = page.photometric
    if kind == PHOTOMETRIC.PALETTE and page.colormap is None:
        raise _unsupported(name, 'palette without colours')
    types = 'ui' if kind in _LAB else 'u'
    if kind in _CONVERTED and (
        page.dtype.kind not in types or page.dtype.itemsize > _SIXTEEN_BITS
    ):
        raise _unsupported(name, f'{kind.name} of {page.dtype}')
    if kind == PHOTOMETRIC.SEPARATED and page.tags.valueof(_INK_SET, 1) != _CMYK_INKS:
        raise _unsupported(name, 'inks other than CMYK')
    if kind != PHOTOMETRIC.YCBCR or page.compression in _JPEG:
        return
    if page.compression not in _PLAIN or page.dtype.itemsize > 1:
        raise _unsupported(name, f'YCbCr of {page.dtype} in {page.compression.name}')
    if page.is_subsampled and page.compression == COMPRESSION.NONE:
        raise _unsupported(name, 'YCbCr with fewer pixels of colour than of brightness')


def _unsupported(name: str, form: str) -> ImageError:
    return ImageError(
        f'{name} is in a colour form that cannot be read ({excerpt(form)}); save it as RGB or '
        'grey.'
    )


def _depth(page: Any) -> int:
    bits = page.bitspersample
    # Fields of different widths, such as 5, 6 and 5 bits, are widened by tifffile.
    return int(bits) if isinstance(bits, int) else 8


def to_picture(page: Any, form: TiffColor, stored: NDArray[Any]) -> NDArray[Any]:
    """Make a picture of the samples.

    Parameters
    ----------
    page : tifffile.TiffPage
        The page.
    form : TiffColor
        What `tiff_color_of` says of it.
    stored : numpy.ndarray
        (rows, columns, samples), as decoded.

    Returns
    -------
    numpy.ndarray
        (rows, columns) followed by the form's channels, of its type.
    """
    colors = stored[..., : form.colors]
    opacity = stored[..., form.colors :] if form.alpha else None
    kind = page.photometric
    if kind == PHOTOMETRIC.PALETTE:
        colors = _palette(page)[colors[..., 0].astype(np.uint16, copy=False)]
    elif kind == PHOTOMETRIC.SEPARATED:
        colors = _by_pillow(_high_byte(colors), 'CMYK')
    elif kind in _LAB:
        # What ICC profiles call LAB counts a and b from 128, TIFF's own from 0.
        signs = (0, 128, 128) if kind == PHOTOMETRIC.ICCLAB else (0, 0, 0)
        colors = _by_pillow(_high_byte(colors) ^ np.array(signs, np.uint8), 'LAB')
    elif kind == PHOTOMETRIC.YCBCR and page.compression not in _JPEG:
        colors = _rgb_of_ycbcr(page, colors)
    else:
        if _depth(page) < 8 and form.dtype != np.bool_:
            colors = _eight_bits(colors, _depth(page))
        if kind == PHOTOMETRIC.MINISWHITE:
            colors = _inverted(colors.astype(form.dtype, copy=False), _depth(page))
        if form.channels and colors.shape[-1] == 1:
            colors = np.repeat(colors, 3, axis=-1)
    if opacity is None:
        picture = colors if form.channels else colors[..., 0]
        return np.ascontiguousarray(picture).astype(form.dtype, copy=False)
    if form.dtype == np.uint8:
        is_wide = _depth(page) > 8
        opacity = _high_byte(opacity) if is_wide else _eight_bits(opacity, _depth(page))
    picture = np.concatenate([colors, opacity], axis=-1, dtype=form.dtype)
    if page.extrasamples[-1:] == (EXTRASAMPLE.ASSOCALPHA,):
        _undo_premultiplied(picture)
    return picture


def _palette(page: Any) -> NDArray[np.uint8]:
    """(colours, 3): 16 bits by definition, 8 in files of old programs."""
    colors = page.colormap.T
    return (colors if colors.max() < 256 else colors >> 8).astype(np.uint8)


def _high_byte(values: NDArray[Any]) -> NDArray[np.uint8]:
    if values.dtype.itemsize == 1:
        return values.view(np.uint8)
    return (values >> 8).astype(np.uint8)


def _eight_bits(values: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    """Spread values of fewer bits over 0 to 255."""
    if bits >= 8:
        return values.astype(np.uint8, copy=False)
    steps = np.rint(np.linspace(0, 255, 2**bits)).astype(np.uint8)
    return steps[values.astype(np.uint8, copy=False)]


def _inverted(values: NDArray[Any], bits: int) -> NDArray[Any]:
    if values.dtype == np.bool_:
        return ~values
    if values.dtype.kind == 'f':
        return -values
    if values.dtype.kind == 'i':
        return ~values
    return values.dtype.type(2 ** max(bits, 8) - 1) - values


def _by_pillow(values: NDArray[np.uint8], mode: str) -> NDArray[np.uint8]:
    """RGB of CMYK, or of LAB whose a and b are signed."""
    rows, columns = values.shape[:2]
    rgb = np.empty((rows, columns, 3), np.uint8)
    band = max(1, _BAND_PIXELS // columns)
    for top in range(0, rows, band):
        part = np.ascontiguousarray(values[top : top + band])
        size = (columns, part.shape[0])
        picture = Image.frombytes(mode, size, part.tobytes(), 'raw', mode)
        rgb[top : top + band] = np.asarray(rgb_of(picture))
    return rgb


def rgb_of(picture: Image.Image) -> Image.Image:
    """Convert any of Pillow's pictures to RGB."""
    if picture.mode != 'LAB':
        return picture.convert('RGB')
    from PIL import ImageCms

    lab, rgb = ImageCms.createProfile('LAB'), ImageCms.createProfile('sRGB')
    converted = ImageCms.profileToProfile(picture, lab, rgb, outputMode='RGB')
    assert converted is not None
    return converted


def _rgb_of_ycbcr(page: Any, values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Equations of TIFF 6.0, section 21."""
    red, green, blue = _rationals(page, *_YCBCR_COEFFICIENTS)
    ends = _rationals(page, *_REFERENCE_BLACK_WHITE)
    low = np.array(ends[::2], np.float32)
    scale = np.array((255, 127, 127), np.float32) / (np.array(ends[1::2]) - low)
    rgb = np.empty(values.shape, np.uint8)
    band = max(1, _BAND_PIXELS // values.shape[1])
    for top in range(0, len(values), band):
        y, cb, cr = np.moveaxis((values[top : top + band] - low) * scale, -1, 0)
        r, b = y + cr * (2 - 2 * red), y + cb * (2 - 2 * blue)
        g = (y - red * r - blue * b) / green
        part = np.stack([r, g, b], axis=-1)
        rgb[top : top + band] = np.clip(np.rint(part), 0, 255)
    return rgb


def _rationals(page: Any, tag: int, usual: tuple[int, ...]) -> list[float]:
    pairs = page.tags.valueof(tag) or usual
    return [a / b for a, b in zip(pairs[::2], pairs[1::2], strict=True)]


def _undo_premultiplied(picture: NDArray[Any]) -> None:
    """Divide colours by their opacity, in place."""
    most = np.iinfo(picture.dtype).max if picture.dtype.kind in 'ui' else 1.0
    band = max(1, _BAND_PIXELS // picture.shape[1])
    for top in range(0, len(picture), band):
        part = picture[top : top + band]
        opacity = part[..., 3:].astype(np.float64)
        full = np.divide(
            part[..., :3] * float(most),
            opacity,
            out=np.zeros(part[..., :3].shape),
            where=opacity > 0,
        )
        full = np.minimum(full, most)
        part[..., :3] = np.rint(full) if picture.dtype.kind in 'ui' else full
