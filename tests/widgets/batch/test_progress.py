"""What a batch still has to do, and from where it goes on."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from napari_kdsam.widgets.batch.progress import (
    BatchPlan,
    FollowPlan,
    Item,
    Pace,
    State,
)


def at(frame: int) -> Item:
    return Item(0, frame)


def follow(frames: int, *keys: int) -> FollowPlan:
    return FollowPlan(range(frames), keys)


def waiting(plan: BatchPlan) -> list[int]:
    return [item.frame for item in plan.waiting]


@given(
    st.integers(1, 12),
    st.lists(st.tuples(st.integers(0, 11), st.sampled_from(['done', 'lost', 'bad']))),
    st.lists(st.integers(0, 11)),
)
def test_every_frame_is_counted_once_whatever_happens(frames, results, corrected):
    plan = follow(frames, 0)
    for frame, what in results:
        if frame < frames:
            if what == 'bad':
                plan.failed(at(frame), 'bad')
            else:
                plan.done(at(frame), 'lost' if what == 'lost' else '')
    for frame in corrected:
        if plan.can_continue_from(frame):
            plan.continue_from(frame)
    assert plan.counts.total == frames
    plan.skip_waiting()
    assert sum(plan.counts[:3]) == frames
    assert all(plan.state(item) is not State.SKIPPED for item in plan.reasons)


def test_a_doubtful_frame_ends_only_its_own_stretch():
    plan = follow(10, 3, 7)
    plan.done(at(3))
    plan.done(at(4), 'lost')
    assert waiting(plan) == [0, 1, 2, 5, 6, 7, 8, 9], 'the other key frame goes on'
    plan.done(at(2), 'lost')
    assert waiting(plan) == [5, 6, 7, 8, 9]
    plan.done(at(8), 'lost')
    assert waiting(plan) == [5, 6, 7]


def test_an_accepted_frame_is_a_key_frame_if_there_are_labels_on_it():
    plan = follow(6, 2)
    for frame in range(6):
        plan.done(at(frame), 'small' if frame in (0, 5) else '')
    assert not plan.breaks_off(0)
    assert not plan.breaks_off(5)
    plan.accept(at(5))
    plan.accept(at(0), labelled=False)
    assert plan.reasons == {}
    assert plan.keys == {2, 5}
    assert plan.counts.done == 6
    plan.done(at(3), 'lost')
    plan.skip([at(4)])
    assert plan.breaks_off(3)


def test_after_a_cancel_it_goes_on_from_the_last_frame_of_each_stretch():
    plan = follow(10, 3, 7)
    for frame in (3, 4, 5):
        plan.done(at(frame))
    assert plan.starts() == {3, 5}
    for frame in (6, 7, 8, 9, 2):
        plan.done(at(frame))
    assert waiting(plan) == [0, 1]
    assert plan.starts() == {2, 3, 7}


def test_it_goes_on_from_before_a_frame_that_failed():
    plan = follow(5, 0)
    plan.done(at(0))
    plan.done(at(1))
    plan.failed(at(2), 'gone')
    assert plan.starts() == {0, 1}


def test_a_corrected_frame_is_a_key_frame_for_those_beyond_it():
    plan = follow(8, 2, 6)
    for frame in (2, 3, 4, 5, 6, 7, 1, 0):
        plan.done(at(frame))
    plan.continue_from(4)
    assert waiting(plan) == [5]
    assert plan.starts() == {2, 4, 6}
    plan.continue_from(1)
    assert waiting(plan) == [0, 5]


def test_nothing_goes_on_from_a_frame_with_none_beyond_it():
    plan = follow(8, 2, 6)
    assert not plan.can_continue_from(5)
    assert not plan.can_continue_from(7)
    assert not plan.can_continue_from(0)
    assert plan.can_continue_from(3)
    assert not follow(8).can_continue_from(3), 'no key frame is known yet'


def test_a_result_replaces_what_was_said_of_the_frame_before():
    plan = BatchPlan([Item(0, 0), Item(1, 0)])
    plan.failed(at(0), 'gone')
    assert plan.reasons == {Item(0, 0): 'gone'}
    plan.done(at(0))
    assert plan.reasons == {}
    assert plan.counts.describe() == '1 done, 0 failed, 0 skipped of 2 frames'


def test_the_pace_leaves_out_pauses():
    clock = [0.0]
    pace = Pace(lambda: clock[0])
    assert pace.describe(5) == ''
    pace.go()
    clock[0] = 2.0
    for _ in range(4):
        pace.count()
    assert pace.describe(100) == '2.0 frames/s, 50 s left'
    pace.stop()
    clock[0] = 1000.0
    assert pace.describe(300) == '2.0 frames/s, 2 min left'
    pace.go()
    clock[0] = 1014.0
    assert pace.describe(3600) == '4.0 s a frame, 4 h 0 min left'
