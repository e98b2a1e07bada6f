"""Objects followed from frame to frame, and when that stops."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from napari_kdsam.core.errors import ImageError, PromptError
from napari_kdsam.inference.drift import DriftLimits
from napari_kdsam.inference.outlines import changed_alike
from napari_kdsam.inference.propagation import (
    PropagatedFrame,
    follow_between,
    prompt_of_mask,
    propagate,
)

SHAPE = (60, 80)
FEATURES = torch.ones(1, 256, 64, 64)


def embedding(frame: int, features: Any = FEATURES) -> Any:
    return SimpleNamespace(frame=frame, features=features)


def square(row: int, column: int = 30, side: int = 20) -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    mask[row : row + side, column : column + side] = True
    return mask


class Tracker:
    """A predictor that finds what was there all along, and remembers the prompts.

    An object of the truth belongs to the prompt whose point it contains; without one
    nothing is found.
    """

    def __init__(self, truth: dict[int, list[np.ndarray]], score: float = 0.9) -> None:
        self.truth, self.score = truth, score
        self.asked: dict[int, list[Any]] = {}

    def predict_many(self, made: Any, prompts: list[Any]) -> list[Any]:
        self.asked[made.frame] = list(prompts)
        return [self._answer(made.frame, prompt) for prompt in prompts]

    def _answer(self, frame: int, prompt: Any) -> Any:
        row, column = (int(value) for value in prompt.points[0])
        found = [mask for mask in self.truth[frame] if mask[row, column]]
        mask = found[0] if found else np.zeros(SHAPE, bool)
        return SimpleNamespace(mask=mask, score=self.score)


def moving(*rows: int) -> Tracker:
    return Tracker({frame: [square(row)] for frame, row in enumerate(rows)})


def run(tracker: Any, keys: Any, frames: Any, **options: Any) -> list[PropagatedFrame]:
    return list(propagate(tracker, embedding, keys, frames, **options))


def test_an_object_is_followed_forward_and_then_backward_from_its_key_frame() -> None:
    rows = [4, 6, 8, 10, 12]
    done = run(moving(*rows), {2: {7: square(8)}}, range(5))
    assert [frame.index for frame in done] == [2, 3, 4, 1, 0]
    assert not any(frame.drift or frame.error for frame in done)
    for frame in done:
        np.testing.assert_array_equal(frame.masks[7], square(rows[frame.index]))
    assert done[0].scores == {}
    assert done[1].scores == {7: 0.9}


def test_the_masks_of_a_key_frame_are_taken_as_they_are_and_start_anew() -> None:
    corrected = square(20, side=24)
    tracker = moving(4, 6, 20, 22)
    done = run(tracker, {0: {1: square(4)}, 2: {1: corrected}}, range(4))
    assert [frame.index for frame in done] == [0, 1, 2, 3]
    np.testing.assert_array_equal(done[2].masks[1], corrected)
    box = prompt_of_mask(corrected).box
    assert tracker.asked[3][0].box == box


class Swelling:
    """Answers with a disk that is larger on each frame, whatever is asked for."""

    def predict_many(self, made: Any, prompts: list[Any]) -> list[Any]:
        mask = disk(30, 12 + 0.5 * made.frame)
        return [SimpleNamespace(mask=mask, score=0.9) for _ in prompts]


def test_a_later_key_frame_puts_the_frames_before_it_right() -> None:
    truth = disk(30, 16)
    one = run(Swelling(), {0: {1: truth}}, range(9))
    two = run(Swelling(), {0: {1: truth}, 8: {1: truth}}, range(9))
    assert [frame.index for frame in two] == list(range(9))
    assert not any(frame.drift for frame in two)
    for before, after in zip(one[1:8], two[1:8], strict=True):
        wrong = (after.masks[1] ^ truth).sum()
        assert wrong < 0.1 * truth.sum()
        assert wrong <= (before.masks[1] ^ truth).sum()
    assert (one[7].masks[1] ^ truth).sum() > 0.15 * truth.sum()


def test_between_two_key_frames_the_nearer_one_counts_more() -> None:
    small, large = disk(30, 10), disk(30, 20)
    tracker: Any = Tracker({frame: [disk(30, 15)] for frame in range(6)})
    done = run(tracker, {0: {1: small}, 5: {1: large}}, range(6), limits=LOOSE)
    np.testing.assert_array_equal(done[0].masks[1], small)
    np.testing.assert_array_equal(done[5].masks[1], large)
    areas = [int(frame.masks[1].sum()) for frame in done]
    assert areas == sorted(areas)
    assert len(set(areas)) == 6


LOOSE = DriftLimits(key_area_ratio=10, agreement=0, score=0)


def test_an_object_on_one_of_two_key_frames_is_followed_from_that_one() -> None:
    truth = {f: [square(4 + f, 5), square(30 - f, 50)] for f in range(5)}
    keys = {0: {3: truth[0][0]}, 4: {5: truth[4][1]}}
    done = run(Tracker(truth), keys, range(5))
    assert [sorted(frame.masks) for frame in done] == [[3], [3, 5], [3, 5], [3, 5], [5]]
    assert not any(frame.drift for frame in done)
    np.testing.assert_array_equal(done[3].masks[3], truth[3][0])
    np.testing.assert_array_equal(done[1].masks[5], truth[1][1])


def test_what_is_lost_one_way_is_taken_from_the_other_way() -> None:
    rows = [4, 6, 30, 32, 34]
    keys = {0: {1: square(4)}, 4: {1: square(34)}}
    done = run(moving(*rows), keys, range(5))
    assert [bool(frame.drift) for frame in done] == [False] * 5
    for frame in done:
        np.testing.assert_array_equal(frame.masks[1], square(rows[frame.index]))


def test_between_key_frames_what_neither_way_reaches_is_left_out_and_said() -> None:
    gone: list[np.ndarray] = []
    truth = {f: [square(4)] if f in (0, 1, 5, 6) else gone for f in range(7)}
    keys = {0: {1: square(4)}, 6: {1: square(4)}}
    done = run(Tracker(truth), keys, range(7))
    assert [frame.index for frame in done] == [0, 1, 2, 4, 5, 6]
    assert [frame.index for frame in done if frame.drift] == [2, 4]
    assert done[2].drift == 'Object 1 was not found.'


def test_both_ways_to_a_frame_that_disagree_are_a_reason_to_look_at_it() -> None:
    left, right = square(20, 5), square(20, 50)
    tracker: Any = Tracker({frame: [left, right] for frame in range(4)})
    done = run(tracker, {0: {1: left}, 3: {1: right}}, range(4))
    assert [frame.index for frame in done if frame.drift] == [1, 2]
    assert done[1].drift == (
        'Object 1 is uncertain: followed from frame 0 and from frame 3, its masks '
        'overlap by 0.00.'
    )
    np.testing.assert_array_equal(done[1].masks[1], left)
    np.testing.assert_array_equal(done[2].masks[1], right)


def test_between_key_frames_only_the_wanted_frames_come_and_each_step_can_be_stopped() -> (
    None
):
    keys = {0: {1: square(4)}, 5: {1: square(14)}}
    tracker: Any = moving(4, 6, 8, 10, 12, 14)
    steps = list(
        follow_between(
            tracker, embedding, (0, keys[0]), (5, keys[5]), range(1, 5), [2, 3]
        )
    )
    assert [step and step.index for step in steps] == [None] * 3 + [2, 3]
    whole = run(tracker, keys, range(6))
    for step in steps[3:]:
        assert step is not None
        np.testing.assert_array_equal(step.masks[1], whole[step.index].masks[1])


def test_between_key_frames_one_that_cannot_be_read_is_reported_and_passed_over() -> (
    None
):
    def embed(frame: int) -> Any:
        if frame == 2:
            raise ImageError('The frame could not be read.')
        return embedding(frame)

    tracker: Any = moving(4, 6, 8, 10, 12)
    keys = {0: {1: square(4)}, 4: {1: square(12)}}
    done = list(propagate(tracker, embed, keys, range(5)))
    assert [frame.index for frame in done] == list(range(5))
    assert done[2].error == 'The frame could not be read.'
    np.testing.assert_array_equal(done[3].masks[1], square(10))


def test_a_key_frame_without_objects_ends_what_was_followed() -> None:
    done = run(moving(4, 6, 8, 10), {0: {1: square(4)}, 2: {}}, range(4))
    assert [frame.index for frame in done] == [0, 1, 2]
    assert done[2].masks == {}


def test_several_objects_are_followed_at_once() -> None:
    truth = {f: [square(4 + f, 5), square(30 - f, 50)] for f in range(3)}
    keys = {0: {3: truth[0][0], 5: truth[0][1]}}
    done = run(Tracker(truth), keys, range(3))
    assert len(done) == 3
    np.testing.assert_array_equal(done[2].masks[3], truth[2][0])
    np.testing.assert_array_equal(done[2].masks[5], truth[2][1])


@pytest.mark.parametrize(
    ('after', 'score', 'said'),
    [
        (square(4, side=0), 0.9, 'Object 1 was not found'),
        (square(0, 20, side=40), 0.9, 'grew to 4.0 times'),
        (square(10, 36, side=10), 0.9, 'shrank to 25%'),
        (square(4, 42), 0.9, 'jumped'),
        (square(4), 0.1, 'uncertain'),
    ],
)
def test_a_frame_that_looks_like_drift_is_the_last_one_and_says_why(
    after: np.ndarray, score: float, said: str
) -> None:
    key = square(4)
    answers = {0: (key, 0.9), 1: (after, score), 2: (key, 0.9)}

    class Answers:
        def predict_many(self, made: Any, prompts: list[Any]) -> list[Any]:
            mask, own = answers[made.frame]
            return [SimpleNamespace(mask=mask, score=own) for _ in prompts]

    done = run(Answers(), {0: {1: key}}, range(3))
    assert [frame.index for frame in done] == [0, 1]
    assert said in done[1].drift
    assert done[1].drift.endswith('.')
    assert (1 in done[1].masks) == bool(after.any())


def disk(row: float, radius: float) -> np.ndarray:
    rows, columns = np.indices(SHAPE)
    return np.asarray(np.hypot(rows - row, columns - 40) < radius)


@pytest.mark.parametrize('extra', [-3, 3])
def test_what_the_network_always_adds_does_not_add_up_frame_by_frame(
    extra: int,
) -> None:
    truth = [disk(25 + frame, 12) for frame in range(8)]

    class Generous:
        """Answers every prompt with the object and a rim, or without its rim."""

        def predict_many(self, made: Any, prompts: list[Any]) -> list[Any]:
            mask = disk(25 + made.frame, 12 + extra)
            return [SimpleNamespace(mask=mask, score=0.9) for _ in prompts]

    done = run(Generous(), {0: {1: truth[0]}}, range(8))
    assert [frame.index for frame in done] == list(range(8))
    for frame in done:
        wrong = frame.masks[1] ^ truth[frame.index]
        assert wrong.sum() < 0.2 * truth[0].sum()


def test_an_object_that_grows_is_followed_as_it_grows() -> None:
    truth = {f: [square(20 - f, 30 - f, 20 + 2 * f)] for f in range(6)}
    done = run(Tracker(truth), {0: {1: truth[0][0]}}, range(6))
    for frame in done:
        np.testing.assert_array_equal(frame.masks[1], truth[frame.index][0])


@pytest.mark.parametrize(
    ('step', 'said'),
    [(1, 'grown to 2.2 times its area on the key frame'), (-1, 'shrunk to 49%')],
)
def test_an_object_that_changes_little_by_little_is_drift_in_the_end(
    step: int, said: str
) -> None:
    truth = {
        f: [square(20 - f * step, 30 - f * step, 20 + 2 * f * step)] for f in range(9)
    }
    done = run(Tracker(truth), {0: {1: truth[0][0]}}, range(9))
    assert not any(frame.drift for frame in done[:-1])
    assert said in done[-1].drift
    assert 1 < done[-1].index < 8


def test_an_outline_moves_as_another_one_has_moved() -> None:
    mask, other = square(10, 20), square(8, 18, 24)
    np.testing.assert_array_equal(changed_alike(mask, other, other), mask)
    moved = changed_alike(mask, other, square(11, 18, 24))
    assert (moved ^ square(13, 20)).sum() <= 8
    grown = changed_alike(mask, other, square(6, 16, 28))
    assert (grown ^ square(8, 18, 24)).sum() <= 8
    full = np.ones(SHAPE, bool)
    np.testing.assert_array_equal(changed_alike(full, full, full), full)
    empty = np.zeros(SHAPE, bool)
    np.testing.assert_array_equal(changed_alike(mask, empty, other), other)
    assert not changed_alike(mask, other, empty).any()


def looks(frame: int) -> Any:
    """Embeddings whose left half turns into something else on frame 2."""
    features = torch.zeros(1, 256, 64, 64)
    features[:, 0 if frame < 2 else 1, :, :32] = 1
    features[:, 2, :, 32:] = 1
    return embedding(frame, features)


def test_a_mask_in_the_right_place_on_something_else_is_drift() -> None:
    tracker: Any = Tracker({f: [square(4, 5), square(4, 55)] for f in range(4)})
    left, right = square(4, 5), square(4, 55)
    done = list(propagate(tracker, looks, {0: {1: left, 2: right}}, range(4)))
    assert [frame.index for frame in done] == [0, 1, 2]
    assert done[2].drift == 'Object 1 looks different: similarity 0.00.'
    only_right = list(propagate(tracker, looks, {0: {2: right}}, range(4)))
    assert not any(frame.drift for frame in only_right)


def test_a_key_frame_that_cannot_be_read_is_followed_without_its_look() -> None:
    def embed(frame: int) -> Any:
        if frame == 0:
            raise ImageError('The frame could not be read.')
        return embedding(frame)

    tracker: Any = moving(4, 6)
    done = list(propagate(tracker, embed, {0: {1: square(4)}}, range(2)))
    assert [(frame.drift, frame.error) for frame in done] == [('', '')] * 2


def scenes(frame: int, step: int = 1) -> Any:
    """Embeddings of a scene that moves by cells, and of another one from frame 3 on."""
    drawn = np.random.default_rng(frame >= 3).standard_normal((256, 64, 64))
    moved = np.roll(drawn, frame * step, axis=2).astype(np.float32)
    # Inside the object both scenes look alike: only what is around tells.
    moved[:, 10:30, 20:50] = 1
    return embedding(frame, torch.from_numpy(moved)[None])


def test_a_cut_to_a_scene_with_an_object_like_it_is_drift() -> None:
    still: Any = Tracker({frame: [square(15)] for frame in range(5)})
    done = list(propagate(still, scenes, {0: {1: square(15)}}, range(5)))
    assert [frame.index for frame in done] == [0, 1, 2, 3]
    assert done[3].drift.startswith('Object 1 may be in another scene: continuity 0.')
    back = list(propagate(still, scenes, {4: {1: square(15)}}, range(5)))
    assert [frame.index for frame in back if frame.drift] == [2]


@pytest.mark.parametrize(('step', 'stops'), [(4, False), (6, True)])
def test_what_moves_is_looked_for_near_by_only(step: int, stops: bool) -> None:
    still: Any = Tracker({frame: [square(15)] for frame in range(3)})
    done = list(
        propagate(still, lambda f: scenes(f, step), {0: {1: square(15)}}, range(3))
    )
    assert bool(done[-1].drift) is stops


def test_drift_one_way_does_not_stop_the_other() -> None:
    tracker = moving(4, 6, 8, 30, 32)
    done = run(tracker, {2: {1: square(8)}}, range(5))
    assert [frame.index for frame in done] == [2, 3, 1, 0]
    assert [bool(frame.drift) for frame in done] == [False, True, False, False]


def test_a_frame_that_cannot_be_read_is_reported_and_passed_over() -> None:
    def embed(frame: int) -> Any:
        if frame == 1:
            raise ImageError('The frame could not be read.')
        return embedding(frame)

    tracker: Any = moving(4, 6, 8)
    done = list(propagate(tracker, embed, {0: {1: square(4)}}, range(3)))
    assert done[1].error == 'The frame could not be read.'
    assert done[1].masks == {}
    np.testing.assert_array_equal(done[2].masks[1], square(8))


def test_only_the_wanted_frames_are_done_and_a_key_frame_may_lie_outside() -> None:
    done = run(moving(4, 6, 8, 10), {0: {1: square(4)}}, [3, 1])
    assert [frame.index for frame in done] == [1, 3]


def test_nothing_beyond_the_frame_in_hand_is_read_before_it_is_asked_for() -> None:
    read: list[int] = []

    def embed(frame: int) -> Any:
        read.append(frame)
        return embedding(frame)

    tracker: Any = moving(4, 6, 8)
    steps = propagate(tracker, embed, {0: {1: square(4)}}, range(3))
    next(steps)
    next(steps)
    steps.close()
    assert read == [0, 1]


@pytest.mark.parametrize('keys', [{}, {0: {}}, {0: {1: square(4, side=0)}}])
def test_without_an_object_there_is_nothing_to_follow(keys: Any) -> None:
    with pytest.raises(PromptError, match='label one on a frame first'):
        run(moving(4, 6), keys, range(2))


@pytest.mark.parametrize(
    'limits',
    [
        {'overlap': 1.2},
        {'score': -0.1},
        {'area_ratio': 1.0},
        {'key_area_ratio': 0.5},
        {'similarity': 2.0},
        {'continuity': -1.5},
        {'agreement': 1.1},
    ],
)
def test_limits_outside_their_range_are_refused(limits: dict[str, float]) -> None:
    with pytest.raises(PromptError, match='must be'):
        DriftLimits(**limits)


def test_an_empty_mask_is_no_prompt() -> None:
    with pytest.raises(PromptError, match='empty mask'):
        prompt_of_mask(np.zeros(SHAPE, bool))


@given(st.integers(0, 40), st.integers(0, 60), st.integers(1, 20), st.integers(1, 20))
def test_the_prompt_of_a_mask_points_inside_it_and_boxes_all_of_it(
    row: int, column: int, rows: int, columns: int
) -> None:
    mask = np.zeros(SHAPE, bool)
    mask[row : row + rows, column : column + columns] = True
    # Hollow, so that the middle of the box is outside.
    mask[row + 2 : row + rows - 2, column + 2 : column + columns - 2] = False
    prompt = prompt_of_mask(mask)
    at_row, at_column = prompt.points[0]
    assert mask[int(at_row), int(at_column)]
    assert prompt.box is not None
    row0, column0, row1, column1 = prompt.box
    assert row0 <= row and column0 <= column
    assert row1 >= row + rows and column1 >= column + columns


def test_the_bundled_model_follows_a_lesion_and_stops_where_it_is_gone() -> None:
    from napari_kdsam import Predictor, load_model
    from napari_kdsam.phantoms import ultrasound_phantom

    phantom = ultrasound_phantom(0, shape=(250, 320), frames=8)
    images = [*phantom.image[::2], np.zeros((250, 320), np.uint8)]
    predictor = Predictor(load_model('kdsam', 'cpu'))
    done = list(
        propagate(
            predictor,
            lambda frame: predictor.embed(images[frame]),
            {0: {1: phantom.mask[0]}},
            range(len(images)),
        )
    )
    assert [frame.index for frame in done] == [0, 1, 2, 3, 4]
    for frame, truth in zip(done[:4], phantom.mask[::2], strict=True):
        assert not frame.drift
        mask = frame.masks[1]
        assert (mask & truth).sum() / (mask | truth).sum() > 0.85
    assert 'Object 1' in done[4].drift
