"""Open an image file by its kind: PNG, JPEG, TIFF, NPY or DICOM."""

from __future__ import annotations

import os
from pathlib import Path

from napari_kdsam.errors import ImageError
from napari_kdsam.io.arrays import open_npy, open_tiff
from napari_kdsam.io.image_file import ImageFile, reading
from napari_kdsam.io.pictures import open_picture

_OPENERS = {
    '.png': open_picture,
    '.jpg': open_picture,
    '.jpeg': open_picture,
    '.tif': open_tiff,
    '.tiff': open_tiff,
    '.npy': open_npy,
}
_DICOM_SUFFIXES = ('.dcm', '.dicom')
SUFFIXES = (*_OPENERS, *_DICOM_SUFFIXES)
_KINDS = 'PNG, JPEG, TIFF, NPY or DICOM'
_DICOM_MARK = (128, b'DICM')


def open_image(path: str | os.PathLike[str]) -> ImageFile:
    """Open an image file; pixels are decoded frame by frame when asked for.

    PNG and JPEG are turned upright by their EXIF orientation; palettes become RGB(A),
    CMYK becomes RGB, 1-bit images become boolean and 16-bit grey stays uint16 (16-bit
    colour PNG is read as 8 bits). TIFF and NPY follow the rules of `layout_of`; of a
    TIFF with several image series the first is read. DICOM becomes what a viewer
    shows: colour as RGB, grey through its rescale and window where it has them. A file
    without one of the known suffixes is opened if its content is DICOM.

    Parameters
    ----------
    path : path-like
        The file.

    Returns
    -------
    ImageFile

    Raises
    ------
    ImageError
        If there is no such file, or it is a folder, empty, damaged, beyond 1 gigapixel
        per frame, or of another kind.
    MissingExtraError
        If it is DICOM and pydicom, or the decoder its compression needs, is not
        installed.
    """
    path = Path(path)
    name = path.name or str(path)
    if path.is_dir():
        raise ImageError(
            f'{name} is a folder; give the image files in it, such as {name}/*.png.'
        )
    with reading(name):
        if not path.exists():
            raise ImageError(f'There is no file {name}; check its name and folder.')
        if not path.is_file():
            raise ImageError(
                f'{name} is not a regular file; copy it to a folder first.'
            )
        if path.stat().st_size == 0:
            raise ImageError(f'{name} is empty (0 bytes); copy or export it again.')
        opener = _OPENERS.get(path.suffix.lower())
        if opener is not None:
            return opener(path)
        if path.suffix.lower() in _DICOM_SUFFIXES or _is_dicom(path):
            # pydicom is an optional extra, so only DICOM files ask for it.
            from napari_kdsam.io.dicom import open_dicom

            return open_dicom(path)
    kind = f'a {path.suffix} file' if path.suffix else 'a file of unknown kind'
    raise ImageError(f'{name} is {kind}, which cannot be read; save it as {_KINDS}.')


def stem_of(name: str) -> str:
    """Cut a known image suffix from a file name; dots of DICOM UIDs stay.

    Parameters
    ----------
    name : str
        File name without its folder.

    Returns
    -------
    str
    """
    path = Path(name)
    return path.stem if path.suffix.lower() in SUFFIXES else name


def _is_dicom(path: Path) -> bool:
    offset, mark = _DICOM_MARK
    with path.open('rb') as file:
        file.seek(offset)
        return file.read(len(mark)) == mark
