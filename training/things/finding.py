"""Find the things of one image by clicking a teacher all over it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from napari_kdsam.core.geometry import box_of_mask
from napari_kdsam.inference.automatic import grid_points
from napari_kdsam.training.config import FindingConfig
from napari_kdsam.training.things.masks import (
    Judge,
    Thing,
    iou,
    of_every_size,
    tidied,
    without_conflicts,
    without_repeats,
)
from napari_kdsam.training.things.teacher import ThingProposal, ThingTeacher

# Within a thing no larger than this share of the image, no further click is made.
_SMALL = 0.05


def find_things(
    image: NDArray[np.uint8],
    labelled: NDArray[np.uint8],
    teacher: ThingTeacher,
    settings: FindingConfig,
    generator: np.random.Generator,
) -> list[Thing]:
    """Find things beside those that are labelled.

    A grid is clicked in random order until enough was found. A click's mask counts if
    the teacher is sure of it and gives nearly the same for its box; that of the box is
    taken, which is the more accurate one.

    Parameters
    ----------
    image : numpy.ndarray
        (H, W, 3) uint8 RGB.
    labelled : numpy.ndarray
        (H, W) uint8, 0 where nothing is labelled.
    teacher : ThingTeacher
        Is asked.
    settings : FindingConfig
        What counts.
    generator : numpy.random.Generator
        For the order of the clicks.

    Returns
    -------
    list of Thing
        At most ``settings.most``, from small to large, which can be drawn over each
        other with `paint`; empty if nothing is certain.
    """
    judge = Judge(image, labelled, settings)
    shape = (image.shape[0], image.shape[1])
    points = grid_points(shape, settings.points_per_side)
    state = teacher.embed(image)
    free = judge.free.copy()
    found: list[Thing] = []
    for index in generator.permutation(len(points)):
        if len(found) >= settings.candidates:
            break
        row, column = points[index]
        if not free[round(row), round(column)]:
            continue
        things = _certain(teacher.at_point(state, (row, column)), judge, settings)
        found = without_repeats([*found, *things], settings.max_repeat)
        for thing in things:
            if thing.pixels <= _SMALL * thing.mask.size:
                free &= ~thing.mask
    confirmed = [
        sure
        for thing in found
        if (sure := _confirmed(thing, teacher, state, judge, settings))
    ]
    drawable = without_conflicts(confirmed, settings.max_hidden)
    return of_every_size(drawable, settings.most)


def _certain(
    proposals: Sequence[ThingProposal], judge: Judge, settings: FindingConfig
) -> list[Thing]:
    things = []
    for proposal in proposals:
        if (
            proposal.score < settings.min_score
            or proposal.stability < settings.min_stability
            # Tidying changes the area a little, so the limits come again after it.
            or not settings.min_area / 2 <= proposal.area <= 2 * settings.max_area
        ):
            continue
        mask = tidied(proposal.make_mask())
        if mask is not None and judge.accepts(mask):
            things.append(Thing(mask, proposal.score))
    return things


def _confirmed(
    thing: Thing,
    teacher: ThingTeacher,
    state: object,
    judge: Judge,
    settings: FindingConfig,
) -> Thing | None:
    box = box_of_mask(thing.mask)
    assert box is not None
    row0, col0, row1, col1 = (float(side) for side in box)
    answer = max(teacher.in_box(state, (row0, col0, row1, col1)), key=lambda p: p.score)
    sure = _certain([answer], judge, settings)
    if not sure or iou(sure[0].mask, thing.mask) < settings.min_agreement:
        return None
    return sure[0]
