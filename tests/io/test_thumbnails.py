"""Pictures of candidate masks: what they show, and where."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_kdsam.core.intensity import IntensityMapping
from napari_kdsam.io import thumbnails
from napari_kdsam.io.thumbnails import candidate_thumbnails, common_window

CYAN = (0, 229, 255)
SIDE = 64


@st.composite
def shapes(draw):
    return draw(st.integers(1, 400)), draw(st.integers(1, 400))


@st.composite
def boxes(draw, shape):
    rows, columns = shape
    row0, col0 = draw(st.integers(0, rows - 1)), draw(st.integers(0, columns - 1))
    row1 = draw(st.integers(row0 + 1, rows))
    return row0, col0, row1, draw(st.integers(col0 + 1, columns))


@st.composite
def images_with_masks(draw):
    shape = draw(shapes())
    masks = []
    for row0, col0, row1, col1 in draw(st.lists(boxes(shape), min_size=1, max_size=3)):
        mask = np.zeros(shape, bool)
        mask[row0:row1, col0:col1] = True
        masks.append(mask)
    return shape, masks


def disc(shape, row, column, radius):
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return (rows - row) ** 2 + (columns - column) ** 2 <= radius**2


def candidate_thumbnail(frame, mask, window, side):
    """One mask over a chosen part of an image of 8 bits."""
    part = thumbnails._thinned(frame, window, side)
    pooled = thumbnails._pooled(mask, window, side)
    return thumbnails._drawn(part, pooled, window, side)


def is_cyan(picture):
    return (np.abs(picture.astype(int) - CYAN) < 3).all(axis=-1)


@given(images_with_masks())
def test_the_window_holds_every_mask_and_lies_in_the_image(drawn):
    shape, masks = drawn
    row0, col0, row1, col1 = common_window(masks, shape)
    assert 0 <= row0 < row1 <= shape[0]
    assert 0 <= col0 < col1 <= shape[1]
    for mask in masks:
        assert mask[row0:row1, col0:col1].sum() == mask.sum()


@given(images_with_masks())
def test_the_window_is_at_least_a_tenth_of_the_image_and_square_where_there_is_room(
    drawn,
):
    shape, masks = drawn
    row0, col0, row1, col1 = common_window(masks, shape)
    assert 10 * (row1 - row0) >= shape[0]
    assert 10 * (col1 - col0) >= shape[1]
    side = max(row1 - row0, col1 - col0)
    assert (row1 - row0, col1 - col0) == (min(side, shape[0]), min(side, shape[1]))


def test_the_window_leaves_a_margin_around_the_masks():
    mask = np.zeros((600, 800), bool)
    mask[200:300, 300:420] = True
    row0, col0, row1, col1 = common_window([mask], mask.shape)
    assert row0 <= 190 and row1 >= 310
    assert col0 <= 285 and col1 >= 435
    assert row1 - row0 < 250, 'the object must be large in the picture'


def test_empty_masks_show_the_whole_image():
    mask = np.zeros((30, 50), bool)
    assert common_window([mask, mask], mask.shape) == (0, 0, 30, 50)


def test_an_empty_mask_beside_another_does_not_matter():
    mask = disc((300, 300), 100, 100, 20)
    alone = common_window([mask], mask.shape)
    assert common_window([np.zeros_like(mask), mask], mask.shape) == alone


@given(images_with_masks(), st.integers(8, 96), st.booleans())
def test_each_window_becomes_a_square_picture_with_black_bars(drawn, side, grey):
    shape, masks = drawn
    frame = np.full(shape if grey else (*shape, 3), 200, np.uint8)
    window = common_window(masks, shape)
    empty = np.zeros(shape, bool)
    picture = candidate_thumbnail(frame, empty, window, side)
    assert picture.shape == (side, side, 3)
    assert picture.dtype == np.uint8
    bright = (picture == 200).all(axis=-1)
    assert (bright | (picture == 0).all(axis=-1)).all()
    rows, columns = window[2] - window[0], window[3] - window[1]
    scale = side / max(rows, columns)
    assert bright.any(axis=1).sum() == max(1, round(rows * scale))
    assert bright.any(axis=0).sum() == max(1, round(columns * scale))
    for axis in (0, 1):
        inner = np.flatnonzero(bright.any(axis=axis))
        assert abs(inner[0] - (side - 1 - inner[-1])) <= 1, 'it is not in the middle'


@given(images_with_masks(), st.integers(16, 96))
def test_every_mask_that_is_not_empty_is_seen(drawn, side):
    shape, masks = drawn
    frame = np.zeros(shape, np.uint8)
    window = common_window(masks, shape)
    for mask in masks:
        assert candidate_thumbnail(frame, mask, window, side).any()


def test_a_single_pixel_and_a_thin_line_on_a_large_frame_are_seen():
    frame = np.zeros((2000, 3000), np.uint8)
    whole = (0, 0, 2000, 3000)
    pixel = np.zeros(frame.shape, bool)
    pixel[777, 1234] = True
    assert candidate_thumbnail(frame, pixel, whole, SIDE).any()
    line = np.zeros(frame.shape, bool)
    line[1000, 100:2900] = True
    shown = candidate_thumbnail(frame, line, whole, SIDE).any(axis=-1)
    assert shown.any(axis=0).sum() > 0.8 * SIDE


def test_the_mask_is_where_it_is_in_the_image():
    frame = np.zeros((600, 800, 3), np.uint8)
    mask = disc((600, 800), 150, 600, 60)
    window = (0, 400, 400, 800)
    shown = candidate_thumbnail(frame, mask, window, SIDE).any(axis=-1)
    rows, columns = np.nonzero(shown)
    scale = SIDE / 400
    assert rows.mean() == pytest.approx(150.5 * scale - 0.5, abs=0.6)
    assert columns.mean() == pytest.approx(200.5 * scale - 0.5, abs=0.6)
    assert shown.sum() == pytest.approx(mask.sum() * scale**2, rel=0.15)


def test_the_image_is_where_it_was_beside_the_mask():
    frame = np.zeros((400, 400, 3), np.uint8)
    frame[:200, 200:] = (250, 10, 20)
    picture = candidate_thumbnail(
        frame, np.zeros((400, 400), bool), (0, 0, 400, 400), SIDE
    )
    half = SIDE // 2
    assert (picture[2 : half - 2, half + 2 : -2] == (250, 10, 20)).all()
    assert not picture[half + 2 :].any()
    assert not picture[:, : half - 2].any()


def test_the_outline_is_opaque_the_inside_tinted_and_the_rest_untouched():
    frame = np.full((400, 400, 3), 120, np.uint8)
    mask = disc((400, 400), 200, 200, 100)
    picture = candidate_thumbnail(frame, mask, (0, 0, 400, 400), SIDE)
    centre, corner = picture[SIDE // 2, SIDE // 2], picture[2, 2]
    assert corner.tolist() == [120, 120, 120]
    assert centre[0] < 120 < centre[2] < 255
    line = is_cyan(picture)
    # A closed line of about one pixel around a disc of radius 16.
    assert 80 <= line.sum() <= 140
    distance = np.hypot(*(np.argwhere(line) - (SIDE - 1) / 2).T)
    assert ((distance > 13.5) & (distance < 17.5)).all()


def test_a_mask_that_goes_on_beyond_the_picture_has_no_outline_at_its_edge():
    frame = np.full((100, 100, 3), 120, np.uint8)
    picture = candidate_thumbnail(
        frame, np.ones((100, 100), bool), (0, 0, 100, 100), SIDE
    )
    assert not is_cyan(picture).any()
    assert (picture != 120).any()


def test_a_window_of_one_row_of_a_large_frame_can_be_drawn():
    frame = np.full((1, 5000), 90, np.uint8)
    mask = np.zeros((1, 5000), bool)
    mask[0, 2000:2500] = True
    picture = candidate_thumbnail(frame, mask, (0, 0, 1, 5000), SIDE)
    assert picture.any(axis=(1, 2)).sum() == 1


def test_all_candidates_share_a_window_and_differ_in_their_masks():
    image = np.full((600, 800, 3), 120, np.uint8)
    masks = [disc((600, 800), 300, 400, radius) for radius in (20, 60, 120)]
    pictures = candidate_thumbnails(
        image, masks, IntensityMapping().resolve(image), SIDE
    )
    areas = [int((picture != 120).any(axis=-1).sum()) for picture in pictures]
    assert areas[1] / areas[0] == pytest.approx(9, rel=0.3)
    assert areas[2] / areas[1] == pytest.approx(4, rel=0.2)
    window = common_window(masks, (600, 800))
    for mask, picture in zip(masks, pictures, strict=True):
        assert np.array_equal(candidate_thumbnail(image, mask, window, SIDE), picture)


@pytest.mark.parametrize('dtype', [np.bool_, np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize('channels', [(), (3,), (4,)])
def test_any_image_that_can_be_segmented_has_pictures(dtype, channels):
    rng = np.random.default_rng(0)
    values = rng.integers(0, 2 if dtype is np.bool_ else 200, (300, 200, *channels))
    image = values.astype(dtype)
    if channels == (4,):
        image[..., 3] = np.iinfo(dtype).max if np.dtype(dtype).kind == 'u' else 1
    mask = disc((300, 200), 150, 100, 30)
    (picture,) = candidate_thumbnails(
        image, [mask], IntensityMapping().resolve(image), SIDE
    )
    assert picture.shape == (SIDE, SIDE, 3)
    assert is_cyan(picture).any()
    assert picture[:8, :8].std() > 0


def test_values_are_shown_as_the_mapping_says():
    image = np.full((100, 100), 1500, np.uint16)
    image[50:] = 3000
    empty = np.zeros((100, 100), bool)
    (picture,) = candidate_thumbnails(
        image, [empty], IntensityMapping(1500.0, 4500.0), SIDE
    )
    assert not picture[2].any()
    assert (picture[-2] == 128).all()
