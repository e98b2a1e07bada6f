"""The table of measurements in a real napari viewer."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fakes import LazyStack
from measure_window import MILLIMETRES, Measured, measuring_threads, two_objects


def test_objects_are_listed_in_the_unit_of_the_layer(measure):
    def add(viewer: Any) -> None:
        viewer.add_image(np.full((60, 80), 50, np.uint8), name='scan', **MILLIMETRES)
        viewer.add_labels(two_objects(), **MILLIMETRES)

    measured = measure(add)
    measured.wait_for('2', '9')
    first = measured.rows[0]
    assert first['Area\nmm²'] == '25.00'
    assert first['Mean'] == '50.00'
    assert (first['Row\npx'], first['Column\npx']) == ('14.50', '19.50')
    assert {'Perimeter\nmm', 'Long axis\nmm', 'Diameter\nmm'} <= set(first)
    assert not {'Class', 'Frame'} & set(first), 'nothing to say in these columns'
    assert '2 objects' in measured.table.status.text()


def test_without_a_unit_sizes_are_in_pixels_and_that_is_said(measure):
    measured = measure(lambda viewer: viewer.add_labels(two_objects()))
    measured.wait_for('2', '9')
    assert measured.rows[0]['Area\npx²'] == '200.0'
    assert 'Mean' not in measured.rows[0], 'there is no image'
    assert 'no unit' in measured.table.status.text()


def test_a_header_sorts_by_numbers_and_the_order_outlives_a_change(measure):
    from qtpy.QtCore import Qt

    labels = two_objects()
    labels[0, 0] = 10
    measured = measure(lambda viewer: viewer.add_labels(labels))
    measured.wait_for('2', '9', '10')
    measured.table.view.sortByColumn(0, Qt.SortOrder.DescendingOrder)
    assert measured.labels == ['10', '9', '2']
    area = [column.name for column in measured.table.model.columns].index('area')
    measured.table.view.sortByColumn(area, Qt.SortOrder.AscendingOrder)
    assert measured.labels == ['10', '9', '2']
    layer = measured.viewer.layers[0]
    layer.data_setitem(np.nonzero(np.ones((8, 50))), 11)
    measured.wait_for('9', '2', '11')


def test_a_click_on_a_row_goes_to_the_object_and_chooses_its_label(measure):
    def add(viewer: Any) -> None:
        viewer.add_labels(two_objects(), translate=(7, 3), **MILLIMETRES)

    measured = measure(add)
    measured.wait_for('2', '9')
    measured.click(1)
    assert measured.viewer.layers[0].selected_label == 9
    row, column = 44.5 * 0.5 + 7, 61.5 * 0.25 + 3
    assert np.allclose(measured.camera().center[-2:], (row, column))


def test_a_click_goes_to_the_frame_too_also_in_a_larger_viewer(measure):
    def add(viewer: Any) -> None:
        stack = np.zeros((5, 60, 80), np.uint16)
        stack[1], stack[3, 5:8, 5:8] = two_objects(), 4
        viewer.add_image(np.zeros((2, 5, 60, 80), np.uint8))
        viewer.add_labels(stack, scale=(2, 1, 1))

    measured = measure(add)
    measured.wait_for('2', '9', '4')
    assert [row['Frame'] for row in measured.rows] == ['1', '1', '3']
    assert '3 objects in 2 frames' in measured.table.status.text()
    measured.viewer.dims.set_point(0, 1)
    measured.click(2)
    assert measured.viewer.dims.point[:2] == (1, 6)
    assert np.allclose(measured.camera().center[-2:], (6, 6))
    assert measured.viewer.layers[1].selected_label == 4


def test_a_click_works_with_exchanged_axes_and_in_3d(measure):
    stack = np.zeros((5, 60, 80), np.uint16)
    stack[3, 20:23, 30:33] = 4
    measured = measure(lambda viewer: viewer.add_labels(stack))
    measured.wait_for('4')
    measured.viewer.dims.order = (1, 0, 2)
    measured.click(0)
    assert measured.viewer.dims.point[1] == 21
    assert np.allclose(measured.camera().center[-2:], (3, 31))
    measured.viewer.dims.order = (0, 1, 2)
    measured.viewer.dims.ndisplay = 3
    measured.camera().center = (0, 0, 0)
    measured.click(0)
    assert np.allclose(measured.camera().center, (3, 21, 31))


def test_going_to_an_object_raises_no_warning(measure, recwarn):
    measured = measure(lambda viewer: viewer.add_labels(two_objects()))
    measured.wait_for('2', '9')
    recwarn.clear()
    measured.click(0)
    found = [str(item.message) for item in recwarn if 'camera' in str(item.message)]
    assert not found


def test_the_chosen_row_stays_chosen_when_the_table_changes(measure):
    measured = measure(lambda viewer: viewer.add_labels(two_objects()))
    measured.wait_for('2', '9')
    measured.click(1)
    measured.viewer.layers[0].data_setitem((np.array([0]), np.array([0])), 1)
    measured.wait_for('1', '2', '9')
    chosen = measured.table.view.selectionModel().selectedRows()
    assert [index.row() for index in chosen] == [2]


def test_only_painted_frames_are_measured_again(measure):
    values = np.zeros((4, 60, 80), np.uint16)
    values[1] = two_objects()
    stack = LazyStack(values)
    measured = measure(lambda viewer: viewer.add_labels(stack))
    measured.wait_for('2', '9')
    assert stack.read_by_threads == [(0,), (1,), (2,), (3,)]
    stack.read_by_threads.clear()
    layer = measured.viewer.layers[0]
    with layer.block_history():
        layer.data_setitem((np.array([3]), np.array([5]), np.array([6])), 12)
    measured.wait_for('2', '9', '12')
    assert stack.read_by_threads == [(3,)]


def test_a_stroke_with_napari_s_brush_is_noticed(measure):
    stack = np.zeros((4, 60, 80), np.uint16)
    measured = measure(lambda viewer: viewer.add_labels(stack))
    measured.qtbot.waitUntil(
        lambda: 'No objects yet' in measured.table.status.text(), timeout=30_000
    )
    layer = measured.viewer.layers[0]
    layer.paint((2, 30, 30), 6)
    measured.wait_for('6')
    assert measured.rows[0]['Frame'] == '2'
    layer.fill((2, 30, 30), 7)
    measured.wait_for('7')


def test_other_data_another_scale_and_another_image_are_noticed(measure):
    measured = measure(lambda viewer: viewer.add_labels(two_objects()))
    measured.wait_for('2', '9')
    layer = measured.viewer.layers[0]
    layer.data = np.where(two_objects() == 2, 3, 0)
    measured.wait_for('3')
    layer.units, layer.scale = ('mm', 'mm'), (2, 2)
    measured.qtbot.waitUntil(
        lambda: measured.rows[0].get('Area\nmm²') == '800.0', timeout=30_000
    )
    measured.viewer.add_image(np.full((60, 80), 7.0))
    measured.qtbot.waitUntil(
        lambda: measured.rows[0].get('Mean') == '7.000', timeout=30_000
    )
    measured.table.image_choice.value = None
    measured.qtbot.waitUntil(lambda: 'Mean' not in measured.rows[0], timeout=30_000)
    measured.viewer.add_points([[0, 0]])
    measured.qtbot.wait(50)
    assert measured.table.image_choice.value is None, 'chosen, so it stays'


def test_refresh_notices_what_napari_does_not_announce(measure):
    measured = measure(lambda viewer: viewer.add_labels(two_objects()))
    measured.wait_for('2', '9')
    measured.viewer.layers[0].data[0, 0] = 5
    measured.table.refresh_button.click()
    measured.wait_for('2', '5', '9')


def test_classes_are_shown_copied_and_saved(measure, tmp_path: Path):
    from qtpy.QtWidgets import QApplication

    measured = measure(lambda viewer: viewer.add_labels(two_objects(), **MILLIMETRES))
    measured.wait_for('2', '9')
    measured.viewer.layers[0].name = 'Jane Doe'
    measured.viewer.layers[0].features = pd.DataFrame(
        {'index': [0, 9], 'class': ['', 'polyp']}
    )
    assert [row['Class'] for row in measured.rows] == ['', 'polyp']
    measured.table.copy_button.click()
    header, *lines = QApplication.clipboard().text().splitlines()
    assert header.split('\t')[:3] == ['Label', 'Class', 'Area mm²']
    assert [line.split('\t')[:3] for line in lines] == [
        ['2', '', '25.0'],
        ['9', 'polyp', '5.0'],
    ]
    path = tmp_path / 'out.csv'
    measured.table.save(path)
    measured.qtbot.waitUntil(
        lambda: 'Saved 2 objects to out.csv' in measured.table.status.text()
    )
    saved = pd.read_csv(path, keep_default_na=False)
    assert saved['class'].tolist() == ['', 'polyp']
    assert saved['area_mm2'].tolist() == [25, 5]
    assert 'Jane' not in path.read_text()


def test_a_file_that_cannot_be_written_is_said(measure, tmp_path: Path):
    measured = measure(lambda viewer: viewer.add_labels(two_objects()))
    measured.wait_for('2', '9')
    measured.table.save(tmp_path / 'nowhere' / 'out.csv')
    measured.qtbot.waitUntil(
        lambda: 'could not be written' in measured.table.status.text()
    )


def test_helper_layers_and_pyramids_are_not_offered(measure):
    from napari_kdsam.widgets.shared.layer_marks import HELPER_KEY

    def add(viewer: Any) -> None:
        viewer.add_labels(two_objects(), name='mine')
        pyramid = [two_objects(), two_objects()[::2, ::2]]
        viewer.add_labels(pyramid, name='pyramid', multiscale=True)
        viewer.add_labels(two_objects(), name='help', metadata={HELPER_KEY: True})
        viewer.add_image(np.zeros((30, 40)), name='other size')

    table = measure(add).table
    names = [layer.name for layer in table.labels_choice.choices if layer is not None]
    assert names == ['mine']
    assert table.image_choice.choices == (None,)


def test_the_table_beside_the_annotator_lists_what_is_committed(annotate, qtbot):
    from napari_kdsam.widgets.measure.dock import MeasureWidget

    session = annotate()
    table = MeasureWidget(session.viewer)
    session.viewer.window.add_dock_widget(table, name='Measure objects')
    assert table.labels_choice.value is None, 'the preview is not offered'
    session.click(60, 60)
    session.controller.objects.commit()
    measured = Measured(session.viewer, table, qtbot)
    measured.wait_for('1')
    session.click(60, 150)
    session.controller.objects.commit()
    measured.wait_for('1', '2')
    session.controller.undo()
    measured.wait_for('1')
    table.deleteLater()
    qtbot.waitUntil(lambda: not measuring_threads(), timeout=30_000)


def test_nothing_to_measure_is_said_and_later_layers_are_picked_up(measure):
    measured = measure()
    assert 'Labels layer' in measured.table.status.text()
    assert not measured.table.refresh_button.isEnabled()
    measured.viewer.add_labels(np.zeros((60, 80), int), name='late')
    status = measured.table.status
    measured.qtbot.waitUntil(lambda: 'No objects yet' in status.text(), timeout=30_000)
    assert not measured.table.save_button.isEnabled()
    measured.viewer.layers['late'].data = two_objects()
    measured.wait_for('2', '9')
    measured.viewer.layers.remove('late')
    measured.wait_for()
    assert 'Labels layer' in status.text()


def test_labels_that_cannot_be_read_are_said(measure):
    stack = LazyStack(np.zeros((2, 60, 80), np.uint16), broken={0, 1})
    measured = measure(lambda viewer: viewer.add_labels(stack))
    measured.qtbot.waitUntil(
        lambda: 'the disk is gone' in measured.table.status.text(), timeout=30_000
    )


def test_the_latest_request_wins_and_no_change_is_lost(measure):
    values = np.zeros((3, 60, 80), np.uint16)
    values[2] = two_objects()
    stack = LazyStack(values)
    stack.gate.close()
    measured = measure(lambda viewer: viewer.add_labels(stack))
    assert stack.gate.reached.wait(30)
    measured.qtbot.wait(50)
    assert 'Measuring' in measured.table.status.text(), 'the window goes on'
    layer = measured.viewer.layers[0]
    for label, frame in ((3, 0), (4, 1)):
        layer.data_setitem((np.array([frame]), np.array([5]), np.array([6])), label)
        measured.qtbot.wait(400)
    seen = []
    measured.table.model.modelReset.connect(lambda: seen.append(measured.labels))
    stack.gate.open()
    measured.wait_for('3', '4', '2', '9')
    assert seen == [['3', '4', '2', '9']], 'answers out of date are not shown'


@pytest.mark.parametrize('way', ['dock', 'viewer'])
def test_closing_while_measuring_leaves_no_thread(way, measure, recwarn, caplog):
    stack = LazyStack(np.ones((500, 60, 80), np.uint16))
    stack.gate.close()
    measured = measure(lambda viewer: viewer.add_labels(stack))
    assert stack.gate.reached.wait(30)
    measured.viewer.layers[0].data_setitem((np.array([0]),) * 3, 2)
    if way == 'dock':
        measured.viewer.window.remove_dock_widget(measured.table)
        measured.table.deleteLater()
    else:
        measured.viewer.layers.clear()
        measured.table.parent().deleteLater()
    measured.qtbot.wait(400)
    stack.gate.open()
    measured.qtbot.waitUntil(lambda: not measuring_threads(), timeout=30_000)
    assert len(stack.read_by_threads) == 1, 'the frames that are left are not measured'
    assert not caplog.records
    measured.viewer.add_labels(two_objects())
    measured.qtbot.wait(50)


def test_a_file_is_written_although_the_dock_is_closed_meanwhile(measure, tmp_path):
    measured = measure(lambda viewer: viewer.add_labels(two_objects()))
    measured.wait_for('2', '9')
    measured.table.save(tmp_path / 'out.csv')
    measured.viewer.window.remove_dock_widget(measured.table)
    measured.table.deleteLater()
    measured.qtbot.waitUntil(lambda: not measuring_threads(), timeout=30_000)
    assert len(pd.read_csv(tmp_path / 'out.csv')) == 2


def test_an_open_table_does_not_keep_deleted_layers(measure):
    class Array(np.ndarray):
        """Can be referred to weakly."""

    def add(viewer: Any) -> None:
        viewer.add_image(np.zeros((60, 80)).view(Array), name='scan')
        viewer.add_labels(two_objects().view(Array), name='labels')

    measured = measure(add)
    measured.wait_for('2', '9')
    measured.click(0)
    held = [weakref.ref(layer) for layer in measured.viewer.layers]
    held += [weakref.ref(layer.data) for layer in measured.viewer.layers]
    measured.viewer.layers.clear()
    measured.wait_for()

    def let_go() -> bool:
        gc.collect()
        return not [ref() for ref in held if ref() is not None]

    measured.qtbot.waitUntil(let_go, timeout=10_000)


def test_it_is_in_the_layers_menu_and_opens_as_a_dock(make_napari_viewer_proxy, qtbot):
    from npe2 import PluginManager

    manager = PluginManager.instance()
    manager.discover()
    items = manager.menus().get('napari/layers/measure', [])
    assert 'napari-kdsam.measure' in [item.command for item in items]
    viewer = make_napari_viewer_proxy()
    _, table = viewer.window.add_plugin_dock_widget('napari-kdsam', 'Measure objects')
    qtbot.waitUntil(lambda: table.content is not None, timeout=60_000)
    assert type(table.content).__name__ == 'MeasureWidget'
    table.deleteLater()
