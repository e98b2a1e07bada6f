"""Sizes of drawn objects, and the table that shows them in napari."""

from __future__ import annotations

import csv
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_kdsam.annotation.measurements import measure_frame, write_measurements


def ellipse(shape, centre, semi, pixel_size) -> np.ndarray:
    """Labels of an upright ellipse with physical semi-axes along rows and columns."""
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    down = (rows - centre[0]) * pixel_size[0] / semi[0]
    right = (columns - centre[1]) * pixel_size[1] / semi[1]
    return (down**2 + right**2 <= 1).astype(np.int32)


@settings(max_examples=25, deadline=None)
@given(st.floats(0.3, 2), st.floats(0.3, 2), st.floats(20, 45), st.floats(20, 45))
def test_ellipses_measure_what_they_were_drawn_with_whatever_the_pixels(
    height, width, tall, broad
):
    shape = (int(110 / height), int(110 / width))
    centre = (shape[0] / 2, shape[1] / 2)
    labels = ellipse(shape, centre, (tall, broad), (height, width))
    (found,) = measure_frame(labels, pixel_size=(height, width))
    assert found.area == pytest.approx(math.pi * tall * broad, rel=0.03)
    assert found.major_axis == pytest.approx(2 * max(tall, broad), rel=0.03)
    assert found.minor_axis == pytest.approx(2 * min(tall, broad), rel=0.03)
    h = ((tall - broad) / (tall + broad)) ** 2
    around = math.pi * (tall + broad) * (1 + 3 * h / (10 + math.sqrt(4 - 3 * h)))
    assert found.perimeter == pytest.approx(around, rel=0.04)
    assert found.row == pytest.approx(centre[0], abs=1)
    assert found.column == pytest.approx(centre[1], abs=1)


def test_a_hole_counts_for_the_perimeter_and_not_for_the_area():
    whole = ellipse((120, 120), (60, 60), (50, 50), (1, 1))
    holed = whole - ellipse((120, 120), (60, 60), (20, 20), (1, 1))
    (without,), (with_hole,) = measure_frame(whole), measure_frame(holed)
    assert with_hole.perimeter - without.perimeter == pytest.approx(
        40 * math.pi, rel=0.05
    )
    assert without.area - with_hole.area == pytest.approx(400 * math.pi, rel=0.03)


def test_intensities_are_means_under_the_object_without_nan():
    labels = np.zeros((6, 6), np.uint8)
    labels[1:3, 1:3] = 5
    image = np.full((6, 6), 100.0)
    image[1, 1:3] = [10, np.nan]
    image[2, 1:3] = [20, 30]
    (found,) = measure_frame(labels, image)
    assert found.mean_intensity == pytest.approx(20)
    (bare,) = measure_frame(labels)
    assert math.isnan(bare.mean_intensity)
    green = np.zeros((6, 6, 3), np.uint8)
    green[..., 1] = 100
    (coloured,) = measure_frame(labels, green)
    assert coloured.mean_intensity == pytest.approx(58.7)


def test_a_single_pixel_has_a_perimeter_and_no_objects_give_no_rows():
    labels = np.zeros((5, 5), np.uint8)
    assert measure_frame(labels) == []
    labels[2, 2] = 1
    (found,) = measure_frame(labels, pixel_size=(0.5, 0.25))
    assert found.perimeter == pytest.approx(1.5)
    assert found.area == pytest.approx(0.125)


def test_the_csv_names_units_and_has_every_object(tmp_path):
    labels = np.zeros((20, 20), np.uint8)
    labels[2:6, 2:6] = 1
    labels[10:14, 2:6] = 2
    rows = measure_frame(labels, frame=(3, 1), class_names={1: 'polyp'})
    path = tmp_path / 'found.csv'
    write_measurements(path, rows, 'mm')
    with path.open(newline='') as file:
        found = list(csv.DictReader(file))
    assert [row['label'] for row in found] == ['1', '2']
    assert [row['class'] for row in found] == ['polyp', '']
    assert found[0]['frame'] == '3.1'
    assert float(found[0]['area_mm2']) == 16
    assert list(tmp_path.iterdir()) == [path], 'no partial file is left'


@pytest.fixture
def table(make_napari_viewer_proxy, qtbot):
    """A viewer with a labelled stack of 2 x 0.5 mm pixels, and its table."""
    from napari_kdsam.widgets.measurement_table import MeasurementTable

    viewer = make_napari_viewer_proxy(show=False)
    labels = np.zeros((4, 60, 80), np.uint16)
    labels[0, 10:20, 10:30] = 1
    labels[2, 30:50, 40:44] = 2
    image = np.zeros((4, 60, 80), np.uint8)
    image[2] = 50
    options = {'scale': (1, 2, 0.5), 'units': ('pixel', 'mm', 'mm')}
    viewer.add_image(image, name='scan', **options)
    viewer.add_labels(labels, name='found', **options)
    widget = MeasurementTable(viewer)
    viewer.window.add_dock_widget(widget, name='Measure objects')
    qtbot.waitUntil(lambda: len(widget.model.rows) == 2, timeout=10_000)
    return viewer, widget


@pytest.mark.gui
def test_the_table_lists_objects_in_physical_units(table):
    _, widget = table
    first, second = widget.shown_rows()
    assert (first.label, second.label) == (1, 2)
    assert first.area == pytest.approx(200)
    assert second.frame == (2,)
    assert second.mean_intensity == 50
    assert widget.state.text() == '2 objects'
    assert 'mm' in widget.model.headerData(3, _horizontal(), _display())


def _horizontal():
    from qtpy.QtCore import Qt

    return Qt.Orientation.Horizontal


def _display():
    from qtpy.QtCore import Qt

    return Qt.ItemDataRole.DisplayRole


@pytest.mark.gui
def test_painting_is_measured_by_itself_and_columns_sort_as_numbers(table, qtbot):
    from qtpy.QtCore import Qt

    viewer, widget = table
    layer = viewer.layers['found']
    with layer.block_history():
        layer.data_setitem((np.array([3]), np.array([5]), np.array([5])), 12)
    qtbot.waitUntil(lambda: len(widget.model.rows) == 3, timeout=10_000)
    widget.table.sortByColumn(3, Qt.SortOrder.DescendingOrder)
    assert [row.label for row in widget.shown_rows()] == [1, 2, 12]
    widget.table.sortByColumn(0, Qt.SortOrder.DescendingOrder)
    assert [row.label for row in widget.shown_rows()] == [12, 2, 1]


@pytest.mark.gui
def test_a_click_on_a_row_goes_to_the_object(table):
    viewer, widget = table
    viewer.dims.set_point(0, 0)
    widget.table.clicked.emit(widget.sorted.index(1, 0))
    assert viewer.dims.current_step[0] == 2
    assert viewer.layers['found'].selected_label == 2


@pytest.mark.gui
def test_classes_of_the_labels_are_shown_and_saved(table, qtbot, tmp_path):
    import pandas as pd

    viewer, widget = table
    viewer.layers['found'].features = pd.DataFrame(
        {'index': [0, 1, 2], 'class': ['', 'head', 'femur']}
    )
    qtbot.waitUntil(
        lambda: [row.class_name for row in widget.model.rows] == ['head', 'femur'],
        timeout=10_000,
    )
    widget.save(tmp_path / 'out.csv')
    assert 'femur' in (tmp_path / 'out.csv').read_text()
    widget.save(tmp_path / 'missing' / 'out.csv')
    assert widget.state.text().startswith('Not saved')


@pytest.mark.gui
def test_without_labels_the_table_says_so(make_napari_viewer_proxy, qtbot):
    from napari_kdsam.widgets.measurement_table import MeasurementTable

    viewer = make_napari_viewer_proxy(show=False)
    widget = MeasurementTable(viewer)
    viewer.window.add_dock_widget(widget)
    qtbot.waitUntil(lambda: 'no labels' in widget.state.text(), timeout=10_000)


@pytest.mark.gui
def test_removing_the_labels_while_they_are_measured_raises_nothing(table, qtbot):
    viewer, widget = table
    widget.measure()
    viewer.layers.remove(viewer.layers['found'])
    qtbot.waitUntil(lambda: 'no labels' in widget.state.text(), timeout=10_000)
    assert widget.model.rows == []
