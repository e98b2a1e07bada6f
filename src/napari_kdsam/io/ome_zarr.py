"""Zarr folders: OME-Zarr 0.4 and 0.5 images at full resolution, and plain arrays."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_kdsam.core.errors import ImageError, MissingExtraError
from napari_kdsam.io.formats import ZARR
from napari_kdsam.io.image_file import (
    COLOR_CHANNELS,
    FrameAxis,
    FrameLayout,
    ImageFile,
    layout_of,
    reading,
)
from napari_kdsam.io.limits import check_chunks, check_packed, check_size

try:
    import zarr
except ImportError as _error:
    raise MissingExtraError('Reading Zarr', ZARR.extra) from _error

_MILLIMETRES = {
    'angstrom': 1e-7,
    'nanometer': 1e-6,
    'micrometer': 1e-3,
    'millimeter': 1.0,
    'centimeter': 10.0,
    'decimeter': 100.0,
    'meter': 1000.0,
    'inch': 25.4,
}
_RGB_COLORS = ('FF0000', '00FF00', '0000FF')


class _PlainArray(ImageFile):
    """An array without description, told apart as an NPY file is."""

    def __init__(self, path: Path, array: Any) -> None:
        layout = layout_of(path.name, array.shape)
        # A stack (T, H, W, 1) has one axis more than its frames and their number.
        self._is_stacked = len(array.shape) > 2 and (
            layout.frame_count > 1 or array.shape[0] == 1
        )
        self._array, self._path = array, path
        super().__init__(path.name, layout, array.dtype)

    def _read(self, index: int) -> NDArray[Any]:
        place = (slice(index, index + 1),) if self._is_stacked else ()
        return _part(self._path, self._array, place).reshape(self.frame_shape)


class _OmeImage(ImageFile):
    """The full resolution of an OME-Zarr image; frames are its times and depths."""

    def __init__(self, path: Path, group: Any, described: Mapping[str, Any]) -> None:
        name, self._path = path.name, path
        level = described['datasets'][0]
        self._array = group[level['path']]
        axes = described.get('axes')
        if axes is None:
            raise ImageError(
                f'{name} is OME-Zarr older than 0.4; convert it to version 0.4 or 0.5.'
            )
        shape = tuple(self._array.shape)
        self._axes = [
            axis['name'].lower() if isinstance(axis, Mapping) else str(axis).lower()
            for axis in axes
        ]
        _check_axes(name, self._axes, shape)
        self.holds_labels = 'image-label' in _ome_attributes(group)
        size = dict(zip(self._axes, shape, strict=True))
        channels = size.get('c', 1)
        if channels > 1:
            shown = _ome_attributes(group).get('omero', {})
            _check_colors(name, channels, self._array.dtype, shown)
        steps = _millimetres(axes, _scale_of(described, level, len(axes)))
        frames = [axis for axis in 'tz' if size.get(axis, 1) > 1]
        self._frame_sizes = [size.get(axis, 1) for axis in 'tz']
        rows, columns = size['y'], size['x']
        check_size(name, (rows, columns))
        spacing = (steps['y'], steps['x']) if {'y', 'x'} <= set(steps) else None
        super().__init__(
            name,
            FrameLayout(
                math.prod(self._frame_sizes),
                (rows, columns, channels) if channels > 1 else (rows, columns),
            ),
            self._array.dtype,
            spacing,
            tuple(
                FrameAxis(axis, size[axis], steps.get(axis) if axis == 'z' else None)
                for axis in frames
            ),
        )

    def _read(self, index: int) -> NDArray[Any]:
        time, depth = divmod(index, self._frame_sizes[1])
        one_channel = len(self.frame_shape) == 2
        numbers = {'t': time, 'z': depth, **({'c': 0} if one_channel else {})}
        place = tuple(
            slice(numbers[axis], numbers[axis] + 1) if axis in numbers else slice(None)
            for axis in self._axes
        )
        found = _part(self._path, self._array, place)
        rows, columns = self.frame_shape[:2]
        channels_first = found.reshape(-1, rows, columns)
        return channels_first[0] if one_channel else np.moveaxis(channels_first, 0, -1)


def _ome_attributes(group: Any) -> dict[str, Any]:
    """What OME-Zarr says of a group: version 0.5 has it in a place of its own."""
    attributes = dict(group.attrs)
    return {**attributes, **attributes.get('ome', {})}


def _part(path: Path, array: Any, place: tuple[slice, ...]) -> NDArray[Any]:
    """Read a part of an array, once it is known to cost no more than that.

    Parameters
    ----------
    path : pathlib.Path
        The folder that was opened.
    array : zarr.Array
        The array in it.
    place : tuple of slice
        Part of each axis, all of those left out.
    """
    place += (slice(None),) * (array.ndim - len(place))
    ranges = [range(size)[cut] for size, cut in zip(array.shape, place, strict=True)]
    itemsize, name = array.dtype.itemsize, path.name
    pieces = [_pieces(*pair) for pair in zip(ranges, array.chunks, strict=True)]
    check_chunks(
        name,
        math.prod(map(len, pieces)),
        math.prod(array.chunks) * itemsize,
        math.prod(map(len, ranges)) * itemsize,
    )
    stored = array.shards or array.chunks
    pieces = [_pieces(*pair) for pair in zip(ranges, stored, strict=True)]
    for piece in product(*pieces):
        file = path / array.path / array.metadata.encode_chunk_key(piece)
        if file.is_file():
            check_packed(name, file.stat().st_size, math.prod(stored) * itemsize)
    return np.asarray(array[place])


def _pieces(asked: range, size: int) -> range:
    """Numbers of the chunks of a size that a range lies in."""
    return range(asked.start // size, -(-asked.stop // size))


def _check_axes(name: str, axes: Sequence[str], shape: Sequence[int]) -> None:
    if len(axes) != len(shape) or 0 in shape:
        raise ImageError(
            f'{name} describes {len(axes)} axes but holds an array of the shape '
            f'{tuple(shape)}; export it again.'
        )
    if [axis for axis in axes if axis in 'tczyx'] != sorted(axes, key='tczyx'.find):
        raise ImageError(
            f'{name} has the axes {", ".join(axes)}; save it with axes t, c, z, y, x, '
            'or some of them in that order.'
        )
    if tuple(axes[-2:]) != ('y', 'x') or len(set(axes)) < len(axes):
        raise ImageError(
            f'{name} has the axes {", ".join(axes)}; the last two must be y and x.'
        )


def _check_colors(
    name: str,
    channels: int,
    dtype: np.dtype[Any],
    shown: Mapping[str, Any],
) -> None:
    """Refuse channels that are not the red, green and blue of one picture."""
    colors = [
        str(channel.get('color', '')).upper() for channel in shown.get('channels', [])
    ]
    if (
        channels not in COLOR_CHANNELS
        or dtype != np.uint8
        or (colors and tuple(colors[:3]) != _RGB_COLORS)
    ):
        raise ImageError(
            f'{name} has {channels} separate channels; save one channel, or RGB of 8 '
            'bits.'
        )


def _scale_of(
    described: Mapping[str, Any], level: Mapping[str, Any], count: int
) -> list[float] | None:
    """Units between pixels along each axis, by the level and then the image."""
    scale, found = [1.0] * count, False
    for owner in (level, described):
        for transform in owner.get('coordinateTransformations', []):
            if transform.get('type') == 'scale' and 'scale' in transform:
                pairs = zip(scale, transform['scale'], strict=True)
                scale, found = [old * float(new) for old, new in pairs], True
    return scale if found else None


def _millimetres(
    axes: Sequence[Any], scale: Sequence[float] | None
) -> dict[str, float]:
    """Millimetres between pixels along the axes that have a unit of length."""
    found = {}
    for axis, step in zip(axes, scale or [], strict=scale is not None):
        unit = axis.get('unit') if isinstance(axis, Mapping) else None
        if unit in _MILLIMETRES and step > 0 and math.isfinite(step):
            found[axis['name'].lower()] = step * _MILLIMETRES[unit]
    return found


def open_zarr(path: Path) -> ImageFile:
    """Open a Zarr folder.

    Parameters
    ----------
    path : pathlib.Path
        A folder with an OME-Zarr image (0.4 or 0.5), of which the full resolution is
        read, or with a plain array of Zarr 2 or 3, to which the rules of `layout_of`
        apply.

    Returns
    -------
    ImageFile
        Times and depths are frames; three or four 8-bit channels are RGB or RGBA.

    Raises
    ------
    ImageError
        If it is not Zarr, is damaged, holds several images, or other channels; when a
        frame is asked for, if its chunks are too many or too large.
    """
    with reading(path.name):
        if not ZARR.marks(path):
            raise ImageError(
                f'{path.name} is a folder without a Zarr image; choose the folder that '
                'has zarr.json, .zgroup or .zarray in it.'
            )
        # Chunks packed with Python's pickle, which could run code, zarr 3.1 refuses.
        opened = zarr.open(path, mode='r')
        if isinstance(opened, zarr.Array):
            return _PlainArray(path, opened)
        images = _ome_attributes(opened).get('multiscales')
        if not images:
            raise ImageError(
                f'{path.name} is a Zarr group but not an OME-Zarr image; choose an '
                'image or array inside it.'
            )
        return _OmeImage(path, opened, images[0])
