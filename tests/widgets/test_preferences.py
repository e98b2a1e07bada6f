"""Tests of preferences: napari's own where it has them, a file elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from npe2 import PluginManifest

import napari_kdsam
from napari_kdsam.widgets import preferences
from napari_kdsam.widgets.preferences import (
    OUTPUTS,
    OVERLAPS,
    SAVE_AS,
    Preferences,
    load_preferences,
    on_change,
    preferences_file,
)
from napari_kdsam.widgets.shared.shortcuts import SHORTCUTS

MANIFEST = Path(napari_kdsam.__file__).with_name('napari.yaml')
DEFAULT = Preferences()


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of preferences of this test, in place of the user's."""
    folder = tmp_path / 'configuration'
    folder.mkdir()
    monkeypatch.setattr(preferences, 'user_config_path', lambda *_, **__: folder)
    return preferences_file()


@pytest.fixture
def old_napari(file: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file, with a napari that has no preferences for plugins."""
    import napari.settings

    monkeypatch.delattr(napari.settings, 'get_plugin_settings', raising=False)
    return file


@pytest.fixture
def own_settings(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Any]:
    """napari's settings of this plugin, kept in the test's folder."""
    import napari.settings

    if not hasattr(napari.settings, 'get_plugin_settings'):
        pytest.skip('this napari has no preferences for plugins')
    # Only a napari that has such preferences has this fixture.
    request.getfixturevalue('plugin_settings')
    request.getfixturevalue('npe2pm').register(PluginManifest.from_file(MANIFEST))
    return lambda: napari.settings.get_plugin_settings('napari-kdsam')


def test_without_a_file_the_defaults_are_used(old_napari):
    assert load_preferences() == (DEFAULT, [])


def test_the_file_of_an_older_napari_is_read(old_napari):
    wanted = {'device': 'cpu', 'autosave': False, 'keys': {'undo': 'Shift-B'}}
    old_napari.write_text(json.dumps(wanted))
    loaded, warnings = load_preferences()
    assert not warnings
    assert loaded == Preferences(**wanted)
    assert loaded != DEFAULT


@pytest.mark.parametrize(
    'content',
    [
        b'',
        b'{"device": "cpu"',
        b'[1, 2]',
        b'"cpu"',
        b'\xff\xfe\x00{',
        b'[' * 100_000,
    ],
)
def test_a_damaged_file_gives_the_defaults_and_one_warning(old_napari, content):
    old_napari.write_bytes(content)
    loaded, warnings = load_preferences()
    assert loaded == DEFAULT
    assert len(warnings) == 1
    assert str(old_napari) in warnings[0]
    assert 'correct or delete it' in warnings[0]


def test_a_value_that_cannot_be_used_leaves_the_others(old_napari):
    old_napari.write_text(
        json.dumps(
            {
                'device': 'abacus',
                'output': 'semantic',
                'colour': 'red',
                'keys': {'undo': 7, 'redo': 'Shift-B'},
            }
        )
    )
    loaded, warnings = load_preferences()
    assert loaded == Preferences(output='semantic', keys={'redo': 'Shift-B'})
    assert len(warnings) == 3
    for part in ("'device' cannot be 'abacus'", "no preference 'colour'", 'be 7'):
        assert sum(part in warning for warning in warnings) == 1


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    st.dictionaries(
        st.sampled_from([*Preferences.model_fields, 'unknown']),
        _VALUES | st.sampled_from(['cpu', 'keep', 'ask', 'instance']),
    )
)
def test_no_content_of_the_file_raises_and_good_values_are_kept(old_napari, content):
    old_napari.write_text(json.dumps(content))
    loaded, warnings = load_preferences()
    for name, value in content.items():
        if name != 'keys' and not any(repr(name) in text for text in warnings):
            assert Preferences(**{name: value}) == Preferences(
                **{name: getattr(loaded, name)}
            )


def test_the_manifest_has_the_models_defaults_and_choices_and_every_key():
    manifest = PluginManifest.from_file(MANIFEST)
    configurations = getattr(manifest.contributions, 'configurations', None)
    if not configurations:
        pytest.skip('this npe2 has no configurations of this kind')
    annotator = configurations['annotator'].properties
    defaults = {name: entry.default for name, entry in annotator.items()}
    assert set(defaults) == set(Preferences.model_fields) - {'keys'}
    words = {'overlap': OVERLAPS, 'output': OUTPUTS, 'save_as': SAVE_AS}
    for name, entry in annotator.items():
        values = words.get(name, {})
        defaults[name] = values.get(entry.default, entry.default)
        choices = get_args(Preferences.model_fields[name].annotation)
        if name == 'model':
            choices = ('kdsam', 'mobile_sam', 'sam_vit_b', 'sam_vit_l', 'sam_vit_h')
        assert tuple(values.get(words, words) for words in entry.enum or ()) == choices
        assert entry.title
        assert entry.description
    assert Preferences(**defaults) == DEFAULT
    keys = configurations['keys'].properties
    assert {name: entry.default for name, entry in keys.items()} == {
        s.action: s.key for s in SHORTCUTS
    }


def test_napari_keeps_and_gives_back_what_the_user_prefers(own_settings):
    assert load_preferences() == (DEFAULT, [])
    stored = own_settings()
    stored.annotator.overlap = 'Ask'
    stored.annotator.output = 'A label for each class'
    stored.annotator.prefetch = False
    stored.keys.undo = 'Shift-B'
    loaded, warnings = load_preferences()
    assert not warnings
    assert loaded == Preferences(
        overlap='ask', output='semantic', prefetch=False, keys={'undo': 'Shift-B'}
    )
    assert 'overlap: Ask' in stored.config_path.read_text()


@pytest.mark.parametrize(
    'content',
    [
        'annotator: {device: abacus, overlap: Ask}\n',
        'annotator: {colour: red, overlap: Ask}\n',
    ],
)
def test_a_bad_value_in_naparis_file_leaves_the_others(own_settings, tmp_path, content):
    (tmp_path / 'napari-kdsam.yaml').write_text(content)
    assert load_preferences()[0] == Preferences(overlap='ask')


@pytest.mark.parametrize(
    ('content', 'count'), [('annotator: [', 0), ('- 1\n- 2\n', 1), ('annotator: 3', 0)]
)
def test_a_damaged_file_of_napari_gives_the_defaults(
    own_settings, tmp_path, content, count
):
    (tmp_path / 'napari-kdsam.yaml').write_text(content)
    loaded, warnings = load_preferences()
    assert loaded == DEFAULT
    # What napari mends, it logs itself.
    assert len(warnings) == count


def test_a_plugin_that_napari_does_not_know_has_its_file_or_the_defaults(request, file):
    import napari.settings

    if hasattr(napari.settings, 'get_plugin_settings'):
        # No plugin is known in it.
        request.getfixturevalue('plugin_settings')
    assert load_preferences() == (DEFAULT, [])
    file.write_text('{"device": "cpu"}')
    assert load_preferences() == (Preferences(device='cpu'), [])
    assert on_change(lambda: None)() is None


def test_a_weights_file_is_started_with_and_a_model_that_is_not_here_is_said(
    old_napari, annotate, tmp_path
):
    weights = tmp_path / 'mine.safetensors'
    weights.write_bytes(b'')
    old_napari.write_text(json.dumps({'model_file': str(weights)}))
    assert annotate().widget.model_choice.value == str(weights)
    old_napari.write_text(json.dumps({'model': 'sam_vit_x'}))
    session = annotate()
    assert session.widget.model_choice.value == 'kdsam'
    assert "'sam_vit_x' is not on this computer" in session.workspace.status.text


def test_a_change_is_told_once_typing_has_paused_until_it_is_no_longer_wanted(
    own_settings, qtbot
):
    seen: list[str] = []
    stop = on_change(lambda: seen.append(load_preferences()[0].keys['undo']))
    for typed in ('S', 'Shift', 'Shift-', 'Shift-B'):
        own_settings().keys.undo = typed
        qtbot.wait(10)
    qtbot.waitUntil(lambda: bool(seen), timeout=10_000)
    assert seen == ['Shift-B']
    own_settings().keys.undo = 'F9'
    stop()
    own_settings().keys.undo = 'F10'
    qtbot.wait(800)
    assert seen == ['Shift-B']


def test_an_open_annotator_takes_over_what_is_changed_and_nothing_else(
    own_settings, annotate
):
    session = annotate()
    widget, frames = session.widget, session.controller.frames
    widget.contrast.setChecked(True)
    assert frames.prefetching
    own_settings().annotator.prefetch = False
    session.qtbot.waitUntil(lambda: not frames.prefetching, timeout=10_000)
    assert widget.contrast.isChecked(), 'chosen in the dock, and not changed here'
    own_settings().keys.undo = 'F9'
    session.qtbot.waitUntil(
        lambda: 'opened again' in session.workspace.status.text, timeout=10_000
    )


def test_naparis_preferences_dialog_has_a_page_that_changes_them(
    own_settings, make_napari_viewer_proxy, qtbot
):
    from qtpy.QtWidgets import QApplication, QDialog, QLineEdit, QListWidget

    viewer = make_napari_viewer_proxy()
    menu = viewer.window.file_menu
    next(a for a in menu.actions() if 'references' in a.text()).trigger()
    dialog = next(
        widget
        for widget in QApplication.topLevelWidgets()
        if isinstance(widget, QDialog) and widget.windowTitle() == 'Preferences'
    )
    pages = dialog.findChild(QListWidget)
    row = next(
        row for row in range(pages.count()) if pages.item(row).text() == 'KD SAM'
    )
    pages.setCurrentRow(row)
    field = next(
        edit
        for edit in dialog.findChildren(QLineEdit)
        if edit.text() == 'Shift-O' and edit.isVisibleTo(dialog)
    )
    field.setText('Shift-B')
    assert load_preferences()[0].keys == {'commit_overwriting': 'Shift-B'}
    dialog.reject()
    assert load_preferences()[0] == DEFAULT
