"""Which frames are embedded in advance, by example; `test_prompting` has the rules."""

from __future__ import annotations

import pytest

from napari_kdsam.annotation.frames import neighbours, next_unfinished


@pytest.mark.parametrize(
    ('current', 'direction', 'expected'),
    [
        (10, 1, [11, 9, 12]),
        (10, -1, [9, 11, 8]),
        (0, 1, [1, 2]),
        (0, -1, [1]),
        (19, 1, [18]),
        (18, 1, [19, 17]),
    ],
)
def test_two_frames_ahead_and_one_behind_are_wanted_nearest_first(
    current, direction, expected
) -> None:
    assert neighbours(20, current, direction=direction) == expected


def test_another_sequence_of_the_stack_is_not_a_neighbour() -> None:
    # Three sequences of five frames: places 5 to 9 are those of the second.
    assert neighbours(15, 9, leading_shape=(3, 5)) == [8]
    assert neighbours(15, 5, direction=-1, leading_shape=(3, 5)) == [6]
    assert neighbours(15, 7, leading_shape=(3, 5)) == [8, 6, 9]


def test_a_single_image_has_no_neighbours() -> None:
    assert neighbours(1, 0) == []
    assert neighbours(1, 0, leading_shape=()) == []


def test_the_frame_in_view_is_the_last_to_be_offered() -> None:
    assert next_unfinished(4, {0, 1, 3}, 2) == 2
    assert next_unfinished(4, {1}, 3, step=-1) == 2
    assert next_unfinished(4, {1}, 0, step=-1) == 3
    assert next_unfinished(4, {0, 1, 2, 3}, 2) is None
