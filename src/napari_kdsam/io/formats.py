"""Open an image file by its kind: pictures, arrays, DICOM, NIfTI, video, OME-Zarr."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from napari_kdsam.core.errors import ImageError
from napari_kdsam.io.arrays import open_npy, open_tiff
from napari_kdsam.io.image_file import ImageFile, reading
from napari_kdsam.io.png_jpeg import open_picture

_OPENERS: dict[str, Callable[[Path], ImageFile]] = {
    '.png': open_picture,
    '.jpg': open_picture,
    '.jpeg': open_picture,
    '.tif': open_tiff,
    '.tiff': open_tiff,
    '.npy': open_npy,
}
DICOM_SUFFIXES = ('.dcm', '.dicom')
NIFTI_SUFFIXES = ('.nii', '.nii.gz')
VIDEO_SUFFIXES = ('.mp4', '.avi', '.mov', '.mkv')
ZARR_SUFFIX = '.zarr'
SUFFIXES = (
    *_OPENERS,
    *DICOM_SUFFIXES,
    *NIFTI_SUFFIXES,
    *VIDEO_SUFFIXES,
    ZARR_SUFFIX,
)
_KINDS = 'PNG, JPEG, TIFF, NPY, DICOM, NIfTI, MP4, AVI, MOV, MKV or OME-Zarr'
# A folder with one of these in it is Zarr, whatever its name.
ZARR_MARKS = ('zarr.json', '.zgroup', '.zarray')
_DICOM_MARK = (128, b'DICM')


def open_image(path: str | os.PathLike[str]) -> ImageFile:
    """Open an image file; pixels are decoded frame by frame when asked for.

    PNG and JPEG are turned upright by their EXIF orientation; palettes become RGB(A),
    CMYK becomes RGB, 1-bit images become boolean and 16-bit grey stays uint16 (16-bit
    colour PNG is read as 8 bits). TIFF and NPY follow the rules of `layout_of`; of a
    TIFF with several image series the first is read. DICOM becomes what a viewer
    shows: colour as RGB, grey through its rescale and window where it has them. A file
    without one of the known suffixes is opened if its content is DICOM. NIfTI is read
    slice by slice as stored, video frame by frame, and of OME-Zarr the full resolution.

    Parameters
    ----------
    path : path-like
        The file, or a Zarr folder.

    Returns
    -------
    ImageFile

    Raises
    ------
    ImageError
        If there is no such file, or it is a folder of files, empty, damaged, beyond
        1 gigapixel per frame, or of another kind.
    MissingExtraError
        If the packages that its kind needs, or the decoder of its compression, are not
        installed.
    """
    path = Path(path)
    name = path.name or str(path)
    if is_zarr(path):
        from napari_kdsam.io.ome_zarr import open_zarr

        return open_zarr(path)
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
        opener = _OPENERS.get(path.suffix.lower()) or _optional_opener(path)
        if opener is not None:
            return opener(path)
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
    for suffix in SUFFIXES:
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)]
    return name


def is_zarr(path: Path) -> bool:
    """Whether a path is a folder that is Zarr, by its name or what is in it."""
    return path.is_dir() and (
        path.suffix.lower() == ZARR_SUFFIX
        or any((path / mark).is_file() for mark in ZARR_MARKS)
    )


def _optional_opener(path: Path) -> Callable[[Path], ImageFile] | None:
    """Opener of a kind whose packages are an extra, imported only for such files."""
    name = path.name.lower()
    if name.endswith(NIFTI_SUFFIXES):
        from napari_kdsam.io.nifti import open_nifti

        return open_nifti
    if name.endswith(VIDEO_SUFFIXES):
        from napari_kdsam.io.video import open_video

        return open_video
    if name.endswith(DICOM_SUFFIXES) or is_dicom(path):
        from napari_kdsam.io.dicom import open_dicom

        return open_dicom
    return None


def is_dicom(path: Path) -> bool:
    """Whether a file's content is DICOM, whatever its name."""
    offset, mark = _DICOM_MARK
    with path.open('rb') as file:
        file.seek(offset)
        return file.read(len(mark)) == mark
