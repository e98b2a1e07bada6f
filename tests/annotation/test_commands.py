"""The annotation's state, commands and history, without a window."""

from __future__ import annotations

import numpy as np
import pytest
from annotation_scripts import (
    SHAPE,
    ArrayTarget,
    command_for,
    disc,
    frames,
    points,
    steps,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_kdsam.annotation.commands import (
    AddPoint,
    ChooseCandidate,
    CompositeCommand,
    SetBoxes,
    TogglePoint,
)
from napari_kdsam.annotation.draft_prompts import prompts_of
from napari_kdsam.annotation.history import AnnotationSession
from napari_kdsam.annotation.label_commands import (
    CommitObject,
    PaintPixels,
    ReopenObject,
)
from napari_kdsam.annotation.prompt_diff import edit_between, point_commands
from napari_kdsam.annotation.region import PixelChange, PixelRegion
from napari_kdsam.annotation.state import (
    AnnotationState,
    CommittedObject,
    Draft,
    PointPrompt,
)
from napari_kdsam.core.errors import PromptError


@settings(max_examples=150, deadline=None)
@given(st.lists(steps, max_size=25))
def test_any_undo_and_redo_equals_replaying_the_commands_that_remain(script):
    target, session = ArrayTarget(), AnnotationSession()
    done, undone = [], []
    for number, step in enumerate(script, start=1):
        if step[0] == 'undo':
            assert session.undo() == bool(done)
            if done:
                undone.append(done.pop())
        elif step[0] == 'redo':
            assert session.redo() == bool(undone)
            if undone:
                done.append(undone.pop())
        else:
            command = command_for(step, session, target, number)
            if command is not None:
                session.execute(command)
                done.append((step, number))
                undone.clear()
    replayed_target, replayed = ArrayTarget(), AnnotationSession()
    for step, number in done:
        replayed.execute(command_for(step, replayed, replayed_target, number))
    assert dict(session.state.drafts) == dict(replayed.state.drafts)
    assert session.state.objects == replayed.state.objects
    np.testing.assert_array_equal(target.data, replayed_target.data)


@given(st.lists(points, max_size=6), st.data())
def test_point_commands_turn_the_old_points_into_the_new_ones(old, data):
    kind = data.draw(st.sampled_from(['add', 'move', 'remove', 'anything']))
    if kind == 'add':
        new = [*old, *data.draw(st.lists(points, min_size=1, max_size=2))]
    elif kind == 'move' and old:
        index = data.draw(st.integers(0, len(old) - 1))
        new = [*old]
        new[index] = data.draw(points)
    elif kind == 'remove':
        new = [point for point in old if data.draw(st.booleans())]
    else:
        new = data.draw(st.lists(points, max_size=6))
    state = AnnotationState().with_draft((0,), Draft(tuple(old)))
    for command in point_commands((0,), tuple(old), tuple(new)):
        state = command.after(state)
    assert state.draft((0,)).points == tuple(new)


def test_adding_moving_and_removing_one_point_are_one_command_each():
    a, b, c = (PointPrompt(float(n), 0.0) for n in range(3))
    assert len(point_commands((), (a, b), (a, b, c))) == 1
    assert len(point_commands((), (a, b), (a, c))) == 1
    assert len(point_commands((), (a, b, c), (a, c))) == 1
    assert point_commands((), (a, b), (a, b)) == []


def test_prompts_outside_the_image_or_the_stack_are_left_out():
    inside, outside = PointPrompt(5.0, 5.0), PointPrompt(5.0, 31.0)
    now = {
        (0,): Draft((inside, outside)),
        (7,): Draft((inside,)),
        (1,): Draft(boxes=((50.0, 50.0, 60.0, 60.0),)),
    }
    edit = edit_between({}, now, SHAPE)
    assert edit.outside
    assert edit.commands == (AddPoint((0,), inside),)


def test_a_box_partly_outside_is_cut_to_the_image():
    edit = edit_between({}, {(0,): Draft(boxes=((-4.0, 5.0, 8.0, 99.0),))}, SHAPE)
    assert edit.commands == (SetBoxes((0,), ((0.0, 5.0, 8.0, 30.0),)),)
    assert not edit.outside


def test_several_commands_are_undone_as_one():
    session = AnnotationSession()
    a, b = PointPrompt(1.0, 1.0), PointPrompt(2.0, 2.0)
    session.execute(
        CompositeCommand((AddPoint((), a), AddPoint((), b), TogglePoint((), 0)))
    )
    assert [p.positive for p in session.state.draft(()).points] == [False, True]
    session.undo()
    assert session.state.draft(()).empty


def test_a_changed_prompt_forgets_the_chosen_candidate():
    session = AnnotationSession()
    session.execute(AddPoint((), PointPrompt(1.0, 1.0)))
    session.execute(ChooseCandidate((), 2))
    session.execute(AddPoint((), PointPrompt(3.0, 3.0)))
    assert session.state.draft(()).candidate is None


def test_a_commit_that_fails_leaves_state_and_history_as_they_were():
    class Full(ArrayTarget):
        def write(self, indices, value):
            raise OSError('disk full')

    session = AnnotationSession()
    session.execute(AddPoint((0,), PointPrompt(1.0, 1.0)))
    before = session.state
    region = PixelRegion.of_mask((0,), disc(5, 5, 3))
    item = CommittedObject(1, 1, (0,), Draft(), 0.5, region)
    with pytest.raises(OSError, match='disk full'):
        session.execute(CommitObject(Full(), item))
    assert session.state is before
    assert not session.can_redo
    session.undo()
    assert not session.can_undo


def test_several_commands_of_which_one_fails_write_nothing():
    class Full(ArrayTarget):
        def write(self, indices, value):
            raise OSError('disk full')

    session, target = AnnotationSession(), ArrayTarget()
    items = [
        CommittedObject(
            number, number, (0,), Draft(), 0.5, PixelRegion.of_mask((0,), mask)
        )
        for number, mask in enumerate([disc(5, 5, 3), disc(12, 20, 3)], start=1)
    ]
    with pytest.raises(OSError, match='disk full'):
        session.execute(
            CompositeCommand(
                (CommitObject(target, items[0]), CommitObject(Full(), items[1]))
            )
        )
    assert not session.can_undo and not session.state.objects
    assert not target.data.any()


def test_painting_the_label_of_a_reopened_object_makes_another_number():
    session, target = AnnotationSession(), ArrayTarget()
    region = PixelRegion.of_mask((0,), disc(5, 5, 3))
    item = CommittedObject(1, 1, (0,), Draft(), 0.5, region)
    session.execute(CommitObject(target, item))
    session.execute(ReopenObject(target, item))
    painted = PixelRegion.of_mask((1,), disc(9, 9, 2))
    session.execute(PaintPixels(target, (PixelChange(painted, 0, 1),)))
    session.execute(CommitObject(target, item))
    assert [(o.number, o.label) for o in session.state.objects] == [(2, 1), (1, 1)]


def test_outside_points_alone_make_no_prompt():
    draft = Draft((PointPrompt(1.0, 1.0, positive=False),))
    assert not draft.predictable
    with pytest.raises(PromptError, match='inside'):
        prompts_of(draft, SHAPE[1:])


@given(st.integers(1, 19), st.integers(1, 29), st.integers(0, 12), frames)
def test_a_packed_region_gives_back_exactly_its_pixels(row, column, radius, frame):
    mask = disc(row, column, radius)
    region = PixelRegion.of_mask(frame, mask)
    unpacked = np.zeros(SHAPE, bool)
    unpacked[region.indices()] = True
    np.testing.assert_array_equal(unpacked[frame], mask)
    assert unpacked.sum() == mask.sum()


def test_an_empty_mask_has_no_region():
    assert PixelRegion.of_mask((), np.zeros((4, 5), bool)) is None
