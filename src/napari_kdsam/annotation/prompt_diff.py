"""From what the prompt layers hold to the commands that say how they changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from napari_kdsam.annotation.commands import (
    AddPoint,
    Command,
    MovePoint,
    RemovePoint,
    SetBoxes,
    SetOutlines,
    SetScribbles,
    TogglePoint,
)
from napari_kdsam.annotation.state import Draft, Outline, PointPrompt, Scribble
from napari_kdsam.core.geometry import PaddedSquare
from napari_kdsam.core.stack_index import FrameIndex

_Line = TypeVar('_Line', Scribble, Outline)


@dataclass(frozen=True)
class Edit:
    """What a user's edit amounts to.

    Attributes
    ----------
    commands : tuple of Command
        Empty if nothing within the image changed.
    outside : bool
        Whether a prompt outside the image was left out.
    """

    commands: tuple[Command, ...]
    outside: bool


def edit_between(
    before: Mapping[FrameIndex, Draft],
    now: Mapping[FrameIndex, Draft],
    shape: tuple[int, ...],
) -> Edit:
    """Find the commands between two sets of drafts, leaving out what is outside.

    Parameters
    ----------
    before, now : mapping of frame index to Draft
        The session's drafts, and what the prompt layers hold.
    shape : tuple of int
        (..., rows, columns) of the image.
    """
    commands: list[Command] = []
    outside = False
    for frame in sorted({*now, *before}):
        old, new = before.get(frame, Draft()), now.get(frame, Draft())
        kept = within(frame, new, shape)
        outside |= any(
            len(getattr(kept, kind)) < len(getattr(new, kind))
            for kind in ('points', 'boxes', 'scribbles', 'outlines')
        )
        commands += point_commands(frame, old.points, kept.points)
        if kept.boxes != old.boxes:
            commands.append(SetBoxes(frame, kept.boxes))
        if kept.scribbles != old.scribbles:
            commands.append(SetScribbles(frame, kept.scribbles))
        if kept.outlines != old.outlines:
            commands.append(SetOutlines(frame, kept.outlines))
    return Edit(tuple(commands), outside)


def within(frame: FrameIndex, draft: Draft, shape: tuple[int, ...]) -> Draft:
    """The part of a draft's drawn prompts that lies on the image."""
    *stack, rows, columns = shape
    if any(not 0 <= index < size for index, size in zip(frame, stack, strict=True)):
        return Draft()
    place = PaddedSquare((rows, columns), 1)
    boxes = [place.clip_box(box) for box in draft.boxes]
    return Draft(
        tuple(p for p in draft.points if place.contains((p.row, p.column))),
        tuple(box for box in boxes if box is not None),
        _lines_within(draft.scribbles, place, 1),
        _lines_within(draft.outlines, place, 3),
    )


def _lines_within(
    lines: tuple[_Line, ...], place: PaddedSquare, least: int
) -> tuple[_Line, ...]:
    kept = []
    for line in lines:
        places = tuple(p for p in line.places if place.contains(p))
        if len(places) >= least:
            kept.append(replace(line, places=places))
    return tuple(kept)


def point_commands(
    frame: FrameIndex, old: tuple[PointPrompt, ...], new: tuple[PointPrompt, ...]
) -> list[Command]:
    """Find the commands that turn one list of points into another.

    Parameters
    ----------
    frame : tuple of int
        The frame they are on.
    old, new : tuple of PointPrompt
        Before and after points were added at the end, moved or toggled in place,
        or removed.

    Returns
    -------
    list of Command
        Empty if nothing changed.
    """
    if len(new) < len(old):
        return _removals(frame, old, new)
    commands: list[Command] = []
    for index, (before, after) in enumerate(zip(old, new, strict=False)):
        if (before.row, before.column) != (after.row, after.column):
            commands.append(MovePoint(frame, index, after.row, after.column))
        if before.positive != after.positive:
            commands.append(TogglePoint(frame, index))
    commands.extend(AddPoint(frame, point) for point in new[len(old) :])
    return commands


def _removals(
    frame: FrameIndex, old: tuple[PointPrompt, ...], new: tuple[PointPrompt, ...]
) -> list[Command]:
    removed: list[Command] = []
    kept = list(new)
    # From the end, so that the indices of the points before stay right.
    for index in reversed(range(len(old))):
        if kept and old[index] == kept[-1]:
            kept.pop()
        else:
            removed.append(RemovePoint(frame, index))
    if not kept:
        return removed
    everything = [RemovePoint(frame, index) for index in reversed(range(len(old)))]
    return [*everything, *(AddPoint(frame, point) for point in new)]
