"""Sizes and intensities of the objects in label images."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_kdsam.io.writers import atomic_path

# Standard deviation of the blur, of the longer side of a pixel.
_STAIRS = 0.8
# Rec. 601, as Pillow's conversion to grey.
_LUMINANCE = np.array([0.299, 0.587, 0.114])


@dataclass(frozen=True)
class Measurement:
    """One object on one frame.

    Attributes
    ----------
    label : int
    class_name : str
        Empty if it is not known.
    frame : tuple of int
        Index along the leading axes.
    area : float
        In the unit squared.
    perimeter, major_axis, minor_axis, diameter : float
        In the unit; `diameter` is that of a disc of equal area.
    mean_intensity : float
        Of the image under the object, without NaN pixels; NaN without an image.
    row, column : float
        Centroid in pixels.
    """

    label: int
    class_name: str
    frame: tuple[int, ...]
    area: float
    perimeter: float
    major_axis: float
    minor_axis: float
    diameter: float
    mean_intensity: float
    row: float
    column: float


def measure_frame(
    labels: NDArray[Any],
    image: NDArray[Any] | None = None,
    pixel_size: tuple[float, float] = (1.0, 1.0),
    frame: tuple[int, ...] = (),
    class_names: dict[int, str] | None = None,
) -> list[Measurement]:
    """Measure every object of one frame.

    Parameters
    ----------
    labels : numpy.ndarray
        (rows, columns) integer, 0 is background.
    image : numpy.ndarray, optional
        (rows, columns) or (rows, columns, 3 or 4); colours count by their luminance.
    pixel_size : tuple of float
        Extent of a pixel along rows and columns.
    frame : tuple of int
        Written into the results.
    class_names : dict of int to str, optional
        Of the labels.

    Returns
    -------
    list of Measurement
        In the order of their labels.
    """
    from skimage.measure import regionprops_table

    if not labels.any():
        return []
    found = regionprops_table(
        labels.astype(np.int64),
        properties=(
            'label',
            'bbox',
            'area',
            'axis_major_length',
            'axis_minor_length',
            'equivalent_diameter_area',
            'centroid',
        ),
        spacing=pixel_size,
    )
    grey = None if image is None else _grey(image)
    names = class_names or {}
    measured = []
    for n, label in enumerate(found['label'].tolist()):
        window = tuple(
            slice(int(found[f'bbox-{axis}'][n]), int(found[f'bbox-{axis + 2}'][n]))
            for axis in (0, 1)
        )
        mask = labels[window] == label
        measured.append(
            Measurement(
                int(label),
                names.get(int(label), ''),
                frame,
                float(found['area'][n]),
                _perimeter(mask, pixel_size),
                float(found['axis_major_length'][n]),
                float(found['axis_minor_length'][n]),
                float(found['equivalent_diameter_area'][n]),
                _mean(grey, window, mask),
                float(found['centroid-0'][n] / pixel_size[0]),
                float(found['centroid-1'][n] / pixel_size[1]),
            )
        )
    return measured


def _grey(image: NDArray[Any]) -> NDArray[Any]:
    return image if image.ndim == 2 else image[..., :3] @ _LUMINANCE


def _mean(grey: NDArray[Any] | None, window: Any, mask: NDArray[np.bool_]) -> float:
    if grey is None:
        return float('nan')
    values = np.asarray(grey[window][mask], float)
    values = values[np.isfinite(values)]
    return float(values.mean()) if values.size else float('nan')


def _perimeter(mask: NDArray[np.bool_], pixel_size: tuple[float, float]) -> float:
    """Length of the contours, holes included, after a blur that removes the stairs."""
    from scipy import ndimage
    from skimage.measure import find_contours

    # Stairs are as high as the longer side of a pixel, in whichever direction.
    blur = _STAIRS * max(pixel_size) / np.asarray(pixel_size)
    margins = [(int(np.ceil(4 * width)),) * 2 for width in blur]
    soft = ndimage.gaussian_filter(np.pad(mask, margins).astype(np.float32), blur)
    around = 0.0
    for line in find_contours(soft, 0.5):
        steps = np.diff(line, axis=0) * pixel_size
        around += float(np.hypot(*steps.T).sum())
    if around == 0:
        # Too small for a contour: the outline of its pixels.
        rows, columns = mask.shape
        around = 2 * (rows * pixel_size[0] + columns * pixel_size[1])
    return around


def write_measurements(
    path: Path, measurements: Iterable[Measurement], unit: str
) -> None:
    """Write measurements as CSV, complete or not at all.

    Parameters
    ----------
    path : pathlib.Path
    measurements : iterable of Measurement
    unit : str
        Such as ``mm``; part of the headers, as in ``area_mm2``.

    Raises
    ------
    ImageError
        If the file cannot be written.
    """
    with (
        atomic_path(path) as part,
        part.open('w', encoding='utf-8', newline='') as file,
    ):
        writer = csv.writer(file)
        writer.writerow(headers(unit))
        writer.writerows(row_of(item) for item in measurements)


def headers(unit: str) -> list[str]:
    """Names of the columns, with units."""
    lengths = {'perimeter', 'major_axis', 'minor_axis', 'diameter'}
    names = []
    for field in fields(Measurement):
        name = field.name
        if name == 'area':
            name = f'area_{unit}2'
        elif name in lengths:
            name = f'{name}_{unit}'
        elif name in ('row', 'column'):
            name = f'centroid_{name}_px'
        elif name == 'class_name':
            name = 'class'
        names.append(name)
    return names


def row_of(item: Measurement) -> Sequence[Any]:
    """The values of a row; a frame of several indices is joined by dots."""
    values = [getattr(item, field.name) for field in fields(Measurement)]
    return ['.'.join(map(str, v)) if isinstance(v, tuple) else v for v in values]
