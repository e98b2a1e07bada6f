"""PNG, JPEG, BMP, GIF and WebP files through Pillow."""

from __future__ import annotations

import threading
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile as PillowFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from napari_kdsam.core.errors import ImageError
from napari_kdsam.io.image_file import FrameLayout, ImageFile, reading
from napari_kdsam.io.limits import PIXELS_PER_BYTE, check_promised_size, check_size
from napari_kdsam.io.orientation import UPRIGHT, upright

_PNG_MARK = b'\x89PNG\r\n\x1a\n'
# Pillow's classes are used directly: Image.open would apply its global pixel limit,
# which is lower than ours and must not be changed for other users of the process.
_READERS: dict[bytes, type[PillowFile]] = {
    _PNG_MARK: PngImageFile,
    b'\xff\xd8\xff': JpegImageFile,
    b'BM': BmpImageFile,
    b'GIF87a': GifImageFile,
    b'GIF89a': GifImageFile,
    b'RIFF': WebPImageFile,
}
# Kinds whose further pictures are frames, not a preview or an effect.
_ANIMATIONS = (GifImageFile, WebPImageFile)
_EXIF_ORIENTATION = 0x0112
_TURNED = range(5, 9)
_BAND_PIXELS = 4_000_000
# The longest text in the table of LZW, 3,838 pixels, takes 12 bits.
_GIF_PIXELS_PER_BYTE = 2560
# WebP packs one colour into next to nothing; a blank mask may be as large as this.
_PIXELS_OF_ONE_COLOR = 25_000_000
_TRANSPARENT_MODES = ('P', 'L', 'RGB')
_PALETTE_MODES = ('P', 'PA')
# Where a PNG says how many bits its samples have, and whether they are plain grey.
_PNG_DEPTH, _PNG_KIND, _PNG_GREY = 24, 25, 0
# Where a BMP says how many bits a pixel has, in its usual form and an old one.
_START_BYTES = 32
_BMP_HEADER, _BMP_DEPTH = 14, 28
_OLD_BMP_BYTES, _OLD_BMP_DEPTH = 12, 24
_WHOLE_BYTES = '1;8'
# Chunks of PNG in which programs write the EXIF orientation.
_PNG_NOTES = (b'eXIf', b'tEXt', b'zTXt', b'iTXt')


class _PictureFile(ImageFile):
    def __init__(self, path: Path) -> None:
        self._path = path
        # Frames of an animation are drawn over each other, so their file stays open.
        self._animation: PillowFile | None = None
        self._lock = threading.Lock()
        picture = _opened(path)
        try:
            size = picture.height, picture.width
            check_size(path.name, size)
            _check_promise(path, picture)
            count = getattr(picture, 'n_frames', 1)
            if count > 1 and isinstance(picture, PngImageFile):
                raise ImageError(
                    f'{path.name} is an animation of {count} pictures; save them as '
                    'GIF, WebP or video.'
                )
            if not isinstance(picture, _ANIMATIONS):
                count = 1
            columns, rows = picture.size
            self.stored_orientation = _orientation(path, picture)
            if self.stored_orientation in _TURNED:
                rows, columns = columns, rows
            self._mode = _final_mode(picture, count > 1)
            self._is_deep = _is_deep(path, picture)
            if self._is_deep and 'transparency' in picture.info:
                self._mode = 'RGBA'
            channels = {'RGB': (3,), 'RGBA': (4,)}.get(self._mode, ())
            dtypes = {'1': np.bool_, 'I;16': np.uint16}
            super().__init__(
                path.name,
                FrameLayout(count, (rows, columns, *channels)),
                np.dtype(
                    np.uint16 if self._is_deep else dtypes.get(self._mode, np.uint8)
                ),
            )
            self._palette = picture.getpalette() if picture.mode == 'P' else None
        except BaseException:
            picture.close()
            raise
        if count > 1:
            self._animation = picture
        else:
            picture.close()

    def _read(self, index: int) -> NDArray[Any]:
        if self._is_deep:
            return self._deep_pixels()
        with self._lock:
            if self._animation is not None:
                self._go_to(self._animation, index)
                return self._pixels(self._animation.copy())
            with _opened(self._path) as picture:
                return self._pixels(picture)

    def _go_to(self, animation: PillowFile, index: int) -> None:
        """Draw what comes before a frame, but no frame that promises too much."""
        before = animation.tell()
        try:
            for number in range(before if before <= index else 0, index + 1):
                animation.seek(number)
                # Frames may reach beyond the picture, which grows with them.
                check_size(self.name, (animation.height, animation.width))
                _check_promise(self._path, animation)
        except ImageError:
            animation.close()
            self._animation = _opened(self._path)
            raise

    def _read_palette_places(self, index: int) -> NDArray[Any] | None:
        if self._palette is None:
            return None
        if self._animation is not None:
            return self._places_of_colors(self._read(index)[..., :3])
        with _opened(self._path) as picture:
            picture.load()
            if picture.mode not in _PALETTE_MODES:
                return None
            ImageOps.exif_transpose(picture, in_place=True)
            return np.asarray(picture.getchannel(0))

    def _places_of_colors(self, colors: NDArray[Any]) -> NDArray[Any] | None:
        """Frames of an animation are drawn over each other, so only colours are known."""
        palette = np.array(self._palette, np.int64).reshape(-1, 3)
        numbers = _numbers_of(palette)
        known, first = np.unique(numbers, return_index=True)
        asked = _numbers_of(colors)
        places = first[np.searchsorted(known, asked).clip(max=len(known) - 1)]
        return places if (numbers[places] == asked).all() else None

    def _deep_pixels(self) -> NDArray[Any]:
        """16-bit colour, which Pillow cuts to 8 bits."""
        from imagecodecs import png_decode

        pixels = np.asarray(png_decode(self._path.read_bytes()))
        if pixels.ndim == 2 or pixels.shape[-1] == 2:
            # Grey with opacity becomes RGBA as everywhere.
            grey, *opacity = np.moveaxis(np.atleast_3d(pixels), -1, 0)
            pixels = np.stack([grey, grey, grey, *opacity], axis=-1)
        return np.ascontiguousarray(upright(pixels, self.stored_orientation))

    def _pixels(self, picture: Image.Image) -> NDArray[Any]:
        picture.load()
        ImageOps.exif_transpose(picture, in_place=True)
        if self._mode == 'RGB' and picture.mode == 'RGBA':
            # A later frame of an animation that began without holes.
            ground = Image.new('RGBA', picture.size, (0, 0, 0, 255))
            picture = Image.alpha_composite(ground, picture)
        pixels = np.empty(self.frame_shape, self.dtype)
        rows, columns = self.frame_shape[:2]
        # Pillow makes two more copies of what it hands over, so bands are small.
        band = max(1, _BAND_PIXELS // columns)
        for top in range(0, rows, band):
            part = picture.crop((0, top, columns, min(top + band, rows)))
            # Converting would cut 16 bits to 8, so these are taken as they are.
            pixels[top : top + band] = np.asarray(
                part if self._mode == 'I;16' else part.convert(self._mode)
            )
        return pixels

    def close(self) -> None:
        if self._animation is not None:
            self._animation.close()


def _check_promise(path: Path, picture: PillowFile) -> None:
    rows, columns = picture.height, picture.width
    if isinstance(picture, WebPImageFile) and rows * columns <= _PIXELS_OF_ONE_COLOR:
        return
    most = (
        _GIF_PIXELS_PER_BYTE if isinstance(picture, GifImageFile) else PIXELS_PER_BYTE
    )
    check_promised_size(path.name, rows, columns, path.stat().st_size, most)


def _opened(path: Path) -> PillowFile:
    with path.open('rb') as file:
        start = file.read(_START_BYTES)
    for mark, reader in _READERS.items():
        if start.startswith(mark) and (mark != b'RIFF' or start[8:12] == b'WEBP'):
            return _in_bytes(path.name, reader(path), start)
    raise ImageError(
        f'{path.name} is not a PNG, JPEG, BMP, GIF or WebP image, whatever its name '
        'says; open it in the program it comes from and export it as PNG.'
    )


def _in_bytes(name: str, picture: PillowFile, start: bytes) -> PillowFile:
    """Let a BMP of a byte a pixel be read so where it has but black and white.

    Pillow takes eight pixels from each byte then.
    """
    if not isinstance(picture, BmpImageFile) or picture.mode != '1':
        return picture
    old = start[_BMP_HEADER] == _OLD_BMP_BYTES
    bits = start[_OLD_BMP_DEPTH if old else _BMP_DEPTH]
    if bits not in (1, 8):
        picture.close()
        raise ImageError(
            f'{name} is a BMP of two colours in {bits} bits, '
            'which cannot be read; save it as PNG.'
        )
    if bits == 8:
        picture.tile = [
            tile._replace(args=(_WHOLE_BYTES, *tile.args[1:]))
            for tile in picture.tile
            if isinstance(tile.args, tuple)
        ]
    return picture


def _is_deep(path: Path, picture: PillowFile) -> bool:
    """Whether it is a PNG of 16 bits in more than grey, and can be read as such."""
    if not isinstance(picture, PngImageFile):
        return False
    with path.open('rb') as file:
        start = file.read(_PNG_KIND + 1)
    if start[_PNG_DEPTH] != 16 or (
        start[_PNG_KIND] == _PNG_GREY and 'transparency' not in picture.info
    ):
        return False
    return find_spec('imagecodecs') is not None


def _numbers_of(colors: NDArray[Any]) -> NDArray[np.int64]:
    """A number for each colour of three bytes."""
    return colors.astype(np.int64) @ np.array([65536, 256, 1])


def _orientation(path: Path, picture: PillowFile) -> int:
    if isinstance(picture, PngImageFile):
        with path.open('rb') as file:
            late = _has_notes_after_pixels(file)
        # Only then Pillow has to decode the pixels to know.
        exif = picture.getexif() if late else Image.Image.getexif(picture)
    else:
        exif = picture.getexif()
    found = exif.get(_EXIF_ORIENTATION)
    return found if isinstance(found, int) else UPRIGHT


def _has_notes_after_pixels(file: BinaryIO) -> bool:
    file.seek(len(_PNG_MARK))
    pixels_seen = False
    while len(head := file.read(8)) == 8 and head[4:] != b'IEND':
        if pixels_seen and head[4:] in _PNG_NOTES:
            return True
        pixels_seen |= head[4:] == b'IDAT'
        # The check sum follows the chunk.
        file.seek(int.from_bytes(head[:4], 'big') + 4, 1)
    return False


def _final_mode(picture: Image.Image, is_animation: bool) -> str:
    """Pillow mode to deliver: 1, L, I;16 (16-bit grey), RGB or RGBA."""
    mode = picture.mode
    if mode.startswith('I'):
        return 'I;16'
    if mode in ('LA', 'PA', 'RGBa', 'La') or (
        mode in _TRANSPARENT_MODES and 'transparency' in picture.info
    ):
        return 'RGBA'
    if is_animation and mode != 'RGBA':
        # Later frames may have colours that the first has not.
        return 'RGB'
    return mode if mode in ('1', 'L', 'RGB', 'RGBA') else 'RGB'


def open_picture(path: Path) -> ImageFile:
    """Open a PNG, JPEG, BMP, GIF or WebP file, told apart by content.

    Parameters
    ----------
    path : pathlib.Path
        The file.

    Returns
    -------
    ImageFile
        uint8, uint16 or bool, upright by EXIF. The frames of an animated GIF or WebP
        are RGB or RGBA, each as it is seen; any other file has one.

    Raises
    ------
    ImageError
        If it is none of these, is damaged, is too large, or is an animated PNG.
    """
    with reading(path.name):
        return _PictureFile(path)
