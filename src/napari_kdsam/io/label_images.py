"""Write results so that a file is either complete or not there at all."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from napari_kdsam.core.errors import ImageError
from napari_kdsam.core.files import MARK, atomic_path
from napari_kdsam.core.label_image import label_dtype
from napari_kdsam.io.formats import PNG, TIFF

_PNG_MAX_LABEL = 65535
_LABEL_SHAPES = {2: '(H, W)', 3: '(T, H, W)', 4: '(T, Z, H, W)'}
# Classic TIFF addresses 4 GiB; the margin is for page descriptions.
_CLASSIC_TIFF_BYTES = 2**32 - 2**25


def write_labels(
    path: str | os.PathLike[str], labels: NDArray[Any], mark: str = ''
) -> None:
    """Write a label image or a stack of label images.

    Parameters
    ----------
    path : path-like
        ``.png`` (8 bits per pixel up to label 255, else 16), or ``.tif``/``.tiff``
        (8, 16 or 32 bits, zlib-compressed).
    labels : numpy.ndarray
        (H, W), or for TIFF also (T, H, W); whole numbers, 0 for background.
    mark : str
        See `write_picture` and `write_stack`.

    Raises
    ------
    ImageError
        If the labels do not fit the format, or the file cannot be written.
    """
    path = Path(path)
    check_labels(path.name, labels)
    highest = int(labels.max())
    if TIFF.names(path.name):
        frames = labels if labels.ndim == 3 else labels[None]
        write_stack(path, frames, labels.shape, label_dtype(highest), mark)
    elif not PNG.names(path.name):
        raise ImageError(f'{path.name}: labels are written as .png or .tif.')
    elif labels.ndim != 2 or highest > _PNG_MAX_LABEL:
        raise ImageError(
            f'{path.name} cannot hold labels of shape {labels.shape} up to {highest}; '
            'write a .tif file.'
        )
    else:
        write_picture(path, labels.astype(label_dtype(highest), copy=False), mark)


def write_stack(
    path: str | os.PathLike[str],
    frames: Iterable[NDArray[Any]],
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    mark: str = '',
) -> None:
    """Write grey or label frames to a TIFF one by one, so that one is in memory.

    Compressed with zlib; BigTIFF where the pixels alone exceed 4 GiB.

    Parameters
    ----------
    path : path-like
        ``.tif`` or ``.tiff``.
    frames : iterable of numpy.ndarray
        T arrays (H, W).
    shape : tuple of int
        (T, H, W), or (H, W) for a single frame.
    dtype : numpy.dtype
        Type of the pixels in the file; see `label_dtype`.
    mark : str
        See `write_picture`.

    Raises
    ------
    ImageError
        If the file cannot be written; also whatever `frames` raises.
    """
    nbytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    with (
        atomic_path(path) as part,
        tifffile.TiffWriter(part, bigtiff=nbytes > _CLASSIC_TIFF_BYTES) as tiff,
    ):
        for frame in frames:
            tiff.write(
                np.ascontiguousarray(frame, dtype).reshape(shape[-2:]),
                compression='zlib',
                photometric='minisblack',
                metadata=None,
                software=f'{MARK} {mark}' if mark else None,
            )


def check_labels(
    name: str, labels: NDArray[Any], dimensions: tuple[int, ...] = (2, 3)
) -> None:
    """Refuse what is not labels.

    Parameters
    ----------
    name : str
        Of the file, for the message.
    labels : numpy.ndarray
        To be checked.
    dimensions : tuple of int
        Numbers of axes that are allowed.

    Raises
    ------
    ImageError
        If the values are not whole numbers from 0, or the shape is not allowed.
    """
    if (
        labels.dtype.kind not in 'bui'
        or labels.ndim not in dimensions
        or not labels.size
    ):
        forms = ' or '.join(_LABEL_SHAPES[count] for count in dimensions)
        raise ImageError(
            f'{name}: labels must be whole numbers of shape {forms}, not '
            f'{labels.dtype} of shape {labels.shape}.'
        )
    if labels.dtype.kind == 'i' and labels.min() < 0:
        raise ImageError(f'{name}: labels must not be negative.')


def write_picture(
    path: str | os.PathLike[str], picture: NDArray[Any], mark: str = ''
) -> None:
    """Write pixels as PNG.

    Parameters
    ----------
    path : path-like
        The PNG file.
    picture : numpy.ndarray
        (H, W), (H, W, 3) or (H, W, 4) uint8, or (H, W) uint16.
    mark : str
        ASCII that the file says of itself as a result, by which a later run may
        replace it; see `is_result`.

    Raises
    ------
    ImageError
        If the file cannot be written.
    """
    carried = PngImagePlugin.PngInfo()
    if mark:
        carried.add_text(MARK, mark)
    image = Image.fromarray(np.ascontiguousarray(picture))
    with atomic_path(path) as part:
        image.save(part, format='PNG', pnginfo=carried)
