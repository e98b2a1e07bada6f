"""How sure a difference is: bootstrap intervals and paired tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

_SEED = 20250116
_RESAMPLES = 5000


@dataclass(frozen=True)
class Mean:
    """A mean with its 95 % confidence interval.

    Attributes
    ----------
    value, low, high : float
        The mean and the ends of the interval; NaN without values.
    count : int
        Number of images.
    """

    value: float
    low: float
    high: float
    count: int


def mean_with_interval(values: ArrayLike) -> Mean:
    """Mean over images with a percentile bootstrap interval, by SciPy, fixed seed.

    Parameters
    ----------
    values : array-like
        (N,) float, one for each image.

    Returns
    -------
    Mean
        With N of 1 or all values equal, the interval is the mean itself.
    """
    array = np.asarray(values, np.float64).ravel()
    if array.size == 0:
        return Mean(np.nan, np.nan, np.nan, 0)
    mean = float(array.mean())
    if array.size == 1 or bool((array == array[0]).all()):
        return Mean(mean, mean, mean, int(array.size))
    found = stats.bootstrap(
        (array,),
        np.mean,
        n_resamples=_RESAMPLES,
        confidence_level=0.95,
        method='percentile',
        rng=np.random.default_rng(_SEED),
    ).confidence_interval
    return Mean(mean, float(found.low), float(found.high), int(array.size))


@dataclass(frozen=True)
class Comparison:
    """One model against another on the images both have.

    Attributes
    ----------
    difference : float
        Mean of ours minus theirs.
    p_value : float
        Of the two-sided Wilcoxon signed-rank test; 1 if no image differs.
    count : int
        Number of common images.
    """

    difference: float
    p_value: float
    count: int


def paired_comparison(
    ours: Mapping[str, float], theirs: Mapping[str, float]
) -> Comparison:
    """Compare two models image by image.

    Parameters
    ----------
    ours, theirs : mapping of str to float
        A score by image.

    Returns
    -------
    Comparison
        NaN difference and p-value 1 without common images.
    """
    common = sorted(ours.keys() & theirs.keys())
    if not common:
        return Comparison(np.nan, 1.0, 0)
    differences = np.array([ours[name] - theirs[name] for name in common])
    p_value = 1.0
    # The test is undefined when every pair is tied.
    if differences.any():
        p_value = float(stats.wilcoxon(differences).pvalue)
    return Comparison(float(differences.mean()), p_value, len(common))


def significance_mark(comparison: Comparison) -> str:
    """``+`` or ``-`` for better or worse, once, twice or thrice at 0.05, 0.01, 0.001."""
    levels = sum(comparison.p_value < level for level in (0.05, 0.01, 0.001))
    return ('+' if comparison.difference > 0 else '−') * levels
