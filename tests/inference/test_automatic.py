"""Segmenting everything: a grid of points, and what is kept of their masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_kdsam import Predictor, load_model
from napari_kdsam.core.errors import PromptError
from napari_kdsam.core.geometry import box_of_mask
from napari_kdsam.inference.automatic import (
    AutomaticSettings,
    FoundObject,
    grid_points,
    segment_everything,
    stability_score,
)
from napari_kdsam.phantoms import (
    dermoscopy_phantom,
    endoscopy_phantom,
    ultrasound_phantom,
)

SHAPE = (120, 200)
# The fake model's discs have radii 12, 24 and 48 of 256 along the longest side.
SMALL, MIDDLE, LARGE = (np.pi * radius**2 / 256**2 / 0.6 for radius in (12, 24, 48))


def everything(model: Any, shape: tuple[int, int] = SHAPE, **settings: Any) -> Any:
    predictor = Predictor(model)
    embedding = predictor.embed(np.zeros(shape, np.uint8))
    return segment_everything(predictor, embedding, AutomaticSettings(**settings))


def overlap(first: FoundObject, second: FoundObject) -> float:
    both = np.count_nonzero(first.mask & second.mask)
    return both / np.count_nonzero(first.mask | second.mask)


@given(
    rows=st.integers(1, 3000), columns=st.integers(1, 3000), count=st.integers(1, 20)
)
def test_grid_points_lie_on_the_image_at_about_equal_distances(
    rows: int, columns: int, count: int
) -> None:
    points = np.array(grid_points((rows, columns), count))
    assert (points >= -0.5).all()
    assert (points <= np.array([rows, columns]) - 0.5).all()
    down, across = (np.unique(points[:, axis]) for axis in (0, 1))
    assert max(len(down), len(across)) == count
    assert len(points) == len(down) * len(across)
    # Mirroring the image mirrors the grid.
    np.testing.assert_allclose(down + down[::-1], rows - 1, atol=1e-6)
    np.testing.assert_allclose(across + across[::-1], columns - 1, atol=1e-6)
    if len(down) > 2 and len(across) > 2:
        assert 0.6 < np.diff(down)[0] / np.diff(across)[0] < 1.7


@given(st.floats(0.1, 5), st.lists(st.floats(-10, 10, width=32), min_size=1))
def test_stability_is_the_overlap_of_the_masks_at_both_offsets(
    offset: float, values: list[float]
) -> None:
    logits = np.array(values, np.float32)
    high, low = logits > offset, logits > -offset
    expected = (high & low).sum() / (high | low).sum() if low.any() else 0.0
    assert stability_score(logits, offset) == pytest.approx(expected)


def test_every_object_has_its_own_mask_box_score_and_point(fake_model: Any) -> None:
    found = everything(fake_model, points_per_side=4)
    assert found
    for item in found:
        assert item.mask.shape == SHAPE
        assert item.mask.dtype == np.bool_
        assert item.box == box_of_mask(item.mask)
        assert item.mask[round(item.point[0]), round(item.point[1])]
        assert item.stability == 1.0
    scores = [item.score for item in found]
    assert scores == sorted(scores, reverse=True)


def test_no_two_objects_overlap_more_than_asked_for(fake_model: Any) -> None:
    few = everything(fake_model, points_per_side=6, max_overlap=0.2)
    many = everything(fake_model, points_per_side=6, max_overlap=0.7, max_objects=500)
    assert 1 < len(few) < len(many)
    for number, item in enumerate(few):
        assert all(overlap(item, other) <= 0.25 for other in few[number + 1 :])


def test_the_best_score_wins_among_repeats(fake_model: Any) -> None:
    (only,) = everything(fake_model, points_per_side=1, max_overlap=0.0)
    assert only.score == pytest.approx(0.9)


@pytest.mark.parametrize(
    ('least', 'most', 'scores'),
    [
        (0.0, 1.0, [0.9, 0.8, 0.7]),
        ((SMALL + MIDDLE) / 2, 1.0, [0.9, 0.8]),
        (0.0, (MIDDLE + LARGE) / 2, [0.9, 0.7]),
    ],
)
def test_masks_too_small_or_too_large_are_left_out(
    fake_model: Any, least: float, most: float, scores: list[float]
) -> None:
    found = everything(
        fake_model, points_per_side=1, min_score=0.5, min_area=least, max_area=most
    )
    assert [item.score for item in found] == pytest.approx(scores)


def test_uncertain_masks_are_left_out(fake_model: Any) -> None:
    found = everything(fake_model, points_per_side=1, min_score=0.75)
    assert [item.score for item in found] == pytest.approx([0.9, 0.8])


def test_unstable_masks_are_left_out(fake_model: Any) -> None:
    # The fake model's logits are 10 inside and -10 outside.
    assert everything(fake_model, stability_offset=9.0)
    assert everything(fake_model, stability_offset=11.0) == []


def test_at_most_as_many_objects_as_asked_for(fake_model: Any) -> None:
    every = everything(fake_model)
    best = everything(fake_model, max_objects=2)
    assert [item.point for item in best] == [item.point for item in every[:2]]


def test_progress_is_reported_to_the_end_and_can_stop_the_search(
    fake_model: Any,
) -> None:
    predictor = Predictor(fake_model)
    embedding = predictor.embed(np.zeros(SHAPE, np.uint8))
    seen: list[tuple[int, int]] = []
    segment_everything(
        predictor, embedding, report=lambda done, total: seen.append((done, total))
    )
    total = len(grid_points(SHAPE, AutomaticSettings().points_per_side))
    assert seen[-1] == (total, total)
    assert seen == sorted(seen)

    def stop(done: int, total: int) -> None:
        raise InterruptedError

    before = fake_model.decoded
    with pytest.raises(InterruptedError):
        segment_everything(predictor, embedding, report=stop)
    assert fake_model.decoded == before + 1


@pytest.mark.parametrize(
    'wrong',
    [
        {'points_per_side': 0},
        {'max_objects': 0},
        {'min_score': 1.5},
        {'max_overlap': -0.1},
        {'min_area': 0.9},
        {'stability_offset': 0.0},
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(PromptError, match=name):
        AutomaticSettings(**wrong)


@pytest.fixture(scope='module')
def predictor() -> Predictor:
    return Predictor(load_model('kdsam', 'cpu'))


@pytest.mark.parametrize(
    'draw', [dermoscopy_phantom, endoscopy_phantom, ultrasound_phantom]
)
def test_the_bundled_weights_find_a_phantoms_target(
    predictor: Predictor, draw: Any
) -> None:
    phantom = draw(seed=3)
    embedding = predictor.embed(phantom.image)
    found = segment_everything(
        predictor, embedding, AutomaticSettings(points_per_side=5)
    )
    overlaps = [
        np.count_nonzero(item.mask & phantom.mask)
        / np.count_nonzero(item.mask | phantom.mask)
        for item in found
    ]
    assert max(overlaps, default=0.0) > 0.7
    assert all(item.mask.mean() <= 0.81 for item in found)
