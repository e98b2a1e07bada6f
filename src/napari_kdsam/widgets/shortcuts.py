"""The keys of the annotator: one table for bindings, tooltips and help.

Only keys that napari leaves free on every layer are used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

KeyAction = Callable[[Any], None]


@dataclass(frozen=True)
class Shortcut:
    """A key and what it does.

    Attributes
    ----------
    action : str
        Name of the controller's method.
    key : str
        In napari's notation.
    title : str
        What it does, for tooltips and help.
    """

    action: str
    key: str
    title: str


SHORTCUTS = (
    Shortcut('toggle_polarity', 'Q', 'Next click: inside or outside'),
    Shortcut('commit', 'W', 'Commit the mask as the next label'),
    Shortcut('next_candidate', 'N', 'Next candidate mask'),
    Shortcut('undo', 'U', 'Undo prompt or commit'),
    Shortcut('redo', 'J', 'Redo'),
    Shortcut('clear', 'K', 'Clear the prompts; a reopened object is deleted'),
    Shortcut('reopen', 'Shift-W', 'Reopen the object under the cursor'),
    Shortcut('use_points', 'G', 'Points'),
    Shortcut('use_box', 'H', 'Box'),
)
# Bound on the prompt layers only: on a Labels layer they are napari's own undo.
LAYER_SHORTCUTS = (
    Shortcut('undo', 'Control-Z', 'Undo prompt or commit'),
    Shortcut('redo', 'Control-Shift-Z', 'Redo'),
)


def tooltip(action: str) -> str:
    """What an action does and its key, for a tooltip."""
    for shortcut in SHORTCUTS:
        if shortcut.action == action:
            return f'{shortcut.title} ({shortcut.key})'
    raise KeyError(action)


def key_actions(actor: object, shortcuts: Iterable[Shortcut]) -> dict[str, KeyAction]:
    """Make the functions that napari calls for keys.

    Parameters
    ----------
    actor : object
        Has a method of each action's name.
    shortcuts : iterable of Shortcut

    Returns
    -------
    dict
        Key in napari's notation to a function of the layer or viewer it is pressed on.
    """
    return {s.key: _key_action(actor, s.action) for s in shortcuts}


def _key_action(actor: object, name: str) -> KeyAction:
    def act(_: Any) -> None:
        getattr(actor, name)()

    # napari shows the name of a bound function.
    act.__name__ = name
    return act
