"""Comparing labels with a reference in a real napari viewer."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from napari_kdsam.io.label_images import write_labels
from napari_kdsam.measure.comparison import MISSED, WRONG

SHAPE = (4, 60, 80)
EXTRA = ['7 extra', '0.000', '∞', '0.000', '0.000', '–']


def reference_stack() -> np.ndarray:
    """An object in frames 0, 1 and 3, and a second one in frame 1."""
    stack = np.zeros(SHAPE, np.uint8)
    stack[0, 10:20, 10:30] = stack[1, 10:20, 10:30] = stack[3, 10:20, 10:30] = 1
    stack[1, 40:50, 60:70] = 2
    return stack


def labels_stack() -> np.ndarray:
    """Right in frame 0, one missed in 1, nothing in 2, shifted by 4 columns in 3."""
    stack = np.zeros(SHAPE, np.uint16)
    stack[0, 10:20, 10:30] = stack[1, 10:20, 10:30] = 7
    stack[3, 10:20, 14:34] = 7
    return stack


class HeldUp:
    """A lazy labels array that can hold up whoever reads it outside the window."""

    def __init__(self, values: np.ndarray) -> None:
        self._values = values
        self.shape, self.ndim, self.dtype = values.shape, values.ndim, values.dtype
        self.read = 0
        self.go, self.reading = threading.Event(), threading.Event()

    def __getitem__(self, index: Any) -> Any:
        if threading.current_thread() is not threading.main_thread():
            self.read += 1
            self.reading.set()
            assert self.go.wait(30)
        return self._values[index]

    def __setitem__(self, index: Any, value: Any) -> None:
        self._values[index] = value


@dataclass
class Compared:
    viewer: Any
    dock: Any
    qtbot: Any

    @property
    def rows(self) -> list[list[str]]:
        """What the list shows, without hidden columns."""
        model, view = self.dock.panel.view.contents, self.dock.panel.view
        places = [p for p in range(model.columnCount()) if not view.isColumnHidden(p)]
        return [
            [model.data(model.index(row, place)) for place in places]
            for row in range(model.rowCount())
        ]

    @property
    def said(self) -> str:
        return str(self.dock.panel.status.text())

    def wait(self, text: str) -> None:
        self.qtbot.waitUntil(lambda: text in self.said, timeout=30_000)

    def run(self) -> None:
        self.dock.panel.compare_button.click()
        self.qtbot.waitUntil(lambda: self.dock.found is not None, timeout=30_000)

    def click(self, row: int) -> None:
        from qtpy.QtCore import Qt
        from qtpy.QtTest import QTest

        view = self.dock.panel.view
        spot = view.visualRect(view.contents.index(row, 1)).center()
        QTest.mouseClick(view.viewport(), Qt.MouseButton.LeftButton, pos=spot)

    def centre(self) -> Any:
        return getattr(self.viewer, 'scene', self.viewer).camera.center[-2:]

    @property
    def errors(self) -> Any:
        return self.dock.overlay.layer


def comparing_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith('kdsam-comparing')]


@pytest.fixture
def compare(make_napari_viewer_proxy: Any, qtbot: Any) -> Any:
    """Open a viewer, let the test add layers, then open the dock."""
    from napari_kdsam.widgets.compare.dock import CompareWidget

    opened = []

    def open_dock(add: Callable[[Any], object] | None = None) -> Compared:
        viewer = make_napari_viewer_proxy(show=False)
        if add is not None:
            add(viewer)
        dock = CompareWidget(viewer)
        viewer.window.add_dock_widget(dock, name='Compare', area='right')
        dock.destroyed.connect(lambda _: opened.remove(dock))
        opened.append(dock)
        return Compared(viewer, dock, qtbot)

    yield open_dock
    for dock in list(opened):
        dock.deleteLater()
    qtbot.waitUntil(lambda: not comparing_threads(), timeout=30_000)


def stacks(viewer: Any, **options: Any) -> None:
    viewer.add_labels(reference_stack(), name='truth', **options)
    viewer.add_labels(labels_stack(), name='mine', **options)


def test_objects_are_listed_the_worst_first_in_pixels_without_a_unit(compare):
    compared = compare(stacks)
    assert compared.dock.panel.labels_choice.value.name == 'mine'
    assert compared.dock.panel.reference_choice.value.name == 'truth'
    compared.run()
    assert compared.rows == [
        ['1', 'missed', '0.000', '∞', '0.000', '0.000', '2'],
        ['3', '7', '0.800', '4.000', '0.714', '0.667', '1'],
        ['0', '7', '1.000', '0.000', '1.000', '1.000', '1'],
        ['1', '7', '1.000', '0.000', '1.000', '1.000', '1'],
    ]
    assert 'in pixels' in compared.said
    assert '3 matched, 1 missed, 0 extra' in compared.said
    means = [label.text() for label in compared.dock.panel.summary.means]
    assert means == ['0.700', '1.333', '0.679', '0.667']
    worst = [label.text() for label in compared.dock.panel.summary.worst]
    assert worst == ['0.000', '∞', '0.000', '0.000']


def test_distances_are_in_the_unit_of_the_layer(compare):
    compared = compare(
        lambda viewer: stacks(viewer, scale=(1, 0.5, 0.25), units=('s', 'mm', 'mm'))
    )
    assert compared.dock.panel.tolerance.suffix() == ' mm'
    assert compared.dock.panel.tolerance.value() == 1
    compared.run()
    assert compared.rows[1][3] == '1.000'
    assert compared.rows[1][4] == '1.000', 'as far as the tolerance'
    assert 'in pixels' not in compared.said
    compared.dock.panel.tolerance.setValue(0.9)
    assert 'compare again' in compared.said
    compared.run()
    assert float(compared.rows[1][4]) < 1


def test_frames_are_listed_too_and_empty_ones_left_out_of_the_mean(compare):
    compared = compare(stacks)
    compared.run()
    compared.dock.panel.list_choice.value = True
    assert [row[0] for row in compared.rows] == ['1', '3', '0', '2']
    assert compared.rows[0][5:] == ['1', '0', '1']
    assert '1 empty in both' in compared.said
    assert compared.dock.panel.summary.means[0].text() == '0.867'
    assert float(compared.rows[0][1]) == 0.8


def test_a_click_on_a_row_goes_to_its_frame_and_place(compare):
    compared = compare(stacks)
    compared.run()
    compared.click(0)
    assert compared.viewer.dims.point[0] == 1
    assert np.allclose(compared.centre(), (44.5, 64.5))
    compared.click(1)
    assert compared.viewer.dims.point[0] == 3
    assert np.allclose(compared.centre(), (14.5, 21.5))
    assert compared.viewer.layers['mine'].selected_label == 7
    compared.dock.panel.list_choice.value = True
    compared.click(0)
    assert compared.viewer.dims.point[0] == 1


def test_a_header_sorts_and_the_selection_stays_on_its_row(compare):
    from qtpy.QtCore import Qt

    compared = compare(stacks)
    compared.run()
    compared.click(0)
    compared.dock.panel.view.sortByColumn(0, Qt.SortOrder.DescendingOrder)
    assert [row[0] for row in compared.rows] == ['3', '1', '1', '0']
    chosen = compared.dock.panel.view.selectionModel().selectedRows()
    assert [compared.rows[index.row()][1] for index in chosen] == ['missed']


def test_errors_are_shown_frame_by_frame_without_a_copy(compare):
    compared = compare(stacks)
    compared.viewer.layers.selection.active = compared.viewer.layers['truth']
    compared.run()
    compared.dock.panel.errors_button.click()
    layer = compared.errors
    assert layer in compared.viewer.layers
    assert compared.viewer.layers.selection.active.name == 'truth'
    assert not isinstance(layer.data, np.ndarray)
    missed = reference_stack()[1] == 2
    assert ((np.asarray(layer.data[1]) == MISSED) == missed).all()
    compared.viewer.dims.set_point(0, 3)
    assert layer.get_value((3, 15, 12)) == MISSED
    assert layer.get_value((3, 15, 32)) == WRONG
    assert not layer.get_value((3, 15, 20))
    colours = {tuple(layer.colormap.map(value)) for value in (0, MISSED, WRONG)}
    assert len(colours) == 3
    assert 'missed' in layer.get_status((3, 15, 12), world=True)['value']
    compared.dock.panel.errors_button.click()
    assert compared.errors is None
    assert [layer.name for layer in compared.viewer.layers] == ['truth', 'mine']


def test_the_errors_follow_the_brush_and_the_place_of_the_labels(compare):
    compared = compare(stacks)
    compared.run()
    compared.dock.panel.errors_button.click()
    compared.viewer.dims.set_point(0, 2)
    layer, mine = compared.errors, compared.viewer.layers['mine']
    assert not layer.get_value((2, 30, 30))
    mine.paint((2, 30, 30), 6)
    assert 'compare again' in compared.said
    compared.qtbot.waitUntil(
        lambda: layer.get_value((2, 30, 30)) == WRONG, timeout=10_000
    )
    mine.translate = (0, 5, 5)
    assert tuple(layer.translate) == (0, 5, 5)


def test_a_deleted_layer_of_errors_can_be_shown_again(compare):
    compared = compare(stacks)
    compared.run()
    compared.dock.panel.errors_button.click()
    compared.viewer.layers.remove(compared.errors)
    button = compared.dock.panel.errors_button
    compared.qtbot.waitUntil(lambda: not button.isChecked(), timeout=10_000)
    assert len(compared.rows) == 4
    button.click()
    assert compared.errors in compared.viewer.layers
    names = [layer.name for layer in compared.dock.panel.labels_choice.choices if layer]
    assert names == ['truth', 'mine'], 'it is not offered as labels'


def test_labels_can_be_matched_by_their_values(compare):
    from napari_kdsam.measure.comparison import Matching

    compared = compare(stacks)
    compared.dock.panel.matching_choice.value = Matching.label
    compared.run()
    assert '0 matched, 4 missed, 3 extra' in compared.said
    assert [row[1:] for row in compared.rows].count(EXTRA) == 3
    compared.dock.panel.errors_button.click()
    assert (np.asarray(compared.errors.data[0]) == WRONG).sum() == 200


def test_of_equal_overlaps_the_one_further_away_comes_first(compare):
    from napari_kdsam.measure.comparison import Matching

    def add(viewer: Any) -> None:
        labels, truth = np.zeros((2, 60, 80), np.uint8)
        truth[5, 5:20], labels[15, 5:20] = 1, 1
        truth[30, 5:20], labels[50, 5:20] = 2, 2
        viewer.add_labels(truth, name='truth')
        viewer.add_labels(labels, name='mine')

    compared = compare(add)
    compared.dock.panel.matching_choice.value = Matching.label
    compared.run()
    assert [row[:3] for row in compared.rows] == [
        ['2', '0.000', '20.00'],
        ['1', '0.000', '10.00'],
    ]


def test_a_single_image_needs_no_frame(compare):
    def add(viewer: Any) -> None:
        viewer.add_labels(reference_stack()[3], name='truth')
        viewer.add_labels(labels_stack()[3], name='mine')

    compared = compare(add)
    compared.run()
    assert [row[0] for row in compared.rows] == ['7']
    compared.dock.panel.errors_button.click()
    assert compared.errors.get_value((15, 12)) == MISSED
    compared.click(0)
    assert np.allclose(compared.centre(), (14.5, 21.5))


def test_what_is_listed_is_saved(compare, tmp_path: Path):
    compared = compare(stacks)
    assert not compared.dock.panel.save_button.isEnabled()
    compared.run()
    compared.dock.save(tmp_path / 'objects.csv')
    compared.wait('Saved 4 objects to objects.csv')
    saved = pd.read_csv(tmp_path / 'objects.csv')
    assert saved['result'].tolist() == ['matched', 'matched', 'missed', 'matched']
    assert saved['hd95_px'].tolist() == [0, 0, np.inf, 4]
    assert 'nsd_at_2_px' in saved.columns
    assert 'mine' not in (tmp_path / 'objects.csv').read_text()
    compared.dock.panel.list_choice.value = True
    compared.dock.save(tmp_path / 'frames.csv')
    compared.wait('Saved 4 frames to frames.csv')
    assert pd.read_csv(tmp_path / 'frames.csv')['missed'].tolist() == [0, 1, 0, 0]
    compared.dock.save(tmp_path / 'nowhere' / 'out.csv')
    compared.wait('could not be written')


def test_shapes_that_differ_are_said_in_one_sentence(compare):
    def add(viewer: Any) -> None:
        viewer.add_labels(np.zeros((60, 90), int), name='other size')
        viewer.add_labels(labels_stack(), name='mine')

    compared = compare(add)
    assert compared.dock.panel.reference_choice.value is None, 'none fits'
    assert 'Choose a reference' in compared.said
    assert not compared.dock.panel.compare_button.isEnabled()
    compared.dock.panel.reference_choice.value = compared.viewer.layers['other size']
    compared.dock.panel.compare_button.click()
    assert '(4, 60, 80)' in compared.said and '(60, 90)' in compared.said
    assert compared.said.count('.') == 1
    assert not compared.dock.panel.cancel_button.isEnabled()


def test_a_folder_of_masks_is_a_reference(compare, tmp_path: Path):
    for number, frame in enumerate(reference_stack()):
        write_labels(tmp_path / f'frame_{number + 8}.png', frame)
    compared = compare(
        lambda viewer: viewer.add_labels(labels_stack(), scale=(1, 0.5, 0.5))
    )
    compared.dock.use_folder(tmp_path)
    compared.run()
    assert [row[0] for row in compared.rows] == ['1', '3', '0', '1']
    compared.dock.panel.errors_button.click()
    compared.viewer.dims.set_point(0, 3)
    assert compared.errors.get_value((3, 15, 12)) == MISSED
    (tmp_path / 'frame_9.png').unlink()
    compared.viewer.dims.set_point(0, 1)
    compared.wait('no file frame_9.png')
    compared.dock.panel.compare_button.click()
    compared.wait('3 masks for 4 frames')
    assert compared.rows == []
    assert compared.errors is None


def test_the_mask_named_like_the_image_is_the_reference(compare, tmp_path: Path):
    write_labels(tmp_path / 'scan_mask.png', reference_stack()[0])
    write_labels(tmp_path / 'other_mask.png', reference_stack()[1])

    def add(viewer: Any) -> None:
        viewer.add_image(np.zeros((60, 80), np.uint8), name='scan')
        viewer.add_labels(labels_stack()[0], name='Labels')

    compared = compare(add)
    compared.dock.use_folder(tmp_path)
    compared.run()
    assert [row[1] for row in compared.rows] == ['1.000']


def held_up(viewer: Any) -> None:
    viewer.add_labels(HeldUp(reference_stack()), name='truth')
    viewer.add_labels(labels_stack(), name='mine')


def test_comparing_can_be_cancelled_and_started_again(compare):
    compared = compare(held_up)
    truth = compared.viewer.layers['truth'].data
    compared.dock.panel.compare_button.click()
    assert truth.reading.wait(30)
    assert 'Comparing' in compared.said
    assert not compared.dock.panel.compare_button.isEnabled()
    compared.dock.panel.cancel_button.click()
    assert compared.said == 'Cancelled.'
    truth.go.set()
    compared.qtbot.wait(300)
    assert truth.read == 1, 'the frames that are left are not read'
    assert (compared.rows, compared.dock.found) == ([], None)
    compared.run()
    assert len(compared.rows) == 4


@pytest.mark.parametrize('name', ['truth', 'mine'])
@pytest.mark.parametrize('change', ['removed', 'painted', 'replaced'])
def test_a_layer_that_changes_while_comparing_ends_it(change, name, compare, caplog):
    compared = compare(held_up)
    layer = compared.viewer.layers[name]
    truth = compared.viewer.layers['truth'].data
    compared.dock.panel.compare_button.click()
    assert truth.reading.wait(30)
    if change == 'removed':
        compared.viewer.layers.remove(layer)
    elif change == 'painted':
        with layer.block_history():
            layer.data_setitem((np.array([3]), np.array([5]), np.array([6])), 2)
    else:
        layer.data = np.zeros((2, 60, 80), np.uint8)
    compared.wait('Stopped')
    truth.go.set()
    compared.qtbot.wait(300)
    assert truth.read == 1
    assert compared.rows == []
    assert 'Stopped' in compared.said
    assert not caplog.records


def test_rows_of_other_layers_are_not_kept(compare):
    compared = compare(stacks)
    compared.run()
    compared.dock.panel.errors_button.click()
    compared.viewer.layers.remove('truth')
    compared.wait('Choose a reference')
    assert (compared.rows, compared.errors) == ([], None)
    compared.viewer.add_labels(reference_stack(), name='again')
    compared.wait('Click Compare')
    assert compared.dock.panel.reference_choice.value.name == 'again'
    compared.viewer.layers.clear()
    compared.wait('add a Labels layer')


def test_the_dock_does_not_keep_deleted_layers(compare):
    class Array(np.ndarray):
        """Can be referred to weakly."""

    def add(viewer: Any) -> None:
        viewer.add_labels(reference_stack().view(Array), name='truth')
        viewer.add_labels(labels_stack().view(Array), name='mine')

    compared = compare(add)
    compared.run()
    compared.dock.panel.errors_button.click()
    compared.click(0)
    held = [weakref.ref(layer) for layer in compared.viewer.layers]
    held += [
        weakref.ref(compared.viewer.layers[name].data) for name in ('truth', 'mine')
    ]
    compared.viewer.layers.clear()

    def let_go() -> bool:
        gc.collect()
        return not [ref() for ref in held if ref() is not None]

    compared.qtbot.waitUntil(let_go, timeout=10_000)


def test_an_empty_pair_agrees(compare):
    def add(viewer: Any) -> None:
        viewer.add_labels(np.zeros((8, 8), int))
        viewer.add_labels(np.zeros((8, 8), int))

    compared = compare(add)
    compared.run()
    assert 'Neither has a label' in compared.said
    assert compared.dock.panel.summary.means[0].text() == '–'


def test_closing_while_comparing_leaves_no_thread(compare, caplog):
    compared = compare(held_up)
    truth = compared.viewer.layers['truth'].data
    compared.dock.panel.compare_button.click()
    assert truth.reading.wait(30)
    compared.viewer.window.remove_dock_widget(compared.dock)
    compared.dock.deleteLater()
    compared.qtbot.wait(100)
    truth.go.set()
    compared.qtbot.waitUntil(lambda: not comparing_threads(), timeout=30_000)
    assert truth.read == 1
    assert not caplog.records
    compared.viewer.add_labels(labels_stack())
    compared.qtbot.wait(50)


def test_it_is_in_the_measure_menu_and_opens_as_a_dock(make_napari_viewer_proxy, qtbot):
    from npe2 import PluginManager

    manager = PluginManager.instance()
    manager.discover()
    items = manager.menus().get('napari/layers/measure', [])
    assert 'napari-kdsam.evaluate' in [item.command for item in items]
    viewer = make_napari_viewer_proxy()
    _, dock = viewer.window.add_plugin_dock_widget(
        'napari-kdsam', 'Compare labels with a reference'
    )
    qtbot.waitUntil(lambda: dock.content is not None, timeout=60_000)
    assert type(dock.content).__name__ == 'CompareWidget'
    dock.deleteLater()
