"""Segmenting stacks and several layers from the batch widget, in a real window."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from annotator_window import show_canvas
from batch_window import (
    Batching,
    FickleModel,
    Turnstile,
    add_box,
    drifting,
    stack,
    wait_for_threads,
)
from fakes import FakeModel, LazyStack


def test_one_box_is_used_on_every_frame_and_the_labels_are_a_new_layer(batch):
    session = batch()
    session.look_at(2)
    add_box(session, 2)
    session.run('SAME')
    assert session.labels.shape == (6, 60, 90)
    for frame in session.labels:
        assert frame[11:29, 31:49].all()
        assert not frame[:8].any()
    assert session.controller.counts[:3] == (6, 0, 0)
    assert 'Done: 6 done, 0 failed, 0 skipped of 6 frames.' in (
        session.widget.status.text()
    )
    assert threading.main_thread().name not in session.model.threads


def test_prompts_of_another_frame_than_the_one_in_view_are_not_used(batch):
    session = batch()
    add_box(session, 2)
    session.look_at(0)
    session.run('SAME')
    assert 'This frame has no prompt' in session.widget.status.text()
    assert len(session.viewer.layers) == 2
    assert not session.controller.counts.total


def test_each_frame_has_its_own_prompts_and_those_without_are_skipped(batch):
    session = batch()
    add_box(session, 1, 4)
    session.run('EACH')
    assert session.filled() == [1, 4]
    assert session.controller.counts[:3] == (2, 0, 4)


def test_only_the_frames_of_the_range_are_done(batch):
    session = batch()
    add_box(session, 0)
    session.look_at(0)
    session.run('SAME', first=2, last=3)
    assert session.filled() == [2, 3]
    assert session.controller.counts.total == 2


def test_points_without_polarity_are_inside_and_may_be_an_object_each(batch):
    session = batch()
    session.look_at(0)
    session.viewer.add_points([(0, 30, 20), (0, 30, 70)])
    session.run('SAME', each_point=True, first_label=5)
    assert np.unique(session.labels).tolist() == [0, 5, 6]
    assert session.labels[3, 30, 20] == 5
    assert session.labels[3, 30, 70] == 6


def test_scaled_and_moved_layers_give_the_same_labels(batch):
    session = batch(scale=(2, 0.5, 0.25), translate=(3, 10, 20))
    session.look_at(1)
    image = session.viewer.layers[0]
    shapes = add_box(session, 1)
    shapes.data = [np.array([image.data_to_world(v) for v in shapes.data[0]])]
    session.run('SAME')
    assert session.labels[4, 11:29, 31:49].all()
    assert not session.labels[4, :8].any()
    output = session.choices.output.value
    np.testing.assert_allclose(output.extent.world, image.extent.world)


def test_selected_layers_are_done_one_after_another_each_with_its_labels(batch):
    session = batch(stack(1)[0], stack(3)[1], stack(3)[2])
    session.viewer.add_points([(30, 20)])
    scans = [layer for layer in session.viewer.layers if 'scan' in layer.name]
    session.viewer.layers.selection = {scans[0], scans[2]}
    session.run('SAME', image='Selected image layers')
    made = [layer.name for layer in session.viewer.layers if 'labels' in layer.name]
    assert made == ['scan 0 labels', 'scan 2 labels']
    for name in made:
        assert session.viewer.layers[name].data[30, 20] == 1
    assert session.controller.counts[:3] == (2, 0, 0)


def test_labels_that_are_there_are_kept_or_overwritten_as_chosen(batch):
    session = batch()
    own = np.zeros((6, 60, 90), np.uint16)
    own[:, 10:20, 30:50] = 9
    session.viewer.add_labels(own, name='mine')
    session.look_at(0)
    add_box(session, 0)
    session.run('SAME', output=session.viewer.layers['mine'])
    assert (session.labels[3, 10:20, 30:50] == 9).all()
    assert (session.labels[3, 21:29, 31:49] == 1).all()
    session.run('SAME', overlap=True)
    assert (session.labels[3, 11:29, 31:49] == 1).all()


def test_a_second_run_replaces_what_the_first_one_wrote(batch):
    session = batch()
    session.look_at(0)
    shapes = add_box(session, 0)
    session.run('SAME')
    shapes.data = [shapes.data[0] + (0, 15, 25)]
    session.run('SAME')
    assert not session.labels[3, 10:20, 30:50].any()
    assert session.labels[3, 30, 65] == 1


def test_cancel_stops_within_a_frame_and_resume_does_the_rest(batch):
    session = batch()
    gate = Turnstile(session.model)
    session.look_at(0)
    add_box(session, 0)
    session.choose('SAME')
    gate.let(2)
    session.widget.start_button.click()
    session.wait_for(done=2)
    assert session.filled() == [0, 1], 'labels must appear frame by frame'
    session.widget.cancel_button.click()
    gate.let(1)
    session.wait()
    assert session.filled() == [0, 1, 2]
    assert session.controller.counts[:3] == (3, 0, 3)
    assert 'Cancelled' in session.widget.status.text()
    gate.let(10)
    assert session.widget.pause_button.text() == 'Resume'
    session.widget.pause_button.click()
    session.wait()
    assert session.controller.counts[:3] == (6, 0, 0)
    assert session.model.encoded == 6, 'a frame was done twice'


def test_a_pause_lasts_until_it_is_resumed(batch):
    session = batch()
    gate = Turnstile(session.model)
    session.look_at(0)
    add_box(session, 0)
    session.choose('SAME')
    gate.let(2)
    session.widget.start_button.click()
    session.wait_for(done=2)
    session.widget.pause_button.click()
    gate.let(10)
    session.wait('paused')
    session.qtbot.wait(100)
    assert session.controller.counts.done == 3
    assert not session.widget.start_button.isEnabled()
    session.widget.pause_button.click()
    session.wait()
    assert session.controller.counts[:3] == (6, 0, 0)


def test_a_frame_that_fails_is_listed_and_the_others_go_on(batch):
    session = batch(LazyStack(stack(6), broken={3}), contrast_limits=(0, 255))
    session.look_at(0)
    add_box(session, 0)
    session.run('SAME')
    assert session.filled() == [0, 1, 2, 4, 5]
    assert session.controller.counts[:3] == (5, 1, 0)
    assert session.listed == ['Frame 3: The frame could not be read: the disk is gone.']


def test_a_model_that_cannot_be_loaded_is_said_and_can_be_tried_again(batch):
    session = batch()
    session.look_at(0)
    add_box(session, 0)
    session.model.missing = True
    session.run('SAME')
    assert 'No such model here' in session.widget.status.text()
    assert session.controller.counts[:3] == (0, 0, 6)
    session.model.missing = False
    assert session.widget.pause_button.text() == 'Resume'
    session.widget.pause_button.click()
    session.wait()
    assert session.controller.counts[:3] == (6, 0, 0)


@pytest.mark.parametrize('what', ['image', 'labels'])
def test_removing_a_layer_while_it_runs_ends_it(batch, what):
    session = batch()
    gate = Turnstile(session.model)
    session.look_at(0)
    add_box(session, 0)
    session.choose('SAME')
    gate.let(2)
    session.widget.start_button.click()
    session.wait_for(done=2)
    output = session.choices.output.value
    image = session.choices.image.value
    session.viewer.layers.remove(image if what == 'image' else output)
    gate.let(10)
    session.wait()
    assert 'was removed: 2 of 6 frames' in session.widget.status.text()
    assert output.data.any(axis=(1, 2)).tolist() == [True] * 2 + [False] * 4
    assert not session.widget.pause_button.isEnabled()


def test_closing_the_widget_while_it_runs_ends_the_thread_after_its_frame(batch):
    session = batch()
    gate = Turnstile(session.model)
    session.look_at(0)
    add_box(session, 0)
    session.choose('SAME')
    gate.let(2)
    session.widget.start_button.click()
    session.wait_for(done=2)
    output = session.choices.output.value
    controller, widget = session.controller, session.widget
    session.viewer.window.remove_dock_widget(widget)
    widget.deleteLater()
    session.qtbot.waitUntil(lambda: controller.batch is None, timeout=10_000)
    gate.let(10)
    wait_for_threads(session.qtbot)
    assert session.model.encoded <= 3
    assert output.data.any(axis=(1, 2)).tolist() == [True] * 2 + [False] * 4


def test_an_object_is_followed_until_it_is_lost_and_the_frame_is_listed(batch):
    session = batch(drifting(), model=FickleModel())
    session.look_at(1)
    add_box(session, 1)
    session.run('FOLLOW_PROMPTS')
    assert session.filled() == [0, 1, 2]
    assert session.listed == ['Frame 3: Object 1 was not found.']
    assert session.controller.counts[:3] == (4, 0, 3)
    session.widget.frames.itemClicked.emit(session.widget.frames.item(0))
    assert session.viewer.dims.current_step[0] == 3


def test_after_a_correction_it_goes_on_from_there_and_leaves_the_rest_alone(batch):
    session = batch(drifting(), model=FickleModel())
    session.look_at(1)
    add_box(session, 1)
    session.run('FOLLOW_PROMPTS')
    before = session.labels.copy()
    session.look_at(3)
    session.widget.answers['continue_from_here'].click()
    assert 'no label on this frame' in session.widget.status.text()
    output = session.choices.output.value
    rows, columns = (grid.ravel() for grid in np.mgrid[30:50, 60:80])
    output.data_setitem((np.full(400, 3), rows, columns), 1)
    session.widget.answers['continue_from_here'].click()
    session.wait()
    np.testing.assert_array_equal(session.labels[:3], before[:3])
    assert session.labels[3].sum() == 400
    for frame in (4, 5, 6):
        assert session.labels[frame, 40, 70] == 1
        assert not session.labels[frame, 10:25, 30:50].any()
    assert session.controller.counts[:3] == (7, 0, 0)
    assert session.listed == []


def test_keys_step_through_the_frames_to_look_at_and_go_on_from_one(batch):
    from qtpy.QtCore import Qt

    frames = stack(7)
    frames[1] = frames[5] = 255
    session = batch(frames, model=FickleModel())
    session.look_at(3)
    add_box(session, 3)
    session.run('FOLLOW_PROMPTS')
    assert session.listed == [
        'Frame 1: Object 1 was not found.',
        'Frame 5: Object 1 was not found.',
    ]
    canvas = show_canvas(session.viewer, session.qtbot)
    alt = Qt.KeyboardModifier.AltModifier
    for seen in (5, 1, 5):
        canvas.key(Qt.Key.Key_N, alt)
        assert session.viewer.dims.current_step[0] == seen
    output = session.choices.output.value
    rows, columns = (grid.ravel() for grid in np.mgrid[30:50, 60:80])
    output.data_setitem((np.full(400, 5), rows, columns), 1)
    canvas.key(Qt.Key.Key_O, alt)
    session.wait()
    assert session.filled() == [2, 3, 4, 5, 6]
    assert session.listed == ['Frame 1: Object 1 was not found.']
    session.widget.answers['next_result'].click()
    assert session.viewer.dims.current_step[0] == 1


def test_no_key_of_the_panel_opens_a_menu_of_the_window(batch):
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest
    from qtpy.QtWidgets import QApplication

    session = batch(stack(3))
    canvas = show_canvas(session.viewer, session.qtbot)
    window = canvas.native.window()
    canvas.native.setFocus()
    said = []
    for key in ('N', 'A', 'O'):
        session.controller.say('')
        # To the window as the system gives it, so that menus may take it first.
        QTest.keyClick(
            window.windowHandle(),
            getattr(Qt.Key, f'Key_{key}'),
            Qt.KeyboardModifier.AltModifier,
        )
        session.qtbot.wait(50)
        opened = QApplication.activePopupWidget()
        assert opened is None, f'Alt-{key} opens a menu'
        said.append(session.controller.sentence)
    assert said[:2] == [
        'There is no frame to look at.',
        'This frame is not among those to look at.',
    ]


def test_one_key_accepts_a_frame_goes_on_from_it_and_shows_the_next(batch):
    from qtpy.QtCore import Qt

    frames = stack(7)
    frames[1] = frames[5] = 255
    session = batch(frames, model=FickleModel())
    session.look_at(3)
    add_box(session, 3)
    session.run('FOLLOW_PROMPTS')
    canvas = show_canvas(session.viewer, session.qtbot)
    alt = Qt.KeyboardModifier.AltModifier
    canvas.key(Qt.Key.Key_N, alt)
    output = session.choices.output.value
    rows, columns = (grid.ravel() for grid in np.mgrid[30:50, 60:80])
    output.data_setitem((np.full(400, 5), rows, columns), 1)
    canvas.key(Qt.Key.Key_A, alt)
    session.wait()
    assert session.viewer.dims.current_step[0] == 1
    assert session.listed == ['Frame 1: Object 1 was not found.']
    assert session.filled() == [2, 3, 4, 5, 6]
    # Nothing is there, and that is right: nothing is followed on, and nothing is left.
    assert session.widget.answers['accept_result'].isEnabled()
    canvas.key(Qt.Key.Key_A, alt)
    session.wait()
    assert session.listed == []
    assert session.filled() == [2, 3, 4, 5, 6]
    assert not session.widget.answers['accept_result'].isEnabled()
    # What was accepted is the user's: another batch into the same labels leaves it.
    accepted = session.labels[5].copy()
    session.look_at(3)
    session.run('SAME', output=output)
    np.testing.assert_array_equal(session.labels[5] == 1, accepted == 1)


def test_a_frame_that_failed_is_accepted_only_with_labels(batch):
    frames = stack(3).astype(np.float32)
    frames[1] = np.nan
    session = batch(frames)
    add_box(session, 0)
    session.look_at(0)
    session.run('SAME')
    assert len(session.listed) == 1
    session.widget.answers['next_result'].click()
    session.widget.answers['accept_result'].click()
    assert len(session.listed) == 1
    assert 'has no labels' in session.widget.status.text()
    output = session.choices.output.value
    output.data_setitem((np.array([1]), np.array([5]), np.array([5])), 1)
    session.widget.answers['accept_result'].click()
    assert session.listed == []
    assert session.controller.counts[:3] == (3, 0, 0)


def test_between_two_labelled_frames_both_are_followed(batch):
    frames = stack(7)
    frames[3] = 255
    session = batch(frames, model=FickleModel())
    mine = np.zeros((7, 60, 90), np.uint16)
    mine[0, 5:25, 5:25] = 2
    mine[6, 30:50, 50:70] = 3
    layer = session.viewer.add_labels(mine.copy(), name='mine')
    session.run('FOLLOW_KEYS', keys=layer)
    made = session.labels
    assert [set(np.unique(frame)) - {0} for frame in made] == [
        {2},
        {2},
        {2},
        set(),
        {3},
        {3},
        {3},
    ]
    assert session.listed == [
        'Frame 3: Object 2 was not found. Object 3 was not found.'
    ]
    assert session.controller.counts[:3] == (7, 0, 0)


def test_a_frame_corrected_with_the_annotator_is_a_key_frame_as_well(annotate, qtbot):
    from napari_kdsam import Predictor
    from napari_kdsam.widgets.batch.dock import BatchWidget

    annotating = annotate(drifting())
    model: Any = FickleModel()
    widget = BatchWidget(annotating.viewer, lambda *_: Predictor(model))
    annotating.viewer.window.add_dock_widget(widget, name='batch')
    session = Batching(annotating.viewer, widget, qtbot, model)
    session.look_at(0)
    annotating.draw((0, 10, 10), (0, 30, 30))
    assert session.choices.shapes.value is annotating.shapes
    session.run('FOLLOW_PROMPTS')
    assert session.filled() == [0, 1, 2]
    annotating.controller.set_target(session.choices.output.value)
    annotating.controller.clear()
    session.look_at(3)
    annotating.draw((3, 20, 60), (3, 40, 80))
    annotating.controller.objects.commit()
    widget.answers['continue_from_here'].click()
    session.wait()
    assert session.filled() == list(range(7))
    assert session.labels[6, 30, 70] == session.labels[3, 30, 70]
    assert not session.labels[6, 20, 20]
    controller = session.controller
    assert annotating.controller.frames.done == frozenset(range(3, 7))
    controller.close()
    wait_for_threads(qtbot)


def test_a_lost_object_is_not_followed_beyond_by_a_cancel_and_resume(batch):
    session = batch(drifting(), model=FickleModel())
    gate = Turnstile(session.model)
    session.look_at(2)
    add_box(session, 2)
    session.choose('FOLLOW_PROMPTS')
    # Frame 2 itself, frame 3 where it is lost, then frame 1 backward.
    gate.let(3)
    session.widget.start_button.click()
    session.wait_for(done=3)
    session.widget.cancel_button.click()
    gate.let(1)
    session.wait()
    gate.let(10)
    if session.widget.pause_button.isEnabled():
        session.widget.pause_button.click()
        session.wait()
    assert session.filled() == [0, 1, 2]
    assert session.controller.counts[:3] == (4, 0, 3)


def test_every_labelled_frame_is_a_key_frame_that_stays_as_it_is(batch):
    session = batch()
    mine = np.zeros((6, 60, 90), np.uint16)
    mine[0, 5:25, 5:25] = 2
    mine[3, 30:50, 50:70] = 2
    layer = session.viewer.add_labels(mine.copy(), name='mine')
    session.run('FOLLOW_KEYS', keys=layer)
    made = session.labels
    assert session.choices.output.value is not layer
    np.testing.assert_array_equal(layer.data, mine)
    np.testing.assert_array_equal(made[[0, 3]], mine[[0, 3]])
    # The same label in two places: each frame has the nearer one, and is to be looked at.
    assert made[1, 15, 15] == made[2, 40, 60] == 2
    assert [line.split(':')[0] for line in session.listed] == ['Frame 1', 'Frame 2']
    assert made[4, 40, 60] == made[5, 40, 60] == 2
    assert not made[4, 5:25, 5:25].any()


def test_following_into_the_layer_of_the_key_frames_keeps_them_the_users(batch):
    session = batch()
    mine = np.zeros((6, 60, 90), np.uint16)
    mine[2, 30:50, 50:70] = 4
    layer = session.viewer.add_labels(mine.copy(), name='mine')
    session.look_at(2)
    session.run('FOLLOW_LABELS', keys=layer, output=layer)
    assert session.filled() == list(range(6))
    add_box(session, 2)
    session.run('SAME', output=layer)
    np.testing.assert_array_equal(layer.data[2] == 4, mine[2] == 4)


def test_continuing_while_the_other_direction_still_runs_does_both(batch):
    session = batch(drifting(), model=FickleModel())
    gate = Turnstile(session.model)
    session.look_at(2)
    add_box(session, 2)
    session.choose('FOLLOW_PROMPTS')
    gate.let(2)
    session.widget.start_button.click()
    session.qtbot.waitUntil(lambda: session.listed != [], timeout=30_000)
    session.look_at(3)
    output = session.choices.output.value
    rows, columns = (grid.ravel() for grid in np.mgrid[30:50, 60:80])
    output.data_setitem((np.full(400, 3), rows, columns), 1)
    session.widget.answers['continue_from_here'].click()
    gate.let(20)
    session.wait()
    assert session.controller.counts[:3] == (7, 0, 0)
    assert session.labels[6, 40, 70] == 1
    assert session.labels[0, 20, 40] == 1


def test_everything_is_found_without_prompts(batch):
    session = batch(stack(2))
    session.run('AUTOMATIC')
    assert session.controller.counts.done == 2
    assert session.filled() == [0, 1]
    assert len(np.unique(session.labels[0])) > 2


def test_the_widget_opens_without_images_and_says_what_to_do(
    make_napari_viewer_proxy, qtbot
):
    from napari_kdsam.widgets.batch.dock import BatchWidget

    viewer = make_napari_viewer_proxy(show=False)
    widget = BatchWidget(viewer)
    viewer.window.add_dock_widget(widget, name='batch')
    widget.start_button.click()
    assert 'Choose an image layer first' in widget.status.text()
    viewer.add_image(stack(3), name='late')
    assert widget.choices.image.value.name == 'late'
    assert widget.choices.last.value == 2


def test_the_image_that_is_seen_is_offered_not_one_that_is_hidden(
    make_napari_viewer_proxy, qtbot
):
    from napari_kdsam.widgets.batch.dock import BatchWidget

    viewer = make_napari_viewer_proxy()
    for name in ('below', 'seen', 'hidden'):
        viewer.add_image(stack(1)[0], name=name, visible=name != 'hidden')
    widget = BatchWidget(viewer)
    qtbot.addWidget(widget)
    assert widget.choices.image.value.name == 'seen'


@pytest.mark.parametrize('renamed', ['first', 'second'])
def test_an_image_that_is_renamed_like_another_stays_chosen(
    make_napari_viewer_proxy, qtbot, renamed: str
):
    from napari_kdsam.widgets.batch.dock import BatchWidget

    viewer = make_napari_viewer_proxy(show=False)
    first = viewer.add_image(stack(3), name='first')
    viewer.add_image(stack(3), name='second')
    widget = BatchWidget(viewer)
    viewer.window.add_dock_widget(widget, name='batch')
    widget.choices.image.value = viewer.layers['first']
    labels = viewer.add_labels(np.zeros((3, 60, 90), np.uint8), name='labels')
    viewer.add_labels(np.zeros((3, 60, 90), np.uint8), name='others')
    widget.choices.output.value = viewer.layers['labels']
    name = 'second' if renamed == 'first' else 'first'
    viewer.layers[renamed].name = name
    viewer.layers['labels'].name = 'others'
    qtbot.wait(50)
    assert widget.choices.image.value == first
    assert widget.choices.output.value == labels


def test_a_heart_is_followed_cancelled_resumed_corrected_and_followed_on(
    make_napari_viewer_proxy, qtbot
):
    pytest.importorskip('pydicom', reason='the cine is an example of pydicom')
    from napari_kdsam import sample_data
    from napari_kdsam.widgets.batch.dock import BatchWidget

    ((pixels, options, _),) = sample_data.heart_ultrasound_cine()
    viewer = make_napari_viewer_proxy(show=False)
    viewer.add_image(pixels, **options)
    widget = BatchWidget(viewer)
    viewer.window.add_dock_widget(widget, name='batch')
    session = Batching(viewer, widget, qtbot, FakeModel())
    session.look_at(0)
    viewer.add_points([(0, 95, 185)])
    session.choose('FOLLOW_PROMPTS')
    widget.start_button.click()
    session.wait_for(done=10)
    widget.cancel_button.click()
    session.wait()
    reached = session.controller.counts.done
    assert 10 <= reached <= 12
    assert session.filled() == list(range(reached))
    first_part = session.labels[:reached].copy()
    widget.pause_button.click()
    session.wait()
    assert session.listed == []
    assert session.filled() == list(range(30))
    np.testing.assert_array_equal(session.labels[:reached], first_part)

    session.look_at(15)
    rows = np.flatnonzero(session.labels[15].any(axis=1))
    middle = int((rows[0] + rows[-1]) / 2)
    low, columns = np.nonzero(session.labels[15, middle:])
    output = session.choices.output.value
    output.data_setitem((np.full(low.shape, 15), low + middle, columns), 0)
    edited = session.labels[:16].copy()
    later = session.labels[16:].copy()
    widget.answers['continue_from_here'].click()
    session.wait()
    np.testing.assert_array_equal(session.labels[:16], edited)
    assert 0 < session.labels[16].sum() < 0.8 * later[0].sum()
    done, failed, skipped = session.controller.counts[:3]
    assert (done + failed + skipped, failed) == (30, 0)
    last = session.filled()[-1]
    assert last == 29 or session.listed
    assert (session.labels[16 : last + 1] != later[: last - 15]).any()
