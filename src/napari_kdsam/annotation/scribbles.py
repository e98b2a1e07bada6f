"""Scribbles as a few points."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from napari_kdsam.annotation.state import PointPrompt, Scribble

# More points than this blur SAM's answer instead of sharpening it.
BUDGET = 12
_LEAST = 2
# What is equal but for rounding counts as equal, or density would matter after all.
_ROUNDING = 1e-9


def sample_scribbles(
    scribbles: Sequence[Scribble], budget: int = BUDGET
) -> list[PointPrompt]:
    """Replace scribbles by points on them: end points, then bends, then even spacing.

    How densely the mouse reported a scribble makes no difference. The scribbles share
    the budget by their length, each having at least its end points.

    Parameters
    ----------
    scribbles : sequence of Scribble
    budget : int
        Points for all scribbles together; more only if two for each do not fit.
    """
    if not scribbles:
        return []
    lines = [np.asarray(scribble.places, float) for scribble in scribbles]
    lengths = np.array([_along(line)[-1] for line in lines])
    spare = max(0, budget - _LEAST * len(lines))
    shares = lengths / lengths.sum() if lengths.sum() > 0 else np.zeros(len(lines))
    counts = _LEAST + np.floor(spare * shares + _ROUNDING).astype(int)
    return [
        PointPrompt(float(row), float(column), scribble.positive)
        for scribble, line, count in zip(scribbles, lines, counts, strict=True)
        for row, column in sample_line(line, int(count))
    ]


def sample_line(line: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Choose at most `count` places, 2 or more, on a line of (N, 2) vertices.

    Returns
    -------
    numpy.ndarray
        (M, 2) float, M <= count, in the line's order; a dot gives one place.
    """
    position = _along(line)
    if position[-1] == 0:
        return line[:1]
    kept = {0, len(line) - 1}
    while len(kept) < count:
        bend = _sharpest(line, sorted(kept), position[-1] / 20)
        if bend is None:
            break
        kept.add(bend)
    stops = [float(position[index]) for index in sorted(kept)]
    # No more than one point each twentieth of the line, or short ones would clump.
    while len(stops) < min(count, 20):
        gaps = np.diff(stops)
        widest = _first_largest(gaps)
        stops.insert(widest + 1, stops[widest] + float(gaps[widest]) / 2)
    return np.stack([np.interp(stops, position, line[:, axis]) for axis in (0, 1)], 1)


def _along(line: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance from the start at each vertex."""
    steps = np.hypot(*np.diff(line, axis=0).T) if len(line) > 1 else np.empty(0)
    return np.concatenate([[0.0], np.cumsum(steps)])


def _first_largest(values: NDArray[np.float64]) -> int:
    """Index of the first value that is the largest."""
    return int(np.argmax(values >= values.max() * (1 - _ROUNDING)))


def _sharpest(line: NDArray[np.float64], kept: list[int], least: float) -> int | None:
    """The vertex farthest from the chords between kept ones; None if all are near."""
    best, far = None, least
    for first, last in zip(kept[:-1], kept[1:], strict=True):
        if last - first < 2:
            continue
        between = line[first + 1 : last]
        start, chord = line[first], line[last] - line[first]
        reach = float(chord @ chord)
        share = np.clip((between - start) @ chord / reach, 0, 1) if reach else 0.0
        nearest = start + np.multiply.outer(np.broadcast_to(share, len(between)), chord)
        distance = np.hypot(*(between - nearest).T)
        index = _first_largest(distance)
        if distance[index] > far * (1 + _ROUNDING):
            best, far = first + 1 + index, float(distance[index])
    return best
