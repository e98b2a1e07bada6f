"""Which keys can be bound: those that exist, and that napari does not use itself."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from app_model.types import SimpleKeyBinding

_NAMED_KEYS = {
    'Up',
    'Down',
    'Left',
    'Right',
    'PageUp',
    'PageDown',
    'Insert',
    'Delete',
    'Home',
    'End',
    'Escape',
    'Backspace',
    'Space',
    'Enter',
    'Tab',
    *(f'F{n}' for n in range(1, 13)),
}


def read_key(text: str) -> tuple[str, str]:
    """Read a key as a user writes it.

    Parameters
    ----------
    text : str
        Such as 'shift+w', 'Ctrl-Left' or 'F5'; empty for no key.

    Returns
    -------
    key : str
        In the notation of the table of shortcuts; empty if there is none.
    reason : str
        Why it cannot be bound, as the start of a sentence; empty if it can.
    """
    from app_model.types import KeyBinding

    if not text.strip():
        return '', ''
    parts = KeyBinding.from_str(text).parts
    name = str(parts[0].key or '')
    if len(parts) != 1 or (name not in _NAMED_KEYS and len(name) != 1):
        return '', f'{text!r} is not a key such as Shift-W or F5'
    part = parts[0]
    if part.shift and name not in _NAMED_KEYS and not name.isalpha():
        # Shift makes another character of it, which is then the key.
        return '', f'{text!r} cannot be used, because Shift changes the character'
    return _written(part), ''


def napari_keys() -> frozenset[str]:
    """Keys that napari uses now, in the notation of the table of shortcuts.

    These are the keys of its actions as the user has set them, those bound to the
    viewer and to each kind of layer, and those of the menus of open windows.
    """
    from app_model.types import KeyBinding
    from napari import layers
    from napari.components import ViewerModel
    from napari.settings import get_settings

    actions = get_settings().shortcuts.shortcuts
    found: list[Any] = [key for keys in actions.values() for key in keys]
    for kind in (ViewerModel, *vars(layers).values()):
        found.extend(getattr(kind, 'class_keymap', ()))
    found.extend(KeyBinding.from_str(key) for key in _menu_keys())
    return frozenset(
        _written(key.parts[0])
        for key in found
        if isinstance(key, KeyBinding) and len(key.parts) == 1
    )


def _written(part: SimpleKeyBinding) -> str:
    modifiers = {
        # On a Mac napari calls the Command key Meta, and the table Control.
        'Control': part.ctrl or (part.meta and sys.platform == 'darwin'),
        'Shift': part.shift,
        'Alt': part.alt,
        'Meta': part.meta and sys.platform != 'darwin',
    }
    names = [name for name, pressed in modifiers.items() if pressed]
    return '-'.join([*names, str(part.key)])


def _menu_keys() -> Iterator[str]:
    """Keys of the menus of open windows, and those that open a menu."""
    from qtpy.QtGui import QAction, QKeySequence  # type: ignore[attr-defined]
    from qtpy.QtWidgets import QApplication, QMainWindow, QMenu

    if QApplication.instance() is None:
        return
    for window in QApplication.topLevelWidgets():
        if not isinstance(window, QMainWindow):
            continue
        for menu in window.findChildren(QMenu):
            for action in menu.findChildren(QAction) + menu.actions():
                for shortcut in action.shortcuts():
                    yield shortcut.toString()
        bar = window.menuBar()
        for action in bar.actions() if bar is not None else ():
            yield QKeySequence.mnemonic(action.text()).toString()
