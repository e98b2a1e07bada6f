"""Labels compared with a reference, object by object."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_kdsam.core.errors import ImageError
from napari_kdsam.measure.comparison import (
    MISSED,
    WRONG,
    FrameComparison,
    Matching,
    check_comparable,
    compare_frame,
    compare_stack,
    error_map,
)
from napari_kdsam.measure.frame_objects import FrameObjects
from napari_kdsam.measure.scores import (
    Scores,
)

SHAPE = (9, 12)
label_images = arrays(np.uint8, SHAPE, elements=st.integers(0, 4))
sizes = st.tuples(st.floats(0.1, 3), st.floats(0.1, 3))
PERFECT = Scores(1, 1, 0, 1)


def pairs_of(found: FrameComparison) -> list[tuple[int, int]]:
    return [(item.label, item.reference) for item in found.objects]


@settings(deadline=None)
@given(label_images, sizes, st.sampled_from(Matching))
def test_identical_labels_agree_perfectly(labels, size, matching):
    found = compare_frame(labels, labels.astype(np.int64), size, 0, matching)
    assert found.scores == PERFECT
    assert all(item.scores == PERFECT for item in found.objects)
    values = sorted(set(labels[labels > 0].tolist()))
    assert pairs_of(found) == [(value, value) for value in values]
    assert not error_map(labels, labels, matching).any()


def test_objects_are_paired_so_that_the_sum_of_overlaps_is_greatest():
    labels, reference = np.zeros((2, 1, 40), np.uint16)
    # 3 overlaps 7 more than 8, but 5 has no other counterpart than 7.
    labels[0, 0:10], labels[0, 10:19] = 5, 3
    reference[0, 5:15], reference[0, 15:19] = 7, 8
    labels[0, 30:32], reference[0, 35:38] = 9, 1
    found = compare_frame(labels, reference)
    assert pairs_of(found) == [(3, 8), (5, 7), (9, 0), (0, 1)]
    assert [item.result for item in found.objects] == [
        'matched',
        'matched',
        'extra',
        'missed',
    ]
    assert found.objects[2].scores == Scores(0, 0, math.inf, 0)
    assert found.objects[1].centre == (0, 7)
    assert found.scores.dice == 2 * 14 / (21 + 17)


@settings(deadline=None)
@given(label_images, label_images)
def test_pairing_in_groups_is_as_good_as_pairing_all_at_once(labels, reference):
    from scipy.optimize import linear_sum_assignment

    iou = np.zeros((5, 5))
    for a, b in np.ndindex(5, 5):
        one, two = labels == a, reference == b
        if a and b and (one | two).any():
            iou[a, b] = (one & two).sum() / (one | two).sum()
    best = iou[linear_sum_assignment(iou, maximize=True)].sum()
    found = compare_frame(labels, reference)
    assert math.isclose(sum(item.scores.iou for item in found.objects), best)
    both = {item.label for item in found.objects}, {i.reference for i in found.objects}
    assert both[0] - {0} == set(labels.ravel().tolist()) - {0}
    assert both[1] - {0} == set(reference.ravel().tolist()) - {0}


def test_equal_labels_are_paired_wherever_they_are_if_so_chosen():
    labels, reference = np.zeros((2, 10, 10), np.uint8)
    labels[2:4], labels[6:8] = 1, 2
    reference[2:4], reference[6:8] = 2, 1
    found = compare_frame(labels, reference, matching=Matching.label)
    assert pairs_of(found) == [(1, 1), (2, 2)]
    assert [item.scores.dice for item in found.objects] == [0, 0]
    assert [item.scores.hd95 for item in found.objects] == [4, 4]
    assert (found.scores.dice, found.scores.hd95) == (0, 4)
    assert (error_map(labels, reference, Matching.label) == WRONG).sum() == 40
    assert compare_frame(labels, reference).scores == PERFECT
    assert not error_map(labels, reference, Matching.overlap).any()


@pytest.mark.parametrize('value', [70_000, 2**63 + 5])
def test_huge_and_negative_labels_are_compared_too(value):
    labels = np.zeros((8, 8), np.uint64)
    labels[2:4, 2:4] = value
    reference = np.full((8, 8), -1, np.int64)
    reference[2:4, 2:4] = 3
    found = compare_frame(labels, reference)
    assert pairs_of(found) == [(value, 3)]
    assert found.scores == PERFECT
    assert FrameObjects.of(labels).values == [0, value]


def test_errors_are_missed_or_wrong_pixels():
    labels = np.array([[[0, 1, 1, 2]]], np.uint8)
    reference = np.array([[[1, 1, 2, 0]]], np.int32)
    found = error_map(labels, reference, Matching.overlap)
    assert found.tolist() == [[[MISSED, 0, 0, WRONG]]]
    found = error_map(labels, reference, Matching.label)
    assert found.tolist() == [[[MISSED, 0, WRONG, WRONG]]]


@pytest.mark.parametrize(
    ('labels', 'reference', 'said'),
    [
        (np.zeros((4, 5), int), np.zeros((4, 6), int), r'\(4, 5\).*\(4, 6\)'),
        (np.zeros((4, 5), int), np.zeros((1, 4, 5), int), 'as many frames'),
        (np.zeros((4, 5)), np.zeros((4, 5), int), 'whole numbers'),
        (np.zeros(5, int), np.zeros(5, int), 'rows, columns'),
    ],
)
def test_what_cannot_be_compared_is_said_in_one_sentence(labels, reference, said):
    with pytest.raises(ImageError, match=said) as caught:
        check_comparable(labels, reference)
    assert str(caught.value).count('.') == 1
    with pytest.raises(ImageError, match=said):
        next(compare_stack(labels, reference))
