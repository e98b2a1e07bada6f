"""Sizes and intensities of drawn objects of known size."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fakes import LazyStack
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_kdsam.core.errors import ImageError
from napari_kdsam.measure.measurements import (
    measure_frame,
    measure_stack,
    write_measurements,
)


def ellipse_mask(
    semi: tuple[float, float], pixel_size: tuple[float, float], shift: float = 0.0
) -> np.ndarray:
    """Mask of an upright ellipse with physical semi-axes along rows and columns."""
    reach = [math.ceil(s / p) + 2 for s, p in zip(semi, pixel_size, strict=True)]
    rows, columns = np.ogrid[: 2 * reach[0], : 2 * reach[1]]
    down = (rows - reach[0] + shift) * pixel_size[0] / semi[0]
    right = (columns - reach[1] + shift) * pixel_size[1] / semi[1]
    return down**2 + right**2 <= 1


def circumference(a: float, b: float) -> float:
    angle = np.linspace(0, 2 * np.pi, 20_001)
    outline = np.stack([a * np.cos(angle), b * np.sin(angle)])
    return float(np.hypot(*np.diff(outline)).sum())


def turned_rectangle(
    sides: tuple[float, float], degrees: float, pixel_size: tuple[float, float]
) -> np.ndarray:
    diagonal = math.hypot(*sides) / 2
    rows, columns = (math.ceil(diagonal / size) + 2 for size in pixel_size)
    y, x = np.mgrid[-rows : rows + 1, -columns : columns + 1]
    y, x = y * pixel_size[0], x * pixel_size[1]
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    along, across = x * cosine + y * sine, y * cosine - x * sine
    return (abs(along) <= sides[0] / 2) & (abs(across) <= sides[1] / 2)


def only(table: pd.DataFrame) -> Any:
    assert len(table) == 1
    return table.iloc[0]


@settings(deadline=None, max_examples=40)
@given(
    st.tuples(st.floats(20, 60), st.floats(20, 60)),
    st.tuples(st.floats(0.2, 1.5), st.floats(0.2, 1.5)),
    st.floats(0, 1),
)
def test_ellipses_have_their_size_whatever_the_extents_of_a_pixel(
    semi, pixel_size, shift
):
    found = only(
        measure_frame(
            ellipse_mask(semi, pixel_size, shift).astype(np.uint8), None, pixel_size
        )
    )
    assert found.area == pytest.approx(math.pi * semi[0] * semi[1], rel=0.02)
    assert found.perimeter == pytest.approx(circumference(*semi), rel=0.025)
    assert found.major_axis == pytest.approx(2 * max(semi), rel=0.02)
    assert found.minor_axis == pytest.approx(2 * min(semi), rel=0.02)
    diameter = 2 * math.sqrt(semi[0] * semi[1])
    assert found.equivalent_diameter == pytest.approx(diameter, rel=0.01)


@settings(deadline=None, max_examples=40)
@given(
    st.floats(0, 180),
    st.sampled_from([(1.0, 1.0), (1.0, 2.0), (0.2, 1.0), (2.0, 0.5)]),
)
def test_turned_rectangles_have_their_perimeter_whatever_the_extents_of_a_pixel(
    degrees, pixel_size
):
    mask = turned_rectangle((240, 120), degrees, pixel_size)
    found = only(measure_frame(mask.astype(np.uint8), None, pixel_size))
    assert found.perimeter == pytest.approx(720, rel=0.025)
    assert found.area == pytest.approx(28_800, rel=0.03)


@settings(deadline=None, max_examples=20)
@given(st.floats(0.01, 100))
def test_a_scale_for_both_axes_scales_lengths_and_areas(factor):
    labels = ellipse_mask((20, 12), (1, 1)).astype(np.uint8)
    one = only(measure_frame(labels))
    other = only(measure_frame(labels, None, (factor, factor)))
    for name, power in (('perimeter', 1), ('major_axis', 1), ('area', 2)):
        assert other[name] == pytest.approx(one[name] * factor**power)
    assert other.row == pytest.approx(one.row)
    assert other.pixels == one.pixels


def test_centres_are_in_pixels_and_in_the_unit():
    labels = np.zeros((40, 60), np.uint8)
    labels[10:21, 30:51] = 1
    found = only(measure_frame(labels, None, (0.5, 0.25)))
    assert (found.row, found.column) == (15, 40)
    assert (found.centroid_row, found.centroid_column) == (7.5, 10)
    assert found.pixels == 11 * 21


@pytest.mark.parametrize('shape', [(1, 1), (1, 2), (1, 9), (2, 2), (3, 1), (3, 4)])
def test_the_smallest_objects_have_a_perimeter_too(shape):
    labels = np.zeros((12, 12), np.uint8)
    labels[4 : 4 + shape[0], 2 : 2 + shape[1]] = 1
    found = only(measure_frame(labels))
    assert 0.7 * 2 * sum(shape) <= found.perimeter <= 2 * sum(shape)


def test_an_object_at_the_edge_of_the_image_has_a_closed_outline():
    labels = np.ones((50, 80), np.uint8)
    assert only(measure_frame(labels)).perimeter == pytest.approx(260, rel=0.02)


def test_holes_and_parts_count_in_the_perimeter():
    labels = np.zeros((200, 200), np.uint8)
    labels[20:120, 20:120] = 1
    labels[50:90, 50:90] = 0
    labels[150:180, 150:180] = 1
    found = only(measure_frame(labels))
    assert found.perimeter == pytest.approx(400 + 160 + 120, rel=0.02)
    assert found.area == 100 * 100 - 40 * 40 + 30 * 30


def test_the_mean_is_of_grey_values_but_for_nan():
    labels = np.zeros((4, 6), np.uint8)
    labels[0, :3], labels[3, :3], labels[2, 5] = 1, 2, 3
    image = np.full((4, 6), 100.0)
    image[0, :3], image[3, :3] = (10, 20, np.nan), np.nan
    found = measure_frame(labels, image)['mean_intensity'].tolist()
    assert found[0] == 15
    assert math.isnan(found[1]), 'no pixel of it is known'
    assert found[2] == 100
    assert measure_frame(labels)['mean_intensity'].isna().all()


@pytest.mark.parametrize('channels', [3, 4])
def test_the_mean_of_colours_is_their_luminance_on_the_scale_of_the_image(channels):
    labels = np.ones((5, 5), np.uint8)
    image = np.zeros((5, 5, channels), np.uint8)
    image[..., :3] = 200
    assert only(measure_frame(labels, image)).mean_intensity == pytest.approx(200)
    image[..., 1] = 0
    assert 0 < only(measure_frame(labels, image)).mean_intensity < 100


@pytest.mark.parametrize('value', [255, 70_000, 2**31 - 1, 2**63 - 1])
def test_large_labels_keep_their_numbers_and_cost_no_memory(value):
    labels = np.zeros((10, 10), np.int64)
    labels[:2], labels[5:] = 3, value
    labels[2] = -1
    found = measure_frame(labels)
    assert found['label'].tolist() == [3, value]
    assert found['pixels'].tolist() == [20, 50]


def test_an_object_everywhere_with_a_large_label_is_found():
    found = only(measure_frame(np.full((4, 5), 2**40 + 7)))
    assert (found.label, found.pixels) == (2**40 + 7, 20)


def test_no_object_gives_a_table_without_rows_and_the_same_columns():
    empty = measure_frame(np.zeros((5, 5), np.uint16))
    full = measure_frame(np.ones((5, 5), np.uint16))
    assert len(empty) == 0
    assert list(empty.columns) == list(full.columns)
    assert list(empty.dtypes) == list(full.dtypes)


@pytest.mark.parametrize(
    ('labels', 'image', 'size', 'message'),
    [
        (np.zeros((3, 4)), None, (1, 1), 'whole numbers'),
        (np.zeros((2, 3, 4), int), None, (1, 1), 'rows, columns'),
        (np.zeros((3, 4), int), np.zeros((4, 3)), (1, 1), 'same rows and columns'),
        (np.zeros((3, 4), int), np.zeros((3, 4, 2)), (1, 1), 'same rows and columns'),
        (np.zeros((3, 4), int), None, (1, 0), 'positive'),
        (np.zeros((3, 4), int), None, (float('nan'), 1), 'positive'),
    ],
)
def test_what_cannot_be_measured_is_said(labels, image, size, message):
    with pytest.raises(ImageError, match=message):
        measure_frame(labels, image, size)


def test_a_lazy_stack_is_measured_frame_by_frame():
    values = np.zeros((4, 30, 40), np.uint16)
    values[1, 5:10, 5:10], values[3, 2:4, 2:4], values[3, 9:12, 9:12] = 7, 1, 2
    labels, image = LazyStack(values), LazyStack(values * 10)
    found = pd.concat(measure_stack(labels, image))
    assert found[['frame', 'label']].to_numpy().tolist() == [[1, 7], [3, 1], [3, 2]]
    assert found['mean_intensity'].tolist() == [70, 10, 20]
    assert labels.read == [(0,), (1,), (2,), (3,)]


def test_only_the_wanted_frames_are_read():
    labels = LazyStack(np.ones((3, 2, 8, 8), np.uint8))
    tables = list(measure_stack(labels, frames=[(2, 1), (0, 0)]))
    assert labels.read == [(2, 1), (0, 0)]
    indices = [only(table)[['frame_0', 'frame_1']].tolist() for table in tables]
    assert indices == [[2, 1], [0, 0]]


def test_a_single_image_is_frame_0():
    assert only(next(measure_stack(np.ones((6, 6), int)))).frame == 0


def test_an_image_with_other_frames_is_refused():
    labels, image = np.ones((3, 8, 8), int), np.ones((4, 8, 8))
    with pytest.raises(ImageError, match='as many frames'):
        next(measure_stack(labels, image))


@pytest.mark.parametrize(
    ('unit', 'area', 'length'), [('mm', 'mm2', 'mm'), ('µm', 'um2', 'um')]
)
def test_the_csv_says_the_units_in_its_header_and_reads_back(
    tmp_path: Path, unit, area, length
):
    labels = np.zeros((30, 40), np.uint8)
    labels[5:20, 5:30], labels[25, 35] = 1, 2
    table = measure_frame(labels, labels * 1.5, (0.1, 0.3))
    path = tmp_path / 'out.csv'
    path.write_text('an older file')
    write_measurements(path, table, unit)
    read = pd.read_csv(path)
    assert f'area_{area}' in read.columns
    assert f'perimeter_{length}' in read.columns
    assert {'row_px', 'pixels', 'label', 'mean_intensity'} <= set(read.columns)
    assert np.allclose(read.to_numpy(), table.to_numpy())
    assert path.read_bytes().isascii()


def test_a_csv_that_cannot_be_written_leaves_the_older_one(tmp_path: Path):
    class Unwritable:
        def __str__(self) -> str:
            raise OSError(28, 'No space left on device')

    path = tmp_path / 'out.csv'
    path.write_text('an older file')
    table = measure_frame(np.ones((5, 5), int))
    table['class'] = [Unwritable()]
    with pytest.raises(ImageError, match='No space left'):
        write_measurements(path, table, 'mm')
    assert path.read_text() == 'an older file'
    assert [item.name for item in tmp_path.iterdir()] == ['out.csv']
