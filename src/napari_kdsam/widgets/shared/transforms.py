"""How our layers lie on the image layer, by napari's public transforms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from napari.layers import Image, Layer

TRANSFORM_NAMES = (
    'scale',
    'translate',
    'rotate',
    'shear',
    'affine',
    'units',
    'axis_labels',
)


def transform_of(layer: Layer) -> dict[str, Any]:
    """Copy a layer's transform as keyword arguments for a new layer."""
    names = [name for name in TRANSFORM_NAMES if hasattr(layer, name)]
    copied = {name: getattr(layer, name) for name in names}
    copied['affine'] = np.asarray(layer.affine.affine_matrix)
    return copied


def copy_transform(source: Layer, target: Layer) -> None:
    """Give `target` the transform of `source`; both have as many dimensions."""
    there = transform_of(target)
    for name, value in transform_of(source).items():
        # napari draws everything anew for each of them.
        if not _equal(value, there[name]):
            setattr(target, name, value)


def _equal(one: Any, other: Any) -> bool:
    # Units and labels are tuples of anything.
    if isinstance(one, tuple):
        return bool(one == other)
    return bool(np.array_equal(one, other))


def shifted_affine(layer: Layer, shift: Sequence[float]) -> NDArray[np.float64]:
    """Data-to-world matrix of a layer whose data starts at `shift` of another's.

    Parameters
    ----------
    layer : napari.layers.Layer
        The layer whose data coordinates `shift` is in.
    shift : sequence of float
        One offset in pixels for each dimension.

    Returns
    -------
    numpy.ndarray
        (ndim + 1, ndim + 1) homogeneous matrix.
    """
    ndim = layer.ndim
    origin = np.asarray(layer.data_to_world(tuple(shift)), np.float64)
    matrix = np.eye(ndim + 1)
    matrix[:ndim, ndim] = origin
    for axis in range(ndim):
        step = np.asarray(shift, np.float64) + np.eye(ndim)[axis]
        matrix[:ndim, axis] = np.asarray(layer.data_to_world(tuple(step))) - origin
    return matrix


def data_of(image: Image) -> Any:
    """The full-resolution array of an image layer, not loaded."""
    return image.data[0] if image.multiscale else image.data


def spatial_shape(image: Image) -> tuple[int, ...]:
    """Shape without the colour axis: (..., rows, columns)."""
    shape = tuple(int(size) for size in data_of(image).shape)
    return shape[:-1] if image.rgb else shape


def pixel_size_of(layer: Any) -> tuple[tuple[float, float], str]:
    """Extent of a pixel along rows and columns, and its unit (``px`` if unknown)."""
    units = getattr(layer, 'units', None)
    unit = units[-1] if units else 'pixel'
    if str(unit) == 'pixel':
        return (1.0, 1.0), 'px'
    rows, columns = (float(abs(size)) for size in layer.scale[-2:])
    # napari's units are pint's, which know their symbols.
    return (rows, columns), str(unit) if isinstance(unit, str) else f'{unit:~}'


def unit_in_millimetres(unit: Any) -> float | None:
    """How long a unit of napari's is; None for one that is no length, such as the pixel."""
    import pint

    length = pint.get_application_registry().Quantity(1.0, str(unit))
    if not length.check('[length]'):
        return None
    return float(length.to('millimeter').magnitude)


def millimetres_of(
    scale: Sequence[float] | None, units: Sequence[Any] | None
) -> tuple[float, ...] | None:
    """Millimetres between pixels along all axes, None where rows are in pixels."""
    if scale is None or units is None or str(units[-1]) == 'pixel':
        return None
    # Frames that lie in time have no distance.
    lengths = [unit_in_millimetres(unit) for unit in units]
    return tuple(
        abs(float(step)) * length if length is not None else 1.0
        for step, length in zip(scale, lengths, strict=True)
    )


def set_pixel_size(layer: Layer, size: float, unit: str) -> None:
    """Say how large a pixel of a layer is.

    Parameters
    ----------
    layer : napari.layers.Layer
    size : float
        Extent along rows and columns alike.
    unit : str
        Such as ``mm``.
    """
    before = np.asarray(layer.scale, np.float64)
    scale = np.concatenate([before[:-2], [size, size]])
    moved = np.asarray(layer.translate) * scale / before
    # At once, or the others would be told of sizes without their unit.
    layer.units = (*layer.units[:-2], unit, unit)
    layer.scale, layer.translate = scale, moved
