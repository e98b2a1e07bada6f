"""Text in tables does nothing to a spreadsheet, and numbers stay numbers."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pandas as pd

from napari_kdsam.measure.csv_table import write_csv


def test_text_is_no_formula_and_numbers_stay_as_they_are(tmp_path: Path):
    table = pd.DataFrame(
        {
            'name': ['=1+1', '-2', '@x', 'a\nb', None],
            'class': pd.Categorical(['+a', 'b', 'b', 'b', 'b']),
            'offset': [-1.5, np.inf, np.nan, 0.1, -0.0],
            'count': [-1, 2, 3, 4, 5],
            'drawn': [True, False, True, True, True],
        }
    )
    before = table.copy()
    write_csv(tmp_path / 'a.csv', table)
    pd.testing.assert_frame_equal(table, before)
    with (tmp_path / 'a.csv').open(encoding='utf-8', newline='') as file:
        _, *lines = csv.reader(file)
    assert lines == [
        ["'=1+1", "'+a", '-1.5', '-1', 'True'],
        ["'-2", 'b', 'inf', '2', 'False'],
        ["'@x", 'b', '', '3', 'True'],
        ['a\\nb', 'b', '0.1', '4', 'True'],
        ['', 'b', '-0.0', '5', 'True'],
    ]
