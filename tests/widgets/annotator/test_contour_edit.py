"""The contour of a committed object, dragged in a real window."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from annotator_window import commit_box, paint


@pytest.fixture
def dragging(annotate: Any) -> Any:
    """An annotator with an object of rows 20 to 59 and columns 40 to 99."""
    session = annotate()
    commit_box(session, (19.5, 39.5), (59.5, 99.5))
    return session


def layer_of(session: Any) -> Any:
    return session.workspace.contour


def drag(session: Any, nearest: tuple[float, ...], to: tuple[float, ...]) -> None:
    """Move a corner as napari does when the mouse is let go."""
    from napari.layers.base import ActionType

    layer = layer_of(session)
    data = [np.array(vertices) for vertices in layer.data]
    away = [np.abs(vertices - nearest).sum(axis=1).min() for vertices in data]
    vertices = data[int(np.argmin(away))]
    vertices[np.abs(vertices - nearest).sum(axis=1).argmin()] = to
    with layer.events.data.blocker():
        layer.data = data
    layer.events.data(
        value=layer.data,
        action=ActionType.CHANGED,
        data_indices=(0,),
        vertex_indices=((),),
    )


def test_a_dragged_corner_is_written_to_the_same_label_and_is_one_undo(dragging):
    session = dragging
    before = session.labels.copy()
    controller = session.controller
    assert controller.contour.open_at((40, 60))
    assert session.viewer.layers.selection.active == layer_of(session)
    drag(session, (19.5, 39.5), (5, 10))
    assert controller.objects.commit()
    assert layer_of(session) is None
    assert 'KD SAM contour' not in session.viewer.layers
    after = session.labels.copy()
    assert after[15, 30] == 1
    assert set(np.unique(after)) == {0, 1}
    np.testing.assert_array_equal(after[50:, 90:], before[50:, 90:])
    controller.undo()
    np.testing.assert_array_equal(session.labels, before)
    controller.redo()
    np.testing.assert_array_equal(session.labels, after)
    (item,) = session.workspace.session.state.objects
    assert (item.number, item.label) == (1, 1)
    assert controller.objects.reopen_at((15, 30))
    session.wait_for('ready')
    assert session.preview[15, 30], 'what was drawn is what is opened again'


def test_cancel_and_a_contour_that_stays_change_nothing(dragging):
    session = dragging
    before, controller = session.labels.copy(), session.controller
    state = session.workspace.session.state
    controller.contour.open_at((40, 60))
    drag(session, (19.5, 39.5), (5, 10))
    controller.clear()
    assert not controller.contour.is_open
    controller.contour.open_at((40, 60))
    assert controller.objects.commit()
    np.testing.assert_array_equal(session.labels, before)
    assert session.workspace.session.state is state


def test_undo_takes_back_one_drag_after_the_other_and_then_the_contour(dragging):
    session = dragging
    controller = session.controller
    controller.contour.open_at((40, 60))
    first = [np.array(one) for one in layer_of(session).data]
    drag(session, (19.5, 39.5), (5, 10))
    drag(session, (59.5, 99.5), (80, 120))
    controller.undo()
    controller.undo()
    np.testing.assert_allclose(layer_of(session).data[0], first[0])
    controller.undo()
    assert not controller.contour.is_open
    assert len(session.workspace.session.state.objects) == 1


def test_other_labels_are_kept_overwritten_or_asked_about_as_for_a_commit(dragging):
    session = dragging
    controller = session.controller
    paint(session, slice(22, 58), slice(110, 130), 9)
    others = session.labels == 9
    controller.contour.open_at((40, 60))
    drag(session, (19.5, 99.5), (19.5, 150))
    controller.objects.set_overlap('ask')
    assert not controller.objects.commit()
    assert 'label 9' in session.workspace.question.describe()
    assert controller.objects.commit(overwrite=False)
    assert (session.labels[others] == 9).all()
    assert session.labels[21, 105] == 1
    controller.undo()
    controller.contour.open_at((40, 60))
    drag(session, (19.5, 99.5), (19.5, 150))
    assert controller.objects.commit(overwrite=True)
    assert (session.labels[others] == 1).any()
    controller.undo()
    assert (session.labels[others] == 9).all()


def test_only_the_frame_in_view_of_a_stack_changes(annotate):
    stack = np.random.default_rng(0).integers(0, 255, (3, 120, 200), np.uint8)
    session = annotate(stack)
    session.viewer.dims.set_current_step(0, 1)
    commit_box(session, (1, 19.5, 39.5), (1, 59.5, 99.5))
    session.workspace.target_layer.data[2, 20:60, 40:100] = 1
    before = session.labels.copy()
    session.controller.contour.open_at((1, 40, 60))
    drag(session, (1, 19.5, 39.5), (1, 5, 10))
    session.viewer.dims.set_current_step(0, 0)
    assert session.controller.objects.commit()
    assert session.labels[1, 15, 30] == 1
    np.testing.assert_array_equal(session.labels[[0, 2]], before[[0, 2]])


def test_an_object_of_a_batch_keeps_its_label_and_one_of_many_specks_is_refused(
    dragging,
):
    session = dragging
    controller = session.controller
    paint(session, slice(80, 100), slice(40, 80), 7)
    controller.contour.open_at((90, 50))
    drag(session, (79.5, 39.5), (70, 30))
    assert controller.objects.commit()
    assert session.labels[76, 36] == 7
    for row in range(70, 110, 3):
        for column in range(120, 190, 3):
            paint(session, slice(row, row + 1), slice(column, column + 1), 8)
    assert not controller.contour.open_at((70, 120))
    assert 'too many to drag' in session.workspace.status.text
    assert layer_of(session) is None


def test_an_object_that_goes_meanwhile_is_said_and_nothing_is_written(dragging):
    session = dragging
    controller = session.controller
    controller.contour.open_at((40, 60))
    drag(session, (19.5, 39.5), (5, 10))
    assert controller.objects.delete_at((40, 60))
    assert not controller.objects.commit()
    assert 'no longer there' in session.workspace.status.text
    assert not session.labels.any()
    controller.clear()
    controller.undo()
    assert session.labels[40, 60] == 1


def test_another_image_takes_the_contour_up_first_and_its_layer_goes(dragging):
    session = dragging
    target = session.workspace.target_layer
    session.controller.contour.open_at((40, 60))
    drag(session, (19.5, 39.5), (5, 10))
    session.viewer.add_image(np.zeros((50, 60), np.uint8), name='other')
    session.controller.show_image(session.viewer.layers['other'])
    assert target.data[15, 30] == 1
    assert 'KD SAM contour' not in session.viewer.layers


def test_a_corner_is_dragged_with_the_mouse(dragging):
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest

    session = dragging
    canvas = session.show_canvas()
    canvas.move(canvas.at(40, 60))
    canvas.key(Qt.Key.Key_E, Qt.KeyboardModifier.ShiftModifier)
    assert session.controller.contour.is_open
    session.settle()
    start, end = canvas.at(19.5, 39.5), canvas.at(8, 20)
    canvas.move(start)
    QTest.mousePress(canvas.native, Qt.MouseButton.LeftButton, pos=start)
    for part in (0.3, 0.6, 1):
        canvas.move(start + (end - start) * part)
    QTest.mouseRelease(canvas.native, Qt.MouseButton.LeftButton, pos=end)
    session.settle()
    canvas.key(Qt.Key.Key_W)
    session.settle()
    assert not session.controller.contour.is_open
    assert session.labels[15, 30] == 1
    assert set(np.unique(session.labels)) == {0, 1}
