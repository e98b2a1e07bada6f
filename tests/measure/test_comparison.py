"""Scores of masks whose agreement is known, or told by MONAI."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from napari_kdsam.core.errors import ImageError
from napari_kdsam.io.label_images import write_labels
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
from napari_kdsam.measure.comparison_tables import (
    summary_of,
    tables_of,
    write_comparison,
)
from napari_kdsam.measure.frame_objects import FrameObjects
from napari_kdsam.measure.reference_masks import open_reference
from napari_kdsam.measure.scores import (
    Scores,
    area_ratio,
    compare_masks,
    dice_and_iou,
)

SHAPE = (9, 12)
masks = arrays(np.bool_, SHAPE)
label_images = arrays(np.uint8, SHAPE, elements=st.integers(0, 4))
sizes = st.tuples(st.floats(0.1, 3), st.floats(0.1, 3))
PERFECT = Scores(1, 1, 0, 1)


def pairs_of(found: FrameComparison) -> list[tuple[int, int]]:
    return [(item.label, item.reference) for item in found.objects]


@settings(deadline=None)
@given(masks, masks, sizes, st.floats(0, 4))
def test_the_order_of_the_two_masks_does_not_matter(mask, other, size, tolerance):
    one = compare_masks(mask, other, size, tolerance)
    assert one == compare_masks(other, mask, size, tolerance)


@settings(deadline=None)
@given(label_images, sizes, st.sampled_from(Matching))
def test_identical_labels_agree_perfectly(labels, size, matching):
    found = compare_frame(labels, labels.astype(np.int64), size, 0, matching)
    assert found.scores == PERFECT
    assert all(item.scores == PERFECT for item in found.objects)
    values = sorted(set(labels[labels > 0].tolist()))
    assert pairs_of(found) == [(value, value) for value in values]
    assert not error_map(labels, labels, matching).any()


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


def save(path: Path, pixels: Any) -> None:
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path)


def test_the_mask_of_an_image_is_found_by_its_name(tmp_path: Path):
    for name, value in (('polyp.png', 3), ('scan 7_mask.png', 5), ('scan 70.png', 6)):
        save(tmp_path / name, np.full(SHAPE, value))
    (tmp_path / 'notes.txt').write_text('not a mask')
    found = open_reference(tmp_path, SHAPE, ('labels', 'Scan 7.jpg'))
    assert (np.asarray(found) == 5).all()
    assert (found[2:4, :3] == 5).all() and found[2:4, :3].shape == (2, 3)
    found = open_reference(tmp_path, SHAPE, ('scan 70 labels [1]', 'polyp'))
    assert (found[()] == 6).all()
    with pytest.raises(ImageError, match='None of the 3 masks'):
        open_reference(tmp_path, SHAPE, ('other',))


def test_masks_of_a_stack_are_taken_in_the_order_of_their_numbers(tmp_path: Path):
    for number in range(12):
        save(tmp_path / f'frame{number}.png', np.full(SHAPE, number + 1))
    found = open_reference(tmp_path, (12, *SHAPE))
    stack = np.asarray(found)
    assert stack[:, 0, 0].tolist() == list(range(1, 13))
    assert (found[3] == 4).all()
    for index in ((slice(2, 7, 2), 4), (np.int64(5), slice(1, 3)), (slice(0, 0),)):
        assert np.array_equal(found[index], stack[index])
    found = open_reference(tmp_path, (3, 4, *SHAPE))
    assert np.array_equal(found[1, :, 2:4], stack.reshape(3, 4, *SHAPE)[1, :, 2:4])
    with pytest.raises(ImageError, match='12 masks for 11 frames'):
        open_reference(tmp_path, (11, *SHAPE))


def test_a_file_with_all_frames_is_the_reference_of_a_stack(tmp_path: Path):
    stack = np.random.default_rng(0).integers(0, 5, (6, *SHAPE), np.uint8)
    write_labels(tmp_path / 'cine_labels.tif', stack)
    assert np.array_equal(open_reference(tmp_path, stack.shape)[2:4], stack[2:4])
    write_labels(tmp_path / 'other.tif', stack[:, ::-1])
    assert np.array_equal(open_reference(tmp_path, stack.shape, ['cine']), stack)


def test_black_and_white_masks_are_one_object(tmp_path: Path):
    mask = np.zeros(SHAPE, np.uint8)
    mask[:, 5:] = 255
    save(tmp_path / 'white.png', mask)
    save(tmp_path / 'colour.png', np.stack([mask, mask // 2, mask * 0], -1))
    Image.fromarray(mask).save(tmp_path / 'lossy.jpg', quality=30)
    np.save(tmp_path / 'real.npy', mask / 255)
    np.save(tmp_path / 'half.npy', mask / 2)
    for name in ('white', 'colour', 'lossy', 'real'):
        found = open_reference(tmp_path, SHAPE, [name])
        assert np.array_equal(found, mask // 255), name
    with pytest.raises(ImageError, match='no whole numbers'):
        open_reference(tmp_path, SHAPE, ['half'])[()]


def test_a_folder_that_does_not_serve_is_said(tmp_path: Path):
    with pytest.raises(ImageError, match='no folder'):
        open_reference(tmp_path / 'nowhere', SHAPE)
    with pytest.raises(ImageError, match='no image files'):
        open_reference(tmp_path, SHAPE)
    save(tmp_path / 'a.png', np.zeros((4, 4)))
    with pytest.raises(ImageError, match=r'a\.png has 4 x 4 pixels'):
        open_reference(tmp_path, SHAPE)[()]
    save(tmp_path / 'a_mask.png', np.zeros((4, 4)))
    with pytest.raises(ImageError, match='have one name'):
        open_reference(tmp_path, SHAPE, ['a'])
