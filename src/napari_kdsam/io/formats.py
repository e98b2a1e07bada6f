"""The kinds of image files that are read: one table, and opening a file by it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from numpy.typing import NDArray

from napari_kdsam.core.errors import ImageError, NotAnImageError
from napari_kdsam.io.dicom_mark import MARK_BYTES, is_dicom
from napari_kdsam.io.image_file import ImageFile, reading


@dataclass(frozen=True)
class Format:
    """One kind of image file, and who reads it.

    Attributes
    ----------
    kind : str
        What messages call it.
    suffixes : tuple of str
        Ends of file names, in small letters.
    opener : str
        ``module:function`` within this package, imported for the first such file.
    extra : str
        The extra of this package that has to be installed; empty for none.
    recognises : callable, optional
        Whether the first `MARK_BYTES` of a file tell the kind, whatever the name.
    folder_marks : tuple of str
        Names of files any of which makes a folder one of this kind; empty where it is
        a file.
    """

    kind: str
    suffixes: tuple[str, ...]
    opener: str
    extra: str = ''
    recognises: Callable[[bytes], bool] | None = None
    folder_marks: tuple[str, ...] = ()

    def names(self, name: str) -> bool:
        """Whether a file is of this kind by its name."""
        return name.lower().endswith(self.suffixes)

    def marks(self, path: Path) -> bool:
        """Whether a file or folder is of this kind by its content."""
        if self.folder_marks:
            return any((path / name).is_file() for name in self.folder_marks)
        if self.recognises is None:
            return False
        with path.open('rb') as file:
            return self.recognises(file.read(MARK_BYTES))

    def open(self, path: Path) -> ImageFile:
        """Open a file of this kind."""
        module, _, name = self.opener.partition(':')
        opener = getattr(import_module(f'napari_kdsam.io.{module}'), name)
        return cast(Callable[[Path], ImageFile], opener)(path)


PNG = Format('PNG', ('.png',), 'pictures:open_picture')
JPEG = Format('JPEG', ('.jpg', '.jpeg'), 'pictures:open_picture')
BMP = Format('BMP', ('.bmp',), 'pictures:open_picture')
GIF = Format('GIF', ('.gif',), 'pictures:open_picture')
WEBP = Format('WebP', ('.webp',), 'pictures:open_picture')
TIFF = Format('TIFF', ('.tif', '.tiff'), 'tiff:open_tiff')
NPY = Format('NPY', ('.npy',), 'npy:open_npy')
DICOM = Format(
    'DICOM', ('.dcm', '.dicom'), 'dicom:open_dicom', 'medical', recognises=is_dicom
)
NIFTI = Format('NIfTI', ('.nii', '.nii.gz'), 'nifti:open_nifti', 'medical')
VIDEO = Format(
    'MP4, AVI, MOV, MKV',
    ('.mp4', '.avi', '.mov', '.mkv'),
    'video:open_video',
    'medical',
)
ZARR = Format(
    'OME-Zarr',
    ('.zarr',),
    'ome_zarr:open_zarr',
    'zarr',
    folder_marks=('zarr.json', '.zgroup', '.zarray'),
)
FORMATS = (PNG, JPEG, TIFF, NPY, DICOM, NIFTI, VIDEO, ZARR, BMP, GIF, WEBP)
SUFFIXES = tuple(suffix for known in FORMATS for suffix in known.suffixes)


def format_of(path: Path) -> Format | None:
    """Tell the kind of a file or folder by its name, or else by its content.

    Parameters
    ----------
    path : pathlib.Path
        One that exists.

    Returns
    -------
    Format or None
        None for a kind that is not read.
    """
    possible = [f for f in FORMATS if bool(f.folder_marks) == path.is_dir()]
    named = (known for known in possible if known.names(path.name))
    marked = (known for known in possible if known.marks(path))
    return next(named, None) or next(marked, None)


def open_image(path: str | os.PathLike[str]) -> ImageFile:
    """Open an image file; pixels are decoded frame by frame when asked for.

    Every picture is upright (EXIF, tag 274 of TIFF, display matrix of video) and grey,
    RGB or RGBA: palettes, CMYK, YCbCr and CIELAB are converted, 1-bit images become
    boolean and 16-bit values stay uint16 (but 16-bit colour PNG is read as 8 bits where
    imagecodecs is not installed).
    Animated GIF and WebP have frames. NPY, and TIFF that does not name its axes, follow
    the rules of `layout_of`. DICOM becomes what a viewer
    shows: colour as RGB, grey through its rescale and window where it has them. A file
    without one of the known suffixes is opened if its content is DICOM. NIfTI is read
    slice by slice as stored, video frame by frame, and of OME-Zarr the full resolution.

    Parameters
    ----------
    path : path-like
        The file, or a Zarr folder.

    Raises
    ------
    ImageError
        If there is no such file, or it is a folder of files, empty, damaged, larger
        than the limits of `napari_kdsam.io.limits`, or of another kind.
    MissingExtraError
        If the packages that its kind needs, or the decoder of its compression, are not
        installed.
    """
    path = Path(path)
    name = path.name or str(path)
    with reading(name):
        if not path.exists():
            raise ImageError(f'There is no file {name}; check its name and folder.')
        if not path.is_file() and not path.is_dir():
            raise ImageError(
                f'{name} is not a regular file; copy it to a folder first.'
            )
        if path.is_file() and path.stat().st_size == 0:
            raise ImageError(f'{name} is empty (0 bytes); copy or export it again.')
        known = format_of(path)
        if known is not None:
            return known.open(path)
    if path.is_dir():
        raise ImageError(
            f'{name} is a folder; give the image files in it, such as {name}/*.png.'
        )
    kind = f'a {path.suffix} file' if path.suffix else 'a file of unknown kind'
    *kinds, last = (known.kind for known in FORMATS)
    raise ImageError(
        f'{name} is {kind}, which cannot be read; save it as {", ".join(kinds)} or '
        f'{last}.'
    )


def open_single(path: str | os.PathLike[str]) -> ImageFile:
    """Open a file that stands for one image.

    Parameters
    ----------
    path : path-like
        Of a file that `open_image` opens.

    Raises
    ------
    ImageError
        If it cannot be opened or has several frames.
    MissingExtraError
        As `open_image`.
    """
    image = open_image(path)
    if image.is_stack:
        image.close()
        raise ImageError(
            f'{image.name} has {image.frame_count} frames, but stands for one image; '
            'save a file for each frame.'
        )
    return image


def read_single(path: str | os.PathLike[str]) -> NDArray[Any]:
    """Read a file that stands for one image.

    Parameters
    ----------
    path : path-like
        Of a file that `open_image` opens.

    Returns
    -------
    numpy.ndarray
        (H, W), (H, W, 3) or (H, W, 4).

    Raises
    ------
    ImageError
        If it cannot be read or has several frames.
    MissingExtraError
        As `open_image`.
    """
    with open_single(path) as image:
        return image.frame()


def open_for_segmenting(path: str | os.PathLike[str]) -> ImageFile:
    """Open an image file, but none that says that it holds labels.

    Parameters
    ----------
    path : path-like
        As for `open_image`.

    Raises
    ------
    NotAnImageError
        If it holds labels.
    ImageError
        As `open_image`.
    """
    image = open_image(path)
    if image.holds_labels:
        image.close()
        raise NotAnImageError(
            f'{image.name} holds labels, not an image; choose the image they belong to.'
        )
    return image


def stem_of(name: str) -> str:
    """Cut a known image suffix from a file name; dots of DICOM UIDs stay.

    Parameters
    ----------
    name : str
        File name without its folder.
    """
    for suffix in SUFFIXES:
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)]
    return name
