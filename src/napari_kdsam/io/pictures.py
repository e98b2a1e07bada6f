"""PNG, JPEG, BMP, GIF and WebP files through Pillow."""

from __future__ import annotations

import threading
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
from napari_kdsam.io.limits import check_size
from napari_kdsam.io.orientation import UPRIGHT

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
_TRANSPARENT_MODES = ('P', 'L', 'RGB')
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
            check_size(path.name, (picture.height, picture.width))
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
            channels = {'RGB': (3,), 'RGBA': (4,)}.get(self._mode, ())
            dtypes = {'1': np.bool_, 'I;16': np.uint16}
            super().__init__(
                path.name,
                FrameLayout(count, (rows, columns, *channels)),
                np.dtype(dtypes.get(self._mode, np.uint8)),
            )
        except BaseException:
            picture.close()
            raise
        if count > 1:
            self._animation = picture
        else:
            picture.close()

    def _read(self, index: int) -> NDArray[Any]:
        with self._lock:
            if self._animation is not None:
                self._animation.seek(index)
                return self._pixels(self._animation.copy())
            with _opened(self._path) as picture:
                return self._pixels(picture)

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


def _opened(path: Path) -> PillowFile:
    with path.open('rb') as file:
        start = file.read(12)
    for mark, reader in _READERS.items():
        if start.startswith(mark) and (mark != b'RIFF' or start.endswith(b'WEBP')):
            return reader(path)
    raise ImageError(
        f'{path.name} is not a PNG, JPEG, BMP, GIF or WebP image, whatever its name '
        'says; open it in the program it comes from and export it as PNG.'
    )


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
