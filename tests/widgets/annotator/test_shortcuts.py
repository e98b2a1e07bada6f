"""Tests of the table of shortcuts: free keys, the user's keys, bindings, help, docs."""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_kdsam.widgets.annotator.shortcuts import ACTIONS, annotator_keys
from napari_kdsam.widgets.shared.key_bindings import key_actions
from napari_kdsam.widgets.shared.key_rules import napari_keys, read_key
from napari_kdsam.widgets.shared.shortcuts import (
    ANNOTATOR,
    LAYER_SHORTCUTS,
    SHORTCUTS,
    Shortcut,
    bound_shortcuts,
    help_rows,
    tooltip,
)

ROOT = Path(__file__).resolve().parents[3]
DEFAULTS = {s.action: s.key for s in SHORTCUTS}


class Recorder:
    """Stands for the controller, and remembers the actions that are done."""

    def __init__(self) -> None:
        self.called: list[str] = []

    def actions(self, shortcuts: tuple[Shortcut, ...] = SHORTCUTS) -> dict[str, Any]:
        acts = {s.action: partial(self.called.append, s.action) for s in shortcuts}
        return key_actions(acts, shortcuts)


def keys_of(shortcuts: tuple[Shortcut, ...]) -> dict[str, str]:
    return {s.action: s.key for s in shortcuts}


def test_no_default_key_is_one_of_napari_or_of_its_menus(make_napari_viewer_proxy):
    make_napari_viewer_proxy()
    taken = napari_keys()
    understood = {'P', 'Alt-Up', 'Shift-Up', 'Control-Z', 'Control-O', 'Alt-S', 'Alt-W'}
    if sys.platform == 'darwin':
        # A Mac's menus have no keys that open them.
        understood.remove('Alt-W')
    assert understood <= taken
    assert not taken & set(DEFAULTS.values())


def test_every_default_key_can_be_read_and_none_is_used_twice():
    assert [read_key(key) for key in DEFAULTS.values()] == [
        (key, '') for key in DEFAULTS.values()
    ]
    assert len(set(DEFAULTS.values())) == len(SHORTCUTS) == len(DEFAULTS)


def test_each_key_does_its_action_on_every_kind_of_layer(
    make_napari_viewer_proxy, qtbot
):
    from app_model.types import KeyBinding
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest
    from qtpy.QtWidgets import QApplication, QWidget

    viewer = make_napari_viewer_proxy(show=True)
    stack = np.zeros((3, 40, 60), np.uint8)
    viewer.add_image(stack)
    viewer.add_labels(stack)
    viewer.add_points(np.zeros((1, 3)))
    viewer.add_shapes(ndim=3)
    viewer.add_vectors(np.zeros((1, 2, 3)))
    viewer.add_tracks(np.array([[0, 0, 1, 1], [0, 1, 2, 2]], float))
    viewer.add_surface((np.eye(3), np.array([[0, 1, 2]])))
    recorder = Recorder()
    for key, action in recorder.actions().items():
        viewer.bind_key(key, action)
    canvas = next(
        widget
        for top in QApplication.topLevelWidgets()
        for widget in top.findChildren(QWidget)
        if 'CanvasBackend' in type(widget).__name__ and widget.isVisible()
    )
    wrong = []
    for layer in list(viewer.layers):
        viewer.layers.selection.active = layer
        before = tuple(viewer.dims.current_step)
        for s in SHORTCUTS:
            part = KeyBinding.from_str(s.key).parts[0]
            modifiers = Qt.KeyboardModifier.NoModifier
            for pressed, modifier in (
                (part.ctrl, Qt.KeyboardModifier.ControlModifier),
                (part.shift, Qt.KeyboardModifier.ShiftModifier),
                (part.alt, Qt.KeyboardModifier.AltModifier),
            ):
                modifiers |= modifier if pressed else Qt.KeyboardModifier.NoModifier
            recorder.called.clear()
            QTest.keyClick(canvas, getattr(Qt.Key, f'Key_{part.key}'), modifiers)
            if recorder.called != [s.action]:
                wrong.append((type(layer).__name__, s.key, list(recorder.called)))
        assert tuple(viewer.dims.current_step) == before
    assert not wrong


def test_every_action_of_the_table_can_be_done_on_an_image(annotate, monkeypatch):
    from qtpy.QtWidgets import QFileDialog

    # An image without a file asks where its labels go.
    monkeypatch.setattr(QFileDialog, 'getSaveFileName', lambda *_: ('', ''))
    session = annotate()
    session.click(60, 60)
    for act in ACTIONS.values():
        act(session.controller)
    session.settle()
    assert session.stage() != 'error'
    assert session.widget.help_window.isVisible()


@pytest.mark.parametrize(
    ('written', 'read'),
    [
        ('m', 'M'),
        ('SHIFT+M', 'Shift-M'),
        ('shift-control-pageup', 'Control-Shift-PageUp'),
        ('Option-1', 'Alt-1'),
        (' f5 ', 'F5'),
        ('Alt--', 'Alt--'),
        ('', ''),
        ('  ', ''),
    ],
)
def test_a_key_is_read_however_it_is_written(written, read):
    assert read_key(written) == (read, '')


def test_the_users_keys_take_the_place_of_the_defaults():
    changed = {'undo': 'shift+b', 'class_3': 'Alt-Q', 'next_class': ''}
    shortcuts, refused = bound_shortcuts(changed)
    assert not refused
    assert keys_of(shortcuts) == DEFAULTS | {
        'undo': 'Shift-B',
        'class_3': 'Alt-Q',
        'next_class': '',
    }
    assert tooltip('undo', shortcuts) == tooltip('undo').replace('(U)', '(Shift-B)')
    assert tooltip('next_class', shortcuts) == 'Next class'


def test_two_actions_can_exchange_their_keys():
    shortcuts, refused = bound_shortcuts({'undo': 'J', 'redo': 'U'})
    assert not refused
    assert keys_of(shortcuts) == DEFAULTS | {'undo': 'J', 'redo': 'U'}


@pytest.mark.parametrize(
    ('key', 'reason'),
    [
        ('Foo', 'is not a key'),
        ('Shift', 'is not a key'),
        ('Alt-', 'is not a key'),
        ('G K', 'is not a key'),
        ('Numpad1', 'is not a key'),
        ('é', 'is not a key'),
        ('Shift-1', 'Shift changes the character'),
        ('S', "S is one of napari's own keys"),
        ('alt+up', "Alt-Up is one of napari's own keys"),
        ('Shift-Down', "Shift-Down is one of napari's own keys"),
        ('Ctrl-Z', "Control-Z is one of napari's own keys"),
        ('W', 'W is already the key of "Commit the mask as the next label"'),
    ],
)
def test_a_key_that_cannot_be_had_is_refused_and_the_default_stays(key, reason):
    shortcuts, refused = bound_shortcuts({'undo': key})
    assert keys_of(shortcuts) == DEFAULTS
    assert len(refused) == 1
    assert reason in refused[0]
    assert '"Undo prompt or commit" stays on U' in refused[0]


def test_a_key_of_the_windows_menus_is_refused(make_napari_viewer_proxy):
    assert not bound_shortcuts({'undo': 'Alt-S'})[1]
    make_napari_viewer_proxy()
    shortcuts, refused = bound_shortcuts({'undo': 'Alt-S'})
    assert keys_of(shortcuts) == DEFAULTS
    assert "Alt-S is one of napari's own keys" in refused[0]


# napari warns of keys that its own dialog does not offer.
@pytest.mark.filterwarnings('ignore:.F12. does not seem to be:UserWarning')
def test_a_key_that_the_user_has_given_to_napari_is_refused():
    from napari.settings import get_settings

    shortcuts = get_settings().shortcuts
    # A key of no other test, because napari's windows do not forget it at once.
    before = dict(shortcuts.shortcuts)
    assert not bound_shortcuts({'undo': 'F12'})[1]
    try:
        shortcuts.shortcuts = before | {'napari:toggle_grid': ['F12']}
        assert (
            "F12 is one of napari's own keys" in bound_shortcuts({'undo': 'F12'})[1][0]
        )
    finally:
        shortcuts.shortcuts = before


def test_a_panel_hears_of_its_own_keys_only_and_gets_none_that_another_has():
    changed = {'next_image': 'W', 'commit': 'F9', 'undo': 'nothing', 'refine': 'Alt-N'}
    series, refused = bound_shortcuts(changed, ['Series'])
    assert {s.action: s.key for s in series}['next_image'] == 'W'
    assert refused == []
    shortcuts, refused = bound_shortcuts(changed | {'commit': 'W'}, ANNOTATOR)
    assert len(refused) == 2
    assert {s.action: s.key for s in shortcuts}['refine'] == 'Shift-N'
    series, (sentence,) = bound_shortcuts({'next_image': 'W'}, ['Series'])
    assert {s.action: s.key for s in series}['next_image'] == 'PageDown'
    assert 'Commit the mask' in sentence


def test_everything_in_the_annotators_table_is_done_by_something():
    shortcuts, _ = bound_shortcuts({}, ANNOTATOR)
    assert {s.action for s in shortcuts} == set(ACTIONS)


def test_an_unknown_action_is_said_and_ignored():
    shortcuts, refused = bound_shortcuts({'fly': 'F9'})
    assert shortcuts == SHORTCUTS
    assert refused == ["There is no action 'fly', so its key 'F9' is ignored."]


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(sorted(DEFAULTS)),
        st.sampled_from(sorted(DEFAULTS.values()))
        | st.sampled_from(['F5', 'f5', 'Shift-B', 'S', 'Up', 'nothing', '', 'Shift-1']),
    )
)
def test_whatever_the_user_wants_every_key_is_free_and_used_once(changed):
    shortcuts, refused = bound_shortcuts(changed)
    keys = keys_of(shortcuts)
    assert list(keys) == list(DEFAULTS)
    assert max(Counter(key for key in keys.values() if key).values()) == 1
    taken = napari_keys()
    kept = 0
    for action, key in keys.items():
        assert key not in taken
        wanted = read_key(changed.get(action, DEFAULTS[action]))
        assert (key, '') == wanted or key == DEFAULTS[action]
        kept += (key, '') != wanted
    assert len(refused) == kept


def test_what_the_controller_has_is_looked_up_only_when_a_key_is_pressed():
    controller = SimpleNamespace()
    shortcuts, _ = bound_shortcuts({}, ANNOTATOR)
    actions = annotator_keys(controller, shortcuts)  # type: ignore[arg-type]
    with pytest.raises(AttributeError, match='objects'):
        actions['W'](None)
    called = []
    controller.objects = SimpleNamespace(commit=lambda: called.append('commit'))
    actions['W'](None)
    assert called == ['commit']


def test_an_action_without_a_key_is_not_bound():
    shortcuts, _ = bound_shortcuts({'undo': ''})
    assert len(Recorder().actions(shortcuts)) == len(SHORTCUTS) - 1


def test_a_cursor_key_that_is_held_goes_on_until_it_is_released(qtbot):
    recorder = Recorder()
    press = recorder.actions()['Control-Shift-Left'](None)
    next(press)
    assert recorder.called == ['cursor_left']
    qtbot.waitUntil(lambda: len(recorder.called) >= 3, timeout=10_000)
    next(press, None)
    count = len(recorder.called)
    qtbot.wait(500)
    assert recorder.called == ['cursor_left'] * count


def test_a_held_key_stops_when_the_keyboard_goes_elsewhere(qtbot):
    from qtpy.QtWidgets import QApplication, QLineEdit, QVBoxLayout, QWidget

    window = QWidget()
    qtbot.addWidget(window)
    column = QVBoxLayout(window)
    first, second = QLineEdit(), QLineEdit()
    column.addWidget(first)
    column.addWidget(second)
    window.show()
    window.activateWindow()
    first.setFocus()
    qtbot.waitUntil(lambda: QApplication.focusWidget() is first, timeout=10_000)
    recorder = Recorder()
    press = recorder.actions()['Control-Shift-Up'](None)
    next(press)
    qtbot.waitUntil(lambda: len(recorder.called) >= 2, timeout=10_000)
    second.setFocus()
    count = len(recorder.called)
    qtbot.wait(500)
    assert len(recorder.called) == count
    press.close()


def test_on_a_mac_control_is_the_command_key(monkeypatch):
    monkeypatch.setattr(sys, 'platform', 'darwin')
    actions = Recorder().actions((*SHORTCUTS, *LAYER_SHORTCUTS))
    assert {'Meta-Z', 'Meta-Shift-Left', 'W'} <= set(actions)
    assert not any('Control' in key for key in actions)
    assert read_key('Cmd-B') == read_key('Ctrl-B') == ('Control-B', '')
    assert tooltip('place_point') == 'Place a point at the cursor (Option-G)'
    assert tooltip('cursor_up').endswith('(Command-Shift-Up)')


def test_the_help_has_one_line_for_the_keys_of_classes_and_one_for_those_of_the_cursor():
    rows = help_rows()
    assert list(rows) == [
        'Prompts',
        'Mask',
        'Objects',
        'Frames',
        'Series',
        'Batch',
        'Help',
    ]
    assert ('Alt-1…9', 'Class 1 to 9') in rows['Objects']
    assert 'Control-Shift-Left, Right, Up, Down' in dict(rows['Prompts'])
    assert ('U, Control-Z', 'Undo prompt or commit') in rows['Prompts']


def test_the_help_names_every_key_when_the_user_has_changed_one_of_several():
    shortcuts, _ = bound_shortcuts({'class_2': 'Alt-Y', 'reopen': ''})
    keys = {title: keys for keys, title in help_rows(shortcuts)['Objects']}
    assert keys['Class 1 to 9'] == 'Alt-1, Y, 3, 4, 5, 6, 7, 8, 9'
    shortcuts, _ = bound_shortcuts({'class_2': 'F9', 'reopen': ''})
    keys = {title: keys for keys, title in help_rows(shortcuts)['Objects']}
    assert keys['Class 1 to 9'].startswith('Alt-1, F9, Alt-3, Alt-4')
    assert keys['Reopen the object under the cursor'] == '–'


@pytest.mark.parametrize('name', ['page', 'manifest'])
def test_the_page_of_shortcuts_and_the_manifest_are_up_to_date(name):
    pytest.importorskip('yaml')
    script = ROOT / 'scripts' / 'make_reference.py'
    spec = importlib.util.spec_from_file_location('make_reference', script)
    assert spec is not None
    assert spec.loader is not None
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    path = {'page': reference.PAGE, 'manifest': reference.MANIFEST}[name]
    wanted = getattr(reference, name)()
    stale = f'{path.name} is out of date; run scripts/make_reference.py'
    assert path.read_text(encoding='utf-8') == wanted, stale
