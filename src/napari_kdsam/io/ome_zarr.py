"""Zarr folders: OME-Zarr 0.4 and 0.5 images at full resolution, and plain arrays."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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
    check_size,
    layout_of,
    reading,
)

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

    def __init__(self, name: str, array: Any) -> None:
        layout = layout_of(name, array.shape)
        # A stack (T, H, W, 1) has one axis more than its frames and their number.
        self._is_stacked = len(array.shape) > 2 and (
            layout.frame_count > 1 or array.shape[0] == 1
        )
        self._array = array
        super().__init__(name, layout, array.dtype)

    def _read(self, index: int) -> NDArray[Any]:
        whole = self._array[index] if self._is_stacked else self._array[...]
        return np.asarray(whole).reshape(self.frame_shape)


class _OmeImage(ImageFile):
    """The full resolution of an OME-Zarr image; frames are its times and depths."""

    def __init__(self, name: str, group: Any, described: Mapping[str, Any]) -> None:
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
        size = dict(zip(self._axes, shape, strict=True))
        channels = size.get('c', 1)
        if channels > 1:
            _check_colors(name, channels, self._array.dtype, described, group.attrs)
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
        place = {'t': time, 'z': depth, **({'c': 0} if one_channel else {})}
        found = np.asarray(
            self._array[tuple(place.get(axis, slice(None)) for axis in self._axes)]
        )
        return found if one_channel else np.moveaxis(found, 0, -1)


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
    described: Mapping[str, Any],
    attributes: Mapping[str, Any],
) -> None:
    """Refuse channels that are not the red, green and blue of one picture."""
    shown = {**attributes, **attributes.get('ome', {})}.get('omero', {})
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
        If it is not Zarr, is damaged, holds several images, or other channels.
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
            return _PlainArray(path.name, opened)
        attributes: dict[str, Any] = dict(opened.attrs)
        images = {**attributes, **attributes.get('ome', {})}.get('multiscales')
        if not images:
            raise ImageError(
                f'{path.name} is a Zarr group but not an OME-Zarr image; choose an '
                'image or array inside it.'
            )
        return _OmeImage(path.name, opened, images[0])
