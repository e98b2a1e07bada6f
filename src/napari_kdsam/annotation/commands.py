"""Commands: the only way an annotation changes.

Each turns one state into the next. A command that also changes label pixels does
so through `enact` and takes it back through `revoke`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

from numpy.typing import NDArray

from napari_kdsam.annotation.region import PixelIndices, PixelRegion
from napari_kdsam.annotation.state import (
    AnnotationState,
    CommittedObject,
    Draft,
    FrameIndex,
    PointPrompt,
)
from napari_kdsam.inference.geometry import Box


class LabelTarget(Protocol):
    """An array of labels that commits are written to."""

    def frame(self, frame: FrameIndex) -> NDArray[Any]:
        """(rows, columns) labels of one frame."""
        ...

    def write(self, indices: PixelIndices, value: int) -> None:
        """Set the values at `indices`, one array for each axis, as one step."""
        ...


class Command:
    """A change of the annotation.

    Subclasses override `apply`, and `enact` and `revoke` where pixels change.
    """

    def apply(self, state: AnnotationState) -> AnnotationState:
        """Return the state after this command."""
        raise NotImplementedError

    def enact(self) -> None:
        """Change label pixels; called when the command is done or redone."""

    def revoke(self) -> None:
        """Change label pixels back; called when the command is undone."""


@dataclass(frozen=True)
class _DraftCommand(Command):
    frame: FrameIndex

    def _change(self, draft: Draft) -> Draft:
        raise NotImplementedError

    def apply(self, state: AnnotationState) -> AnnotationState:
        return state.with_draft(self.frame, self._change(state.draft(self.frame)))


def _with_point(
    draft: Draft, index: int, change: Callable[[PointPrompt], PointPrompt]
) -> Draft:
    points = list(draft.points)
    points[index] = change(points[index])
    return replace(draft, points=tuple(points), candidate=None)


@dataclass(frozen=True)
class AddPoint(_DraftCommand):
    """Add a click to the draft of a frame."""

    point: PointPrompt

    def _change(self, draft: Draft) -> Draft:
        return replace(draft, points=(*draft.points, self.point), candidate=None)


@dataclass(frozen=True)
class MovePoint(_DraftCommand):
    """Move the click at `index` to (row, column)."""

    index: int
    row: float
    column: float

    def _change(self, draft: Draft) -> Draft:
        return _with_point(
            draft, self.index, lambda p: replace(p, row=self.row, column=self.column)
        )


@dataclass(frozen=True)
class TogglePoint(_DraftCommand):
    """Turn the click at `index` from inside to outside, or back."""

    index: int

    def _change(self, draft: Draft) -> Draft:
        return _with_point(
            draft, self.index, lambda p: replace(p, positive=not p.positive)
        )


@dataclass(frozen=True)
class RemovePoint(_DraftCommand):
    """Remove the click at `index`."""

    index: int

    def _change(self, draft: Draft) -> Draft:
        points = (*draft.points[: self.index], *draft.points[self.index + 1 :])
        return replace(draft, points=points, candidate=None)


@dataclass(frozen=True)
class SetBox(_DraftCommand):
    """Give the draft a box in place of any earlier one, or remove it with None."""

    box: Box | None

    def _change(self, draft: Draft) -> Draft:
        return replace(draft, box=self.box, candidate=None)


@dataclass(frozen=True)
class ClearDraft(_DraftCommand):
    """Remove every prompt of the draft."""

    def _change(self, draft: Draft) -> Draft:
        return Draft()


@dataclass(frozen=True)
class ReplaceDraft(_DraftCommand):
    """Put another draft in the place of the one on a frame."""

    draft: Draft

    def _change(self, draft: Draft) -> Draft:
        return self.draft


@dataclass(frozen=True)
class ChooseCandidate(_DraftCommand):
    """Choose one of the candidate masks."""

    index: int

    def _change(self, draft: Draft) -> Draft:
        return replace(draft, candidate=self.index)


@dataclass(frozen=True, eq=False)
class CommitObject(Command):
    """Write the draft's mask into the labels and start the next object.

    Parameters
    ----------
    label : int
        Value to write.
    region : PixelRegion
        Pixels to write, background before.
    target : LabelTarget
        Where to write.
    score : float
        Predicted IoU of the mask.
    draft : Draft or None
        The prompts of an object that comes from elsewhere; None takes those on the
        frame, which are then cleared.
    """

    label: int
    region: PixelRegion
    target: LabelTarget
    score: float = 0.0
    draft: Draft | None = None

    def apply(self, state: AnnotationState) -> AnnotationState:
        frame, draft = self.region.frame, self.draft
        if draft is None:
            draft = replace(state.draft(frame), label=None)
            state = state.with_draft(frame, Draft())
        done = CommittedObject(self.label, frame, draft, self.score, self.region)
        return replace(state, objects=(*state.objects, done))

    def enact(self) -> None:
        _replace_label(self.target, self.region, 0, self.label)

    def revoke(self) -> None:
        _replace_label(self.target, self.region, self.label, 0)


@dataclass(frozen=True, eq=False)
class ReopenObject(Command):
    """Take an object out of the labels and its prompts back, to change it.

    Parameters
    ----------
    item : CommittedObject
        One of the state's.
    target : LabelTarget
        Where its pixels are.
    """

    item: CommittedObject
    target: LabelTarget

    def apply(self, state: AnnotationState) -> AnnotationState:
        left = tuple(item for item in state.objects if item != self.item)
        draft = replace(self.item.draft, label=self.item.label)
        return replace(state.with_draft(self.item.frame, draft), objects=left)

    def enact(self) -> None:
        _replace_label(self.target, self.item.region, self.item.label, 0)

    def revoke(self) -> None:
        _replace_label(self.target, self.item.region, 0, self.item.label)


def _replace_label(
    target: LabelTarget, region: PixelRegion, old: int, new: int
) -> None:
    # Pixels painted over by hand in the meantime are the user's and stay.
    row0, col0, row1, col1 = region.box
    now = target.frame(region.frame)[row0:row1, col0:col1]
    target.write(region.indices(within=now == old), new)


@dataclass(frozen=True, eq=False)
class Several(Command):
    """Several commands that are done and undone as one."""

    commands: tuple[Command, ...]

    def apply(self, state: AnnotationState) -> AnnotationState:
        for command in self.commands:
            state = command.apply(state)
        return state

    def enact(self) -> None:
        for command in self.commands:
            command.enact()

    def revoke(self) -> None:
        for command in reversed(self.commands):
            command.revoke()
