"""The annotation of one image: its state, and what was done to get there."""

from __future__ import annotations

from dataclasses import replace

from psygnal import Signal

from napari_kdsam.annotation.commands import Command
from napari_kdsam.annotation.state import AnnotationState
from napari_kdsam.core.stack_index import FrameIndex


class AnnotationSession:
    """Hold the state of one image's annotation, with unlimited undo and redo.

    Parameters
    ----------
    state : AnnotationState, optional
        To begin with; an empty one by default.

    Attributes
    ----------
    changed : psygnal.Signal
        Emitted with (before, after) states after each command, undo and redo.
    """

    changed = Signal(AnnotationState, AnnotationState)

    def __init__(self, state: AnnotationState | None = None) -> None:
        self._state = AnnotationState() if state is None else state
        self._done: list[tuple[Command, AnnotationState]] = []
        self._undone: list[tuple[Command, FrameIndex]] = []

    @property
    def state(self) -> AnnotationState:
        """The current state."""
        return self._state

    @property
    def can_undo(self) -> bool:
        """Whether there is a command to undo."""
        return bool(self._done)

    @property
    def can_redo(self) -> bool:
        """Whether there is a command to redo."""
        return bool(self._undone)

    @property
    def last_done(self) -> Command | None:
        """The command that undo would take back."""
        return self._done[-1][0] if self._done else None

    @property
    def last_undone(self) -> Command | None:
        """The command that redo would do again."""
        return self._undone[-1][0] if self._undone else None

    def execute(self, command: Command) -> None:
        """Do a command; what was undone before can no longer be redone.

        If the command fails, the state and the history stay as they were.
        """
        before = self._do(command)
        if command.undoable:
            self._undone.clear()
        self.changed.emit(before, self._state)

    def undo(self, *, revert: bool = True) -> bool:
        """Undo the last command; False if there is none.

        The state that comes back has in view the frame on which the command was
        given. Without `revert`, its pixels have been changed back already.
        """
        if not self._done:
            return False
        command, earlier = self._done[-1]
        if revert:
            command.revert()
        self._done.pop()
        self._undone.append((command, earlier.frame))
        before, self._state = self._state, earlier
        self.changed.emit(before, self._state)
        return True

    def redo(self, *, apply: bool = True) -> bool:
        """Do the last undone command again; False if there is none.

        Without `apply`, its pixels have been changed already.
        """
        if not self._undone:
            return False
        command, frame = self._undone[-1]
        seen = self._state
        self._state = replace(seen, frame=frame)
        try:
            self._do(command, apply=apply)
        except BaseException:
            self._state = seen
            raise
        self._undone.pop()
        self.changed.emit(seen, self._state)
        return True

    def _do(self, command: Command, *, apply: bool = True) -> AnnotationState:
        after = command.after(self._state)
        if apply:
            command.apply()
        before = self._state
        if command.undoable:
            self._done.append((command, before))
        self._state = after
        return before
