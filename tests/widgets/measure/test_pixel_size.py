"""Pixel sizes by number and by a line, and fetal heads, in a real viewer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from annotator_window import show_canvas
from measure_window import MILLIMETRES, two_objects
from PIL import Image

from napari_kdsam.core.ellipse import Ellipse


def scan(viewer: Any) -> None:
    viewer.add_image(np.zeros((60, 80), np.uint8), name='scan')
    viewer.add_labels(two_objects(), name='mine')
    viewer.add_labels(two_objects(), name='hers')
    viewer.add_labels(np.zeros((30, 30), np.uint8), name='of another image')
    viewer.layers.selection.active = viewer.layers['mine']


def test_a_pixel_size_is_set_by_a_number_for_the_image_and_its_labels(measure):
    measured = measure(scan)
    measured.wait_for('2', '9')
    row = measured.table.pixel_size
    assert row.text.text() == 'not known'
    row.set_button.click()
    row.length.setValue(0.5)
    row.apply_button.click()
    measured.qtbot.waitUntil(lambda: measured.rows[0].get('Area\nmm²') == '50.00')
    assert row.text.text() == '0.5 mm'
    layers = measured.viewer.layers
    for name in ('scan', 'mine', 'hers'):
        np.testing.assert_allclose(layers[name].scale, (0.5, 0.5))
        assert {str(unit) for unit in layers[name].units} == {'millimeter'}
    np.testing.assert_allclose(layers['of another image'].scale, (1, 1))


def test_a_size_that_the_file_gives_is_shown(measure):
    measured = measure(lambda viewer: viewer.add_labels(two_objects(), **MILLIMETRES))
    measured.wait_for('2', '9')
    assert measured.table.pixel_size.text.text() == '0.5 × 0.25 mm'


def test_a_pixel_size_is_set_by_a_line_drawn_with_the_mouse(measure):
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest

    measured = measure(scan)
    measured.wait_for('2', '9')
    row, viewer = measured.table.pixel_size, measured.viewer
    canvas = show_canvas(viewer, measured.qtbot)
    row.set_button.click()
    row.draw_button.click()
    row.apply_button.click()
    assert 'Drag' in row.hint.text(), 'nothing was drawn yet'
    start, end = canvas.at(50, 20), canvas.at(50, 60)
    canvas.move(start)
    QTest.mousePress(canvas.native, Qt.MouseButton.LeftButton, pos=start)
    canvas.move((start + end) / 2)
    canvas.move(end)
    QTest.mouseRelease(canvas.native, Qt.MouseButton.LeftButton, pos=end)
    measured.qtbot.waitUntil(lambda: 'pixels long' in row.hint.text())
    row.length.setValue(2.0)
    row.unit.setCurrentText('cm')
    row.apply_button.click()
    size = viewer.layers['mine'].scale[-1]
    # A pixel of the canvas is a fifth of one of the image here.
    assert size == pytest.approx(2 / 40, rel=0.03)
    assert row.text.text().endswith(' cm')
    assert [layer.name for layer in viewer.layers if 'scale bar' in layer.name] == []
    assert viewer.layers.selection.active == viewer.layers['mine']


@pytest.mark.parametrize(
    'way', ['cancel', 'choose other labels', 'delete the line', 'close the panel']
)
def test_a_line_that_is_given_up_leaves_nothing(measure, way: str):
    measured = measure(scan)
    measured.wait_for('2', '9')
    row, layers = measured.table.pixel_size, measured.viewer.layers
    row.set_button.click()
    row.draw_button.click()
    line = next(layer for layer in layers if 'scale bar' in layer.name)
    if way == 'cancel':
        row.cancel_button.click()
    elif way == 'delete the line':
        layers.remove(line)
        row.cancel_button.click()
    elif way == 'close the panel':
        measured.viewer.window.remove_dock_widget(measured.table)
        measured.qtbot.waitUntil(lambda: line not in layers)
        return
    else:
        measured.table.labels_choice.value = layers['hers']
    measured.wait_for('2', '9')
    assert line not in layers
    assert not row.apply_button.isVisible()
    np.testing.assert_allclose(layers['mine'].scale, (1, 1))


def test_a_stack_keeps_the_steps_of_its_frames(measure):
    def add(viewer: Any) -> None:
        labels = np.stack([two_objects()] * 2)
        viewer.add_image(np.zeros(labels.shape, np.uint8), scale=(3, 1, 1))
        viewer.add_labels(labels, scale=(3, 1, 1), translate=(0, 10, 4))

    measured = measure(add)
    measured.wait_for('2', '9', '2', '9')
    measured.table.pixel_size.set_button.click()
    measured.table.pixel_size.length.setValue(0.1)
    measured.table.pixel_size.apply_button.click()
    for layer in measured.viewer.layers:
        np.testing.assert_allclose(layer.scale, (3, 0.1, 0.1))
    np.testing.assert_allclose(measured.viewer.layers[1].translate, (0, 1, 0.4))


def test_a_drawn_head_with_a_scale_is_measured_to_within_a_percent(
    measure, tmp_path: Path
):
    # A ruler of 100 pixels for 50 mm.
    picture = np.zeros((300, 360), np.uint8)
    picture[280, 20:120] = 255
    head = Ellipse(140, 180, 100, 75, 0.4).mask(picture.shape)
    picture[head] = 90
    path = tmp_path / 'head.png'
    Image.fromarray(picture).save(path)

    def add(viewer: Any) -> None:
        viewer.open(path, plugin='napari-kdsam')
        viewer.add_labels(head.astype(np.uint8), name='head')

    measured = measure(add)
    measured.wait_for('1')
    assert not {'HC\npx', 'Age\nweeks'} & set(measured.rows[0])
    row = measured.table.pixel_size
    row.set_button.click()
    row.draw_button.click()
    line = next(x for x in measured.viewer.layers if 'scale bar' in x.name)
    line.add_lines([[280, 20], [280, 120]])
    row.length.setValue(50)
    row.apply_button.click()
    measured.table.heads.click()
    measured.qtbot.waitUntil(lambda: 'HC\nmm' in measured.rows[0], timeout=30_000)
    shown = {name.split('\n')[0]: value for name, value in measured.rows[0].items()}
    assert float(shown['OFD']) == pytest.approx(100, rel=0.01)
    assert float(shown['BPD']) == pytest.approx(75, rel=0.01)
    assert float(shown['HC']) == pytest.approx(276.4, rel=0.01)
    weeks = 8.96 + 0.54 * 27.64 + 0.0003 * 27.64**3
    assert float(shown['Age']) == pytest.approx(weeks, rel=0.01)
    saved = tmp_path / 'out.csv'
    measured.table.save(saved)
    measured.qtbot.waitUntil(saved.exists)
    table = pd.read_csv(saved)
    assert table['image'].tolist() == ['head.png']
    assert table['hc_mm'][0] == pytest.approx(276.4, rel=0.01)
    assert table['gestational_age_weeks'][0] == pytest.approx(weeks, rel=0.01)
    measured.table.heads.click()
    measured.qtbot.waitUntil(lambda: 'HC\nmm' not in measured.rows[0], timeout=30_000)
