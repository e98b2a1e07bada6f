"""Objects joined, split along a scribble, and looked at one after the other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from annotator_window import commit_box, paint
from qtpy.QtCore import Qt

ALT = Qt.KeyboardModifier.AltModifier


def scribble(session: Any, *places: tuple[float, ...]) -> None:
    session.shapes.add_paths(np.array(places, float))
    session.settle()


def test_two_objects_are_joined_by_pointing_at_each(annotate):
    session = annotate()
    edits = session.controller.edits
    commit_box(session, (20, 20), (50, 60))
    commit_box(session, (70, 100), (100, 150))
    before = session.labels.copy()
    assert set(np.unique(before)) == {0, 1, 2}
    assert not edits.join_at((35, 40))
    assert 'other part' in session.workspace.status.text
    assert edits.join_at((85, 125))
    np.testing.assert_array_equal(session.labels, np.where(before, 1, 0))
    (item,) = session.workspace.session.state.objects
    assert (item.number, item.label) == (1, 1)
    session.controller.undo()
    np.testing.assert_array_equal(session.labels, before)
    session.controller.redo()
    assert session.labels[85, 125] == 1


def test_pointing_twice_at_one_object_or_at_nothing_joins_nothing(annotate):
    session = annotate()
    edits = session.controller.edits
    commit_box(session, (20, 20), (50, 60))
    before = session.labels.copy()
    assert not edits.join_at((35, 40))
    assert not edits.join_at((35, 41))
    assert not edits.join_at((110, 190))
    np.testing.assert_array_equal(session.labels, before)


def test_labels_of_a_batch_are_joined_and_split_where_they_are(annotate):
    session = annotate()
    edits = session.controller.edits
    commit_box(session, (2, 2), (10, 10))
    paint(session, slice(40, 60), slice(40, 80), 7)
    paint(session, slice(80, 90), slice(40, 80), 8)
    edits.join_at((50, 50))
    assert edits.join_at((85, 50))
    assert session.labels[85, 50] == 7
    scribble(session, (30, 60), (70, 60))
    assert edits.split_at((50, 45))
    found = set(np.unique(session.labels[40:60, 40:80]))
    assert len(found) == 2
    assert not found & {0, 1}, 'a number that nothing has'


def test_an_object_is_split_along_the_last_scribble_which_goes(annotate):
    session = annotate()
    edits = session.controller.edits
    commit_box(session, (20, 20), (60, 100))
    before = session.labels.copy()
    assert not edits.split_at((40, 40))
    assert 'scribble across the object' in session.workspace.status.text
    scribble(session, (10, 45), (70, 45))
    assert edits.split_at((40, 90))
    assert set(np.unique(session.labels)) == {0, 1, 2}
    assert session.labels[40, 90] == 1, 'the larger part keeps its number'
    assert session.labels[40, 30] == 2
    np.testing.assert_array_equal(session.labels > 0, before > 0)
    assert session.workspace.draft.empty
    assert not len(session.shapes.data)
    assert len(session.workspace.session.state.objects) == 2
    session.controller.undo()
    np.testing.assert_array_equal(session.labels, before)
    assert len(session.shapes.data) == 1, 'undo brings the scribble back too'


def test_a_scribble_beside_the_object_splits_nothing_and_stays(annotate):
    session = annotate()
    commit_box(session, (20, 20), (60, 100))
    before = session.labels.copy()
    scribble(session, (90, 20), (90, 100))
    assert not session.controller.edits.split_at((40, 40))
    assert 'does not cut through' in session.workspace.status.text
    np.testing.assert_array_equal(session.labels, before)
    assert len(session.shapes.data) == 1


def test_in_class_output_parts_keep_the_label_of_the_class(annotate):
    session = annotate()
    controller = session.controller
    controller.objects.set_output('semantic')
    commit_box(session, (20, 20), (60, 100))
    scribble(session, (10, 45), (70, 45))
    assert controller.edits.split_at((40, 90))
    assert set(np.unique(session.labels)) == {0, 1}
    assert len({item.number for item in session.workspace.session.state.objects}) == 2
    controller.edits.join_at((40, 30))
    assert controller.edits.join_at((40, 90))
    assert len(session.workspace.session.state.objects) == 1
    assert set(np.unique(session.labels)) == {0, 1}


def test_keys_go_from_object_to_object_and_show_each_large(annotate):
    stack = np.random.default_rng(0).integers(0, 255, (3, 120, 200), np.uint8)
    session = annotate(stack)
    viewer = session.viewer
    viewer.dims.set_current_step(0, 0)
    commit_box(session, (0, 20, 20), (0, 40, 40))
    commit_box(session, (0, 80, 150), (0, 100, 180))
    viewer.dims.set_current_step(0, 2)
    commit_box(session, (2, 50, 90), (2, 70, 120))
    viewer.dims.set_current_step(0, 0)
    canvas = session.show_canvas()
    viewer.layers.selection.active = session.points
    camera = getattr(viewer, 'scene', viewer).camera
    viewer.reset_view()
    whole = camera.zoom
    seen = []
    for _ in range(4):
        canvas.key(Qt.Key.Key_Right, ALT)
        middle = tuple(round(value) for value in camera.center[-2:])
        seen.append((viewer.dims.current_step[0], middle))
        assert camera.zoom > 1.5 * whole
    frames = [frame for frame, _ in seen]
    assert frames == [0, 0, 2, 0]
    assert seen[0] == seen[3]
    assert seen[0][1] == pytest.approx((30, 30), abs=3)
    assert seen[2][1] == pytest.approx((60, 105), abs=3)
    assert 'Object 1 of 3' in session.workspace.status.text
    canvas.key(Qt.Key.Key_Left, ALT)
    assert viewer.dims.current_step[0] == 2


def test_real_keys_join_what_the_mouse_points_at(annotate):
    session = annotate()
    commit_box(session, (20, 20), (50, 60))
    commit_box(session, (70, 100), (100, 150))
    canvas = session.show_canvas()
    session.viewer.layers.selection.active = session.points
    for row, column in ((35, 40), (85, 125)):
        canvas.move(canvas.at(row, column))
        canvas.key(Qt.Key.Key_J, ALT)
    assert set(np.unique(session.labels)) == {0, 1}


def test_without_objects_there_is_none_to_show(annotate):
    session = annotate()
    session.controller.edits.show_next(1)
    assert 'no object yet' in session.workspace.status.text
