"""Likely objects as a start: seen, and saved only once they are accepted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import Qt
from series_window import shape_of

from napari_kdsam.segmentation.likely_objects import LikelyObject
from napari_kdsam.series.entries import ImageStatus
from napari_kdsam.series.label_files import read_label_file

LAYER = 'KD SAM likely objects'


@pytest.fixture
def finding(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Two objects in each image; what was looked at is listed."""
    looked: list[Any] = []

    def find(predictor: Any, embedding: Any, pixels: Any) -> tuple[LikelyObject, ...]:
        looked.append(pixels.shape)
        masks = np.zeros((2, *pixels.shape[:2]), bool)
        masks[0, 20:40, 30:50] = True
        masks[1, 35:50, 45:60] = True
        return (
            LikelyObject((20, 30, 40, 50), masks[0], 0.83, 0.9, 'polyp'),
            LikelyObject((35, 45, 50, 60), masks[1], 0.41, 0.8),
        )

    monkeypatch.setattr('napari_kdsam.segmentation.likely_objects.likely_objects', find)
    return looked


def begin(walking: Any, folder: Any) -> Any:
    day = walking()
    day.dock.likely.setChecked(True)
    day.open(folder)
    day.dock.likely.setChecked(True)
    wait_for_it(day)
    return day


def wait_for_it(day: Any) -> None:
    day.qtbot.waitUntil(lambda: LAYER in day.viewer.layers, timeout=30_000)


def test_they_are_off_by_default_and_the_switch_is_remembered(walking, folder, finding):
    first = walking()
    first.open(folder)
    assert not first.dock.likely.isChecked()
    first.qtbot.wait(100)
    assert not finding
    first.dock.likely.setChecked(True)
    wait_for_it(first)
    first.walk.close()
    assert LAYER not in first.viewer.layers
    first.qtbot.wait(100)
    assert walking().dock.likely.isChecked()


def test_what_is_not_accepted_is_never_saved(walking, folder, finding):
    day = begin(walking, folder)
    day.walk.next()
    day.settle()
    wait_for_it(day)
    assert day.status(0) is ImageStatus.new
    assert not list(folder.glob('labels/*.png'))
    day.walk.no_lesion()
    day.settle()
    assert day.status(1) is ImageStatus.no_lesion
    day.point(5, 5)
    assert LAYER not in day.viewer.layers
    day.walk.next()
    day.settle()
    made = read_label_file(folder / 'labels' / 'img2_labels.png', '', shape_of(2))
    assert set(np.unique(made.labels)) == {0, 1}


def test_one_key_accepts_them_with_the_names_of_what_was_found(
    walking, folder, finding
):
    day = begin(walking, folder)
    canvas = day.canvas()
    assert 'polyp (0.83), object (0.41)' in day.annotator.likely.text.text()
    canvas.key(Qt.Key.Key_Y, Qt.KeyboardModifier.ShiftModifier)
    day.qtbot.waitUntil(lambda: LAYER not in day.viewer.layers, timeout=30_000)
    labels = day.annotator.workspace.target_layer.data
    assert labels[25, 35] == 1
    assert labels[45, 55] == 2
    assert labels[37, 47] == 1, 'the surest keeps a shared pixel'
    canvas.key(Qt.Key.Key_PageDown)
    day.qtbot.waitUntil(lambda: day.walk.index == 1, timeout=30_000)
    assert dict(day.walk.series.entry(0).classes) == {1: 'polyp', 2: 'object'}
    names = [item.name for item in day.annotator.workspace.session.state.classes]
    assert names == ['object', 'polyp']


def test_undo_takes_all_of_them_back_and_shows_them_again(walking, folder, finding):
    day = begin(walking, folder)
    controller = day.annotator.controller
    classes = day.annotator.workspace.session.state.classes
    assert controller.likely.accept()
    controller.undo()
    assert not day.annotator.workspace.target_layer.data.any()
    assert day.annotator.workspace.session.state.classes == classes
    wait_for_it(day)
    controller.likely.dismiss()
    assert LAYER not in day.viewer.layers
    assert not controller.likely.accept()


def test_images_with_labels_and_other_models_are_left_alone(
    walking, folder, finding, monkeypatch
):
    day = begin(walking, folder)
    day.annotator.controller.likely.accept()
    day.walk.next()
    day.settle()
    wait_for_it(day)
    day.walk.previous()
    day.settle()
    day.qtbot.wait(100)
    assert LAYER not in day.viewer.layers

    def refuse(*_: Any) -> None:
        from napari_kdsam.core.errors import CheckpointError

        raise CheckpointError('Proposals need another model.')

    monkeypatch.setattr(
        'napari_kdsam.segmentation.likely_objects.likely_objects', refuse
    )
    day.walk.go_to(3)
    day.settle()
    day.qtbot.waitUntil(
        lambda: 'another model' in day.annotator.workspace.status.text, timeout=30_000
    )
