"""Commands: the only way an annotation changes.

Each turns one state into the next. Those that also change label pixels are in
`label_commands`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from napari_kdsam.annotation.cleanup import CleanUp
from napari_kdsam.annotation.region import PixelRegion
from napari_kdsam.annotation.state import (
    AnnotationState,
    Draft,
    ObjectClass,
    Outline,
    PointPrompt,
    Scribble,
)
from napari_kdsam.core.geometry import Box
from napari_kdsam.core.stack_index import FrameIndex


class Command:
    """A change of the annotation.

    Subclasses override `after`, and `apply` and `revert` where pixels change.
    """

    # Whether undo takes it back; looking at another frame is not worth a step.
    undoable = True

    def after(self, state: AnnotationState) -> AnnotationState:
        """Return the state after this command."""
        raise NotImplementedError

    def apply(self) -> None:
        """Change label pixels; called when the command is done or redone."""

    def revert(self) -> None:
        """Change label pixels back; called when the command is undone."""


@dataclass(frozen=True)
class _DraftCommand(Command):
    frame: FrameIndex

    def _change(self, draft: Draft) -> Draft:
        raise NotImplementedError

    def after(self, state: AnnotationState) -> AnnotationState:
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
class SetBoxes(_DraftCommand):
    """Give the draft these boxes in place of any earlier ones."""

    boxes: tuple[Box, ...]

    def _change(self, draft: Draft) -> Draft:
        return replace(draft, boxes=self.boxes, candidate=None)


@dataclass(frozen=True)
class SetScribbles(_DraftCommand):
    """Give the draft these scribbles in place of any earlier ones."""

    scribbles: tuple[Scribble, ...]

    def _change(self, draft: Draft) -> Draft:
        return replace(draft, scribbles=self.scribbles, candidate=None)


@dataclass(frozen=True)
class SetOutlines(_DraftCommand):
    """Give the draft these outlines in place of any earlier ones."""

    outlines: tuple[Outline, ...]

    def _change(self, draft: Draft) -> Draft:
        return replace(draft, outlines=self.outlines, candidate=None)


@dataclass(frozen=True)
class LoadMask(_DraftCommand):
    """Start the object from a mask, or no longer from one with None."""

    mask: PixelRegion | None

    def _change(self, draft: Draft) -> Draft:
        return replace(draft, mask=self.mask, candidate=None)


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


@dataclass(frozen=True)
class ChangeFrame(Command):
    """Look at another frame."""

    frame: FrameIndex
    undoable = False

    def after(self, state: AnnotationState) -> AnnotationState:
        return replace(state, frame=self.frame)


@dataclass(frozen=True)
class ChangeClass(Command):
    """Give the next objects another class."""

    class_id: int

    def after(self, state: AnnotationState) -> AnnotationState:
        return replace(state, current_class=self.class_id)


@dataclass(frozen=True)
class SetClasses(Command):
    """Add, rename, recolour or remove classes; those of objects must stay."""

    classes: tuple[ObjectClass, ...]

    def after(self, state: AnnotationState) -> AnnotationState:
        known = [item.id for item in self.classes]
        current = state.current_class
        return replace(
            state,
            classes=self.classes,
            current_class=current if current in known else known[0],
        )


@dataclass(frozen=True)
class AdoptClasses(Command):
    """Know the classes of labels that were made elsewhere.

    Parameters
    ----------
    classes : tuple of ObjectClass
        All that there are then.
    known_classes : mapping of int to int
        See `AnnotationState`.
    """

    classes: tuple[ObjectClass, ...]
    known_classes: Mapping[int, int]
    undoable = False

    def after(self, state: AnnotationState) -> AnnotationState:
        known = MappingProxyType(dict(self.known_classes))
        return replace(state, classes=self.classes, known_classes=known)


@dataclass(frozen=True)
class SetCleanUp(Command):
    """Clean masks up in another way."""

    cleanup: CleanUp

    def after(self, state: AnnotationState) -> AnnotationState:
        return replace(state, cleanup=self.cleanup)


@dataclass(frozen=True)
class ChangeOutput(Command):
    """Give the next objects the labels of their classes, or labels of their own."""

    semantic: bool

    def after(self, state: AnnotationState) -> AnnotationState:
        return replace(state, semantic=self.semantic)


@dataclass(frozen=True, eq=False)
class LoseObjects(Command):
    """Let all objects go with the labels that held them, which are gone already.

    Parameters
    ----------
    bring_back, take_away : callable
        Called to have the labels again, and to be without them.
    """

    bring_back: Callable[[], None]
    take_away: Callable[[], None]

    def after(self, state: AnnotationState) -> AnnotationState:
        return replace(state, objects=())

    def apply(self) -> None:
        self.take_away()

    def revert(self) -> None:
        self.bring_back()


@dataclass(frozen=True, eq=False)
class CompositeCommand(Command):
    """Several commands that are done and undone as one.

    If one fails to change its pixels, those before it are taken back.
    """

    commands: tuple[Command, ...]

    def after(self, state: AnnotationState) -> AnnotationState:
        for command in self.commands:
            state = command.after(state)
        return state

    def apply(self) -> None:
        for index, command in enumerate(self.commands):
            try:
                command.apply()
            except BaseException:
                for earlier in reversed(self.commands[:index]):
                    earlier.revert()
                raise

    def revert(self) -> None:
        for command in reversed(self.commands):
            command.revert()


def as_one(commands: Sequence[Command]) -> Command:
    """Make one step of one or more commands."""
    return commands[0] if len(commands) == 1 else CompositeCommand(tuple(commands))
