"""From drafts to prompts: whose a mark is, scribbles as points, and what comes next."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from annotation_scripts import SHAPE, disc, points
from hypothesis import assume, example, given
from hypothesis import strategies as st

from napari_kdsam.annotation.draft_prompts import mask_of_draft, objects_of, prompts_of
from napari_kdsam.annotation.frames import neighbours, next_unfinished
from napari_kdsam.annotation.region import PixelRegion
from napari_kdsam.annotation.scribbles import BUDGET, sample_line, sample_scribbles
from napari_kdsam.annotation.state import Draft, Outline, PointPrompt, Scribble
from napari_kdsam.core.errors import PromptError
from napari_kdsam.core.geometry import box_of_mask
from napari_kdsam.core.mask_prompts import logits_of_mask

IMAGE = SHAPE[1:]
rows, columns = st.integers(0, IMAGE[0] - 1), st.integers(0, IMAGE[1] - 1)
places = st.tuples(rows.map(float), columns.map(float))
boxes = st.tuples(rows, columns, st.integers(1, 9), st.integers(1, 9)).map(
    lambda b: (float(b[0]), float(b[1]), float(b[0] + b[2]), float(b[1] + b[3]))
)
scribbles = st.builds(
    Scribble, st.lists(places, min_size=1, max_size=5).map(tuple), st.booleans()
)
outlines = st.builds(
    Outline, st.lists(places, min_size=3, max_size=5).map(tuple), st.booleans()
)
masks = st.builds(disc, rows, columns, st.integers(0, 5)).map(
    lambda mask: PixelRegion.of_mask((0,), mask)
)
drafts = st.builds(
    Draft,
    st.lists(points, max_size=5).map(tuple),
    st.lists(boxes, max_size=4).map(tuple),
    st.lists(scribbles, max_size=3).map(tuple),
    st.lists(outlines, max_size=3).map(tuple),
    st.none() | masks,
    st.none() | st.integers(0, 2),
    st.none() | st.integers(1, 9),
)


def ring(row0: float, col0: float, row1: float, col1: float) -> tuple:
    return ((row0, col0), (row0, col1), (row1, col1), (row1, col0))


@given(drafts)
def test_each_prompt_goes_to_exactly_one_object(draft: Draft) -> None:
    parts = objects_of(draft)
    for kind in ('points', 'boxes', 'scribbles', 'outlines'):
        given_out = [mark for part in parts for mark in getattr(part, kind)]
        assert Counter(given_out) == Counter(getattr(draft, kind))
    assert [part.mask for part in parts if part.mask] == [draft.mask] * bool(draft.mask)
    assert len(parts) == max(1, len(draft.boxes))
    assert len(parts) == 1 or all(len(part.boxes) == 1 for part in parts)


@given(drafts)
def test_only_a_single_object_keeps_number_and_candidate(draft: Draft) -> None:
    kept = {(part.number, part.candidate) for part in objects_of(draft)}
    single = len(draft.boxes) < 2
    assert kept == {(draft.number, draft.candidate) if single else (None, None)}


@given(st.data(), st.lists(boxes, min_size=2, max_size=4).map(tuple))
def test_a_point_in_one_box_alone_belongs_to_that_box(data, drawn) -> None:
    row0, col0, row1, col1 = map(int, data.draw(st.sampled_from(drawn)))
    row = data.draw(st.integers(row0, row1 - 1))
    column = data.draw(st.integers(col0, col1 - 1))
    around = [b[0] <= row < b[2] and b[1] <= column < b[3] for b in drawn]
    assume(sum(around) == 1)
    parts = objects_of(Draft((PointPrompt(float(row), float(column)),), drawn))
    assert [bool(part.points) for part in parts] == around


def test_a_point_in_nested_boxes_belongs_to_the_inner_one() -> None:
    outer, inner = (0.0, 0.0, 18.0, 18.0), (5.0, 5.0, 9.0, 9.0)
    for drawn in ((outer, inner), (inner, outer)):
        parts = objects_of(Draft((PointPrompt(6.0, 6.0),), drawn))
        assert [part.boxes for part in parts if part.points] == [(inner,)]


def test_a_point_in_no_box_belongs_to_the_nearest() -> None:
    left, right = (0.0, 0.0, 4.0, 4.0), (0.0, 20.0, 4.0, 24.0)
    marks = (PointPrompt(9.0, 8.0, False), PointPrompt(9.0, 16.0, False))
    first, second = objects_of(Draft(marks, (left, right)))
    assert (first.points, second.points) == (marks[:1], marks[1:])


def test_masks_and_lines_belong_to_the_box_they_lie_in() -> None:
    left, right = (0.0, 0.0, 10.0, 10.0), (0.0, 10.0, 10.0, 20.0)
    scribble = Scribble(((5.0, 12.0), (5.0, 2.0)))
    outline = Outline(ring(2.0, 8.0, 8.0, 12.0))
    # Its one column is the first of the right box.
    mask = np.zeros(IMAGE, bool)
    mask[2:5, 10] = True
    region = PixelRegion.of_mask((0,), mask)
    first, second = objects_of(
        Draft((), (left, right), (scribble,), (outline,), region)
    )
    assert first == Draft(boxes=(left,))
    assert second == Draft((), (right,), (scribble,), (outline,), region)


def test_several_boxes_are_several_prompts_with_their_own_points() -> None:
    left, right = (0.0, 0.0, 10.0, 10.0), (0.0, 15.0, 10.0, 25.0)
    inside, outside = PointPrompt(3.0, 3.0), PointPrompt(4.0, 16.0, False)
    first, second = prompts_of(Draft((inside, outside), (right, left)), IMAGE)
    assert (first.box, first.points, first.labels) == (right, ((4.0, 16.0),), (0,))
    assert (second.box, second.points, second.labels) == (left, ((3.0, 3.0),), (1,))
    assert first.logits is None and second.logits is None


def test_clicks_come_before_the_points_of_scribbles_which_keep_their_sign() -> None:
    draft = Draft(
        (PointPrompt(9.0, 9.0),),
        scribbles=(
            Scribble(((2.0, 2.0), (2.0, 12.0))),
            Scribble(((15.0, 2.0), (15.0, 3.0)), positive=False),
        ),
    )
    (prompt,) = prompts_of(draft, IMAGE)
    assert prompt.points[0] == (9.0, 9.0)
    assert {
        label
        for (row, _), label in zip(prompt.points, prompt.labels, strict=True)
        if row < 15
    } == {1}
    assert [
        label
        for (row, _), label in zip(prompt.points, prompt.labels, strict=True)
        if row == 15
    ] == [0, 0]
    assert (2.0, 2.0) in prompt.points and (2.0, 12.0) in prompt.points


@given(masks)
def test_a_mask_is_given_as_its_logits_and_the_box_around_it(region) -> None:
    (prompt,) = prompts_of(Draft(mask=region), IMAGE)
    assert prompt.box == region.box
    np.testing.assert_array_equal(
        prompt.logits, logits_of_mask(region.full_mask(IMAGE))
    )


def test_a_drawn_box_comes_before_the_box_around_a_mask() -> None:
    drawn = (1.0, 1.0, 18.0, 18.0)
    region = PixelRegion.of_mask((0,), disc(9, 9, 3))
    (prompt,) = prompts_of(Draft(boxes=(drawn,), mask=region), IMAGE)
    assert prompt.box == drawn
    assert prompt.logits is not None


def test_an_outline_is_filled_with_its_border() -> None:
    expected = np.zeros(IMAGE, bool)
    expected[3:9, 5:12] = True
    draft = Draft(outlines=(Outline(ring(3.0, 5.0, 8.0, 11.0)),))
    np.testing.assert_array_equal(mask_of_draft(draft, IMAGE), expected)
    (prompt,) = prompts_of(draft, IMAGE)
    assert prompt.box == (3.0, 5.0, 9.0, 12.0)


@given(st.lists(outlines, max_size=3).map(tuple), st.none() | masks)
def test_a_negative_outline_cuts_wherever_it_is_in_the_order(drawn, region) -> None:
    def filled(*only: Outline) -> np.ndarray:
        flipped = tuple(Outline(outline.places) for outline in only)
        return mask_of_draft(Draft(outlines=flipped), IMAGE)

    there = np.zeros(IMAGE, bool) if region is None else region.full_mask(IMAGE)
    there |= filled(*(outline for outline in drawn if outline.positive))
    there &= ~filled(*(outline for outline in drawn if not outline.positive))
    for order in itertools.permutations(drawn):
        mask = mask_of_draft(Draft(outlines=order, mask=region), IMAGE)
        np.testing.assert_array_equal(mask, there)


def test_a_mask_cut_away_altogether_is_no_mask_prompt() -> None:
    region = PixelRegion.of_mask((0,), disc(9, 9, 3))
    cut = Outline(ring(0.0, 0.0, 19.0, 29.0), positive=False)
    draft = Draft((PointPrompt(2.0, 2.0),), outlines=(cut,), mask=region)
    (prompt,) = prompts_of(draft, IMAGE)
    assert prompt.logits is None and prompt.box is None
    with pytest.raises(PromptError, match='inside'):
        prompts_of(Draft(outlines=(cut,), mask=region), IMAGE)


@given(masks, st.lists(outlines, max_size=3).map(tuple), st.lists(points).map(tuple))
def test_the_box_lies_around_mask_and_outlines_together(region, drawn, clicks) -> None:
    draft = Draft(clicks, outlines=drawn, mask=region)
    around = box_of_mask(mask_of_draft(draft, IMAGE))
    assume(around is not None)
    (prompt,) = prompts_of(draft, IMAGE)
    assert prompt.box == around


def denser(line: Scribble, counts: list[int]) -> Scribble:
    """The same line, reported at more places."""
    dense = [line.places[0]]
    for (start, end), count in zip(
        itertools.pairwise(line.places), itertools.cycle(counts)
    ):
        for share in np.linspace(0, 1, count + 1)[1:-1]:
            dense.append(
                tuple(a + (b - a) * share for a, b in zip(start, end, strict=True))
            )
        dense.append(end)
    return Scribble(tuple(dense), line.positive)


def coordinates(sampled: list[PointPrompt]) -> np.ndarray:
    return np.array([(point.row, point.column) for point in sampled])


U_SHAPE = Scribble(((0.0, 0.0), (10.0, 0.0), (10.0, 10.0), (0.0, 10.0)))
STAIRS = Scribble(((0.0, 0.0), (0.0, 7.0), (7.0, 7.0), (7.0, 14.0), (14.0, 14.0)))


@given(
    st.lists(scribbles, min_size=1, max_size=3),
    st.lists(st.integers(1, 13), min_size=1, max_size=4),
)
@example([U_SHAPE], [3, 7])
@example([STAIRS], [3, 7])
@example([STAIRS, STAIRS], [7, 3])
def test_how_densely_a_scribble_was_reported_makes_no_difference(lines, counts) -> None:
    expected = sample_scribbles(lines)
    sampled = sample_scribbles([denser(line, counts) for line in lines])
    assert [p.positive for p in sampled] == [p.positive for p in expected]
    np.testing.assert_allclose(coordinates(sampled), coordinates(expected), atol=1e-6)


@given(scribbles, st.integers(2, 20))
def test_a_scribble_keeps_its_ends_and_stays_on_the_line(line, budget) -> None:
    sampled = coordinates(sample_scribbles([line], budget))
    np.testing.assert_allclose(sampled[0], line.places[0], atol=1e-9)
    np.testing.assert_allclose(sampled[-1], line.places[-1], atol=1e-9)
    for place in sampled:
        assert min(distance(place, line)) < 1e-6


def distance(place: np.ndarray, line: Scribble):
    """From a place to each straight part of a line."""
    yield math.dist(place, line.places[0])
    for start, end in itertools.pairwise(np.array(line.places)):
        reach = max(float((end - start) @ (end - start)), 1e-12)
        share = np.clip((place - start) @ (end - start) / reach, 0, 1)
        yield math.dist(place, start + share * (end - start))


@pytest.mark.parametrize('line', [U_SHAPE, STAIRS], ids=['u', 'stairs'])
def test_a_scribble_keeps_its_bends(line: Scribble) -> None:
    sampled = coordinates(sample_scribbles([denser(line, [9])]))
    for bend in line.places:
        assert np.hypot(*(sampled - bend).T).min() < 1e-6


def test_a_straight_scribble_is_spread_evenly() -> None:
    line = np.array([[0.0, 0.0], [0.0, 12.0]])
    assert sample_line(line, 5)[:, 1].tolist() == [0.0, 3.0, 6.0, 9.0, 12.0]


@given(st.lists(scribbles, max_size=9), st.integers(0, 20))
def test_scribbles_keep_to_the_budget_or_to_two_points_each(lines, budget) -> None:
    sampled = sample_scribbles(lines, budget)
    assert len(sampled) <= max(budget, 2 * len(lines))
    assert len(sampled) >= len(lines)


def test_a_long_scribble_gets_more_points_than_a_short_one() -> None:
    long = Scribble(((0.0, 0.0), (0.0, 25.0)))
    short = Scribble(((9.0, 0.0), (9.0, 5.0)), positive=False)
    signs = [point.positive for point in sample_scribbles([long, short])]
    assert len(signs) <= BUDGET
    assert signs.count(True) > signs.count(False) >= 2


def test_a_dot_is_one_point() -> None:
    dot = Scribble(((4.0, 5.0),) * 3, positive=False)
    assert sample_scribbles([dot]) == [PointPrompt(4.0, 5.0, False)]
    assert sample_scribbles([]) == []


@given(st.data(), st.integers(1, 30), st.sampled_from([1, -1]))
def test_the_next_unfinished_frame_is_the_first_on_the_way_round(
    data, count, step
) -> None:
    done = data.draw(st.sets(st.integers(0, count - 1)))
    current = data.draw(st.integers(0, count - 1))
    found = next_unfinished(count, done, current, step)
    if found is None:
        assert done == set(range(count))
        return
    assert found in set(range(count)) - done
    passed = (current + step) % count
    while passed != found:
        assert passed in done and passed != current
        passed = (passed + step) % count


@given(st.data(), st.integers(1, 30), st.sampled_from([1, -1]))
def test_going_to_the_next_unfinished_and_finishing_it_visits_every_frame(
    data, count, step
) -> None:
    done = data.draw(st.sets(st.integers(0, count - 1)))
    current = data.draw(st.integers(0, count - 1))
    left = count - len(done)
    for _ in range(left):
        current = next_unfinished(count, done, current, step)
        done.add(current)
    assert next_unfinished(count, done, current, step) is None
    assert done == set(range(count))


stacks = st.lists(st.integers(1, 6), min_size=1, max_size=3)
reaches = st.integers(0, 4)


@given(st.data(), stacks, reaches, reaches, st.sampled_from([1, -1]))
def test_neighbours_are_the_frames_around_along_the_last_axis(
    data, leading, ahead, behind, direction
) -> None:
    count = math.prod(leading)
    current = data.draw(st.integers(0, count - 1))
    found = neighbours(
        count, current, ahead, behind, direction=direction, leading_shape=leading
    )
    here = np.unravel_index(current, leading)
    wanted = {
        place
        for place in range(count)
        if np.unravel_index(place, leading)[:-1] == here[:-1]
        and place != current
        and -behind <= (place - current) * direction <= ahead
    }
    assert len(set(found)) == len(found)
    assert set(found) == wanted
    gaps = [abs(place - current) for place in found]
    assert gaps == sorted(gaps)
    for one, other in itertools.pairwise(found):
        if abs(one - current) == abs(other - current):
            assert (one - current) * direction > 0
    if len(leading) == 1:
        plain = neighbours(count, current, ahead, behind, direction=direction)
        assert plain == found
