"""Coordinates and masks keep their place between the image and the model's square."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_kdsam import box_of_mask, logits_of_mask
from napari_kdsam.core.errors import ImageError, PromptError
from napari_kdsam.core.geometry import PaddedSquare
from napari_kdsam.inference import masks
from napari_kdsam.inference.masks import mask_of_logits

unhurried = settings(deadline=None)
sizes = st.one_of(st.integers(1, 40), st.integers(1, 20_000))
shapes = st.one_of(
    st.tuples(sizes, sizes), st.sampled_from([(1, 1), (1, 20_000), (20_000, 3)])
)
sides = st.sampled_from([256, 512, 1024])
squares = st.builds(PaddedSquare, shapes, sides)
fractions = st.floats(0, 1)


@st.composite
def squares_and_boxes(draw: st.DrawFn) -> tuple[PaddedSquare, tuple[float, ...]]:
    """A square and a half-open box with an area, inside the image."""
    square = draw(squares)
    ends = []
    for size in square.image_shape:
        low = draw(st.integers(0, size - 1))
        ends.append((low, draw(st.integers(low + 1, size))))
    (row0, row1), (col0, col1) = ends
    return square, (row0, col0, row1, col1)


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def ellipse(
    shape: tuple[int, int], centre: tuple[float, float], radii: tuple[float, float]
) -> np.ndarray:
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return ((rows - centre[0]) / radii[0]) ** 2 + (
        (columns - centre[1]) / radii[1]
    ) ** 2 <= 1


@unhurried
@given(squares)
def test_the_longest_side_fills_the_square_and_no_side_vanishes(
    square: PaddedSquare,
) -> None:
    scaled = square.scaled_shape
    assert max(scaled) == square.side
    assert min(scaled) >= 1


@unhurried
@given(squares)
def test_scaling_keeps_the_proportions_to_half_a_square_pixel(
    square: PaddedSquare,
) -> None:
    scale = square.side / max(square.image_shape)
    for size, scaled in zip(square.image_shape, square.scaled_shape, strict=True):
        assert abs(scaled - size * scale) <= 0.5 or scaled == 1


@unhurried
@given(squares, st.lists(st.tuples(fractions, fractions), min_size=1, max_size=20))
def test_points_survive_the_way_into_the_square_and_back(
    square: PaddedSquare, places: list[tuple[float, float]]
) -> None:
    points = np.array(places) * square.image_shape - 0.5
    there_and_back = square.points_from_square(square.points_to_square(points))
    np.testing.assert_allclose(there_and_back, points, atol=1e-6)


@unhurried
@given(squares, st.tuples(fractions, fractions))
def test_square_points_survive_the_way_to_the_image_and_back(
    square: PaddedSquare, place: tuple[float, float]
) -> None:
    point = np.array([place]) * square.side
    there_and_back = square.points_to_square(square.points_from_square(point))
    np.testing.assert_allclose(there_and_back, point, atol=1e-6)


@unhurried
@given(squares, st.tuples(fractions, fractions))
def test_every_pixel_centre_lands_inside_the_scaled_part(
    square: PaddedSquare, place: tuple[float, float]
) -> None:
    pixel = [
        min(int(fraction * size), size - 1)
        for fraction, size in zip(place, square.image_shape, strict=True)
    ]
    ((x, y),) = square.points_to_square([pixel])
    rows, columns = square.scaled_shape
    assert -0.5 < x < columns - 0.5
    assert -0.5 < y < rows - 0.5


@unhurried
@given(squares)
def test_the_corners_of_the_image_are_the_corners_of_the_scaled_part(
    square: PaddedSquare,
) -> None:
    rows, columns = square.image_shape
    corners = square.points_to_square([(-0.5, -0.5), (rows - 0.5, columns - 0.5)])
    scaled_rows, scaled_columns = square.scaled_shape
    np.testing.assert_allclose(corners[0], (-0.5, -0.5), atol=1e-9)
    np.testing.assert_allclose(corners[1], (scaled_columns - 0.5, scaled_rows - 0.5))


def test_rows_become_y_and_columns_become_x() -> None:
    square = PaddedSquare((512, 1024), 1024)
    np.testing.assert_allclose(square.points_to_square([(10, 300)]), [(300, 10)])
    np.testing.assert_allclose(square.box_to_square((1, 2, 3, 40)), (2, 1, 40, 3))


def test_a_point_moves_with_the_pixel_it_is_on_when_the_image_is_enlarged() -> None:
    # Pixel 0 of a 4-fold enlargement covers square pixels 0 to 3, whose centre is 1.5.
    np.testing.assert_allclose(
        PaddedSquare((256, 256), 1024).points_to_square([(0, 255)]), [(1021.5, 1.5)]
    )


@unhurried
@given(squares_and_boxes())
def test_a_box_inside_the_image_lands_inside_the_scaled_part(
    case: tuple[PaddedSquare, tuple[float, ...]],
) -> None:
    square, box = case
    x0, y0, x1, y1 = square.box_to_square(box)
    rows, columns = square.scaled_shape
    assert 0 <= x0 < x1 <= columns + 1e-9
    assert 0 <= y0 < y1 <= rows + 1e-9


@unhurried
@given(squares_and_boxes(), st.tuples(fractions, fractions, fractions, fractions))
def test_a_larger_box_stays_larger_in_the_square(
    case: tuple[PaddedSquare, tuple[float, ...]], growth: tuple[float, ...]
) -> None:
    square, (row0, col0, row1, col1) = case
    rows, columns = square.image_shape
    larger = (
        row0 * growth[0],
        col0 * growth[1],
        row1 + (rows - row1) * growth[2],
        col1 + (columns - col1) * growth[3],
    )
    inner = square.box_to_square((row0, col0, row1, col1))
    outer = square.box_to_square(larger)
    assert (outer[:2] <= inner[:2] + 1e-9).all()
    assert (outer[2:] >= inner[2:] - 1e-9).all()


@unhurried
@given(squares_and_boxes())
def test_a_box_is_the_outer_edge_of_its_corner_pixels(
    case: tuple[PaddedSquare, tuple[float, ...]],
) -> None:
    square, (row0, col0, row1, col1) = case
    edges = square.points_to_square(
        [(row0 - 0.5, col0 - 0.5), (row1 - 0.5, col1 - 0.5)]
    )
    box = square.box_to_square((row0, col0, row1, col1))
    np.testing.assert_allclose(edges.ravel() + 0.5, box, atol=1e-6)


@unhurried
@given(squares_and_boxes())
def test_a_box_inside_the_image_is_not_cut(
    case: tuple[PaddedSquare, tuple[float, ...]],
) -> None:
    square, box = case
    assert square.clip_box(box) == box


@unhurried
@given(
    squares,
    st.tuples(*[st.floats(-30_000, 30_000, allow_nan=False, allow_infinity=False)] * 4),
)
def test_a_cut_box_is_inside_both_the_image_and_the_box(
    square: PaddedSquare, corners: tuple[float, float, float, float]
) -> None:
    row0, row1 = sorted(corners[:2])
    col0, col1 = sorted(corners[2:])
    clipped = square.clip_box((row0, col0, row1, col1))
    rows, columns = square.image_shape
    overlaps = max(row0, 0) < min(row1, rows) and max(col0, 0) < min(col1, columns)
    assert (clipped is not None) == overlaps
    if clipped is not None:
        assert max(row0, 0) == clipped[0] < clipped[2] == min(row1, rows)
        assert max(col0, 0) == clipped[1] < clipped[3] == min(col1, columns)


def test_the_image_contains_its_pixels_to_their_outer_edges_only() -> None:
    square = PaddedSquare((10, 20), 1024)
    assert square.contains((-0.5, -0.5))
    assert square.contains((9.5, 19.5))
    assert not square.contains((9.6, 0))
    assert not square.contains((0, -0.6))


@pytest.mark.parametrize('shape', [(0, 5), (5, 0)])
def test_an_image_without_pixels_has_no_square(shape: tuple[int, int]) -> None:
    with pytest.raises(ImageError, match='empty'):
        PaddedSquare(shape, 1024)


@unhurried
@given(
    st.tuples(st.integers(1, 12), st.integers(1, 12)).flatmap(
        lambda shape: st.lists(
            st.booleans(), min_size=shape[0] * shape[1], max_size=shape[0] * shape[1]
        ).map(lambda values: np.array(values).reshape(shape))
    )
)
def test_the_box_of_a_mask_is_the_smallest_that_holds_every_pixel(
    mask: np.ndarray,
) -> None:
    pixels = [
        (r, c) for r in range(mask.shape[0]) for c in range(mask.shape[1]) if mask[r, c]
    ]
    expected = None
    if pixels:
        rows, columns = zip(*pixels, strict=True)
        expected = (min(rows), min(columns), max(rows) + 1, max(columns) + 1)
    assert box_of_mask(mask) == expected


@settings(unhurried, max_examples=30)
@given(
    st.tuples(st.integers(1, 300), st.integers(1, 300)),
    st.integers(0, 2**32 - 1),
    st.integers(1, 20_000),
)
def test_banded_upscaling_equals_upscaling_the_whole_image(
    shape: tuple[int, int], seed: int, band_pixels: int
) -> None:
    logits = np.random.default_rng(seed).normal(size=(256, 256)).astype(np.float32)
    whole = mask_of_logits(logits, shape)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(masks, '_WHOLE_PIXELS', min(band_pixels, shape[0] * shape[1] - 1))
        banded = mask_of_logits(logits, shape)
    assert banded.shape == whole.shape == shape
    # Rounding may flip a pixel whose logit is zero to seven digits.
    assert (banded != whole).mean() <= 1e-3


def test_a_large_image_takes_the_banded_way_and_gets_the_same_mask() -> None:
    rng = np.random.default_rng(3)
    logits = np.kron(rng.normal(size=(16, 16)), np.ones((16, 16))).astype(np.float32)
    shape = (1500, 2801)
    assert shape[0] * shape[1] > masks._WHOLE_PIXELS
    banded = mask_of_logits(logits, shape)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(masks, '_WHOLE_PIXELS', shape[0] * shape[1])
        whole = mask_of_logits(logits, shape)
    assert (banded != whole).mean() < 1e-5


@pytest.mark.parametrize('shape', [(1, 1), (1, 20_000), (20_000, 3), (3, 2)])
@pytest.mark.parametrize('sign', [1.0, -1.0])
def test_uniform_logits_give_a_uniform_mask_of_the_images_shape(
    shape: tuple[int, int], sign: float
) -> None:
    mask = mask_of_logits(np.full((256, 256), sign, np.float32), shape)
    assert mask.shape == shape
    assert mask.dtype == np.bool_
    assert mask.all() == (sign > 0)
    assert mask.any() == (sign > 0)


@settings(unhurried, max_examples=40)
@given(
    st.tuples(st.integers(120, 900), st.integers(120, 900)),
    st.tuples(st.floats(0.2, 0.8), st.floats(0.2, 0.8)),
    st.tuples(st.floats(0.15, 0.4), st.floats(0.15, 0.4)),
)
def test_a_shape_survives_becoming_logits_and_a_mask_again(
    shape: tuple[int, int], centre: tuple[float, float], radii: tuple[float, float]
) -> None:
    mask = ellipse(
        shape,
        (centre[0] * shape[0], centre[1] * shape[1]),
        (radii[0] * shape[0], radii[1] * shape[1]),
    )
    assert overlap(mask_of_logits(logits_of_mask(mask), shape), mask) > 0.95


def test_the_padding_of_a_masks_logits_is_outside() -> None:
    logits = logits_of_mask(np.ones((50, 100), bool))
    assert logits.shape == (256, 256)
    assert (logits[:128] > 0).all()
    assert (logits[128:] < 0).all()


def test_labels_count_as_a_mask_wherever_they_are_not_zero() -> None:
    labels = np.zeros((64, 64), np.int32)
    labels[10:40, 5:50] = 3
    np.testing.assert_array_equal(logits_of_mask(labels), logits_of_mask(labels > 0))


@pytest.mark.parametrize(
    'mask',
    [
        np.zeros((5, 5), bool),
        np.full((5, 5), -1),
        np.ones((2, 5, 5), bool),
        np.ones(5, bool),
    ],
    ids=['empty', 'nothing above 0', 'stack', 'line'],
)
def test_a_mask_prompt_must_be_flat_and_not_empty(mask: np.ndarray) -> None:
    with pytest.raises(PromptError, match='2D and have at least one pixel'):
        logits_of_mask(mask)
