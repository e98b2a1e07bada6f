"""Opening a committed object again, in a real napari window."""

from __future__ import annotations

import numpy as np
import pytest


def two_objects(session) -> None:
    for column in (60, 150):
        session.click(60, column)
        session.controller.objects.commit()


def test_a_reopened_object_has_its_prompts_and_gets_its_own_label_back(annotate):
    session = annotate()
    two_objects(session)
    assert session.controller.objects.reopen_at((60, 60))
    session.wait_for('ready')
    assert session.points.data.tolist() == [[60, 60]]
    assert session.labels[60, 60] == 0
    assert session.labels[60, 150] == 2
    session.click(60, 80)
    session.controller.objects.commit()
    assert session.labels[60, 60] == session.labels[60, 80] == 1
    session.click(100, 100)
    session.controller.objects.commit()
    assert session.labels[100, 100] == 3


def test_no_other_object_takes_the_label_of_one_that_is_open(annotate):
    session = annotate(np.zeros((2, 120, 200), np.uint8))
    session.viewer.dims.set_point(0, 0)
    session.points.add(np.array((0.0, 60, 60)))
    session.wait_for('ready')
    session.controller.objects.commit()
    session.controller.objects.reopen_at((0, 60, 60))
    session.wait_for('ready')
    session.viewer.dims.set_point(0, 1)
    session.points.add(np.array((1.0, 60, 60)))
    session.wait_for('ready')
    session.controller.objects.commit()
    session.viewer.dims.set_point(0, 0)
    session.wait_for('ready')
    session.controller.objects.commit()
    assert session.labels[1, 60, 60] == 2
    assert session.labels[0, 60, 60] == 1


def test_reopening_is_undone_and_redone(annotate):
    session = annotate()
    two_objects(session)
    before = session.labels.copy()
    session.controller.objects.reopen_at((60, 60))
    after = session.labels.copy()
    session.controller.undo()
    assert np.array_equal(session.labels, before)
    assert len(session.points.data) == 0
    session.controller.redo()
    assert np.array_equal(session.labels, after)
    for _ in range(3):
        session.controller.undo()
    for _ in range(3):
        session.controller.redo()
    assert np.array_equal(session.labels, after)


def test_clearing_a_reopened_object_deletes_it(annotate):
    session = annotate()
    two_objects(session)
    session.controller.objects.reopen_at((60, 150))
    session.controller.clear()
    assert set(np.unique(session.labels)) == {0, 1}
    session.click(20, 150)
    session.controller.objects.commit()
    assert session.labels[20, 150] == 3


@pytest.mark.parametrize('place', [(5, 5), (500, 500), (60, 60)])
def test_where_there_is_no_object_of_ours_nothing_happens_and_it_is_said(
    annotate, place
):
    session = annotate()
    session.click(60, 150)
    session.controller.objects.commit()
    before = session.labels.copy()
    assert not session.controller.objects.reopen_at(place)
    assert 'no object' in session.workspace.status.text
    assert np.array_equal(session.labels, before)


def test_where_an_object_was_painted_over_by_hand_what_was_painted_is_reopened(
    annotate,
):
    session = annotate()
    session.click(60, 60)
    session.controller.objects.commit()
    area = (session.labels == 1).sum()
    session.workspace.target_layer.fill((60, 60), 9)
    assert session.controller.objects.reopen_at((60, 60))
    session.wait_for('ready')
    assert len(session.points.data) == 0, 'it was made without prompts'
    assert session.workspace.draft.number == 9
    assert session.workspace.draft.mask.full_mask((120, 200)).sum() == area
    session.controller.objects.commit()
    assert session.labels[60, 60] == 9


def test_what_other_code_wrote_over_an_object_is_what_is_reopened_there(annotate):
    session = annotate()
    session.click(60, 60)
    session.controller.objects.commit()
    session.workspace.target_layer.data[55:65, 55:65] = 9
    assert session.controller.objects.reopen_at((60, 60))
    session.wait_for('ready')
    assert session.workspace.draft.mask.full_mask((120, 200)).sum() == 100
    assert session.labels[60, 60] == 0
    session.controller.objects.commit()
    assert session.labels[60, 60] == 9


def made_elsewhere(session) -> np.ndarray:
    """Labels that nothing committed, with the same two numbers on each frame."""
    labels = np.zeros((2, 120, 200), np.uint16)
    labels[:, 20:80, 30:90] = 1
    labels[:, 30:60, 130:180] = 2
    layer = session.viewer.add_labels(labels, name='from a batch')
    session.controller.set_target(layer)
    return labels.copy()


def test_a_label_made_elsewhere_is_reopened_and_its_correction_replaces_it(annotate):
    session = annotate(np.zeros((2, 120, 200), np.uint8))
    before = made_elsewhere(session)
    for frame in (0, 1):
        session.viewer.dims.set_point(0, frame)
        assert session.controller.objects.reopen_at((frame, 50, 60))
        session.wait_for('ready')
        assert not (session.labels[frame] == 1).any()
        session.controller.tools.set_polarity(False)
        session.click(frame, 70, 80)
        session.controller.tools.set_polarity(True)
        session.controller.objects.commit()
        now = session.labels[frame]
        assert set(np.unique(now)) == {0, 1, 2}, 'it gets its own label back'
        assert (now == 1).any()
        assert (now == 1).sum() != (before[frame] == 1).sum(), 'and is another one'
        np.testing.assert_array_equal(now == 2, before[frame] == 2)


def test_a_label_made_elsewhere_can_be_deleted_and_given_a_class(annotate):
    session = annotate(np.zeros((2, 120, 200), np.uint8))
    before = made_elsewhere(session)
    session.viewer.dims.set_point(0, 1)
    assert session.controller.objects.delete_at((1, 50, 60))
    assert not (session.labels[1] == 1).any()
    np.testing.assert_array_equal(session.labels[0], before[0])
    session.controller.undo()
    np.testing.assert_array_equal(session.labels, before)
    assert session.controller.objects.reclassify_at((1, 40, 150), 1)
    (item,) = session.workspace.session.state.objects
    assert (item.label, item.frame, item.class_id) == (2, (1,), 1)


def test_with_the_edit_tool_a_real_click_reopens_and_a_drag_moves_the_view(annotate):
    from qtpy.QtCore import QPoint, Qt
    from qtpy.QtTest import QTest
    from qtpy.QtWidgets import QApplication, QWidget

    session = annotate()
    session.click(60, 100)
    session.controller.objects.commit()
    session.viewer.window.resize(1000, 700)
    session.viewer.window.show()
    session.qtbot.wait(300)
    canvas = next(
        widget
        for top in QApplication.topLevelWidgets()
        for widget in top.findChildren(QWidget)
        if 'CanvasBackend' in type(widget).__name__ and widget.isVisible()
    )
    middle = QPoint(canvas.width() // 2, canvas.height() // 2)
    session.widget.tools.buttons['Edit'].click()
    assert session.widget.tools.buttons['Edit'].isChecked()
    assert not session.widget.tools.buttons['Inside'].isChecked()
    QTest.mousePress(canvas, Qt.MouseButton.LeftButton, pos=middle)
    QTest.mouseMove(canvas, middle + QPoint(60, 0))
    QTest.mouseRelease(canvas, Qt.MouseButton.LeftButton, pos=middle + QPoint(60, 0))
    assert session.labels[60, 100] == 1
    # The view has moved with the mouse, and the object with it.
    middle += QPoint(60, 0)
    QTest.mouseMove(canvas, middle)
    QTest.mouseClick(canvas, Qt.MouseButton.LeftButton, pos=middle)
    assert session.labels[60, 100] == 0
    session.wait_for('ready')
    assert session.widget.tools.buttons['Inside'].isChecked()
    QTest.keyClick(canvas, Qt.Key.Key_W)
    assert session.labels[60, 100] == 1
    QTest.mouseMove(canvas, middle + QPoint(1, 1))
    QTest.keyClick(canvas, Qt.Key.Key_W, Qt.KeyboardModifier.ShiftModifier)
    assert session.labels[60, 100] == 0


def test_labels_of_a_batch_are_chosen_and_corrected_where_they_are(
    make_napari_viewer_proxy, fake_factory, qtbot, fake_model
):
    from annotator_window import Annotating
    from qtpy.QtCore import Qt

    from napari_kdsam.widgets.annotator.dock import AnnotatorWidget
    from napari_kdsam.widgets.shared.labels_writer import new_labels_layer

    viewer = make_napari_viewer_proxy(show=False)
    image = viewer.add_image(np.zeros((120, 200), np.uint8), name='scan')
    found = new_labels_layer(image)
    found.data[40:80, 40:80] = 1
    found.data[100:110, 10:20] = 2
    viewer.add_layer(found)
    widget = AnnotatorWidget(viewer, fake_factory)
    viewer.window.add_dock_widget(widget, name='Click to label')
    session = Annotating(viewer, widget, qtbot, fake_model)
    assert widget.labels_choice.value is found
    canvas = session.show_canvas()
    widget.tools.buttons['Edit'].click()
    canvas.click(60, 60)
    session.wait_for('ready')
    assert not (session.labels == 1).any(), 'it is open'
    canvas.click(60, 85)
    session.wait_for('ready')
    canvas.key(Qt.Key.Key_W)
    session.settle()
    assert session.labels[60, 60] == session.labels[60, 85] == 1
    assert set(np.unique(session.labels)) == {0, 1, 2}
    session.controller.flow.thread.stop(timeout=5)
