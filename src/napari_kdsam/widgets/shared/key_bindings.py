"""Functions on the keys of napari's viewer and layers."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from napari_kdsam.widgets.shared.shortcuts import Shortcut

KeyAction = Callable[[Any], Any]
_HELD_DELAY_MS, _HELD_INTERVAL_MS = 300, 60


def key_action(name: str, act: Callable[[], object], held: bool = False) -> KeyAction:
    """Make the function that napari calls for a key.

    Parameters
    ----------
    name : str
        Shown by napari.
    act : callable
    held : bool
        Whether to go on while the key is held: a generator function, which goes on
        until it is released.
    """

    def press(_: Any) -> None:
        act()

    # napari itself repeats no bound key that has modifiers.
    def hold(_: Any) -> Iterator[None]:
        from qtpy.QtCore import QTimer
        from qtpy.QtWidgets import QApplication

        focus = QApplication.focusWidget()
        timer = QTimer()
        timer.setInterval(_HELD_DELAY_MS)

        def go_on() -> None:
            # A window that loses the keyboard is not told of the release.
            if QApplication.focusWidget() is not focus:
                timer.stop()
                return
            timer.setInterval(_HELD_INTERVAL_MS)
            act()

        timer.timeout.connect(go_on)
        act()
        timer.start()
        try:
            yield
        finally:
            timer.stop()

    made: KeyAction = hold if held else press
    made.__name__ = name
    return made


def key_actions(
    acts: Mapping[str, Callable[[], object]], shortcuts: Iterable[Shortcut]
) -> dict[str, KeyAction]:
    """Make the functions that napari calls for keys.

    Parameters
    ----------
    acts : mapping of str to callable
        What each action does.
    shortcuts : iterable of Shortcut
        Those in force.

    Returns
    -------
    dict
        Key in napari's notation to a function of the layer or viewer it is pressed on.
    """
    return {
        napari_key(s.key): key_action(s.action, acts[s.action], s.held)
        for s in shortcuts
        if s.key
    }


def bind(owner: Any, actions: Mapping[str, KeyAction]) -> None:
    """Bind these actions on a viewer or layer, in place of any others."""
    for key, action in actions.items():
        owner.bind_key(key, action, overwrite=True)


def unbind(owner: Any, actions: Mapping[str, KeyAction]) -> None:
    """Take these actions from the keys of a viewer or layer, and no one else's."""
    for key, action in list(owner.keymap.items()):
        # Another annotator may have taken a key over.
        if action in actions.values():
            owner.bind_key(key, None)


def napari_key(key: str) -> str:
    """A key of the table of shortcuts as napari writes it here."""
    # napari calls a Mac's Command key Meta.
    return key.replace('Control', 'Meta') if sys.platform == 'darwin' else key
