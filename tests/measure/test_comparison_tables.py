"""Comparisons as tables, their summary and their file."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd

from napari_kdsam.measure.comparison import (
    compare_stack,
)
from napari_kdsam.measure.comparison_tables import (
    summary_of,
    tables_of,
    write_comparison,
)


def two_frames() -> tuple[np.ndarray, np.ndarray]:
    """Frames: a hit and a miss, nothing at all, a shifted object."""
    labels, reference = np.zeros((2, 3, 20, 30), np.uint8)
    labels[0, 2:6, 2:8] = reference[0, 2:6, 2:8] = 1
    reference[0, 12:15, 20:26] = 4
    labels[2, 5:9, 5:9], reference[2, 6:10, 5:9] = 2, 3
    return labels, reference


def test_a_stack_is_compared_frame_by_frame_and_put_into_tables():
    labels, reference = two_frames()
    found = list(compare_stack(labels, reference))
    objects, frames = tables_of(found, labels.shape[:1])
    assert objects[['frame', 'label', 'reference']].to_numpy().tolist() == [
        [0, 1, 1],
        [0, 0, 4],
        [2, 2, 3],
    ]
    assert objects['result'].tolist() == ['matched', 'missed', 'matched']
    assert objects['dice'].tolist() == [1, 0, 0.75]
    assert objects[['row', 'column']].to_numpy().tolist()[2] == [7, 6.5]
    assert frames['frame'].tolist() == [0, 1, 2]
    assert frames['missed'].tolist() == [1, 0, 0]
    assert np.allclose(frames['dice'], [2 * 24 / (24 + 42), 1, 0.75])
    assert frames['pixels'].tolist() == [24, 0, 16]


def test_the_summary_leaves_out_what_is_empty_in_both():
    labels, reference = two_frames()
    objects, frames = tables_of(list(compare_stack(labels, reference)), (3,))
    found = summary_of(frames)
    assert found.counted == 2
    assert math.isclose(found.mean.dice, (2 * 24 / 66 + 0.75) / 2)
    found = summary_of(objects)
    assert (found.worst.dice, found.worst.hd95) == (0, math.inf)
    assert (found.mean.hd95, found.without_distance) == (0.5, 1)
    nothing = np.zeros((4, 4), np.uint8)
    objects, frames = tables_of(list(compare_stack(nothing, nothing)))
    assert math.isnan(summary_of(frames).mean.dice)
    assert summary_of(objects).counted == 0


def test_the_file_names_unit_and_tolerance_and_nothing_else(tmp_path: Path):
    labels, reference = two_frames()
    objects, _ = tables_of(list(compare_stack(labels, reference)), (3,))
    write_comparison(tmp_path / 'out.csv', objects, 'µm', 0.25)
    saved = pd.read_csv(tmp_path / 'out.csv')
    assert list(saved.columns) == [
        'frame',
        'label',
        'reference',
        'result',
        'dice',
        'iou',
        'hd95_um',
        'nsd_at_0.25_um',
        'pixels',
        'reference_pixels',
        'row_px',
        'column_px',
    ]
    assert saved['hd95_um'].tolist() == [0, math.inf, 1]
