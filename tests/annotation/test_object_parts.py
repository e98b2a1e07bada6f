"""Cutting a region along a line."""

from __future__ import annotations

import numpy as np
import pytest

from napari_kdsam.annotation.object_parts import cut_along
from napari_kdsam.annotation.region import PixelRegion


def region_of(mask: np.ndarray) -> PixelRegion:
    region = PixelRegion.of_mask((2,), mask)
    assert region is not None
    return region


def block() -> np.ndarray:
    mask = np.zeros((40, 60), bool)
    mask[10:30, 5:45] = True
    return mask


@pytest.mark.parametrize(
    'line',
    [
        [(5, 30), (35, 30)],
        [(2.4, 29.6), (20, 31), (38, 28)],
        [(5, 20), (35, 50)],
        [(-20, 30), (90, 30)],
    ],
    ids=['straight', 'bent', 'slanting', 'from beyond the image'],
)
def test_a_line_from_side_to_side_cuts_in_two(line: list[tuple[float, float]]) -> None:
    region = region_of(block())
    large, small = cut_along(region, line)
    assert (large.frame, small.frame) == ((2,), (2,))
    masks = [part.full_mask((40, 60)) for part in (large, small)]
    assert masks[0].sum() > masks[1].sum() > 100
    assert not (masks[0] & masks[1]).any()
    np.testing.assert_array_equal(masks[0] | masks[1], block())
    assert masks[0][20, 6]
    assert masks[1][20, 44]


@pytest.mark.parametrize(
    'line', [[(5, 30), (20, 30)], [(0, 0), (0, 50)], [(20, 20), (20, 25)], [(20, 20)]]
)
def test_a_line_that_does_not_cut_through_changes_nothing(
    line: list[tuple[float, float]],
) -> None:
    region = region_of(block())
    assert cut_along(region, line) == [region]


def test_parts_that_lie_apart_already_stay_together() -> None:
    mask = block()
    mask[35:38, 50:55] = True
    rest, off = cut_along(region_of(mask), [(5, 30), (32, 30)])
    assert rest.contains(36, 52)
    assert not off.contains(36, 52)


def test_a_line_to_and_fro_makes_several_parts() -> None:
    parts = cut_along(region_of(block()), [(5, 15), (35, 15), (35, 32), (5, 32)])
    assert len(parts) == 3
    assert sum(part.mask().sum() for part in parts) == block().sum()
