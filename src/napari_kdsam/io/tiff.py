"""TIFF files, page by page."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL.TiffImagePlugin import TiffImageFile

from napari_kdsam.core.errors import ImageError
from napari_kdsam.io.image_file import (
    COLOR_CHANNELS,
    ArrayFile,
    FrameLayout,
    ImageFile,
    check_size,
    layout_of,
    reading,
)

_TIFF_MARKS = (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+')
# Axes of frames in TIFF files: time, depth, pages; Q is "not said".
_FRAME_AXES = 'TZIRQ'


class _TiffPages(ImageFile):
    """The first series of a TIFF file, a frame for each page."""

    def __init__(
        self, path: Path, tiff: tifffile.TiffFile, series: Any, layout: FrameLayout
    ) -> None:
        self._path, self._tiff, self._pages = path, tiff, series.pages
        self._page = series.keyframe
        self._white_is_zero = self._page.photometric == tifffile.PHOTOMETRIC.MINISWHITE
        dtype = series.dtype
        if _has_palette(self._page):
            dtype = np.dtype(np.uint8)
        elif self._page.bitspersample == 1:
            dtype = np.dtype(np.bool_)
        super().__init__(path.name, layout, dtype)

    def _read(self, index: int) -> NDArray[Any]:
        array = self._decode(self._pages[index]).reshape(self._page.shape)
        if _has_palette(self._page):
            # Colour maps are 16-bit by definition.
            return (self._page.colormap.T >> 8).astype(np.uint8)[array]
        if self._page.axes.startswith('S'):
            array = np.moveaxis(array, 0, -1)
        if array.ndim == 3 and array.shape[-1] == 2:
            array = array[..., [0, 0, 0, 1]]
        array = array.astype(self.dtype, copy=False).reshape(self.frame_shape)
        return _inverted(array) if self._white_is_zero else array

    def _decode(self, page: Any) -> NDArray[Any]:
        try:
            return page.asarray()
        except ValueError as error:
            if 'imagecodecs' not in str(error):
                raise
        # Pillow knows the common compressions that tifffile leaves to imagecodecs.
        with TiffImageFile(self._path) as picture:
            picture.seek(page.index)
            array = np.asarray(picture)
        # Pillow has already turned white-is-zero values around.
        return _inverted(array) if self._white_is_zero else array

    def close(self) -> None:
        self._tiff.close()


def open_tiff(path: Path) -> ImageFile:
    """Open a TIFF file.

    Channels that the file marks as samples of a pixel are moved last; one grey page
    is an image, several are a stack. Where the file does not say what its axes are
    (a plain array), the rules of `layout_of` hold.

    Parameters
    ----------
    path : pathlib.Path
        The file, classic or BigTIFF.

    Raises
    ------
    ImageError
        If it is not a TIFF file, is damaged, or its axes are not one image or one
        stack.
    """
    with reading(path.name):
        with path.open('rb') as file:
            if file.read(4) not in _TIFF_MARKS:
                raise ImageError(
                    f'{path.name} is not a TIFF image, whatever its name says; export '
                    'it again.'
                )
        tiff = tifffile.TiffFile(path)
        try:
            return _first_series(path, tiff)
        except BaseException:
            tiff.close()
            raise


def _first_series(path: Path, tiff: tifffile.TiffFile) -> ImageFile:
    series = tiff.series[0]
    _check_complete(path.name, tiff)
    layout = _tiff_layout(path.name, series)
    if layout.frame_count == len(series.pages):
        return _TiffPages(path, tiff, series, layout)
    if series.dataoffset is None:
        raise ImageError(
            f'{path.name} keeps its {layout.frame_count} frames in a form that cannot '
            'be read one by one; save it with one page for each frame.'
        )
    # ImageJ describes one page and lets the others follow without description.
    offset, kind = series.dataoffset, series.dtype.newbyteorder(tiff.byteorder)
    array = np.memmap(path, kind, 'r', offset, series.shape)
    tiff.close()
    return ArrayFile(path.name, array, layout)


def _check_complete(name: str, tiff: tifffile.TiffFile) -> None:
    """Refuse a file whose last readable page points to a further one.

    tifffile would read such a file, cut short, as a stack with fewer frames.
    """
    form, file = tiff.tiff, tiff.filehandle
    start = tiff.pages[-1].offset
    file.seek(start)
    (tags,) = struct.unpack(form.tagnoformat, file.read(form.tagnosize))
    file.seek(start + form.tagnosize + tags * form.tagsize)
    (following,) = struct.unpack(form.offsetformat, file.read(form.offsetsize))
    if following:
        raise ImageError(
            f'{name} is not complete: frames after frame {len(tiff.pages) - 1} are '
            'missing; copy or export it again.'
        )


def _tiff_layout(name: str, series: Any) -> FrameLayout:
    axes, shape = series.axes, tuple(series.shape)
    if 0 in shape:
        raise ImageError(f'{name} has no pixels; export it again.')
    size = dict(zip(axes, shape, strict=True))
    leading = [axis for axis in axes if axis not in 'YXS' and size[axis] > 1]
    named = len(size) == len(axes) and {'Y', 'X'} <= set(axes)
    if not named or (leading == ['Q'] and size['Q'] in COLOR_CHANNELS):
        return layout_of(name, shape)
    if 'C' in leading:
        raise ImageError(
            f'{name} has {size["C"]} separate channels; save it as RGB, or save one '
            'channel.'
        )
    if len(leading) > 1 or not set(leading) <= set(_FRAME_AXES):
        sizes = ' x '.join(f'{size[axis]} ({axis})' for axis in leading)
        raise ImageError(
            f'{name} has more axes than one stack of frames: {sizes}; save one stack '
            'to a file.'
        )
    samples = size.get('S', 1)
    if samples > 4:
        raise ImageError(
            f'{name} has {samples} values for each pixel; save it as RGB, or save one '
            'channel.'
        )
    channels = {1: (), 2: (4,)}.get(samples, (samples,))
    if not channels and _has_palette(series.keyframe):
        channels = (3,)
    check_size(name, (size['Y'], size['X']))
    frames = math.prod(size[axis] for axis in leading)
    return FrameLayout(frames, (size['Y'], size['X'], *channels))


def _has_palette(page: Any) -> bool:
    palette = page.photometric == tifffile.PHOTOMETRIC.PALETTE
    return palette and page.axes == 'YX' and page.colormap is not None


def _inverted(array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype == np.bool_:
        return ~array
    if array.dtype.kind == 'f':
        return -array
    limits = np.iinfo(array.dtype)
    return (limits.max - array) + array.dtype.type(limits.min)
