"""Segment everything: ask at a grid of points, keep what is certain and different."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_kdsam.core.errors import PromptError
from napari_kdsam.core.geometry import PaddedSquare, box_of_mask
from napari_kdsam.core.prompts import Point, Prompt
from napari_kdsam.core.sizes import LOGITS_SIZE
from napari_kdsam.inference.predictor import Candidate, ImageEmbedding, Predictor

# On a processor, 32 points in one call cost half as much again a point as these.
_POINTS_PER_CALL = 8


@dataclass(frozen=True)
class AutomaticSettings:
    """What counts as an object when nothing is prompted.

    Parameters
    ----------
    points_per_side : int
        Points along the longest side of the image; the shorter side has as many as
        keep the same distance. The time goes with their number.
    min_score : float
        Predicted IoU from which a mask is kept.
    min_stability : float
        Stability from which a mask is kept: the IoU of the masks at logits above
        ``+stability_offset`` and above ``-stability_offset``.
    stability_offset : float
        In logits.
    min_area, max_area : float
        Smallest and largest share of the image, 0..1; the largest leaves out the
        background.
    max_overlap : float
        Of two masks with a higher IoU, the one with the lower score is dropped.
    max_objects : int
        At most so many objects, the best ones.

    Raises
    ------
    PromptError
        If a value is outside its range.
    """

    points_per_side: int = 12
    min_score: float = 0.6
    min_stability: float = 0.8
    stability_offset: float = 1.0
    min_area: float = 0.001
    max_area: float = 0.8
    max_overlap: float = 0.5
    max_objects: int = 50

    def __post_init__(self) -> None:
        shares = ('min_score', 'min_stability', 'min_area', 'max_area', 'max_overlap')
        for name in shares:
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise PromptError(f'{name} must be between 0 and 1, not {value:g}.')
        for name in ('points_per_side', 'max_objects'):
            if getattr(self, name) < 1:
                raise PromptError(f'{name} must be at least 1.')
        if self.min_area >= self.max_area:
            raise PromptError('min_area must be smaller than max_area.')
        if not self.stability_offset > 0:
            raise PromptError('stability_offset must be above 0.')


@dataclass(frozen=True, eq=False)
class FoundObject:
    """One object found without a prompt.

    Attributes
    ----------
    mask : numpy.ndarray
        (H, W) bool.
    score : float
        Predicted IoU; about 0..1.
    stability : float
        0..1, see `AutomaticSettings`.
    box : tuple of int
        Half-open (row0, col0, row1, col1) around the mask.
    point : tuple of float
        (row, column) that was asked at.
    """

    mask: NDArray[np.bool_]
    score: float
    stability: float
    box: tuple[int, int, int, int]
    point: Point


@dataclass(frozen=True, eq=False)
class _Kept:
    candidate: Candidate
    point: Point
    stability: float
    inside: NDArray[np.bool_]
    pixels: int


def grid_points(image_shape: tuple[int, int], points_per_side: int) -> list[Point]:
    """Points at equal distances that cover an image.

    Parameters
    ----------
    image_shape : tuple of int
        (rows, columns).
    points_per_side : int
        Along the longest side.

    Returns
    -------
    list of (row, column)
        Float image coordinates, row by row, each in the middle of its share of the
        image.
    """
    longest = max(image_shape)
    rows, columns = (
        (np.arange(count) + 0.5) * size / count - 0.5
        for size, count in (
            (size, max(1, round(points_per_side * size / longest)))
            for size in image_shape
        )
    )
    return [(float(row), float(column)) for row in rows for column in columns]


def stability_score(logits: NDArray[np.float32], offset: float) -> float:
    """IoU of the masks above ``+offset`` and above ``-offset``; 0 for an empty mask.

    Parameters
    ----------
    logits : numpy.ndarray
        Float, of any shape.
    offset : float
        In logits.
    """
    larger = int(np.count_nonzero(logits > -offset))
    return int(np.count_nonzero(logits > offset)) / larger if larger else 0.0


def segment_everything(
    predictor: Predictor,
    embedding: ImageEmbedding,
    settings: AutomaticSettings | None = None,
    report: Callable[[int, int], None] | None = None,
) -> list[FoundObject]:
    """Find the objects of an image without prompts.

    Every candidate of every point is judged at the decoder's 256 x 256 resolution;
    only the masks that are kept are made at the image's size.

    Parameters
    ----------
    predictor : Predictor
        Of the model that made the embedding.
    embedding : ImageEmbedding
        From ``predictor.embed``.
    settings : AutomaticSettings, optional
        What counts as an object.
    report : callable, optional
        Called with the points done and the points in all after each decoder call; an
        exception that it raises ends the search.

    Returns
    -------
    list of FoundObject
        The best first; empty if nothing is certain enough.

    Raises
    ------
    PromptError
        If the embedding is another model's.
    """
    settings = settings or AutomaticSettings()
    points = grid_points(embedding.image_shape, settings.points_per_side)
    found: list[_Kept] = []
    for start in range(0, len(points), _POINTS_PER_CALL):
        asked = points[start : start + _POINTS_PER_CALL]
        prompts = [Prompt([point]) for point in asked]
        answers = predictor.predict_many(embedding, prompts)
        for point, answer in zip(asked, answers, strict=True):
            for candidate in answer.candidates:
                kept = _judge(candidate, point, settings)
                if kept is not None:
                    found.append(kept)
        if report is not None:
            report(min(start + _POINTS_PER_CALL, len(points)), len(points))
    objects = []
    for kept in _without_repeats(found, settings):
        mask = kept.candidate.mask
        box = box_of_mask(mask)
        # A mask thinner than a logit's pixel can vanish in a small image.
        if box is not None:
            score = kept.candidate.score
            objects.append(FoundObject(mask, score, kept.stability, box, kept.point))
    return objects


def _judge(
    candidate: Candidate, point: Point, settings: AutomaticSettings
) -> _Kept | None:
    if candidate.score < settings.min_score:
        return None
    rows, columns = PaddedSquare(candidate.image_shape, LOGITS_SIZE).scaled_shape
    logits = candidate.logits[:rows, :columns]
    inside = logits > 0
    pixels = int(np.count_nonzero(inside))
    if not settings.min_area <= pixels / inside.size <= settings.max_area:
        return None
    stability = stability_score(logits, settings.stability_offset)
    if pixels == 0 or stability < settings.min_stability:
        return None
    # A copy, so that the decoder's whole answer can be forgotten.
    own = Candidate(candidate.logits.copy(), candidate.score, candidate.image_shape)
    return _Kept(own, point, stability, inside, pixels)


def _without_repeats(
    found: Sequence[_Kept], settings: AutomaticSettings
) -> list[_Kept]:
    """Non-maximum suppression by the IoU of the masks themselves."""
    if not found:
        return []
    # The sort is stable, so equal scores keep the order of the grid.
    order = sorted(found, key=lambda kept: -kept.candidate.score)
    flat = np.packbits([kept.inside.ravel() for kept in order], axis=1)
    pixels = np.array([kept.pixels for kept in order])
    waiting = np.arange(len(order))
    chosen: list[_Kept] = []
    while waiting.size and len(chosen) < settings.max_objects:
        best, waiting = waiting[0], waiting[1:]
        chosen.append(order[best])
        shared = _BITS[flat[waiting] & flat[best]].sum(axis=1, dtype=np.int64)
        union = pixels[waiting] + pixels[best] - shared
        waiting = waiting[shared / union <= settings.max_overlap]
    return chosen


# Bits set in each byte; NumPy counts them itself only from version 2 on.
_BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1)
