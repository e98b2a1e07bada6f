"""How sure a number is: bootstrap intervals, paired tests, calibration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

_SEED = 20250116
_RESAMPLES = 5000
_BINS = 10


@dataclass(frozen=True)
class Estimate:
    """A mean or median with its 95 % confidence interval.

    Attributes
    ----------
    value, low, high : float
        The estimate and the ends of the interval; NaN without values.
    count : int
        Number of objects.
    """

    value: float
    low: float
    high: float
    count: int


def mean_with_interval(values: ArrayLike) -> Estimate:
    """Mean over objects with a percentile bootstrap interval, by SciPy, fixed seed.

    Parameters
    ----------
    values : array-like
        (N,) float, one for each object.

    Returns
    -------
    Estimate
        With N of 1 or all values equal, the interval is the mean itself.
    """
    return _with_interval(values, np.mean)


def median_with_interval(values: ArrayLike) -> Estimate:
    """Median over objects, otherwise as `mean_with_interval`."""
    return _with_interval(values, np.median)


def _with_interval(values: ArrayLike, statistic: Callable[..., Any]) -> Estimate:
    array = np.asarray(values, np.float64).ravel()
    if array.size == 0:
        return Estimate(np.nan, np.nan, np.nan, 0)
    value = float(statistic(array))
    if array.size == 1 or bool((array == array[0]).all()):
        return Estimate(value, value, value, int(array.size))
    found = stats.bootstrap(
        (array,),
        statistic,
        n_resamples=_RESAMPLES,
        confidence_level=0.95,
        method='percentile',
        rng=np.random.default_rng(_SEED),
    ).confidence_interval
    return Estimate(value, float(found.low), float(found.high), int(array.size))


def expected_calibration_error(predicted: ArrayLike, achieved: ArrayLike) -> float:
    """How far predicted scores are from achieved ones (Guo et al., 2017, 10 bins).

    Parameters
    ----------
    predicted : array-like
        (N,) float, what a model said; cut to 0 to 1.
    achieved : array-like
        (N,) float, 0 to 1, what it turned out to be.

    Returns
    -------
    float
        Mean over bins of equal width of the distance between the mean prediction and
        the mean score, weighted by the number in the bin; NaN if N is 0.
    """
    said = np.clip(np.asarray(predicted, np.float64).ravel(), 0, 1)
    was = np.asarray(achieved, np.float64).ravel()
    if not said.size:
        return np.nan
    bins = np.minimum((said * _BINS).astype(int), _BINS - 1)
    # Sums rather than means: a bin's weight cancels its size.
    return float(np.abs(np.bincount(bins, said - was)).sum() / said.size)


@dataclass(frozen=True)
class PairedComparison:
    """One model against another on the objects both have.

    Attributes
    ----------
    difference : float
        Mean of ours minus theirs.
    p_value : float
        Of the two-sided Wilcoxon signed-rank test; 1 if none differs.
    count : int
        Number of common objects.
    """

    difference: float
    p_value: float
    count: int


def paired_comparison(
    ours: Mapping[str, float], theirs: Mapping[str, float]
) -> PairedComparison:
    """Compare two models object by object.

    Parameters
    ----------
    ours, theirs : mapping of str to float
        A score by object.

    Returns
    -------
    PairedComparison
        NaN difference and p-value 1 without common objects.
    """
    common = sorted(ours.keys() & theirs.keys())
    if not common:
        return PairedComparison(np.nan, 1.0, 0)
    differences = np.array([ours[name] - theirs[name] for name in common])
    p_value = 1.0
    # The test is undefined when every pair is tied.
    if differences.any():
        p_value = float(stats.wilcoxon(differences).pvalue)
    return PairedComparison(float(differences.mean()), p_value, len(common))


def significance_mark(comparison: PairedComparison) -> str:
    """``+`` or ``-`` for better or worse, once, twice or thrice at 0.05, 0.01, 0.001."""
    levels = sum(comparison.p_value < level for level in (0.05, 0.01, 0.001))
    return ('+' if comparison.difference > 0 else '−') * levels
