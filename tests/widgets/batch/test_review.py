"""Going through the results of a batch by keys and buttons, in a real window."""

from __future__ import annotations

from typing import Any

import numpy as np
from annotator_window import show_canvas
from batch_window import Batching, FickleModel, add_box, drifting, stack


def click(session: Batching, action: str) -> None:
    session.widget.answers[action].click()


def flagged(batch: Any) -> Batching:
    """Frames 1 and 3 of five are to be looked at: nothing was found."""
    frames = stack(5)
    frames[[1, 3]] = 255
    session: Batching = batch(frames, model=FickleModel())
    session.look_at(0)
    add_box(session, 0)
    session.run('SAME')
    return session


def frame(session: Batching) -> int:
    return int(session.viewer.dims.current_step[0])


def test_after_a_run_the_first_frame_to_look_at_is_in_view_and_keys_go_on(batch):
    from qtpy.QtCore import Qt

    session = flagged(batch)
    assert frame(session) == 1
    assert 'Look at the frames below' in session.widget.status.text()
    canvas = show_canvas(session.viewer, session.qtbot)
    alt = Qt.KeyboardModifier.AltModifier
    seen = []
    for key in (Qt.Key.Key_N, Qt.Key.Key_N, Qt.Key.Key_B):
        canvas.key(key, alt)
        seen.append(frame(session))
    assert seen == [3, 1, 3]
    assert 'Frame 3, 2 of 2 to look at' in session.widget.status.text()
    session.widget.flagged_only.click()
    seen = []
    for key in (Qt.Key.Key_N, Qt.Key.Key_N, Qt.Key.Key_N, Qt.Key.Key_B):
        canvas.key(key, alt)
        seen.append(frame(session))
    assert seen == [4, 0, 1, 0]


def test_without_frames_to_look_at_all_results_are_gone_through(batch):
    session = batch(stack(3))
    session.look_at(0)
    add_box(session, 0)
    session.run('SAME')
    assert frame(session) == 0, 'the view stays'
    assert not session.widget.flagged_only.isChecked()
    click(session, 'next_result')
    assert frame(session) == 1
    assert 'Frame 1, 2 of 3.' in session.widget.status.text()


def test_a_rejected_result_is_gone_and_undo_brings_it_back(batch):
    from qtpy.QtCore import Qt

    session = batch(stack(3))
    session.look_at(0)
    add_box(session, 0)
    session.run('SAME')
    before = session.labels.copy()
    layer = session.choices.output.value
    own = tuple(np.mgrid[1:2, 50:55, 5:10].reshape(3, -1))
    session.look_at(1)
    canvas = show_canvas(session.viewer, session.qtbot)
    alt = Qt.KeyboardModifier.AltModifier
    layer.data_setitem(own, 8)
    canvas.key(Qt.Key.Key_R, alt)
    assert np.unique(session.labels[1]).tolist() == [0, 8], "the batch's alone"
    assert frame(session) == 2
    canvas.key(Qt.Key.Key_A, alt)
    assert frame(session) == 0
    # A rejection is not undone by doing the batch again.
    session.look_at(0)
    session.run('SAME')
    assert np.unique(session.labels[1]).tolist() == [0, 8]
    assert [line.split(':')[0] for line in session.listed] == ['Frame 1', 'Frame 2']
    assert not session.widget.answers['undo_review'].isEnabled()
    layer.data_setitem(own, 0)
    session.look_at(0)
    session.run('SAME', overlap=True)
    np.testing.assert_array_equal(session.labels, before)


def test_undo_takes_the_answers_back_one_by_one_and_their_frames_are_listed_again(
    batch,
):
    from qtpy.QtCore import Qt

    session = flagged(batch)
    before = session.labels.copy()
    session.widget.flagged_only.click()
    session.look_at(0)
    click(session, 'reject_result')
    assert not session.labels[0].any()
    assert frame(session) == 1
    click(session, 'accept_result')
    assert [line.split(':')[0] for line in session.listed] == ['Frame 3']
    assert frame(session) == 2
    canvas = show_canvas(session.viewer, session.qtbot)
    for _ in range(2):
        canvas.key(Qt.Key.Key_U, Qt.KeyboardModifier.AltModifier)
    np.testing.assert_array_equal(session.labels, before)
    assert frame(session) == 0
    assert [line.split(':')[0] for line in session.listed] == ['Frame 1', 'Frame 3']
    assert session.controller.counts[:3] == (5, 0, 0)
    assert session.widget.answers['accept_result'].isEnabled()
    canvas.key(Qt.Key.Key_U, Qt.KeyboardModifier.AltModifier)
    assert 'nothing to undo' in session.widget.status.text()


def test_undo_leaves_what_was_painted_in_place_of_a_rejected_result(batch):
    session = batch(stack(2))
    session.look_at(0)
    add_box(session, 0)
    session.run('SAME')
    layer = session.choices.output.value
    click(session, 'reject_result')
    layer.data_setitem(tuple(np.mgrid[0:1, 10:20, 30:50].reshape(3, -1)), 5)
    click(session, 'undo_review')
    assert (session.labels[0, 11:20, 31:49] == 5).all()
    assert (session.labels[0, 20:29, 31:49] == 1).all()


def test_nothing_to_reject_is_said_and_a_rejected_object_is_not_followed(batch):
    session = batch(drifting(), model=FickleModel())
    session.look_at(1)
    add_box(session, 1)
    session.run('FOLLOW_PROMPTS')
    assert frame(session) == 3
    click(session, 'reject_result')
    assert session.listed == []
    assert session.phase() == 'idle'
    assert session.filled() == [0, 1, 2]
    click(session, 'undo_review')
    assert len(session.listed) == 1
    session.look_at(6)
    assert not session.widget.answers['reject_result'].isEnabled()


def test_each_of_several_images_is_seen_when_its_result_is(batch):
    frames = stack(3)
    frames[[0, 2]] = 255
    session = batch(*frames, model=FickleModel())
    session.viewer.add_points([(30, 20)])
    scans = [layer for layer in session.viewer.layers if 'scan' in layer.name]
    session.viewer.layers.selection = set(scans)
    session.run('SAME', image='Selected image layers')

    def seen() -> list[str]:
        return [x.name for x in session.viewer.layers if 'scan' in x.name and x.visible]

    assert seen() == ['scan 0', 'scan 0 labels']
    click(session, 'next_result')
    assert seen() == ['scan 2', 'scan 2 labels']
    click(session, 'accept_result')
    assert seen() == ['scan 0', 'scan 0 labels']
    click(session, 'accept_result')
    assert session.listed == []
    assert 'Every frame was looked at' in session.widget.status.text()


def test_correct_opens_the_annotator_on_the_image_with_the_labels_of_the_batch(
    annotate, qtbot
):
    from napari_kdsam import Predictor
    from napari_kdsam.widgets.batch.dock import BatchWidget

    annotating = annotate(stack(3))
    model = FickleModel()
    widget = BatchWidget(
        annotating.viewer,
        lambda *_: Predictor(model),
        lambda _: annotating.widget.guided,
    )
    annotating.viewer.window.add_dock_widget(widget, name='batch')
    session = Batching(annotating.viewer, widget, qtbot, model)
    session.look_at(0)
    session.run('SAME', shapes=add_box(session, 0))
    click(session, 'next_result')
    click(session, 'correct_result')
    assert annotating.workspace.target_layer is session.choices.output.value
    qtbot.waitUntil(lambda: not annotating.workspace.unseen, timeout=10_000)
    assert annotating.controller.objects.reopen_at((1, 20, 40))
    annotating.wait_for('ready')
    annotating.click(1, 5, 5)
    annotating.controller.objects.commit()
    click(session, 'accept_result')
    assert frame(session) == 2
    session.controller.close()
