"""PNG and JPEG files through Pillow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from napari_kdsam.core.errors import ImageError
from napari_kdsam.io.image_file import FrameLayout, ImageFile, check_size, reading

# Pillow's classes are used directly: Image.open would apply its global pixel limit,
# which is lower than ours and must not be changed for other users of the process.
_READERS: dict[bytes, type[PngImageFile] | type[JpegImageFile]] = {
    b'\x89PNG\r\n\x1a\n': PngImageFile,
    b'\xff\xd8\xff': JpegImageFile,
}
_EXIF_ORIENTATION = 0x0112
_TURNED = range(5, 9)
_BAND_PIXELS = 4_000_000
_TRANSPARENT_MODES = ('P', 'L', 'RGB')


class _PictureFile(ImageFile):
    def __init__(self, path: Path) -> None:
        self._path = path
        with _opened(path) as picture:
            check_size(path.name, picture.size)
            columns, rows = picture.size
            if picture.getexif().get(_EXIF_ORIENTATION) in _TURNED:
                rows, columns = columns, rows
            mode = _final_mode(picture)
        channels = {'RGB': (3,), 'RGBA': (4,)}.get(mode, ())
        dtypes = {'1': np.bool_, 'I;16': np.uint16}
        super().__init__(
            path.name,
            FrameLayout(1, (rows, columns, *channels)),
            np.dtype(dtypes.get(mode, np.uint8)),
        )

    def _read(self, index: int) -> NDArray[Any]:
        with _opened(self._path) as picture:
            mode = _final_mode(picture)
            picture.load()
            ImageOps.exif_transpose(picture, in_place=True)
            pixels = np.empty(self.frame_shape, self.dtype)
            rows, columns = self.frame_shape[:2]
            # Pillow makes two more copies of what it hands over, so bands are small.
            band = max(1, _BAND_PIXELS // columns)
            for top in range(0, rows, band):
                part = picture.crop((0, top, columns, min(top + band, rows)))
                # Converting would cut 16 bits to 8, so these are taken as they are.
                pixels[top : top + band] = np.asarray(
                    part if mode == 'I;16' else part.convert(mode)
                )
            return pixels


def _opened(path: Path) -> Image.Image:
    with path.open('rb') as file:
        start = file.read(8)
    for mark, reader in _READERS.items():
        if start.startswith(mark):
            return reader(path)
    raise ImageError(
        f'{path.name} is not a PNG or JPEG image, whatever its name says; open it in '
        'the program it comes from and export it as PNG.'
    )


def _final_mode(picture: Image.Image) -> str:
    """Pillow mode to deliver: 1, L, I;16 (16-bit grey), RGB or RGBA."""
    mode = picture.mode
    if mode.startswith('I'):
        return 'I;16'
    if mode in ('LA', 'PA', 'RGBa', 'La') or (
        mode in _TRANSPARENT_MODES and 'transparency' in picture.info
    ):
        return 'RGBA'
    return mode if mode in ('1', 'L', 'RGB', 'RGBA') else 'RGB'


def open_picture(path: Path) -> ImageFile:
    """Open a PNG or JPEG file, told apart by content.

    Parameters
    ----------
    path : pathlib.Path
        The file.

    Returns
    -------
    ImageFile
        Of one frame, uint8, uint16 or bool.

    Raises
    ------
    ImageError
        If it is neither, is damaged, or is beyond 1 gigapixel.
    """
    with reading(path.name):
        return _PictureFile(path)
