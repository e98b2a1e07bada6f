"""Contours with few corners, and the pixels that moving a corner changes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_kdsam.annotation.contours import Contour, Ring, contour_of, reshaped
from napari_kdsam.annotation.region import PixelRegion

SHAPE = (80, 100)


def region_of(mask: np.ndarray, frame: tuple[int, ...] = ()) -> PixelRegion:
    region = PixelRegion.of_mask(frame, mask)
    assert region is not None
    return region


def disc(row: float, column: float, radius: float) -> np.ndarray:
    rows, columns = np.indices(SHAPE)
    return (rows - row) ** 2 + (columns - column) ** 2 <= radius**2


def drag(contour: Contour, ring: int, corner: int, to: tuple[float, float]) -> tuple:
    rings = list(contour.rings)
    places = list(rings[ring].places)
    places[corner] = to
    rings[ring] = replace(rings[ring], places=tuple(places))
    return tuple(rings)


def shaped(region, contour, rings, shape=SHAPE) -> np.ndarray:
    made = reshaped(region, contour, rings, shape)
    return np.zeros(shape, bool) if made is None else made.full_mask(shape)


@pytest.mark.parametrize('radius', [1, 5, 20, 35])
def test_a_round_object_has_few_corners_near_its_boundary(radius):
    mask = disc(40, 50, radius)
    contour = contour_of(region_of(mask))
    (ring,) = contour.rings
    assert 3 <= len(ring.places) <= 40
    assert not ring.hole
    # From nothing: what the corners alone describe.
    away = replace(contour, rings=(Ring(((0.0, 0.0), (0.0, 0.2), (0.2, 0.0))),))
    drawn = shaped(region_of(mask), away, contour.rings)
    assert (drawn != mask).sum() <= max(2, 0.1 * mask.sum())


def test_the_single_pixel_has_a_contour_too():
    mask = np.zeros(SHAPE, bool)
    mask[7, 9] = True
    contour = contour_of(region_of(mask))
    assert len(contour.rings[0].places) >= 3


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_a_contour_that_stays_changes_no_pixel_whatever_the_object(seed):
    mask = np.random.default_rng(seed).random(SHAPE) < 0.02
    mask |= disc(40, 50, 12)
    region = region_of(mask)
    contour = contour_of(region)
    assert reshaped(region, contour, contour.rings, SHAPE) is region


def test_a_corner_that_is_dragged_out_takes_pixels_along_and_leaves_the_far_side():
    rng = np.random.default_rng(0)
    mask = disc(40, 50, 20)
    # Detail that few corners do not show.
    mask[20:60, 30:34] &= rng.random((40, 4)) < 0.5
    region = region_of(mask)
    contour = contour_of(region)
    outline = max(range(len(contour.rings)), key=lambda n: len(contour.rings[n].places))
    places = np.array(contour.rings[outline].places)
    corner = int(places[:, 1].argmax())
    made = shaped(region, contour, drag(contour, outline, corner, (40.0, 90.0)))
    assert made[40, 80]
    assert made[40, 68:88].all(), 'no slit along the old boundary'
    np.testing.assert_array_equal(made[:, :45], mask[:, :45])


def test_a_corner_that_is_dragged_in_gives_pixels_up():
    mask = np.zeros(SHAPE, bool)
    mask[20:60, 20:80] = True
    region = region_of(mask)
    contour = contour_of(region)
    places = np.array(contour.rings[0].places)
    corner = int(places.sum(axis=1).argmin())
    made = shaped(region, contour, drag(contour, 0, corner, (40.0, 50.0)))
    assert not made[22, 22]
    assert made[58, 78]
    assert not (made & ~mask).any()


def test_holes_and_parts_are_lines_of_their_own_and_can_be_changed_alone():
    mask = disc(40, 30, 18) & ~disc(40, 30, 8)
    mask |= disc(40, 80, 9)
    # A part in the hole.
    mask |= disc(40, 30, 3)
    region = region_of(mask)
    contour = contour_of(region)
    assert sorted(ring.hole for ring in contour.rings) == [False, False, False, True]
    hole = next(n for n, ring in enumerate(contour.rings) if ring.hole)
    filled = tuple(ring for ring in contour.rings if not ring.hole)
    made = shaped(region, contour, filled)
    assert made[40, 36]
    np.testing.assert_array_equal(made[:, 60:], mask[:, 60:])
    corner = int(np.array(contour.rings[hole].places)[:, 0].argmin())
    made = shaped(region, contour, drag(contour, hole, corner, (26.0, 30.0)))
    assert not made[28, 30]
    assert made[40, 30], 'the part in the hole stays'


def test_corners_outside_the_image_end_at_its_edge_and_nothing_is_none():
    mask = np.zeros(SHAPE, bool)
    mask[:30, :40] = True
    region = region_of(mask, (3,))
    contour = contour_of(region)
    corner = int(np.array(contour.rings[0].places).sum(axis=1).argmax())
    made = reshaped(region, contour, drag(contour, 0, corner, (500.0, 700.0)), SHAPE)
    assert made is not None
    assert made.frame == (3,)
    assert made.box[2] <= SHAPE[0]
    assert made.box[3] <= SHAPE[1]
    assert reshaped(region, contour, (), SHAPE) is None
    dot = (Ring(((5.0, 5.0),) * 4),)
    small = reshaped(region, contour, dot, SHAPE)
    assert small is None or small.mask().sum() == 1
