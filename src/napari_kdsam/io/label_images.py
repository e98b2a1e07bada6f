"""Label images: written so that a file is complete or not there, and masks read."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from napari_kdsam.core.errors import ImageError
from napari_kdsam.core.files import MARK, atomic_path
from napari_kdsam.core.label_image import label_dtype
from napari_kdsam.io.formats import JPEG, PNG, TIFF, open_single
from napari_kdsam.io.image_file import ImageFile
from napari_kdsam.io.soft_masks import cut_at_half, is_soft, warn_of_soft

_PNG_MAX_LABEL = 65535
# JPEG leaves faint noise around black, so halfway is the border.
_HALF = 127
# Channels of a grey picture may differ by this much after a lossy compression.
_GREY_NOISE = 16
# White of the types that masks are saved in, whatever they were converted to later.
_WHITES: tuple[int, ...] = (1, 2**8 - 1, 2**16 - 1, 2**32 - 1)
_LABEL_SHAPES = {2: '(H, W)', 3: '(T, H, W)', 4: '(T, Z, H, W)'}
# Classic TIFF addresses 4 GiB; the margin is for page descriptions.
_CLASSIC_TIFF_BYTES = 2**32 - 2**25
# A reader of a part of a frame unpacks no more than it needs.
_STRIP_BYTES = 2**18


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
    frames: Iterable[NDArray[Any] | None],
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
        T arrays (H, W); None for an empty frame, which costs next to nothing.
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
        tifffile.TiffWriter(
            part, bigtiff=nbytes > _CLASSIC_TIFF_BYTES, byteorder='<'
        ) as tiff,
    ):
        rows = max(1, min(_STRIP_BYTES // (shape[-1] * dtype.itemsize), shape[-2]))
        tiff.write(
            _strips(frames, shape[-2:], dtype.newbyteorder('<'), rows),
            shape=shape,
            dtype=dtype,
            rowsperstrip=rows,
            compression='zlib',
            photometric='minisblack',
            metadata=None,
            software=f'{MARK} {mark}' if mark else None,
        )


def _strips(
    frames: Iterable[NDArray[Any] | None],
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    rows: int,
) -> Iterator[bytes]:
    """Compress frames strip by strip, those of empty frames once for all."""

    @cache
    def empty(height: int) -> bytes:
        return zlib.compress(bytes(height * shape[1] * dtype.itemsize))

    starts = range(0, shape[0], rows)
    for frame in frames:
        if frame is None:
            yield from (empty(min(rows, shape[0] - start)) for start in starts)
            continue
        pixels = np.ascontiguousarray(frame, dtype).reshape(shape)
        yield from (
            zlib.compress(pixels[start : start + rows].data) for start in starts
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


def read_mask(path: Path) -> NDArray[np.int64]:
    """Read the labels that a file with one mask holds.

    Parameters
    ----------
    path : pathlib.Path
        Of any kind that `open_image` reads.

    Returns
    -------
    numpy.ndarray
        (H, W); see `mask_frame`.

    Raises
    ------
    ImageError
        If it cannot be read, has several frames, or holds no labels.
    """
    with open_single(path) as file:
        return mask_frame(file)


def mask_frame(file: ImageFile, index: int = 0) -> NDArray[np.int64]:
    """Read a frame of a file of masks.

    Parameters
    ----------
    file : ImageFile
    index : int
        Frame number, counted from 0.

    Returns
    -------
    numpy.ndarray
        (H, W), 0 for background; see `labels_of_mask`.

    Raises
    ------
    ImageError
        If it cannot be read or holds no labels.
    """
    pixels = file.frame(index)
    places = file.palette_places(index) if pixels.ndim == 3 else None
    return labels_of_mask(file.name, pixels, places)


def labels_of_mask(
    name: str, pixels: NDArray[Any], places: NDArray[Any] | None = None
) -> NDArray[np.int64]:
    """Take the pixels of a mask for labels.

    Transparent pixels are background. Colours of a palette are labels by their place in
    it, but for black; other colours hold one object, where they are not black. Grey
    pixels of two values, 0 and the white of some type, hold one object with the label 1.
    Soft outlines (see `is_soft`), and JPEG, hold one object, brighter than half of its
    white. Other values are labels.

    Parameters
    ----------
    name : str
        Of the file.
    pixels : numpy.ndarray
        (H, W), (H, W, 3) or (H, W, 4) of any type.
    places : numpy.ndarray, optional
        (H, W), where each colour is in the file's palette.

    Returns
    -------
    numpy.ndarray
        (H, W), 0 for background.

    Raises
    ------
    ImageError
        If values are negative, no whole numbers, or shades of grey that are neither
        labels nor black and white.

    Warns
    -----
    SoftMaskWarning
        If soft outlines were cut.
    """
    if pixels.ndim == 2:
        return _labels_of_grey(name, pixels)
    drawn = pixels[..., :3].max(axis=-1) > 0
    opaque = np.ones(drawn.shape, np.bool_)
    if pixels.shape[-1] == 4:
        alpha = pixels[..., 3]
        most = 1.0 if alpha.dtype.kind == 'f' else np.iinfo(alpha.dtype).max
        opaque = alpha > most / 2
        if not opaque.all() and not (drawn & opaque).any():
            # On a transparent ground an object may be drawn in black.
            return opaque.astype(np.int64)
    colors = pixels[..., :3]
    brightest = colors.max(axis=-1)
    difference = (brightest - colors.min(axis=-1)).max()
    if places is not None and (difference or not drawn.any()):
        return _labels_of_places(places, drawn & opaque)
    # What is transparent may have any colour.
    seen = np.where(opaque, brightest, brightest.dtype.type(0))
    if not difference:
        return _labels_of_grey(name, seen)
    if difference <= _GREY_NOISE and is_soft(seen.astype(np.float32)):
        # Grey that was once compressed with loss.
        return _cut(name, seen)
    return (seen > (_HALF if JPEG.names(name) else 0)).astype(np.int64)


def _labels_of_places(
    places: NDArray[Any], drawn: NDArray[np.bool_]
) -> NDArray[np.int64]:
    labels = places.astype(np.int64)
    if not drawn.any():
        # Some programs write places, and no colours.
        return labels
    # 0 is background, whichever colour comes first.
    labels[labels == 0] = labels.max() + 1
    labels[~drawn] = 0
    return labels


def _labels_of_grey(name: str, pixels: NDArray[Any]) -> NDArray[np.int64]:
    whole = np.round(pixels) if pixels.dtype.kind == 'f' else pixels
    # A scale in the file leaves whole numbers a little off.
    if whole is not pixels and not np.allclose(pixels, whole, rtol=0, atol=1e-3):
        raise ImageError(f'{name} holds no whole numbers; save the labels themselves.')
    highest, lowest = whole.max().item(), whole.min().item()
    if lowest < 0 or (highest >= 2**63 and highest != np.iinfo(np.uint64).max):
        raise ImageError(
            f'{name} holds values from {lowest} to {highest}, which are no labels; save '
            'labels from 0 on.'
        )
    whites = _WHITES
    if pixels.dtype.kind in 'iu':
        whites = (*_WHITES, int(np.iinfo(pixels.dtype).max))
    if int(highest) in whites and ((whole == 0) | (whole == highest)).all():
        return (whole > 0).astype(np.int64)
    # JPEG's loss leaves faint noise, and no value as it was.
    is_lossy = JPEG.names(name) and highest > 0
    if is_lossy or is_soft(whole.astype(np.float32)):
        return _cut(name, whole)
    return whole.astype(np.int64)


def _cut(name: str, values: NDArray[Any]) -> NDArray[np.int64]:
    """Cut soft outlines, and say so where they are not what the format makes of any."""
    labels = cut_at_half(name, values.astype(np.float32))
    if not JPEG.names(name):
        warn_of_soft(name, values)
    return labels
