"""Scores of masks whose agreement is known, or told by MONAI."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_kdsam.measure.scores import (
    Scores,
    area_ratio,
    compare_masks,
    dice_and_iou,
)

SHAPE = (9, 12)
masks = arrays(np.bool_, SHAPE)
sizes = st.tuples(st.floats(0.1, 3), st.floats(0.1, 3))
PERFECT = Scores(1, 1, 0, 1)


@settings(deadline=None)
@given(masks, masks, sizes, st.floats(0, 4))
def test_the_order_of_the_two_masks_does_not_matter(mask, other, size, tolerance):
    one = compare_masks(mask, other, size, tolerance)
    assert one == compare_masks(other, mask, size, tolerance)


@settings(deadline=None)
@given(st.integers(1, 30), sizes, st.integers(1, 60))
def test_a_shifted_line_is_as_far_away_as_it_was_shifted(shift, size, length):
    line, moved = np.zeros((2, 40, 64), bool)
    line[4, :length] = moved[4 + shift, :length] = True
    distance = shift * size[0]
    assert compare_masks(line, moved, size, distance * 1.01).nsd == 1
    found = compare_masks(line, moved, size, distance * 0.99)
    assert (found.dice, found.iou, found.nsd) == (0, 0, 0)
    assert math.isclose(found.hd95, distance)


@given(st.integers(0, 9), sizes)
def test_an_object_that_is_too_tall_scores_as_computed_by_hand(more, size):
    mask, reference = np.zeros((2, 30, 210), bool)
    mask[5 : 15 + more, 5:205] = reference[5:15, 5:205] = True
    found = compare_masks(mask, reference, size)
    assert math.isclose(found.dice, 20 / (20 + more))
    assert math.isclose(found.iou, 10 / (10 + more))
    assert math.isclose(found.hd95, more * size[0])


def test_a_tolerance_that_is_a_multiple_of_the_pixel_counts_as_within():
    line, moved = np.zeros((2, 9, 9), bool)
    line[2, 2:7] = moved[5, 2:7] = True
    # 3 * 0.1 is a little more than 0.3.
    assert compare_masks(line, moved, (0.1, 0.1), 0.3).nsd == 1


@settings(deadline=None, max_examples=60)
@given(masks, masks, sizes, st.sampled_from((0.0, 0.77, 1.83, 4.19)))
def test_the_scores_are_those_of_monai(mask, reference, size, tolerance):
    import torch
    from monai.metrics.hausdorff_distance import compute_hausdorff_distance
    from monai.metrics.meandice import compute_dice
    from monai.metrics.meaniou import compute_iou
    from monai.metrics.surface_dice import compute_surface_dice

    assume(mask.any() and reference.any())
    a, b = (
        torch.from_numpy(m[None, None].astype(np.float32)) for m in (mask, reference)
    )
    spaced = {'include_background': True, 'spacing': size}
    expected = (
        compute_dice(a, b, include_background=True),
        compute_iou(a, b, include_background=True),
        compute_hausdorff_distance(a, b, percentile=95, **spaced),
        compute_surface_dice(a, b, [tolerance], **spaced),
    )
    found = compare_masks(mask, reference, size, tolerance)
    scores = (found.dice, found.iou, found.hd95, found.nsd)
    # MONAI computes with 32 bits.
    assert np.allclose(scores, [float(e) for e in expected], atol=1e-4)


@settings(deadline=None)
@given(masks, masks)
def test_overlap_alone_is_that_of_all_scores(mask, reference):
    found = compare_masks(mask, reference)
    assert dice_and_iou(mask, reference) == (found.dice, found.iou)


def test_area_ratio_is_above_one_where_the_mask_is_too_large():
    mask, reference = np.zeros((2, *SHAPE), bool)
    mask[1:7, 1:6] = reference[1:5, 1:6] = True
    assert area_ratio(mask, reference) == 1.5
    assert area_ratio(reference, mask) == pytest.approx(2 / 3)
    assert area_ratio(~reference & reference, reference) == 0


def test_empty_masks_agree_and_a_missing_one_is_infinitely_far():
    nothing, something = np.zeros((2, 8, 8), bool)
    something[2:4, 2:4] = True
    assert compare_masks(nothing, nothing) == PERFECT
    assert compare_masks(something, nothing) == Scores(0, 0, math.inf, 0)
    assert compare_masks(nothing, something) == Scores(0, 0, math.inf, 0)
