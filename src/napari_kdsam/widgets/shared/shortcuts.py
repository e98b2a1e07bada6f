"""The keys of all panels: one table for bindings, tooltips, help, preferences and docs.

Only keys that napari leaves free on every layer and in its menus are used.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

Group = Literal['Prompts', 'Mask', 'Objects', 'Frames', 'Series', 'Batch', 'Help']
GROUPS: tuple[Group, ...] = get_args(Group)
# Those of panels that may be open without the annotator.
_OTHER_PANELS: tuple[Group, ...] = ('Series', 'Batch')
ANNOTATOR = tuple(group for group in GROUPS if group not in _OTHER_PANELS)
CLASS_KEYS = 9
_CURSOR = 'Move the keyboard cursor; hold the key to go on'
_CLASSES = f'Class 1 to {CLASS_KEYS}'


@dataclass(frozen=True)
class Shortcut:
    """A key and what it does.

    Attributes
    ----------
    action : str
        Its name in the user's preferences.
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


def _class_shortcut(number: int) -> Shortcut:
    return Shortcut(
        f'class_{number}',
        f'Alt-{number}',
        f'Class {number}',
        'Objects',
        _CLASSES,
    )


def _cursor_shortcut(side: str) -> Shortcut:
    return Shortcut(
        f'cursor_{side.lower()}',
        f'Control-Shift-{side}',
        f'Move the keyboard cursor {side.lower()}',
        'Prompts',
        _CURSOR,
        held=True,
    )


SHORTCUTS = (
    Shortcut(
        'use_points',
        'G',
        'Points: click inside or outside',
        'Prompts',
    ),
    Shortcut(
        'use_box',
        'H',
        'Box: drag around the object',
        'Prompts',
    ),
    Shortcut(
        'use_scribble',
        'Shift-G',
        'Scribble: draw along the object',
        'Prompts',
    ),
    Shortcut(
        'use_lasso',
        'Shift-H',
        'Lasso: draw around the object',
        'Prompts',
    ),
    Shortcut(
        'toggle_polarity',
        'Q',
        'Next click: inside or outside',
        'Prompts',
    ),
    Shortcut(
        'place_point',
        'Alt-G',
        'Place a point at the cursor',
        'Prompts',
    ),
    _cursor_shortcut('Left'),
    _cursor_shortcut('Right'),
    _cursor_shortcut('Up'),
    _cursor_shortcut('Down'),
    Shortcut('undo', 'U', 'Undo prompt or commit', 'Prompts'),
    Shortcut('redo', 'J', 'Redo', 'Prompts'),
    Shortcut(
        'clear',
        'K',
        'Clear the prompts; a reopened object is deleted',
        'Prompts',
    ),
    Shortcut(
        'commit',
        'W',
        'Commit the mask as the next label',
        'Mask',
    ),
    Shortcut(
        'commit_overwriting',
        # Not Alt-W, which opens the Window menu.
        'Shift-O',
        'Commit over other labels',
        'Mask',
    ),
    Shortcut(
        'accept_likely', 'Shift-Y', 'Accept the likely objects that are shown', 'Mask'
    ),
    Shortcut(
        'hover_preview',
        'Shift-I',
        'Hover: show the mask that a click would give, or no longer',
        'Mask',
    ),
    Shortcut(
        'save_labels',
        'Shift-S',
        'Save the labels beside the image',
        'Mask',
    ),
    Shortcut(
        'next_candidate',
        'N',
        'Next candidate mask',
        'Mask',
    ),
    Shortcut(
        'refine',
        'Shift-N',
        'Refine: predict again from the mask shown',
        'Mask',
    ),
    Shortcut(
        'load_mask',
        'Shift-Q',
        'Use the label under the cursor as the mask prompt',
        'Mask',
    ),
    Shortcut(
        'reopen',
        'Shift-W',
        'Reopen the object under the cursor',
        'Objects',
    ),
    Shortcut(
        'delete_object',
        'Shift-K',
        'Delete the object under the cursor',
        'Objects',
    ),
    Shortcut(
        'join_objects',
        'Alt-J',
        'Join: the object under the cursor, and then another one',
        'Objects',
    ),
    Shortcut(
        'split_object',
        'Alt-K',
        'Split the object under the cursor along the last scribble',
        'Objects',
    ),
    Shortcut(
        'edit_contour',
        'Shift-E',
        'Contour: drag the corners of the object under the cursor, then commit',
        'Objects',
    ),
    Shortcut(
        'next_object',
        'Alt-Right',
        'Next object, large',
        'Objects',
    ),
    Shortcut(
        'previous_object',
        'Alt-Left',
        'Previous object, large',
        'Objects',
    ),
    Shortcut(
        'next_class',
        'Shift-C',
        'Next class',
        'Objects',
    ),
    Shortcut(
        'reclassify',
        'Shift-J',
        'Give the object under the cursor the class of the next object',
        'Objects',
    ),
    *(_class_shortcut(number) for number in range(1, CLASS_KEYS + 1)),
    Shortcut(
        'next_unfinished',
        # Left and Right alone are napari's keys for one frame back and on.
        'Shift-Right',
        'Next unfinished frame',
        'Frames',
    ),
    Shortcut(
        'previous_unfinished',
        'Shift-Left',
        'Previous unfinished frame',
        'Frames',
    ),
    Shortcut('next_image', 'PageDown', 'Commit, save, next image', 'Series'),
    Shortcut('previous_image', 'PageUp', 'Commit, save, image before', 'Series'),
    Shortcut('no_lesion', 'Shift-X', 'No lesion here; next image', 'Series'),
    Shortcut('mark_unsure', 'Shift-U', 'Unsure, or no longer', 'Series'),
    Shortcut(
        'mark_checked', 'Shift-T', 'Checked a second time, or no longer', 'Series'
    ),
    # Alt with F, H, L, P, V or W would open one of napari's menus.
    Shortcut('next_result', 'Alt-N', 'Next result', 'Batch'),
    Shortcut('previous_result', 'Alt-B', 'Result before', 'Batch'),
    Shortcut('accept_result', 'Alt-A', 'Accept the result in view; next', 'Batch'),
    Shortcut('reject_result', 'Alt-R', 'Reject the result in view; next', 'Batch'),
    Shortcut('undo_review', 'Alt-U', 'Take back the last accept or reject', 'Batch'),
    Shortcut('correct_result', 'Alt-E', 'Correct with Click to label', 'Batch'),
    Shortcut(
        'continue_from_here', 'Alt-O', 'Follow on from the frame in view', 'Batch'
    ),
    Shortcut(
        'show_help',
        # Not Alt-H, which opens the Help menu.
        'F1',
        'Show the shortcuts',
        'Help',
    ),
)


def shortcut_of(action: str, shortcuts: Iterable[Shortcut] = SHORTCUTS) -> Shortcut:
    """Find an action in the table; a KeyError if it is not there."""
    for shortcut in shortcuts:
        if shortcut.action == action:
            return shortcut
    raise KeyError(action)


# Bound on the prompt layers only: on a Labels layer they are napari's own undo.
LAYER_SHORTCUTS = (
    replace(shortcut_of('undo'), key='Control-Z'),
    replace(shortcut_of('redo'), key='Control-Shift-Z'),
)


def key_preferences() -> dict[str, Any]:
    """The keys of the table, as the manifest describes them for napari's preferences."""
    return {
        s.action: {'title': s.title, 'type': 'string', 'default': s.key}
        for s in SHORTCUTS
    }


def tooltip(action: str, shortcuts: Iterable[Shortcut] = SHORTCUTS) -> str:
    """What an action does and its key, for a tooltip."""
    shortcut = shortcut_of(action, shortcuts)
    key = f' ({key_text(shortcut.key)})' if shortcut.key else ''
    return shortcut.title + key


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


def bound_shortcuts(
    changed: Mapping[str, str], groups: Collection[Group] = GROUPS
) -> tuple[tuple[Shortcut, ...], list[str]]:
    """Put the user's keys into the table.

    Parameters
    ----------
    changed : mapping of str to str
        Action to key; an empty key leaves the action without one.
    groups : collection of str
        Which parts of the table to give, and to speak of.

    Returns
    -------
    shortcuts : tuple of Shortcut
        The table with the keys in force.
    refused : list of str
        A sentence for each key that is not valid, is napari's or is used twice; its
        action keeps the default.
    """
    from napari_kdsam.widgets.shared.key_rules import napari_keys, read_key

    refused: list[str] = []
    if 'Help' in groups:
        known = {s.action for s in SHORTCUTS}
        refused += [
            f'There is no action {name!r}, so its key {key!r} is ignored.'
            for name, key in changed.items()
            if name not in known
        ]

    def refuse(reason: str, default: Shortcut) -> None:
        if default.group in groups:
            refused.append(_refusal(reason, default))

    taken = napari_keys()
    bound: dict[str, Shortcut] = {}
    for default in SHORTCUTS:
        bound[default.action] = default
        wanted = changed.get(default.action, default.key)
        key, reason = read_key(wanted)
        if key != default.key and key in taken:
            reason = f"{key} is one of napari's own keys"
        if reason:
            refuse(reason, default)
        else:
            bound[default.action] = replace(default, key=key)
    while twice := _first_twice(bound):
        changed_one, keep = twice
        default = shortcut_of(changed_one.action)
        refuse(f'{changed_one.key} is already the key of "{keep.title}"', default)
        bound[default.action] = default
    return tuple(s for s in bound.values() if s.group in groups), refused


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
