"""NIfTI files through nibabel: slices of a volume as frames, and labels written back.

Voxels stay where the file has them: a voxel (i, j, k, t) is the pixel at row j and
column i of slice k at time t. Nothing is flipped or resampled, so labels of the same
shape take the affine of their image as it is.
"""

from __future__ import annotations

import gzip
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_kdsam.core.digest import digest_of_values
from napari_kdsam.core.errors import ImageError, MissingExtraError
from napari_kdsam.core.files import MARK, atomic_path
from napari_kdsam.core.label_image import label_dtype
from napari_kdsam.io.formats import NIFTI
from napari_kdsam.io.image_file import (
    FrameAxis,
    FrameLayout,
    ImageFile,
    reading,
)
from napari_kdsam.io.label_images import check_labels
from napari_kdsam.io.limits import check_size

try:
    import nibabel
    from nibabel.affines import voxel_sizes
    from nibabel.filebasedimages import ImageFileError
except ImportError as _error:
    raise MissingExtraError('Reading and writing NIfTI', NIFTI.extra) from _error

_MILLIMETRES = {'meter': 1000.0, 'mm': 1.0, 'micron': 0.001, 'unknown': 1.0}
_LABEL_INTENT = 1002
# All that says where voxels are; names, remarks and history stay behind.
_GEOMETRY = (
    'pixdim',
    'xyzt_units',
    'qform_code',
    'sform_code',
    *(f'quatern_{axis}' for axis in 'bcd'),
    *(f'qoffset_{axis}' for axis in 'xyz'),
    *(f'srow_{axis}' for axis in 'xyz'),
)


class NiftiFile(ImageFile):
    """A NIfTI file, a frame for each slice of each time point.

    Attributes
    ----------
    affine : numpy.ndarray
        (4, 4) float64, voxel (i, j, k) to the scanner's millimetres (right, anterior,
        superior).
    orientation : str
        Where i, j and k point, such as ``RAS`` or ``LPS``.
    holds_labels : bool
        Whether the file says that its values are labels.
    """

    def __init__(self, path: Path, image: Any) -> None:
        self._image = image
        header = image.header
        colors = image.get_data_dtype().names
        shape = _without_last_ones(image.shape)
        if not 2 <= len(shape) <= 4:
            sizes = ' x '.join(map(str, image.shape))
            raise ImageError(
                f'{path.name} is of size {sizes}, which is neither slices nor a volume '
                'in time; save one volume to a file.'
            )
        if 0 in shape:
            raise ImageError(f'{path.name} has no pixels; export it again.')
        columns, rows = shape[:2]
        check_size(path.name, (rows, columns))
        self.affine: NDArray[np.float64] = np.asarray(image.affine, np.float64)
        self.orientation = ''.join(
            axis or '?' for axis in nibabel.aff2axcodes(self.affine)
        )
        self.holds_labels = int(header['intent_code']) == _LABEL_INTENT
        sizes_mm = _voxel_millimetres(image)
        axes = tuple(
            FrameAxis(name, size, sizes_mm[2] if sizes_mm and name == 'z' else None)
            for name, size in zip('tz', (*shape[2:], 1, 1)[1::-1], strict=True)
            if size > 1
        )
        super().__init__(
            path.name,
            FrameLayout(
                math.prod(shape[2:]),
                (rows, columns, len(colors)) if colors else (rows, columns),
            ),
            _delivered_dtype(image),
            (sizes_mm[1], sizes_mm[0]) if sizes_mm else None,
            axes,
        )

    def _read(self, index: int) -> NDArray[Any]:
        sizes = (*self._image.shape[2:4], 1, 1)[:2]
        time, depth = divmod(index, sizes[0])
        place = (depth, time, 0, 0, 0)[: len(self._image.shape) - 2]
        stored = np.asarray(self._image.dataobj[(slice(None), slice(None), *place)])
        if stored.dtype.names:
            stored = np.stack([stored[name] for name in stored.dtype.names], axis=-1)
        return np.swapaxes(stored, 0, 1).astype(self.dtype)

    def close(self) -> None:
        # nibabel closes a file when nothing refers to it any more.
        self._image = None


def _without_last_ones(shape: Sequence[int]) -> tuple[int, ...]:
    sizes = [int(size) for size in shape]
    while len(sizes) > 2 and sizes[-1] == 1:
        sizes.pop()
    return tuple(sizes)


def _delivered_dtype(image: Any) -> np.dtype[Any]:
    stored = image.get_data_dtype()
    if stored.names:
        return np.dtype(np.uint8)
    if (image.dataobj.slope, image.dataobj.inter) == (1, 0):
        return np.dtype(stored)
    return np.result_type(stored, np.float32)


def _voxel_millimetres(image: Any) -> tuple[float, float, float] | None:
    """Millimetres between voxels along (i, j, k), None where the file is silent."""
    header = image.header
    sizes = voxel_sizes(image.affine)
    unit = header.get_xyzt_units()[0]
    placed = int(header['qform_code']) > 0 or int(header['sform_code']) > 0
    # What a program writes that knows nothing of the size of its voxels.
    if unit == 'unknown' and not placed and np.allclose(sizes, 1):
        return None
    if not np.all(np.isfinite(sizes) & (sizes > 0)):
        return None
    i, j, k = (float(size) * _MILLIMETRES.get(unit, 1.0) for size in sizes)
    return i, j, k


def open_nifti(path: Path) -> NiftiFile:
    """Open a NIfTI-1 or NIfTI-2 file.

    Parameters
    ----------
    path : pathlib.Path
        ``.nii`` or ``.nii.gz``; sizes (X, Y), (X, Y, Z) or (X, Y, Z, T), grey or RGB.

    Returns
    -------
    NiftiFile
        Frames (rows, columns) = (Y, X), slices changing faster than time. Values go
        through the file's slope and intercept, where it has them.

    Raises
    ------
    ImageError
        If it is not NIfTI, is damaged, or has further axes.
    """
    with reading(path.name):
        return NiftiFile(path, _loaded(path))


def _loaded(path: Path) -> Any:
    try:
        # Kept open, a compressed file goes on from the slice it gave last.
        image = nibabel.load(path, keep_file_open=True)
    except ImageFileError as error:
        raise ImageError(
            f'{path.name} is not a NIfTI image, whatever its name says; export it again.'
        ) from error
    if not isinstance(image, nibabel.Nifti1Image):
        raise ImageError(
            f'{path.name} is not a NIfTI image of one file; save it as .nii or .nii.gz.'
        )
    return image


def write_nifti_labels(
    path: Path | str,
    labels: NDArray[Any],
    like: Path | str | None = None,
    spacing: Sequence[float] | None = None,
    *,
    mark: bool = False,
) -> None:
    """Write labels as NIfTI, placed as the image they belong to.

    Parameters
    ----------
    path : path-like
        ``.nii`` or ``.nii.gz``.
    labels : numpy.ndarray
        (H, W), (T, H, W) or (T, Z, H, W) whole numbers, 0 for background; with `like`
        any of these that has as many frames as the image.
    like : path-like, optional
        The NIfTI image that was labelled. Its affines, voxel sizes and units are
        taken over unchanged; names and remarks of its header are not.
    spacing : sequence of float, optional
        Without `like`: millimetres between pixels along the axes of `labels`.
    mark : bool
        Whether the file says that it is a result, by which a later run may replace it.

    Raises
    ------
    ImageError
        If the labels do not fit the image or the format, or a file cannot be read or
        written.
    """
    path = Path(path)
    if not NIFTI.names(path.name):
        raise ImageError(f'{path.name}: NIfTI labels are written as .nii or .nii.gz.')
    check_labels(path.name, labels, dimensions=(2, 3, 4))
    if like is None:
        made = _placed_by_size(labels, spacing)
    else:
        made = _placed_like(path.name, labels, Path(like))
    made.header.set_intent(_LABEL_INTENT)
    if mark:
        made.header['descrip'] = _mark(np.asarray(made.dataobj))
    with atomic_path(path) as part, part.open('wb') as file:
        made.file_map['image'].fileobj = file
        if path.suffix.lower() != '.gz':
            made.to_file_map()
            return
        # An empty name keeps that of the unfinished file out of the result.
        with gzip.GzipFile('', 'wb', fileobj=file, mtime=0) as packed:
            made.file_map['image'].fileobj = packed
            made.to_file_map()


def _mark(voxels: NDArray[Any]) -> str:
    return f'{MARK} {digest_of_values(voxels.T)}'


def description_of(path: Path) -> str:
    """What the header says of the file in words.

    Raises
    ------
    ImageError
        If the file cannot be read.
    """
    with reading(path.name):
        return bytes(_loaded(path).header['descrip']).rstrip(b'\0').decode('latin-1')


def mark_of_voxels(path: Path) -> str:
    """The mark of a result with the voxels of a file, as `description_of` gives it.

    Raises
    ------
    ImageError
        If the file cannot be read.
    """
    with reading(path.name):
        return _mark(np.asarray(_loaded(path).dataobj))


def _voxels(labels: NDArray[Any], shape: Sequence[int]) -> NDArray[Any]:
    """Labels as voxels (X, Y, Z, ...) of the smallest type that holds them."""
    small = labels.astype(label_dtype(int(labels.max())), copy=False)
    return small.reshape(tuple(shape)[::-1]).T


def _placed_like(name: str, labels: NDArray[Any], source: Path) -> Any:
    with reading(source.name):
        image = _loaded(source)
        shape = tuple(int(size) for size in image.shape)
    shape = (*shape, *(1,) * (2 - len(shape)))
    frames = math.prod(shape[2:])
    held = (math.prod(labels.shape[:-2]), *labels.shape[-2:])
    if held != (frames, shape[1], shape[0]):
        raise ImageError(
            f'{name}: the labels have {_described(held)} but {source.name} has '
            f'{_described((frames, shape[1], shape[0]))}; label that image.'
        )
    if not np.isfinite(image.affine).all():
        raise ImageError(
            f'{source.name} does not say in numbers where its voxels are; correct its '
            'header, or write the labels as TIFF.'
        )
    with reading(source.name):
        # Larger sizes than NIfTI-1 can hold come from NIfTI-2 only.
        kinds = (nibabel.Nifti2Image, nibabel.Nifti1Image)
        kind = next(kind for kind in kinds if isinstance(image, kind))
        made = kind(_voxels(labels, shape), None)
        for field in _GEOMETRY:
            made.header[field] = image.header[field]
        # The image keeps an affine of its own beside its header's.
        return kind(made.dataobj, made.header.get_best_affine(), made.header)


def _placed_by_size(labels: NDArray[Any], spacing: Sequence[float] | None) -> Any:
    made = nibabel.Nifti1Image(_voxels(labels, labels.shape[::-1]), None)
    if spacing is not None:
        made.header.set_zooms(tuple(float(size) for size in spacing)[::-1])
        made.header.set_xyzt_units('mm')
    return made


def _described(shape: tuple[int, int, int]) -> str:
    frames, rows, columns = shape
    return f'{frames} x {rows} x {columns} pixels'
