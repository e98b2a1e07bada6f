"""Biometry of fetal heads from their outlines."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_kdsam.core.ellipse import fit_ellipse

if TYPE_CHECKING:
    import pandas as pd

HEAD_COLUMNS = ('bpd', 'ofd', 'hc', 'gestational_age')
# From the twelfth to the forty-second week, in which the formula was fitted.
_SMALLEST_HEAD, _LARGEST_HEAD = 55.0, 360.0


def gestational_age(head_circumference: float) -> float:
    """Estimate the gestational age from a head circumference.

    Parameters
    ----------
    head_circumference : float
        In millimetres, along the outer edge of the skull.

    Returns
    -------
    float
        Weeks; NaN below 55 mm and above 360 mm, where the formula does not hold.

    References
    ----------
    Hadlock FP, Deter RL, Harrist RB, Park SK. Estimating fetal age: computer-assisted
    analysis of multiple fetal growth parameters. Radiology 1984; 152: 497-501.
    """
    if not _SMALLEST_HEAD <= head_circumference <= _LARGEST_HEAD:
        return math.nan
    centimetres = head_circumference / 10
    return 8.96 + 0.540 * centimetres + 0.0003 * centimetres**3


def measure_heads(
    labels: NDArray[Any], pixel_size: tuple[float, float], millimetres: float | None
) -> pd.DataFrame:
    """Measure every object of a frame as a fetal head, by the ellipse that fits it.

    Parameters
    ----------
    labels : numpy.ndarray
        (rows, columns) whole numbers; each positive one is an object.
    pixel_size : tuple of float
        Extent of a pixel along rows and columns.
    millimetres : float or None
        How long the unit of the pixel size is; None if it is no length.

    Returns
    -------
    pandas.DataFrame
        A row for each object in the order of their labels, indexed by label: ``bpd``
        (biparietal diameter, outer to outer: the short axis), ``ofd`` (occipitofrontal
        diameter: the long axis) and ``hc`` (head circumference) in the unit, and
        ``gestational_age`` in weeks, see `gestational_age`. NaN where no ellipse fits,
        and for the age where the unit is no length.
    """
    import pandas as pd

    names = [label for label in np.unique(labels) if label > 0]
    rows = [_head(labels == label, pixel_size, millimetres) for label in names]
    return pd.DataFrame(rows, index=names, columns=list(HEAD_COLUMNS), dtype=float)


def _head(
    mask: NDArray[np.bool_], pixel_size: tuple[float, float], millimetres: float | None
) -> tuple[float, ...]:
    ellipse = fit_ellipse(mask)
    if ellipse is None:
        return (math.nan,) * len(HEAD_COLUMNS)
    lengths = ellipse.measurements(pixel_size)
    around = lengths['circumference']
    age = gestational_age(around * (math.nan if millimetres is None else millimetres))
    return lengths['short_axis'], lengths['long_axis'], around, age
