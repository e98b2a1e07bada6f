"""Clean-up of masks, and the ellipse that fits one."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy import ndimage
from skimage import draw
from skimage.morphology import convex_hull_image

from napari_kdsam.annotation.cleanup import (
    CleanUp,
    CleanUpError,
    Ellipse,
    fit_ellipse,
)
from napari_kdsam.core.errors import KDSAMError

unhurried = settings(deadline=None, max_examples=60)
TOUCHING = np.ones((3, 3))


@st.composite
def blobs(draw_value) -> np.ndarray:
    """Masks like a model's: rough parts of any size, with holes, also at the edges."""
    shape = draw_value(st.tuples(st.integers(1, 60), st.integers(1, 60)))
    noise = np.random.default_rng(draw_value(st.integers(0, 10**6))).normal(size=shape)
    noise = ndimage.gaussian_filter(noise, draw_value(st.sampled_from([0.5, 1, 2, 4])))
    return noise > np.quantile(noise, draw_value(st.floats(0.05, 0.95)))


masks = st.one_of(
    blobs(), npst.arrays(np.bool_, npst.array_shapes(min_dims=2, max_dims=2))
)
cleanups = st.builds(
    CleanUp,
    speck_pixels=st.integers(0, 40),
    largest_only=st.booleans(),
    fill_holes=st.booleans(),
    smooth_pixels=st.sampled_from([0.0, 0.1, 1.0, 2.5, 6.0]),
    snap=st.sampled_from(['none', 'convex', 'ellipse']),
)


def mask_of(*lines: str) -> np.ndarray:
    return np.array([[character == '#' for character in line] for line in lines])


def parts_of(mask: np.ndarray) -> list[np.ndarray]:
    found, count = ndimage.label(mask, TOUCHING)
    return [found == number for number in range(1, count + 1)]


def disc(radius: float, row: float, column: float, shape=(120, 140)) -> np.ndarray:
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return (rows - row) ** 2 + (columns - column) ** 2 <= radius**2


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    return (first & second).sum() / (first | second).sum()


# All steps


@unhurried
@given(masks, cleanups)
def test_the_mask_itself_is_never_changed(mask, cleanup):
    before = mask.copy()
    cleaned = cleanup.apply(mask)
    assert (mask == before).all()
    assert cleaned.shape == mask.shape
    assert cleaned.dtype == np.bool_
    cleaned[:] = ~cleaned
    assert (mask == before).all()


@unhurried
@given(masks, cleanups)
def test_an_empty_mask_stays_empty(mask, cleanup):
    assert not cleanup.apply(np.zeros_like(mask)).any()


@unhurried
@given(masks)
def test_nothing_switched_on_changes_nothing(mask):
    assert not CleanUp().active
    assert (CleanUp().apply(mask) == mask).all()


@pytest.mark.parametrize(
    'setting',
    [
        {'speck_pixels': 1},
        {'largest_only': True},
        {'fill_holes': True},
        {'smooth_pixels': 0.5},
        {'snap': 'convex'},
    ],
)
def test_anything_switched_on_is_active(setting):
    assert CleanUp(**setting).active


@unhurried
@given(masks, cleanups, st.sampled_from([(0, 0), (7, 0), (3, 40)]))
def test_an_object_is_cleaned_the_same_anywhere_in_a_large_image(mask, cleanup, shift):
    at = 45
    around = np.pad(mask, at)
    image = np.zeros((around.shape[0] + 20, around.shape[1] + 60), np.bool_)
    image[: around.shape[0], : around.shape[1]] = around
    moved = np.roll(image, shift, (0, 1))
    assert (np.roll(cleanup.apply(image), shift, (0, 1)) == cleanup.apply(moved)).all()


@unhurried
@given(
    masks,
    st.builds(
        CleanUp,
        speck_pixels=st.integers(0, 40),
        largest_only=st.booleans(),
        fill_holes=st.booleans(),
        snap=st.sampled_from(['none', 'convex']),
    ),
)
def test_cleaning_twice_changes_no_more_than_cleaning_once(mask, cleanup):
    once = cleanup.apply(mask)
    assert (cleanup.apply(once) == once).all()


# Specks and parts


@unhurried
@given(masks, st.integers(1, 40))
def test_exactly_the_parts_of_too_few_pixels_are_removed(mask, least):
    cleaned = CleanUp(speck_pixels=least).apply(mask)
    for part in parts_of(mask):
        assert cleaned[part].all() == (part.sum() >= least)
        assert cleaned[part].any() == (part.sum() >= least)
    assert not (cleaned & ~mask).any()


@unhurried
@given(masks, cleanups)
def test_the_largest_part_stays_alone_whatever_smoothing_does(mask, cleanup):
    if cleanup.snap != 'ellipse':
        alone = CleanUp(**(cleanup.to_dict() | {'largest_only': True})).apply(mask)
        assert len(parts_of(alone)) <= 1


@unhurried
@given(masks)
def test_the_largest_part_is_kept_whole(mask):
    cleaned = CleanUp(largest_only=True).apply(mask)
    sizes = [part.sum() for part in parts_of(mask)]
    assert cleaned.sum() == max(sizes, default=0)
    assert not (cleaned & ~mask).any()


def test_pixels_that_touch_at_corners_are_one_part():
    diagonal = np.eye(6, dtype=np.bool_)
    assert (
        CleanUp(speck_pixels=6, largest_only=True).apply(diagonal) == diagonal
    ).all()


def test_specks_and_parts_are_counted_before_holes_are_filled():
    ring_and_block = mask_of(
        '###......',
        '#.#.####.',
        '###.####.',
    )
    filled = CleanUp(fill_holes=True, largest_only=True).apply(ring_and_block)
    assert filled[:, :3].sum() == 9
    block = mask_of(
        '###......',
        '#.#.###..',
        '###.###..',
        '....###..',
    )
    cleaned = CleanUp(fill_holes=True, largest_only=True).apply(block)
    assert cleaned.sum() == 9
    assert cleaned[1:, 4:7].all()
    specks = CleanUp(fill_holes=True, speck_pixels=9).apply(block)
    assert (specks == cleaned).all()


# Holes


@unhurried
@given(masks)
def test_holes_are_filled_and_nothing_else(mask):
    filled = CleanUp(fill_holes=True).apply(mask)
    assert (filled == ndimage.binary_fill_holes(mask)).all()
    assert filled[mask].all()


def test_a_bay_at_the_edge_of_the_image_is_no_hole():
    bay = mask_of(
        '.##.',
        '.#.#',
        '.###',
        '.#..',
        '.###',
    )
    filled = CleanUp(fill_holes=True).apply(bay)
    assert filled[1, 2]
    assert not filled[0, 3]
    assert not filled[3, 2:].any()


def test_holes_that_smoothing_makes_are_filled_as_well():
    ring = disc(30, 60, 70) & ~disc(15, 60, 70)
    ring[58:63, 70:] = False
    closed = CleanUp(smooth_pixels=6.0).apply(ring)
    assert (ndimage.binary_fill_holes(closed) & ~closed).sum() > 400
    filled = CleanUp(smooth_pixels=6.0, fill_holes=True).apply(ring)
    assert (ndimage.binary_fill_holes(filled) == filled).all()
    assert filled[60, 70]


# Smoothing


@unhurried
@given(
    st.floats(1, 12),
    st.floats(2, 6),
    st.floats(-0.5, 0.5),
    st.floats(-0.5, 0.5),
)
def test_smoothing_neither_shifts_nor_shrinks_a_disc(radius, times, row, column):
    mask = disc(radius * times, 100 + row, 110 + column, (200, 220))
    smooth = CleanUp(smooth_pixels=radius).apply(mask)
    size = math.sqrt(smooth.sum() / math.pi) - math.sqrt(mask.sum() / math.pi)
    assert abs(size) < 0.3 + 0.02 * radius
    moved = np.subtract(ndimage.center_of_mass(smooth), ndimage.center_of_mass(mask))
    assert np.abs(moved).max() < 0.25


@unhurried
@given(st.floats(0.5, 8), st.integers(64, 100), st.integers(64, 120))
def test_smoothing_leaves_the_straight_sides_of_a_rectangle(radius, height, width):
    mask = np.zeros((180, 200), np.bool_)
    mask[40 : 40 + height, 40 : 40 + width] = True
    smooth = CleanUp(smooth_pixels=radius).apply(mask)
    corner = round(2.5 * radius) + 1
    beside = slice(40 + corner, 40 + height - corner)
    above = slice(40 + corner, 40 + width - corner)
    assert (smooth[beside] == mask[beside]).all()
    assert (smooth[:, above] == mask[:, above]).all()
    assert not (smooth & ~ndimage.binary_dilation(mask)).any()
    if radius > 2:
        assert not smooth[40, 40]


def test_smoothing_brings_a_ragged_disc_nearer_to_the_disc():
    true = disc(40, 60, 70)
    rng = np.random.default_rng(0)
    near_boundary = ndimage.binary_dilation(
        true, iterations=2
    ) & ~ndimage.binary_erosion(true, iterations=2)
    ragged = np.where(near_boundary, rng.random(true.shape) < 0.5, true)
    smooth = CleanUp(smooth_pixels=4.0).apply(ragged)
    assert overlap(smooth, true) > overlap(ragged, true) + 0.02

    def sides(mask: np.ndarray) -> int:
        return int(
            sum(
                np.diff(mask.astype(int), axis=axis).astype(bool).sum()
                for axis in (0, 1)
            )
        )

    assert sides(smooth) < 0.5 * sides(ragged)
    assert sides(smooth) < 1.02 * sides(true)


@unhurried
@given(blobs(), st.sampled_from([1.0, 2.5, 6.0]))
def test_smoothing_has_no_preferred_direction(mask, radius):
    cleanup = CleanUp(smooth_pixels=radius)
    smooth = cleanup.apply(mask)
    for turn in (np.flipud, np.fliplr, np.transpose):
        # Pixels at one half exactly may fall on either side.
        assert (turn(cleanup.apply(turn(mask))) != smooth).sum() <= 3


@unhurried
@given(masks, st.floats(0.05, 50))
def test_smoothing_never_removes_a_mask_altogether(mask, radius):
    assert CleanUp(smooth_pixels=radius).apply(mask).any() == mask.any()


@pytest.mark.parametrize('radius', [1.0, 5.0, 15.0])
def test_smoothing_does_not_eat_an_object_at_the_edge_of_the_image(radius):
    cleanup = CleanUp(smooth_pixels=radius)
    everything = np.ones((60, 90), np.bool_)
    assert cleanup.apply(everything).all()
    half = np.zeros((80, 80), np.bool_)
    half[:, :37] = True
    for turns in range(4):
        turned_half = np.rot90(half, turns)
        assert (cleanup.apply(turned_half) == turned_half).all()


def test_a_disc_cut_off_by_the_image_is_smoothed_as_if_it_were_whole():
    whole = disc(40, 60, 70)
    smooth = CleanUp(smooth_pixels=5.0).apply(whole)[40:, :80]
    cut = CleanUp(smooth_pixels=5.0).apply(whole[40:, :80])
    assert (cut != smooth).sum() <= 8


# Shapes


@unhurried
@given(masks)
def test_the_convex_hull_is_that_of_scikit_image(mask):
    hull = CleanUp(snap='convex').apply(mask)
    assert hull[mask].all()
    corners = np.argwhere(mask)
    if len(corners) and np.linalg.matrix_rank(corners - corners[0]) == 2:
        assert (hull == convex_hull_image(mask, offset_coordinates=False)).all()


@pytest.mark.parametrize(
    ('lines', 'hull'),
    [
        (('#..', '...', '...'), ('#..', '...', '...')),
        (('#..#',), ('####',)),
        (('#', '.', '#'), ('#', '#', '#')),
        (('#..', '...', '..#'), ('#..', '.#.', '..#')),
        (('#..', '..#'), ('#..', '..#')),
    ],
)
def test_pixels_in_a_line_have_a_convex_hull(lines, hull):
    assert (CleanUp(snap='convex').apply(mask_of(*lines)) == mask_of(*hull)).all()


def test_an_ellipse_takes_the_place_of_a_rough_mask_with_specks():
    true = Ellipse(60, 70, 45, 30, 0.5).mask((120, 140))
    rough = true & ~disc(6, 60, 70) & ~disc(7, 31, 70)
    rough |= disc(3, 10, 10)
    snapped = CleanUp(largest_only=True, snap='ellipse').apply(rough)
    assert overlap(snapped, true) > 0.95
    assert snapped[60, 70]


@pytest.mark.parametrize('lines', [('#',), ('##..', '..##')])
def test_a_mask_too_small_for_an_ellipse_stays_as_it_is(lines):
    mask = mask_of(*lines)
    assert fit_ellipse(mask) is None
    assert (CleanUp(snap='ellipse').apply(mask) == mask).all()


# Ellipses


@st.composite
def ellipses(draw_value, least: float = 5.0) -> Ellipse:
    minor = draw_value(st.floats(least, 40))
    return Ellipse(
        draw_value(st.floats(95, 105)),
        draw_value(st.floats(95, 105)),
        min(draw_value(st.floats(1, 4)) * minor, 90),
        minor,
        draw_value(st.floats(0, math.pi)),
    )


def turned(first: float, second: float) -> float:
    """Angle between two axes, which have no sense of direction."""
    return abs((first - second + math.pi / 2) % math.pi - math.pi / 2)


@unhurried
@given(ellipses())
def test_a_drawn_ellipse_is_found_again_at_any_angle(ellipse):
    found = fit_ellipse(ellipse.mask((200, 200)))
    assert found is not None
    assert math.hypot(found.row - ellipse.row, found.column - ellipse.column) < 0.5
    assert abs(found.major - ellipse.major) < 1
    assert abs(found.minor - ellipse.minor) < 0.6
    # The tips move by less than a pixel, too.
    if ellipse.major - ellipse.minor > 3:
        assert turned(found.angle, ellipse.angle) * (ellipse.major - ellipse.minor) < 1


@unhurried
@given(ellipses(30), st.sampled_from([0.6, 0.7, 0.9]), st.integers(0, 3))
def test_an_ellipse_that_reaches_beyond_the_image_is_found_whole(ellipse, seen, turns):
    whole = np.rot90(ellipse.mask((200, 200)), turns)
    rows = np.flatnonzero(whole.any(axis=1))
    found = fit_ellipse(whole[: rows[0] + round(seen * len(rows))])
    assert found is not None
    assert abs(found.major - ellipse.major) < 0.08 * ellipse.major + 1
    assert abs(found.minor - ellipse.minor) < 0.08 * ellipse.major + 1
    assert overlap(found.mask(whole.shape), whole) > 0.85


@unhurried
@given(ellipses(1), st.integers(1, 220), st.integers(1, 220))
def test_an_ellipse_is_drawn_as_scikit_image_draws_it(ellipse, rows, columns):
    found = ellipse.mask((rows, columns))
    smaller, larger = np.zeros((2, rows, columns), np.bool_)
    # Pixel centres on the line itself may count or not.
    for expected, scale in ((smaller, 1 - 1e-6), (larger, 1 + 1e-6)):
        expected[
            draw.ellipse(
                ellipse.row,
                ellipse.column,
                ellipse.minor * scale,
                ellipse.major * scale,
                (rows, columns),
                rotation=-ellipse.angle,
            )
        ] = True
    assert found[smaller].all()
    assert larger[found].all()


# No ellipse solves the equations for the outline of this mask.
@example(mask_of('##.#.', '##.#.'))
@unhurried
@given(masks)
def test_any_mask_has_an_ellipse_or_is_too_small(mask):
    found = fit_ellipse(mask)
    if mask.sum() >= 5 and len(parts_of(mask)) == 1:
        assert found is not None
    if found is not None:
        assert found.major >= found.minor > 0
        assert 0 <= found.angle <= math.pi
        assert math.isfinite(found.measurements((0.2, 0.3))['circumference'])
        assert overlap(found.mask(mask.shape), ndimage.binary_fill_holes(mask)) > 0


@pytest.mark.parametrize(('seen', 'within'), [(90, 0.6), (120, 0.2), (200, 0.05)])
def test_a_smooth_outline_gives_the_ellipse_to_a_fraction_of_a_pixel(seen, within):
    ellipse = Ellipse(100.3, 99.6, 70, 50, 0.4)
    found = fit_ellipse(ellipse.mask((200, 200))[:seen])
    assert found is not None
    assert (found.row, found.column) == pytest.approx((100.3, 99.6), abs=within)
    assert (found.major, found.minor) == pytest.approx((70, 50), abs=within)


def test_parts_so_far_apart_that_their_ellipse_misses_them_have_none():
    mask = np.zeros((1, 60), np.bool_)
    mask[0, :5] = mask[0, -5:] = True
    assert fit_ellipse(mask) is None
    assert (CleanUp(snap='ellipse').apply(mask) == mask).all()


def test_a_mask_without_an_outline_has_the_ellipse_of_its_spread():
    found = fit_ellipse(np.ones((40, 60), np.bool_))
    assert found is not None
    assert (found.row, found.column) == pytest.approx((19.5, 29.5))
    assert math.pi * found.major * found.minor == pytest.approx(2400)
    assert found.major / found.minor == pytest.approx(1.5, abs=0.01)
    assert turned(found.angle, 0) < 1e-6
    line = np.ones((1, 30), np.bool_)
    found = fit_ellipse(line)
    assert found is not None
    assert found.mask(line.shape).all()


def test_a_whisker_that_smoothing_removes_does_not_move_the_ellipse():
    true = Ellipse(60, 60, 35, 25, 0.3).mask((120, 260))
    mask = true.copy()
    mask[60, 60:250] = True
    assert overlap(CleanUp(snap='ellipse').apply(mask), true) < 0.8
    smooth_first = CleanUp(smooth_pixels=3.0, snap='ellipse')
    assert overlap(smooth_first.apply(mask), true) > 0.98


@unhurried
@given(ellipses(1), st.floats(0.1, 2), st.floats(0.1, 2))
def test_lengths_are_right_for_pixels_that_are_not_square(ellipse, height, width):
    t = np.linspace(0, 2 * math.pi, 20_001)
    along, across = ellipse.major * np.cos(t), ellipse.minor * np.sin(t)
    cosine, sine = math.cos(ellipse.angle), math.sin(ellipse.angle)
    columns = (along * cosine - across * sine) * width
    rows = (along * sine + across * cosine) * height
    distance = np.hypot(rows, columns)
    around = np.hypot(np.diff(rows), np.diff(columns)).sum()
    found = ellipse.measurements((height, width))
    assert found['long_axis'] == pytest.approx(2 * distance.max(), rel=1e-5)
    assert found['short_axis'] == pytest.approx(2 * distance.min(), rel=1e-3)
    # Ramanujan's approximation is worst for an ellipse that is almost a line.
    assert found['circumference'] == pytest.approx(around, rel=5e-4)


def test_a_round_head_in_oblong_pixels_is_measured_round():
    rows, columns = np.ogrid[:200, :300]
    mask = np.hypot((rows - 100) * 0.5, (columns - 140) * 0.3) <= 36
    found = fit_ellipse(mask)
    assert found is not None
    lengths = found.measurements((0.5, 0.3))
    assert lengths['long_axis'] == pytest.approx(72, abs=0.5)
    assert lengths['short_axis'] == pytest.approx(72, abs=0.5)
    assert lengths['circumference'] == pytest.approx(72 * math.pi, abs=1)


# Session files


@unhurried
@given(cleanups)
def test_settings_come_back_from_json_as_they_were(cleanup):
    assert CleanUp.from_dict(json.loads(json.dumps(cleanup.to_dict()))) == cleanup


def test_missing_settings_are_off():
    assert CleanUp.from_dict({'fill_holes': True}) == CleanUp(fill_holes=True)


@pytest.mark.parametrize(
    ('value', 'told'),
    [
        ({'fil_holes': True}, 'fil_holes'),
        ({'fill_holes': 1}, 'fill_holes'),
        ({'largest_only': 'yes'}, 'largest_only'),
        ({'speck_pixels': 2.5}, 'speck_pixels'),
        ({'speck_pixels': True}, 'speck_pixels'),
        ({'speck_pixels': -1}, 'speck_pixels'),
        ({'speck_pixels': 10**9}, 'speck_pixels'),
        ({'smooth_pixels': '2'}, 'smooth_pixels'),
        ({'smooth_pixels': False}, 'smooth_pixels'),
        ({'smooth_pixels': math.nan}, 'smooth_pixels'),
        ({'smooth_pixels': math.inf}, 'smooth_pixels'),
        ({'snap': 'circle'}, 'snap'),
        ({'snap': ['convex']}, 'snap'),
        ({'snap': None}, 'snap'),
        ([('fill_holes', True)], 'named values'),
        (None, 'named values'),
    ],
)
def test_wrong_settings_are_refused_with_a_sentence(value, told):
    with pytest.raises(CleanUpError, match=told) as refused:
        CleanUp.from_dict(value)
    assert isinstance(refused.value, KDSAMError)
    assert str(refused.value).endswith('.')


def test_settings_of_the_wrong_kind_cannot_be_made():
    with pytest.raises(CleanUpError, match='speck_pixels'):
        CleanUp(speck_pixels=-3)
