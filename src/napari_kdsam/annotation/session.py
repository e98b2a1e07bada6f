"""The annotation of one image: its state, and what was done to get there."""

from __future__ import annotations

from psygnal import Signal

from napari_kdsam.annotation.commands import Command
from napari_kdsam.annotation.state import AnnotationState


class AnnotationSession:
    """Hold the state of one image's annotation, with unlimited undo and redo.

    Attributes
    ----------
    changed : psygnal.Signal
        Emitted with (before, after) states after each command, undo and redo.
    """

    changed = Signal(AnnotationState, AnnotationState)

    def __init__(self) -> None:
        self._state = AnnotationState()
        self._done: list[tuple[Command, AnnotationState]] = []
        self._undone: list[Command] = []

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

    def execute(self, command: Command) -> None:
        """Do a command; what was undone before can no longer be redone.

        If the command fails, the state and the history stay as they were.
        """
        before = self._do(command)
        self._undone.clear()
        self.changed.emit(before, self._state)

    def undo(self) -> bool:
        """Undo the last command; False if there is none."""
        if not self._done:
            return False
        command, earlier = self._done[-1]
        command.revoke()
        self._done.pop()
        self._undone.append(command)
        before, self._state = self._state, earlier
        self.changed.emit(before, self._state)
        return True

    def redo(self) -> bool:
        """Do the last undone command again; False if there is none."""
        if not self._undone:
            return False
        before = self._do(self._undone[-1])
        self._undone.pop()
        self.changed.emit(before, self._state)
        return True

    def _do(self, command: Command) -> AnnotationState:
        after = command.apply(self._state)
        command.enact()
        before = self._state
        self._done.append((command, before))
        self._state = after
        return before
