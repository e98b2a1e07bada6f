"""The table of both docks: how numbers are shown and rows sorted."""

from __future__ import annotations

import math

import pandas as pd
import pytest
from qtpy.QtCore import QPersistentModelIndex, Qt

from napari_kdsam.widgets.shared.sortable_table import (
    ObjectPlace,
    SortableTable,
    TableColumn,
    format_value,
)

COLUMNS = (
    TableColumn('Frame', 'frame', 'Which frame'),
    TableColumn('Label', 'label', 'Which object'),
    TableColumn('Area', 'area', 'How large', '{}²'),
    TableColumn('Class', 'class', 'What it is', words=True),
)
ROWS = {
    'frame': [0, 0, 1, 1],
    'label': [9, 10, 2, 3],
    'area': [25.0, math.nan, 4.5, 25.0],
    'class': ['', 'b', 'a', 'b'],
    'row': [1, 2, 3, 4],
    'column': [5, 6, 7, 8],
}


@pytest.fixture
def table() -> SortableTable:
    filled = SortableTable(COLUMNS)
    filled.fill(pd.DataFrame(ROWS), 'mm', leading=1)
    return filled


def labels_of(table: SortableTable) -> list[str]:
    return [table.data(table.index(row, 1)) for row in range(table.rowCount())]


@pytest.mark.parametrize(
    ('value', 'text'),
    [
        (25.0, '25.00'),
        (1234567.8, '1234568'),
        (0.00123, '0.001230'),
        (-14.5, '-14.50'),
        (0.0, '0.000'),
        (math.nan, '–'),
        (math.inf, '∞'),
        (7, '7'),
        ((1, 2), '1, 2'),
        ('polyp', 'polyp'),
    ],
)
def test_numbers_have_four_digits_and_what_is_no_number_stays(value, text):
    assert format_value(value) == text


def test_scores_have_as_many_decimals_as_their_column_says():
    assert format_value(0.0504, 3) == '0.050'
    assert format_value(math.nan, 3) == '–'


@pytest.mark.parametrize(
    ('order', 'expected'),
    [
        (Qt.SortOrder.AscendingOrder, ['2', '9', '3', '10']),
        (Qt.SortOrder.DescendingOrder, ['9', '3', '2', '10']),
    ],
)
def test_what_is_unknown_comes_last_and_equals_keep_their_order(table, order, expected):
    table.sort(2, order)
    assert labels_of(table) == expected


def test_rows_stay_sorted_when_others_are_shown(table):
    table.sort(1, Qt.SortOrder.AscendingOrder)
    assert labels_of(table) == ['2', '3', '9', '10']
    table.fill(pd.DataFrame(ROWS).iloc[1:], 'mm', leading=1)
    assert labels_of(table) == ['2', '3', '10']
    table.fill(None, 'px', leading=1)
    assert labels_of(table) == []


def test_a_row_that_is_held_leads_to_its_place_after_sorting(table):
    held = QPersistentModelIndex(table.index(2, 0))
    table.sort(1, Qt.SortOrder.DescendingOrder)
    assert table.place(held.row()) == ObjectPlace((1,), 2, 3, 7)
    table.fill(pd.DataFrame(ROWS), 'mm', leading=0)
    assert table.place(0).frame == ()


def test_units_are_in_titles_and_nothing_is_rounded_as_text(table):
    assert table.headerData(2, Qt.Orientation.Horizontal) == 'Area\nmm²'
    table.sort(2, Qt.SortOrder.AscendingOrder)
    assert table.as_text([1, 2]).splitlines() == [
        'Label\tArea mm²',
        '2\t4.5',
        '9\t25.0',
        '3\t25.0',
        '10\t',
    ]
