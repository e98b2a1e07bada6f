"""The keys of the annotator: one table for bindings, tooltips, help and docs.

Only keys that napari leaves free on every layer and in its menus are used.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

KeyAction = Callable[[Any], Any]
Group = Literal['Prompts', 'Mask', 'Objects', 'Frames', 'Help']
GROUPS: tuple[Group, ...] = get_args(Group)
CLASS_KEYS = 9
_HELD_DELAY_MS, _HELD_INTERVAL_MS = 300, 60
_CURSOR = 'Move the keyboard cursor; hold the key to go on'
_CLASSES = f'Class 1 to {CLASS_KEYS}'


@dataclass(frozen=True)
class Shortcut:
    """A key and what it does.

    Attributes
    ----------
    action : str
        Name of the controller's method.
    key : str
        Such as 'W' or 'Control-Shift-Left', where Control is Command on a Mac; empty
        for no key.
    title : str
        What it does, for tooltips and help.
    group : str
        Heading in the help, one of `GROUPS`.
    family : str
        Title of the one line that the help has for several similar actions; empty for
        a line of its own.
    held : bool
        Whether the action goes on while the key is held.
    """

    action: str
    key: str
    title: str
    group: Group
    family: str = ''
    held: bool = False


SHORTCUTS = (
    Shortcut('use_points', 'G', 'Points: click inside or outside', 'Prompts'),
    Shortcut('use_box', 'H', 'Box: drag around the object', 'Prompts'),
    Shortcut('use_scribble', 'Shift-G', 'Scribble: draw along the object', 'Prompts'),
    Shortcut('use_lasso', 'Shift-H', 'Lasso: draw around the object', 'Prompts'),
    Shortcut('toggle_polarity', 'Q', 'Next click: inside or outside', 'Prompts'),
    Shortcut('place_point', 'Alt-G', 'Place a point at the cursor', 'Prompts'),
    *(
        Shortcut(
            f'cursor_{side.lower()}',
            f'Control-Shift-{side}',
            f'Move the keyboard cursor {side.lower()}',
            'Prompts',
            _CURSOR,
            held=True,
        )
        for side in ('Left', 'Right', 'Up', 'Down')
    ),
    Shortcut('undo', 'U', 'Undo prompt or commit', 'Prompts'),
    Shortcut('redo', 'J', 'Redo', 'Prompts'),
    Shortcut(
        'clear', 'K', 'Clear the prompts; a reopened object is deleted', 'Prompts'
    ),
    Shortcut('commit', 'W', 'Commit the mask as the next label', 'Mask'),
    # Not Alt-W, which opens the Window menu.
    Shortcut('commit_overwriting', 'Shift-O', 'Commit over other labels', 'Mask'),
    Shortcut('next_candidate', 'N', 'Next candidate mask', 'Mask'),
    Shortcut('refine', 'Shift-N', 'Refine: predict again from the mask shown', 'Mask'),
    Shortcut(
        'load_mask',
        'Shift-Q',
        'Use the label under the cursor as the mask prompt',
        'Mask',
    ),
    Shortcut('reopen', 'Shift-W', 'Reopen the object under the cursor', 'Objects'),
    Shortcut(
        'delete_object', 'Shift-K', 'Delete the object under the cursor', 'Objects'
    ),
    Shortcut('next_class', 'Shift-C', 'Next class', 'Objects'),
    Shortcut(
        'reclassify',
        'Shift-J',
        'Give the object under the cursor the class of the next object',
        'Objects',
    ),
    *(
        Shortcut(f'class_{n}', f'Alt-{n}', f'Class {n}', 'Objects', _CLASSES)
        for n in range(1, CLASS_KEYS + 1)
    ),
    # Left and Right alone are napari's keys for one frame back and on.
    Shortcut('next_unfinished', 'Shift-Right', 'Next unfinished frame', 'Frames'),
    Shortcut(
        'previous_unfinished', 'Shift-Left', 'Previous unfinished frame', 'Frames'
    ),
    # Not Alt-H, which opens the Help menu.
    Shortcut('show_help', 'F1', 'Show the shortcuts', 'Help'),
)
# Bound on the prompt layers only: on a Labels layer they are napari's own undo.
LAYER_SHORTCUTS = (
    Shortcut('undo', 'Control-Z', 'Undo prompt or commit', 'Prompts'),
    Shortcut('redo', 'Control-Shift-Z', 'Redo', 'Prompts'),
)


def tooltip(action: str, shortcuts: Iterable[Shortcut] = SHORTCUTS) -> str:
    """What an action does and its key, for a tooltip."""
    for shortcut in shortcuts:
        if shortcut.action == action:
            key = f' ({key_text(shortcut.key)})' if shortcut.key else ''
            return shortcut.title + key
    raise KeyError(action)


def key_text(key: str) -> str:
    """A key as this computer's keyboard names it."""
    if sys.platform == 'darwin':
        return key.replace('Control', 'Command').replace('Alt', 'Option')
    return key


def how_to(shortcuts: Iterable[Shortcut] = SHORTCUTS) -> tuple[str, ...]:
    """Five sentences on how to work, with the keys in force."""
    keys = {s.action: f' ({s.key})' if s.key else '' for s in shortcuts}
    return (
        (
            'Click: click inside the object. Where the mask is too large, switch to '
            f'outside{keys["toggle_polarity"]} and click there.'
        ),
        f'Box: drag a box around the object{keys["use_box"]}.',
        (
            f'Lasso: draw around the object{keys["use_lasso"]}, or scribble along it'
            f'{keys["use_scribble"]}.'
        ),
        f'Commit: make the mask a label{keys["commit"]}, then click the next object.',
        (
            'Edit: point at a committed object and reopen it with its prompts'
            f'{keys["reopen"]}.'
        ),
    )


def help_rows(
    shortcuts: Iterable[Shortcut] = SHORTCUTS,
) -> dict[Group, list[tuple[str, str]]]:
    """The lines of the help.

    Parameters
    ----------
    shortcuts : iterable of Shortcut
        Those in force.

    Returns
    -------
    dict
        For each group, pairs of keys and what they do; actions without a key have '–'.
    """
    found: dict[Group, dict[str, list[str]]] = {group: {} for group in GROUPS}
    for s in (*shortcuts, *LAYER_SHORTCUTS):
        found[s.group].setdefault(s.family or s.title, []).append(s.key)
    return {
        group: [
            (_joined([k for k in keys if k]), title) for title, keys in rows.items()
        ]
        for group, rows in found.items()
    }


def _joined(keys: list[str]) -> str:
    """Several keys as short as they can be read: 'Alt-1…9', 'Shift-Up, Down'."""
    if not keys:
        return '–'
    cut = keys[0][:-1].rfind('-') + 1
    modifiers, last = keys[0][:cut], [key[cut:] for key in keys]
    if not cut or [modifiers + name for name in last] != keys:
        return ', '.join(keys)
    if any('-' in name for name in last):
        return ', '.join(keys)
    if len(last) > 2 and ''.join(last) in '123456789':
        return f'{modifiers}{last[0]}…{last[-1]}'
    return modifiers + ', '.join(last)


def key_actions(actor: object, shortcuts: Iterable[Shortcut]) -> dict[str, KeyAction]:
    """Make the functions that napari calls for keys.

    Parameters
    ----------
    actor : object
        Has a method of each action's name, looked up when the key is pressed.
    shortcuts : iterable of Shortcut

    Returns
    -------
    dict
        Key in napari's notation to a function of the layer or viewer it is pressed on.
        Those of held actions are generator functions, which go on until released.
    """
    make: dict[bool, Callable[[object, str], KeyAction]] = {
        False: _key_action,
        True: _held_action,
    }
    return {
        _napari_key(s.key): make[s.held](actor, s.action) for s in shortcuts if s.key
    }


def unbind(owner: Any, actions: Mapping[str, KeyAction]) -> None:
    """Take these actions from the keys of a viewer or layer, and no one else's."""
    for key, action in list(owner.keymap.items()):
        # Another annotator may have taken a key over.
        if action in actions.values():
            owner.bind_key(key, None)


def _napari_key(key: str) -> str:
    # napari calls a Mac's Command key Meta.
    return key.replace('Control', 'Meta') if sys.platform == 'darwin' else key


def _key_action(actor: object, name: str) -> KeyAction:
    def act(_: Any) -> None:
        getattr(actor, name)()

    # napari shows the name of a bound function.
    act.__name__ = name
    return act


def _held_action(actor: object, name: str) -> KeyAction:
    # napari itself repeats no bound key that has modifiers.
    def act(_: Any) -> Iterator[None]:
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
            getattr(actor, name)()

        timer.timeout.connect(go_on)
        getattr(actor, name)()
        timer.start()
        try:
            yield
        finally:
            timer.stop()

    act.__name__ = name
    return act


def bound_shortcuts(
    changed: Mapping[str, str],
) -> tuple[tuple[Shortcut, ...], list[str]]:
    """Put the user's keys into the table.

    Parameters
    ----------
    changed : mapping of str to str
        Action to key; an empty key leaves the action without one.

    Returns
    -------
    shortcuts : tuple of Shortcut
        The whole table with the keys in force.
    refused : list of str
        A sentence for each key that is not valid, is napari's or is used twice; its
        action keeps the default.
    """
    from napari_kdsam.widgets.annotator.key_rules import napari_keys, read_key

    refused = [
        f'There is no action {name!r}, so its key {key!r} is ignored.'
        for name, key in changed.items()
        if name not in {s.action for s in SHORTCUTS}
    ]
    taken = napari_keys()
    bound: dict[str, Shortcut] = {}
    for default in SHORTCUTS:
        bound[default.action] = default
        wanted = changed.get(default.action, default.key)
        key, reason = read_key(wanted)
        if key != default.key and key in taken:
            reason = f"{key} is one of napari's own keys"
        if reason:
            refused.append(_refusal(reason, default))
        else:
            bound[default.action] = replace(default, key=key)
    while twice := _first_twice(bound):
        refuse, keep = twice
        default = next(s for s in SHORTCUTS if s.action == refuse.action)
        reason = f'{refuse.key} is already the key of "{keep.title}"'
        refused.append(_refusal(reason, default))
        bound[default.action] = default
    return tuple(bound.values()), refused


def _refusal(reason: str, default: Shortcut) -> str:
    return (
        f'{reason}, so "{default.title}" stays on {default.key}; choose another key in '
        'the preferences.'
    )


def _first_twice(bound: Mapping[str, Shortcut]) -> tuple[Shortcut, Shortcut] | None:
    """The first changed action whose key another one has, and that one."""
    unchanged = set(SHORTCUTS)
    # Defaults first, so that it is the changed key that is refused.
    ordered = sorted(bound.values(), key=lambda s: s not in unchanged)
    seen: dict[str, Shortcut] = {}
    for s in ordered:
        if s.key and s.key in seen:
            return s, seen[s.key]
        seen[s.key] = s
    return None
