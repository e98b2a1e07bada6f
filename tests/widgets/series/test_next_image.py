"""Nothing of an image is left when the next one takes over its layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from annotator_window import Canvas
from PIL import Image
from series_window import Walking, draw, shape_of

from napari_kdsam.series.label_files import read_label_file


def layers_of(day: Walking) -> tuple[Any, Any]:
    return day.walk._image, day.walk._labels


def assert_fresh(day: Walking, number: int) -> None:
    """The image in view is as if it were the first one that is opened."""
    workspace = day.annotator.workspace
    image, labels = layers_of(day)
    shape = shape_of(number)
    pixels = np.random.default_rng(number).integers(0, 255, shape, np.uint8)
    np.testing.assert_array_equal(image.data, pixels)
    assert image.name == f'img{number}'
    assert image.metadata['source'].endswith(f'img{number}.png')
    assert image.visible
    assert workspace.image is image
    assert list(workspace.records) == [image]
    state = workspace.session.state
    assert not state.drafts
    assert not state.objects
    assert len(workspace.layers.points.data) == 0
    assert len(workspace.layers.shapes.data) == 0
    assert workspace.layers.preview.data.shape == shape
    assert not workspace.layers.preview.data.any()
    assert workspace.shown is None
    assert workspace.target_layer is labels
    assert labels.name == f'img{number} labels'
    assert labels.data.shape == shape
    assert not labels.data.any()
    assert [*labels.features['index']] == [0]
    day.annotator.controller.undo()
    labels.undo()
    labels.redo()
    day.annotator.controller.redo()
    assert not labels.data.any()
    assert not workspace.session.state.drafts


def saved(folder: Path, number: int) -> np.ndarray:
    path = folder / 'labels' / f'img{number}_labels.png'
    return np.asarray(read_label_file(path, '', shape_of(number)).labels)


def test_the_next_image_begins_with_nothing_of_the_one_before(walking, folder):
    day = walking()
    day.open(folder)
    before = layers_of(day)
    workspace = day.annotator.workspace
    for number in range(3):
        if number:
            assert_fresh(day, number)
        image, labels = layers_of(day)
        assert (image, labels) == before, 'the layers were not used again'
        day.point()
        day.annotator.controller.objects.commit()
        # A stroke of napari's own, an undone commit, and a prompt left open.
        labels.data_setitem((np.array([3]), np.array([4])), 9)
        day.point(10, 12)
        day.annotator.controller.objects.commit()
        day.annotator.controller.undo()
        image.contrast_limits = (10, 20)
        labels.selected_label, labels.show_selected_label = 9, True
        image.visible = False
        image.visible = True
        day.qtbot.waitUntil(lambda: workspace.shown is not None, timeout=30_000)
        day.walk.next()
        day.settle()
    assert_fresh(day, 3)
    assert [*layers_of(day)[0].contrast_limits] == [0, 255]
    assert not layers_of(day)[1].show_selected_label
    day.walk.previous()
    day.settle()
    _, labels = layers_of(day)
    np.testing.assert_array_equal(labels.data, saved(folder, 2))
    assert labels.data[30, 40] == 1
    labels.undo()
    day.annotator.controller.undo()
    np.testing.assert_array_equal(labels.data, saved(folder, 2))
    for number in range(3):
        assert saved(folder, number)[3, 4] == 9
        assert saved(folder, number).shape == shape_of(number)
    assert not (folder / 'labels' / 'img3_labels.png').exists()


def test_images_of_other_kinds_get_layers_of_their_own(walking, tmp_path):
    folder = tmp_path / 'scans'
    draw(folder / 'a.png', (60, 90), 1)
    draw(folder / 'b.png', (70, 80, 3), 2)
    Image.fromarray(np.full((50, 60), 4000, np.uint16)).save(folder / 'c.png')
    (folder / 'd.png').write_bytes(b'no picture')
    draw(folder / 'e.png', (40, 44), 5)
    day = walking()
    day.open(folder)
    seen = []
    for name, shape, dtype in (
        ('a', (60, 90), 'u1'),
        ('b', (70, 80, 3), 'u1'),
        ('c', (50, 60), 'u2'),
        ('e', (40, 44), 'u1'),
    ):
        image, labels = layers_of(day)
        assert (image.name, image.data.shape) == (name, shape)
        assert image.data.dtype == dtype
        assert day.images() == [name]
        assert not labels.data.any()
        assert image not in seen
        seen.append(image)
        day.point(20, 20)
        day.walk.next()
        day.settle()
    for name, shape in (('a', (60, 90)), ('b', (70, 80)), ('c', (50, 60))):
        path = folder / 'labels' / f'{name}_labels.png'
        assert read_label_file(path, '', shape).labels[20, 20] == 1


def test_next_three_times_fast_and_clicks_that_came_too_early_label_nothing_else(
    walking, folder
):
    from qtpy.QtCore import QEvent, QPointF, Qt
    from qtpy.QtGui import QMouseEvent
    from qtpy.QtWidgets import QApplication

    day = walking()
    canvas: Canvas = day.canvas()
    day.open(folder)
    spot = canvas.at(30, 40)
    day.point()
    posted = []

    def click_while_busy() -> None:
        # What the user did on the image before waits while the next one is brought.
        if day.walk.index != 1 or posted:
            return
        for kind, held in (
            (QEvent.Type.MouseButtonPress, Qt.MouseButton.LeftButton),
            (QEvent.Type.MouseButtonRelease, Qt.MouseButton.NoButton),
        ):
            posted.append(kind)
            event = QMouseEvent(
                kind,
                QPointF(spot),
                QPointF(canvas.native.mapToGlobal(spot)),
                Qt.MouseButton.LeftButton,
                held,
                Qt.KeyboardModifier.NoModifier,
            )
            QApplication.postEvent(canvas.native, event)

    day.walk.changed.connect(click_while_busy)
    for _ in range(3):
        canvas.key(Qt.Key.Key_PageDown)
    day.qtbot.waitUntil(lambda: day.walk.index == 1, timeout=30_000)
    day.settle()
    assert len(posted) == 2
    assert day.walk.index == 1
    assert 'came before' in day.annotator.workspace.status.text
    assert_fresh(day, 1)
    canvas.click(30, 40)
    day.qtbot.waitUntil(day.is_ready, timeout=30_000)
    day.walk.next()
    day.settle()
    assert saved(folder, 0)[30, 40] == 1
    assert saved(folder, 1)[30, 40] == 1
