"""What the keys of the annotator do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from napari_kdsam.widgets.shared.key_bindings import KeyAction, key_actions
from napari_kdsam.widgets.shared.shortcuts import CLASS_KEYS, Shortcut

if TYPE_CHECKING:
    from napari_kdsam.widgets.annotator.controller import AnnotationController

Act = Callable[['AnnotationController'], object]


def _use_class(number: int) -> Act:
    return lambda c: c.objects.use_class(number)


ACTIONS: Mapping[str, Act] = {
    'use_points': lambda c: c.tools.use_points(),
    'use_box': lambda c: c.tools.use_box(),
    'use_scribble': lambda c: c.tools.use_scribble(),
    'use_lasso': lambda c: c.tools.use_lasso(),
    'toggle_polarity': lambda c: c.tools.toggle_polarity(),
    'place_point': lambda c: c.cursor.place_point(),
    'undo': lambda c: c.undo(),
    'redo': lambda c: c.redo(),
    'clear': lambda c: c.clear(),
    'commit': lambda c: c.objects.commit(),
    'commit_overwriting': lambda c: c.objects.commit(overwrite=True),
    'accept_likely': lambda c: c.likely.accept(),
    'hover_preview': lambda c: c.hover.toggle(),
    'save_labels': lambda c: c.saver.save(),
    'next_candidate': lambda c: c.next_candidate(),
    'refine': lambda c: c.objects.refine(),
    'load_mask': lambda c: c.objects.load_mask_at(c.cursor.position),
    'reopen': lambda c: c.objects.reopen_at(c.cursor.position),
    'delete_object': lambda c: c.objects.delete_at(c.cursor.position),
    'join_objects': lambda c: c.edits.join_at(c.cursor.position),
    'split_object': lambda c: c.edits.split_at(c.cursor.position),
    'edit_contour': lambda c: c.contour.open_at(c.cursor.position),
    'next_object': lambda c: c.edits.show_next(1),
    'previous_object': lambda c: c.edits.show_next(-1),
    'next_class': lambda c: c.objects.next_class(),
    'reclassify': lambda c: c.objects.reclassify_current(c.cursor.position),
    'next_unfinished': lambda c: c.frames.go_to_unfinished(1),
    'previous_unfinished': lambda c: c.frames.go_to_unfinished(-1),
    'show_help': lambda c: c.show_help(),
    'cursor_left': lambda c: c.cursor.move(0, -1),
    'cursor_right': lambda c: c.cursor.move(0, 1),
    'cursor_up': lambda c: c.cursor.move(-1, 0),
    'cursor_down': lambda c: c.cursor.move(1, 0),
    **{f'class_{n}': _use_class(n) for n in range(1, CLASS_KEYS + 1)},
}


def annotator_keys(
    controller: AnnotationController, shortcuts: Iterable[Shortcut]
) -> dict[str, KeyAction]:
    """Make the functions that napari calls for keys; see `key_actions`."""
    acts = {name: partial(act, controller) for name, act in ACTIONS.items()}
    return key_actions(acts, shortcuts)
