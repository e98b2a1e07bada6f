"""TIFF files, page by page."""

from __future__ import annotations

import math
import struct
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL.TiffImagePlugin import TiffImageFile
from tifffile import PHOTOMETRIC

from napari_kdsam.core.errors import ImageError, MissingExtraError, first_of
from napari_kdsam.io.image_file import (
    COLOR_CHANNELS,
    FrameLayout,
    ImageFile,
    layout_of,
    reading,
)
from napari_kdsam.io.limits import check_chunks, check_packed, check_size
from napari_kdsam.io.orientation import UPRIGHT, upright, upright_shape
from napari_kdsam.io.tiff_colors import TiffColor, rgb_of, tiff_color_of, to_picture
from napari_kdsam.io.tiff_pages import is_plain_stack

_TIFF_MARKS = (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+')
# Axes of frames in TIFF files: time, depth, pages; Q is "not said".
_FRAME_AXES = 'TZIRQ'
_ORIENTATION = 274
# Files that say nothing of what their pages are to each other.
_PLAIN_KINDS = ('uniform', 'generic')
# Of slides the first series is the slide, the others are its label and an overview.
_SLIDE_KINDS = ('svs', 'ndpi', 'scn', 'bif', 'philips', 'avs')
_NO_COMPRESSION = 1


class _TiffFrames(ImageFile):
    """Frames of a TIFF file, each a page."""

    def __init__(
        self,
        path: Path,
        tiff: tifffile.TiffFile,
        pages: Sequence[Any],
        count: int | None = None,
    ) -> None:
        self._path, self._tiff, self._pages = path, tiff, pages
        # Readers share one file, which has one place that it reads from.
        self._lock = threading.Lock()
        shape, form = _finished(path.name, pages[0])
        layout = FrameLayout(count or len(pages), shape)
        super().__init__(path.name, layout, form.dtype)
        self.stored_orientation = _orientation(pages[0])

    def _read(self, index: int) -> NDArray[Any]:
        with self._lock:
            page = self._pages[index]
            if page is None:
                raise ImageError(f'Frame {index} is missing in {self.name}.')
            form = tiff_color_of(self.name, page.keyframe)
            _check_parts(self.name, page, form)
            return self._decode(page, form)

    def _read_palette_places(self, index: int) -> NDArray[Any] | None:
        page = self._pages[index]
        if page is None or page.keyframe.photometric != PHOTOMETRIC.PALETTE:
            return None
        with self._lock:
            try:
                stored = page.asarray()
            except ValueError as error:
                if 'imagecodecs' not in str(error):
                    raise
                with TiffImageFile(self._path) as picture:
                    picture.seek(page.index)
                    stored = np.asarray(picture)
        return _places(page.keyframe, stored)

    def _decode(self, page: Any, form: TiffColor) -> NDArray[Any]:
        if page.keyframe.is_subsampled and not _is_jpeg(page.keyframe):
            return self._decode_with_pillow(page, form)
        try:
            stored = page.asarray()
        except ValueError as error:
            if 'imagecodecs' not in str(error):
                raise
            return self._decode_with_pillow(page, form)
        return _turned(page.keyframe, form, stored)

    def _decode_with_pillow(self, page: Any, form: TiffColor) -> NDArray[Any]:
        """Pillow knows some forms that tifffile does not, or leaves to imagecodecs."""
        with TiffImageFile(self._path) as picture:
            picture.seek(page.index)
            # Pillow turns pictures, white-is-zero and fewer bits around by itself.
            picture.load()
            if form.channels == (3,):
                array = np.asarray(rgb_of(picture))
            else:
                array = np.asarray(
                    picture.convert('RGBA') if form.channels else picture
                )
        if array.shape != self.frame_shape or array.dtype.kind != self.dtype.kind:
            compression = page.keyframe.compression.name
            raise MissingExtraError(
                f'Reading this form of TIFF ({compression}) in {self.name}', 'medical'
            )
        return array.astype(self.dtype, copy=False)

    def close(self) -> None:
        self._tiff.close()


class _DescribedFrames(_TiffFrames):
    """Frames that follow each other in the file, of which one page is described."""

    def __init__(self, path: Path, tiff: tifffile.TiffFile, series: Any) -> None:
        page = series.keyframe
        count = series.size // math.prod(page.shape)
        kind = series.dtype.newbyteorder(tiff.byteorder)
        self._array = np.memmap(
            path, kind, 'r', series.dataoffset, (count, *page.shape)
        )
        super().__init__(path, tiff, [page], count)

    def _read(self, index: int) -> NDArray[Any]:
        page = self._pages[0]
        form = tiff_color_of(self.name, page)
        return _turned(page, form, self._array[index])

    def _read_palette_places(self, index: int) -> NDArray[Any] | None:
        page = self._pages[0]
        is_palette = page.photometric == PHOTOMETRIC.PALETTE
        return _places(page, self._array[index]) if is_palette else None


def open_tiff(path: Path) -> ImageFile:
    """Open a TIFF file.

    Pages of one size and kind are frames; previews and transparency masks
    (NewSubfileType) are none. Pages are upright, as tag 274 says, and grey, RGB or
    RGBA, whatever their colour form. Where the file does not say what its axes are (a
    plain array), the rules of `layout_of` hold.

    Parameters
    ----------
    path : pathlib.Path
        The file, classic or BigTIFF.

    Raises
    ------
    ImageError
        If it is not a TIFF file, is damaged, its pages differ, its colour form is not
        supported, or its axes are not one image or one stack.
    MissingExtraError
        When a frame is asked for, if its compression needs a decoder that is not
        installed.
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
            return _frames_of(path, tiff)
        except BaseException:
            tiff.close()
            raise


def _frames_of(path: Path, tiff: tifffile.TiffFile) -> ImageFile:
    name = path.name
    _check_complete(name, tiff)
    if is_plain_stack(tiff):
        # Frames take from the first page all but where their pixels are.
        tiff.pages.useframes = True
        return _TiffFrames(path, tiff, tiff.pages, len(tiff.pages))
    try:
        series = tiff.series
    except RuntimeError:
        # tifffile looks at some pages and finds too late that others differ.
        return _TiffFrames(path, tiff, _alike(name, _whole_pages(tiff)))
    kind = series[0].kind
    if kind in _PLAIN_KINDS or (kind == 'shaped' and len(series) > 1):
        return _TiffFrames(path, tiff, _alike(name, _whole_pages(tiff)))
    shown = [part for part in series if not _is_preview(part.keyframe)] or series
    if len(shown) > 1 and kind not in _SLIDE_KINDS:
        sizes = [' x '.join(map(str, part.shape)) for part in shown]
        raise ImageError(
            f'{name} holds {len(shown)} images ({first_of(sizes)}); save one of them '
            'to a file.'
        )
    first = shown[0]
    layout = _tiff_layout(name, first)
    if layout.frame_count == len(first.pages):
        return _TiffFrames(path, tiff, first.pages, layout.frame_count)
    if first.dataoffset is None:
        raise ImageError(
            f'{name} keeps its {layout.frame_count} frames in a form that cannot be '
            'read one by one; save it with one page for each frame.'
        )
    # ImageJ describes one page and lets the others follow without description.
    return _DescribedFrames(path, tiff, first)


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


def _whole_pages(tiff: tifffile.TiffFile) -> list[Any]:
    """Every page with its own description, but previews and masks of pages."""
    tiff.pages.useframes = False
    pages = [page.aspage() for page in tiff.pages]
    return [page for page in pages if not _is_preview(page)] or pages


def _is_preview(page: Any) -> bool:
    return bool(page.is_reduced or page.is_mask)


def _alike(name: str, pages: list[Any]) -> list[Any]:
    """Refuse pages of which one could not take the place of another."""
    numbers: dict[str, list[str]] = {}
    for page in pages:
        shape, form = _finished(name, page)
        colors = {(): 'grey', (3,): 'RGB', (4,): 'RGBA'}[form.channels]
        described = f'{shape[0]} x {shape[1]} ({form.dtype} {colors})'
        numbers.setdefault(described, []).append(str(page.index))
    if len(numbers) > 1:
        kinds = [
            f'page{"s" * (len(found) > 1)} {first_of(found)}: {described}'
            for described, found in numbers.items()
        ]
        raise ImageError(
            f'{name} has pages that differ ({first_of(kinds)}), counted from 0; save '
            'pages of one size and kind to a file.'
        )
    return pages


def _finished(name: str, page: Any) -> tuple[tuple[int, ...], TiffColor]:
    """Shape of the frame that a page becomes, and its colour form."""
    if 0 in page.shape or not page.shape:
        raise ImageError(f'{name} has no pixels; export it again.')
    if page.imagedepth > 1:
        raise ImageError(
            f'{name} keeps its {page.imagedepth} frames in a form that cannot be read '
            'one by one; save it with one page for each frame.'
        )
    form = tiff_color_of(name, page)
    stored = (page.imagelength, page.imagewidth, *form.channels)
    return upright_shape(stored, _orientation(page)), form


def _orientation(page: Any) -> int:
    return int(page.tags.valueof(_ORIENTATION) or UPRIGHT)


def _turned(page: Any, form: TiffColor, stored: NDArray[Any]) -> NDArray[Any]:
    picture = upright(
        to_picture(page, form, _samples(page, stored)), _orientation(page)
    )
    return np.ascontiguousarray(picture)


def _places(page: Any, stored: NDArray[Any]) -> NDArray[Any]:
    """Places in the palette, without the opacity that may follow them."""
    places = upright(_samples(page, stored)[..., 0], _orientation(page))
    return np.ascontiguousarray(places)


def _samples(page: Any, stored: NDArray[Any]) -> NDArray[Any]:
    if page.axes.startswith('S'):
        stored = np.moveaxis(stored, 0, -1)
    return stored.reshape(page.imagelength, page.imagewidth, page.samplesperpixel)


def _is_jpeg(page: Any) -> bool:
    return 'JPEG' in page.compression.name


def _check_parts(name: str, page: Any, form: TiffColor) -> None:
    """Refuse strips and tiles that cost more than the page they are of."""
    described = page.keyframe
    count, itemsize = math.prod(described.chunked), described.dtype.itemsize
    chunk_bytes = math.prod(described.chunks) * itemsize
    frame_bytes = math.prod(described.shape) * itemsize
    check_size(name, (described.imagelength, described.imagewidth), itemsize)
    check_chunks(name, count, chunk_bytes, frame_bytes)
    sizes = page.databytecounts
    if len(sizes) < count or not any(sizes):
        raise ImageError(
            f'{name} is not complete: {count} parts of a page are described and '
            f'{sum(size > 0 for size in sizes)} are there; copy or export it again.'
        )
    if described.compression != _NO_COMPRESSION:
        check_packed(name, max(sizes), chunk_bytes)


def _tiff_layout(name: str, series: Any) -> FrameLayout:
    axes, shape = series.axes, tuple(series.shape)
    if 0 in shape:
        raise ImageError(f'{name} has no pixels; export it again.')
    size = dict(zip(axes, shape, strict=True))
    leading = [axis for axis in axes if axis not in 'YXS' and size[axis] > 1]
    named = len(size) == len(axes) and {'Y', 'X'} <= set(axes)
    # Three or four unnamed planes may be colours, unless pages have colours already.
    unclear = leading == ['Q'] and 'S' not in axes and size['Q'] in COLOR_CHANNELS
    if not named or unclear:
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
    return FrameLayout(
        math.prod(size[axis] for axis in leading), (size['Y'], size['X'])
    )
