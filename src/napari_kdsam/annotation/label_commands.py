"""Commands that change label pixels: objects come, go and are painted over.

How the pixels change is in `changes`, which `apply` writes and `revert` takes back.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_kdsam.annotation.commands import Command
from napari_kdsam.annotation.region import (
    PixelChange,
    PixelIndices,
    PixelRegion,
    Values,
)
from napari_kdsam.annotation.state import AnnotationState, CommittedObject, Draft
from napari_kdsam.core.stack_index import FrameIndex


class LabelTarget(Protocol):
    """An array of labels that commits are written to."""

    def frame(self, frame: FrameIndex) -> NDArray[Any]:
        """(rows, columns) labels of one frame."""
        ...

    def write(self, indices: PixelIndices, value: Values) -> None:
        """Set the values at `indices`, one array for each axis, as one step."""
        ...


@dataclass(frozen=True, eq=False)
class PixelCommand(Command):
    """A command that writes into an array of labels."""

    target: LabelTarget

    def changes(self) -> Iterable[PixelChange]:
        """How the labels change."""
        raise NotImplementedError

    def apply(self) -> None:
        for change in self.changes():
            write_where(self.target, change.region, change.before, change.after)

    def revert(self) -> None:
        for change in self.changes():
            write_where(self.target, change.region, change.after, change.before)


def write_where(
    target: LabelTarget, region: PixelRegion, expected: Values, wanted: Values
) -> None:
    """Write `wanted` into a region where it holds `expected`.

    Pixels that something else has changed in the meantime stay as they are.
    """
    change = PixelChange(region, expected, wanted)
    now = np.asarray(target.frame(region.frame)[region.slices])
    same = region.mask() & (now == change.values(expected))
    indices = region.indices(within=same)
    value: Values = wanted
    if not isinstance(wanted, int):
        value = change.values(wanted)[same]
    target.write(indices, value)


@dataclass(frozen=True, eq=False)
class CommitObject(PixelCommand):
    """Write an object into the labels.

    Parameters
    ----------
    item : CommittedObject
        The object.
    before : int or numpy.ndarray
        What its pixels hold: 0, or one value each in the order of
        `item.region.indices` where it lies over other labels.
    clears : bool
        Whether the prompts on the frame are done with.
    """

    item: CommittedObject
    before: Values = 0
    clears: bool = True

    def after(self, state: AnnotationState) -> AnnotationState:
        if self.clears:
            state = state.with_draft(self.item.frame, Draft())
        if not isinstance(self.before, int):
            state = state.without_pixels(self.item.region)
        return replace(state, objects=(*state.objects, self.item))

    def changes(self) -> Iterable[PixelChange]:
        return [PixelChange(self.item.region, self.before, self.item.label)]


@dataclass(frozen=True, eq=False)
class DeleteObject(PixelCommand):
    """Take an object out of the labels."""

    item: CommittedObject

    def after(self, state: AnnotationState) -> AnnotationState:
        left = tuple(item for item in state.objects if item != self.item)
        return replace(state, objects=left)

    def changes(self) -> Iterable[PixelChange]:
        return [PixelChange(self.item.region, self.item.label, 0)]


@dataclass(frozen=True, eq=False)
class ReopenObject(DeleteObject):
    """Take an object out of the labels and its prompts back, to change it.

    An object without prompts, painted by hand or made elsewhere, comes back as a mask
    to start from.
    """

    def after(self, state: AnnotationState) -> AnnotationState:
        state = super().after(state)
        item, draft = self.item, self.item.draft
        if draft.empty:
            draft = Draft(mask=item.region)
        label = item.label if item.label != item.number and not item.semantic else None
        draft = replace(draft, number=item.number, label=label)
        state = state.with_draft(item.frame, draft)
        return replace(state, current_class=item.class_id)


@dataclass(frozen=True, eq=False)
class ReclassifyObject(PixelCommand):
    """Give a committed object another class, and its label too in semantic output."""

    item: CommittedObject
    class_id: int
    label: int

    def after(self, state: AnnotationState) -> AnnotationState:
        changed = replace(self.item, class_id=self.class_id, label=self.label)
        objects = tuple(changed if o == self.item else o for o in state.objects)
        if changed not in objects:
            # It was made elsewhere, and is ours from now on.
            objects = (*objects, changed)
        return replace(state, objects=objects)

    def changes(self) -> Iterable[PixelChange]:
        return [PixelChange(self.item.region, self.item.label, self.label)]


@dataclass(frozen=True, eq=False)
class ReplaceObjects(PixelCommand):
    """Put objects in the place of others, pixel for pixel: join some, or split one.

    Parameters
    ----------
    items : tuple of CommittedObject
        Those on one frame that go.
    by : tuple of CommittedObject
        Those that come, which together have the same pixels.
    draft : Draft
        What prompts the frame has from then on.
    """

    items: tuple[CommittedObject, ...]
    by: tuple[CommittedObject, ...]
    draft: Draft

    def after(self, state: AnnotationState) -> AnnotationState:
        left = tuple(item for item in state.objects if item not in self.items)
        state = state.with_draft(self.items[0].frame, self.draft)
        return replace(state, objects=(*left, *self.by))

    def changes(self) -> Iterable[PixelChange]:
        return [
            PixelChange(both, old.label, new.label)
            for old in self.items
            for new in self.by
            if old.label != new.label
            and (both := old.region.common(new.region)) is not None
        ]


@dataclass(frozen=True, eq=False)
class ReshapeObject(PixelCommand):
    """Give an object other pixels.

    Parameters
    ----------
    item : CommittedObject
    by : CommittedObject
        The same object with its new pixels.
    before : int or numpy.ndarray
        What the pixels hold that are added: 0, or one value each.
    """

    item: CommittedObject
    by: CommittedObject
    before: Values = 0

    def after(self, state: AnnotationState) -> AnnotationState:
        added = self.by.region.minus(self.item.region)
        if added is not None and not isinstance(self.before, int):
            state = state.without_pixels(added)
        objects = tuple(
            self.by if item == self.item else item for item in state.objects
        )
        if self.by not in objects:
            # It was made elsewhere, and is ours from now on.
            objects = (*objects, self.by)
        return replace(state, objects=objects)

    def changes(self) -> Iterable[PixelChange]:
        label = self.item.label
        added = self.by.region.minus(self.item.region)
        removed = self.item.region.minus(self.by.region)
        if removed is not None:
            yield PixelChange(removed, label, 0)
        if added is not None:
            yield PixelChange(added, self.before, label)


@dataclass(frozen=True, eq=False)
class RelabelObjects(PixelCommand):
    """Give objects the labels of their classes, or labels of their own, from now on.

    Parameters
    ----------
    items : tuple of CommittedObject
        Those whose labels are in the target; no other pixel there may have a label.
    semantic : bool
        Whether labels are those of classes.
    """

    items: tuple[CommittedObject, ...]
    semantic: bool

    def after(self, state: AnnotationState) -> AnnotationState:
        objects = tuple(
            item.labelled(self.semantic) if item in self.items else item
            for item in state.objects
        )
        return replace(state, objects=objects, semantic=self.semantic)

    def changes(self) -> Iterable[PixelChange]:
        return [
            PixelChange(item.region, item.label, item.labelled(self.semantic).label)
            for item in self.items
        ]


@dataclass(frozen=True, eq=False)
class PaintPixels(PixelCommand):
    """What was painted into the labels with napari's own tools; it is there already.

    Objects follow: painted pixels leave the object they were of and join the last
    one with the painted label, or become an object of their own.
    """

    painted: tuple[PixelChange, ...] = field(default=())

    def after(self, state: AnnotationState) -> AnnotationState:
        for change in self.painted:
            state = _with_painted(state, change)
        return state

    def changes(self) -> Iterable[PixelChange]:
        return self.painted


def _with_painted(state: AnnotationState, change: PixelChange) -> AnnotationState:
    after = change.values(change.after)
    corner = change.region.box[:2]
    mask, frame = change.region.mask(), change.region.frame
    for value in np.unique(after[mask]).tolist():
        painted = PixelRegion.of_mask(frame, mask & (after == value), corner)
        assert painted is not None
        state = state.without_pixels(painted)
        if value != 0:
            state = _with_pixels(state, painted, value)
    return state


def _with_pixels(
    state: AnnotationState, region: PixelRegion, label: int
) -> AnnotationState:
    objects = list(state.objects)
    for index in reversed(range(len(objects))):
        item = objects[index]
        if item.frame == region.frame and item.label == label:
            objects[index] = replace(item, region=item.region.plus(region))
            return replace(state, objects=tuple(objects))
    drawn = state.foreign_object(label, region)
    return replace(state, objects=(*objects, drawn))
