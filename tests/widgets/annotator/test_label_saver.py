"""Labels are saved beside their image by one key, and nothing of others is replaced."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog, QMessageBox

from napari_kdsam.io.label_images import read_mask
from napari_kdsam.io.results import is_replaceable, is_result

PICTURE = np.random.default_rng(0).integers(0, 255, (120, 200), np.uint8)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Questions, all of which are answered by No."""
    texts: list[str] = []

    def answer(parent, title, text):
        texts.append(text)
        return QMessageBox.StandardButton.No

    monkeypatch.setattr(QMessageBox, 'question', answer)
    return texts


def opened(annotate, path: Path, pixels: np.ndarray = PICTURE):
    """The annotator on an image that a reader has opened from a file."""
    if path.suffix == '.png':
        Image.fromarray(pixels).save(path)
    else:
        path.write_bytes(b'')
    session = annotate(pixels, rgb=False, metadata={'source': str(path)})
    session.controller.saver.save_as = 'image'
    return session


def commit_at(session, *place: float) -> None:
    session.click(*place)
    session.controller.objects.commit()


def wait_until_saved(session) -> None:
    session.qtbot.waitUntil(
        lambda: session.workspace.status.text.startswith('Saved'), timeout=20_000
    )


def test_one_key_saves_beside_the_image_and_again_what_was_added(
    annotate, tmp_path, asked
):
    session = opened(annotate, tmp_path / 'polyp.png')
    commit_at(session, 60, 60)
    session.show_canvas().key(Qt.Key.Key_S, Qt.KeyboardModifier.ShiftModifier)
    wait_until_saved(session)
    path = tmp_path / 'polyp_labels.png'
    assert session.workspace.status.text == f'Saved polyp_labels.png in {tmp_path}.'
    with Image.open(path) as picture:
        assert np.array_equal(np.asarray(picture), session.labels)
    assert is_result(path), 'a batch would take it for an image'
    assert not is_replaceable(path), 'a batch would replace it'
    commit_at(session, 60, 150)
    session.widget.action_bar.save.click()
    wait_until_saved(session)
    assert read_mask(path)[60, 150] == 2
    assert not asked


def test_a_file_that_was_there_is_replaced_only_if_that_is_said(
    annotate, tmp_path, asked, monkeypatch
):
    path = tmp_path / 'polyp_labels.png'
    path.write_bytes(b'of an expert')
    session = opened(annotate, tmp_path / 'polyp.png')
    commit_at(session, 60, 60)
    session.widget.action_bar.save.click()
    assert path.name in asked[0]
    assert session.workspace.status.text == 'Not saved.'
    assert path.read_bytes() == b'of an expert'
    monkeypatch.setattr(
        QMessageBox, 'question', lambda *_: QMessageBox.StandardButton.Yes
    )
    session.widget.action_bar.save.click()
    wait_until_saved(session)
    assert read_mask(path)[60, 60] == 1
    # What somebody else writes in between is not ours any more.
    path.write_bytes(b'corrected elsewhere')
    monkeypatch.setattr(
        QMessageBox, 'question', lambda *_: QMessageBox.StandardButton.No
    )
    session.widget.action_bar.save.click()
    assert path.read_bytes() == b'corrected elsewhere'


def test_a_stack_is_one_file_or_one_for_each_frame(annotate, tmp_path, asked):
    session = opened(annotate, tmp_path / 'cine.mp4', np.stack([PICTURE] * 3))
    session.viewer.dims.set_current_step(0, 1)
    commit_at(session, 1, 60, 60)
    session.widget.action_bar.save.click()
    wait_until_saved(session)
    assert np.array_equal(tifffile.imread(tmp_path / 'cine_labels.tif'), session.labels)
    session.widget.save_choice.value = 'png frames'
    session.widget.action_bar.save.click()
    folder = tmp_path / 'cine_labels'
    session.qtbot.waitUntil(lambda: 'Saved 3 files' in session.workspace.status.text)
    names = [f'cine_labels_{n:04d}.png' for n in range(3)]
    assert sorted(path.name for path in folder.iterdir()) == names
    for frame, name in enumerate(names):
        with Image.open(folder / name) as picture:
            assert np.array_equal(np.asarray(picture), session.labels[frame])
    session.widget.save_choice.value = 'png'
    session.widget.action_bar.save.click()
    session.wait_for('error')
    assert '.tif' in session.workspace.status.text


def test_an_image_without_a_file_asks_for_a_name(annotate, tmp_path, monkeypatch):
    suggested = []

    def choose(parent, title, path, filters):
        suggested.append(Path(path).name)
        return str(tmp_path / 'mine'), filters

    monkeypatch.setattr(QFileDialog, 'getSaveFileName', choose)
    session = annotate(PICTURE)
    assert not session.widget.action_bar.save.isEnabled()
    session.controller.saver.save()
    assert 'no labels to save' in session.workspace.status.text
    commit_at(session, 60, 60)
    session.widget.action_bar.save.click()
    wait_until_saved(session)
    assert suggested == ['scan_labels.png']
    assert read_mask(tmp_path / 'mine.png')[60, 60] == 1


def test_what_cannot_be_written_is_said_and_another_place_is_asked_for(
    annotate, tmp_path, asked, monkeypatch
):
    session = opened(annotate, tmp_path / 'polyp.png')
    commit_at(session, 60, 60)
    (tmp_path / 'polyp_labels.png').mkdir()
    monkeypatch.setattr(
        QMessageBox, 'question', lambda *_: QMessageBox.StandardButton.Yes
    )
    session.widget.action_bar.save.click()
    session.wait_for('error')
    assert 'another place' in session.workspace.status.text
    other = tmp_path / 'other.png'
    monkeypatch.setattr(QFileDialog, 'getSaveFileName', lambda *_: (str(other), 'PNG'))
    session.widget.action_bar.save.click()
    wait_until_saved(session)
    assert read_mask(other)[60, 60] == 1


def test_the_chosen_format_is_remembered(annotate):
    from napari_kdsam.widgets.preferences import load_preferences

    session = annotate(PICTURE)
    session.widget.save_choice.value = 'tiff'
    assert load_preferences()[0].save_as == 'tiff'
    session.widget.save_choice.value = 'image'
    assert load_preferences()[0].save_as == 'image'
