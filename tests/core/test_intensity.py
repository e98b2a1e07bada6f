"""Any image a napari layer can hold becomes 8-bit RGB by the documented rules."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_kdsam import IntensityMapping
from napari_kdsam.core import intensity
from napari_kdsam.core.errors import ImageError
from napari_kdsam.core.intensity import (
    check_image,
    to_eight_bit,
    to_model_pixels,
)

unhurried = settings(deadline=None)


def mapped(image: np.ndarray, mapping: IntensityMapping | None = None) -> np.ndarray:
    """Map as the predictor does."""
    checked = check_image(image)
    return to_eight_bit(checked, (mapping or IntensityMapping()).resolve(checked))


def ramp(low: float, high: float, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    return np.linspace(low, high, int(np.prod(shape))).reshape(shape).astype(dtype)


@pytest.mark.parametrize('shape', [(20, 30), (20, 30, 3)])
def test_eight_bit_images_are_taken_as_they_are_and_not_copied(
    shape: tuple[int, ...],
) -> None:
    image = ramp(90, 110, shape, np.uint8)
    assert mapped(image) is image


def test_booleans_become_black_and_white() -> None:
    image = np.array([[True, False], [False, True]])
    np.testing.assert_array_equal(mapped(image), [[255, 0], [0, 255]])


@pytest.mark.parametrize(
    ('dtype', 'low', 'high'),
    [(np.uint16, 1000, 5000), (np.int16, -1024, 3071), (np.float32, -2.5, 7.5)],
)
def test_other_values_are_stretched_from_their_low_to_their_high_percentile(
    dtype: Any, low: float, high: float
) -> None:
    image = ramp(low, high, (100, 100), dtype)
    image[0, 0] = np.iinfo(dtype).max if np.dtype(dtype).kind in 'ui' else 1e9
    expected_low, expected_high = np.percentile(image, (0.1, 99.9))
    expected = (image.astype(float) - expected_low) / (expected_high - expected_low)
    out = mapped(image)
    assert out.dtype == np.uint8
    np.testing.assert_allclose(out, np.clip(expected, 0, 1) * 255, atol=0.5)
    # One hot pixel does not darken the rest.
    assert 100 < np.median(out) < 155


def test_colour_channels_are_stretched_together() -> None:
    image = np.zeros((50, 50, 3), np.uint16)
    image[..., 0], image[..., 1], image[..., 2] = 100, 220, 300
    assert mapped(image)[10, 10].tolist() == [0, 153, 255]


@pytest.mark.parametrize('dtype', [np.float16, np.float32, np.float64])
def test_colour_floats_from_0_to_1_keep_their_brightness(dtype: Any) -> None:
    image = ramp(0.25, 0.5, (20, 30, 3), dtype)
    np.testing.assert_array_equal(mapped(image), np.rint(image.astype(float) * 255))


def test_grey_floats_are_stretched_even_from_0_to_1() -> None:
    out = mapped(ramp(0.25, 0.5, (100, 100), np.float32))
    assert out.min() == 0
    assert out.max() == 255


def test_colour_floats_beyond_1_are_stretched() -> None:
    out = mapped(ramp(0, 255, (50, 50, 3), np.float32))
    assert out.min() == 0
    assert out.max() == 255
    assert 120 < np.median(out) < 135


def test_nan_becomes_the_low_end_and_infinities_the_ends() -> None:
    image = ramp(10, 20, (100, 100), np.float64)
    image[0, :4] = np.nan, np.inf, -np.inf, 15
    out = mapped(image)
    assert out[0, :3].tolist() == [0, 255, 0]
    assert abs(int(out[0, 3]) - 127) <= 1


@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize('shape', [(4, 5), (1500, 1500), (4, 5, 3)])
def test_an_image_without_a_finite_pixel_is_refused(
    value: float, shape: tuple[int, ...]
) -> None:
    with pytest.raises(ImageError, match='no finite pixel'):
        mapped(np.full(shape, value))


@pytest.mark.parametrize('shape', [(4, 5, 4), (1500, 1500, 4)])
def test_opacity_alone_does_not_count_as_a_finite_pixel(shape: tuple[int, ...]) -> None:
    image = np.full(shape, np.nan)
    image[..., 3] = 1
    with pytest.raises(ImageError, match='no finite pixel'):
        mapped(image)


def test_a_single_finite_pixel_is_enough_even_where_sampling_misses_it() -> None:
    image = np.full((1500, 1500), np.nan)
    image[1499, 1499] = 3.0
    assert mapped(image).shape == image.shape


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.float32, np.float64])
def test_transparent_pixels_are_laid_over_black(dtype: Any) -> None:
    full = np.iinfo(dtype).max if np.dtype(dtype).kind == 'u' else 1.0
    image = np.zeros((3, 8, 4), dtype)
    image[..., :3] = full
    image[0, :, 3], image[1, :, 3], image[2, :, 3] = full, full * 0.5, 0
    out = mapped(image, IntensityMapping(0, float(full)))
    assert out.shape == (3, 8, 3)
    assert (out[0] == 255).all()
    assert (abs(out[1].astype(int) - 127) <= 1).all()
    assert (out[2] == 0).all()


def test_alpha_has_no_part_in_choosing_the_limits() -> None:
    image = np.zeros((50, 50, 4), np.uint16)
    image[..., :3] = ramp(100, 200, (50, 50, 3), np.uint16)
    image[..., 3] = 65535
    mapping = IntensityMapping().resolve(image)
    assert 99 < mapping.low < mapping.high < 201  # type: ignore[operator]


def test_given_limits_are_kept_and_what_is_beyond_them_is_cut() -> None:
    image = np.array([[50, 100, 160, 200, 250]], np.uint8)
    out = mapped(image, IntensityMapping(100, 200))
    assert out.tolist() == [[0, 0, 153, 255, 255]]


@unhurried
@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_given_limits_are_not_changed_by_any_image(low: float, width: float) -> None:
    mapping = IntensityMapping(low, low + width)
    assert mapping.resolve(np.eye(5, dtype=np.float32)) == mapping


@pytest.mark.parametrize(
    ('low', 'high'),
    [(1, None), (None, 1), (2, 1), (1, 1), (np.nan, 1), (0, np.inf), (-np.inf, 0)],
)
def test_limits_that_are_not_two_increasing_numbers_are_refused(
    low: float | None, high: float | None
) -> None:
    with pytest.raises(ImageError, match='two increasing numbers'):
        IntensityMapping(low, high)


@pytest.mark.parametrize(
    'value',
    [0, 7, 65535, np.uint16(300), -3.5, 1e30, np.float32(1e30), -(2.0**53)],
)
def test_a_constant_image_is_uniform_and_not_refused(value: Any) -> None:
    image = np.full((30, 40), value)
    out = mapped(image)
    assert out.shape == (30, 40)
    assert out.min() == out.max()


def test_a_nearly_constant_image_keeps_its_only_spot() -> None:
    image = np.zeros((1000, 1000), np.float32)
    image[500, 500] = 5.0
    out = mapped(image)
    assert out[500, 500] == 255
    assert np.count_nonzero(out) == 1


def test_the_automatic_choice_says_so_and_limits_are_described() -> None:
    assert IntensityMapping().automatic
    assert IntensityMapping().describe() == 'automatic'
    assert not IntensityMapping(0, 4095).automatic
    assert IntensityMapping(0, 4095).describe() == '0..4095 shown as 0..255'


@pytest.mark.parametrize(
    ('shape', 'expected'),
    [
        ((5, 7), (5, 7)),
        ((5, 7, 1), (5, 7)),
        ((1, 5, 7), (5, 7)),
        ((5, 7, 3), (5, 7, 3)),
        ((5, 7, 4), (5, 7, 4)),
        ((1, 7, 3), (1, 7, 3)),
        ((1, 1), (1, 1)),
        ((1, 1, 1), (1, 1)),
    ],
)
def test_accepted_shapes_become_grey_or_colour(
    shape: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    image = np.arange(np.prod(shape)).reshape(shape)
    checked = check_image(image)
    assert checked.shape == expected
    assert np.shares_memory(checked, image)


@pytest.mark.parametrize(
    ('shape', 'advice'),
    [
        ((3, 50, 70), 'channels come first'),
        ((4, 50, 70), 'channels come first'),
        ((20, 50, 70), 'looks like a stack'),
        ((20, 50, 70, 3), 'looks like a stack'),
        ((50, 70, 2), 'two channels'),
        ((5,), r'one image of shape \(rows, columns\)'),
        ((2, 2, 2, 2, 2), r'one image of shape \(rows, columns\)'),
    ],
)
def test_other_shapes_are_refused_with_advice(
    shape: tuple[int, ...], advice: str
) -> None:
    with pytest.raises(ImageError, match=advice):
        check_image(np.zeros(shape, np.uint8))


@pytest.mark.parametrize('dtype', [complex, object, 'U3', 'datetime64[s]'])
def test_pixels_that_are_not_real_numbers_are_refused(dtype: Any) -> None:
    with pytest.raises(ImageError, match='cannot be segmented'):
        check_image(np.zeros((5, 5), dtype))


@pytest.mark.parametrize('shape', [(0, 5), (5, 0), (0, 0, 3)])
def test_an_image_without_pixels_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ImageError, match='empty'):
        check_image(np.zeros(shape, np.uint8))


@unhurried
@given(
    st.sampled_from([(31, 17), (31, 17, 3), (31, 17, 4), (1, 40), (40, 1)]),
    st.sampled_from([np.uint8, np.uint16, np.int32, np.float32, np.float64]),
    st.integers(1, 200),
    st.integers(0, 1000),
)
def test_banded_mapping_equals_mapping_the_whole_image(
    shape: tuple[int, ...], dtype: Any, band_pixels: int, seed: int
) -> None:
    image = np.random.default_rng(seed).uniform(0, 200, shape).astype(dtype)
    mapping = IntensityMapping(20, 150)
    whole = to_eight_bit(image, mapping)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(intensity, '_BAND_PIXELS', band_pixels)
        banded = to_eight_bit(image, mapping)
    np.testing.assert_array_equal(banded, whole)


@unhurried
@given(st.integers(0, 1000), st.sampled_from([np.uint16, np.float32]))
def test_brighter_pixels_never_become_darker(seed: int, dtype: Any) -> None:
    values = np.random.default_rng(seed).uniform(0, 5000, 400).astype(dtype)
    out = mapped(np.sort(values).reshape(20, 20)).ravel()
    assert (np.diff(out.astype(int)) >= 0).all()


@pytest.mark.parametrize('order', ['C', 'F'])
def test_views_and_foreign_memory_layouts_are_mapped_like_plain_arrays(
    order: Any,
) -> None:
    plain = ramp(0, 4000, (40, 60), np.uint16)
    view = np.array(plain, order=order)[::-1, ::-1][::-1, ::-1]
    big_endian = plain.astype('>u2')
    np.testing.assert_array_equal(mapped(view), mapped(plain))
    np.testing.assert_array_equal(mapped(big_endian), mapped(plain))


@pytest.mark.parametrize(
    ('shape', 'expected'),
    [
        ((1, 1), (512, 512, 3)),
        ((1, 20_000), (1, 512, 3)),
        ((20_000, 3), (512, 1, 3)),
        ((300, 600), (256, 512, 3)),
        ((600, 300, 3), (512, 256, 3)),
        ((2, 3, 4), (341, 512, 3)),
    ],
)
def test_the_model_sees_rgb_with_the_longest_side_at_its_input_size(
    shape: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    image = np.full(shape, 77, np.uint8)
    pixels = to_model_pixels(image, IntensityMapping().resolve(image), 512)
    assert pixels.shape == expected
    assert pixels.dtype == np.uint8


def test_grey_becomes_equal_red_green_and_blue() -> None:
    image = ramp(0, 255, (64, 64), np.uint8)
    pixels = to_model_pixels(image, IntensityMapping().resolve(image), 512)
    assert (pixels == pixels[..., :1]).all()


def test_an_image_of_the_models_size_reaches_it_unchanged() -> None:
    image = np.random.default_rng(0).integers(0, 256, (512, 300, 3), np.uint8)
    pixels = to_model_pixels(image, IntensityMapping().resolve(image), 512)
    np.testing.assert_array_equal(pixels, image)


def test_shrinking_averages_instead_of_skipping_pixels() -> None:
    stripes = np.zeros((2048, 2048), np.uint8)
    stripes[:, ::2] = 255
    pixels = to_model_pixels(stripes, IntensityMapping().resolve(stripes), 512)
    assert (abs(pixels[:, 5:-5].astype(int) - 127) < 30).all()


def test_an_unresolved_mapping_is_a_programming_error() -> None:
    with pytest.raises(ValueError, match='resolve'):
        to_eight_bit(np.ones((4, 4), np.float32), IntensityMapping())
