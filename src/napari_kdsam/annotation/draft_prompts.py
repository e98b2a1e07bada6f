"""From a draft to the prompts of its objects."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_kdsam.annotation.scribbles import sample_scribbles
from napari_kdsam.annotation.state import Draft, Outline, Position
from napari_kdsam.core.geometry import Box, box_of_mask
from napari_kdsam.core.mask_prompts import logits_of_mask
from napari_kdsam.core.prompts import Prompt


def objects_of(draft: Draft) -> tuple[Draft, ...]:
    """Split a draft into its objects: one for each box, or one in all.

    Returns
    -------
    tuple of Draft
        Each with at most one box, with the prompts that lie in it or, if they lie in
        no box, are nearest to it. Only a single one keeps number and candidate.
    """
    if len(draft.boxes) < 2:
        return (draft,)
    parts = [Draft(boxes=(box,)) for box in draft.boxes]

    def add(place: Position, kind: str, mark: object) -> None:
        index = _box_at(draft.boxes, place)
        grown: Any = {kind: (*getattr(parts[index], kind), mark)}
        parts[index] = replace(parts[index], **grown)

    for point in draft.points:
        add((point.row, point.column), 'points', point)
    for scribble in draft.scribbles:
        add(scribble.places[0], 'scribbles', scribble)
    for outline in draft.outlines:
        add(_middle(outline.places), 'outlines', outline)
    if draft.mask is not None:
        row0, col0, row1, col1 = draft.mask.box
        index = _box_at(draft.boxes, ((row0 + row1 - 1) / 2, (col0 + col1 - 1) / 2))
        parts[index] = replace(parts[index], mask=draft.mask)
    return tuple(parts)


def _middle(places: tuple[Position, ...]) -> Position:
    rows, columns = zip(*places, strict=True)
    return (min(rows) + max(rows)) / 2, (min(columns) + max(columns)) / 2


def _box_at(boxes: tuple[Box, ...], place: Position) -> int:
    """The smallest box around a place, or else the nearest."""
    # Boxes are in pixel edges, places in pixel centres.
    row, column = place[0] + 0.5, place[1] + 0.5

    def rank(index: int) -> tuple[float, float]:
        row0, col0, row1, col1 = boxes[index]
        outside = math.hypot(
            max(row0 - row, 0, row - row1),
            max(col0 - column, 0, column - col1),
        )
        return outside, (row1 - row0) * (col1 - col0)

    return min(range(len(boxes)), key=rank)


def prompts_of(draft: Draft, shape: tuple[int, int]) -> tuple[Prompt, ...]:
    """Make the predictor's prompts, one for each of `objects_of`.

    Scribbles become points. A mask or outline becomes mask logits, with the box around
    it unless a box was drawn, because SAM's mask prompt alone says little.

    Parameters
    ----------
    draft : Draft
    shape : tuple of int
        (rows, columns) of the image.

    Raises
    ------
    PromptError
        If nothing says where an object is.
    """
    return tuple(_prompt_of(item, shape) for item in objects_of(draft))


def _prompt_of(draft: Draft, shape: tuple[int, int]) -> Prompt:
    box = draft.boxes[0] if draft.boxes else None
    logits = None
    if draft.mask is not None or draft.outlines:
        mask = mask_of_draft(draft, shape)
        around = box_of_mask(mask)
        if around is not None:
            logits = logits_of_mask(mask)
            row0, col0, row1, col1 = (float(side) for side in around)
            box = box or (row0, col0, row1, col1)
    points = [*draft.points, *sample_scribbles(draft.scribbles)]
    return Prompt(
        points=[(point.row, point.column) for point in points],
        labels=[int(point.positive) for point in points],
        box=box,
        logits=logits,
    )


def mask_of_draft(draft: Draft, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The (rows, columns) mask that a draft starts from: its mask and its outlines."""
    mask = np.zeros(shape, np.bool_)
    if draft.mask is not None:
        mask[draft.mask.slices] = draft.mask.mask()
    for positive in (True, False):
        for rows, columns in _insides(draft.outlines, shape, positive):
            mask[rows, columns] = positive
    return mask


def _insides(
    outlines: tuple[Outline, ...], shape: tuple[int, int], positive: bool
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    from skimage.draw import polygon

    for outline in outlines:
        if outline.positive == positive:
            rows, columns = zip(*outline.places, strict=True)
            yield polygon(rows, columns, shape)
