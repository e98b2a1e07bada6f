"""The behaviours that users of such tools ask for, one after another."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fakes import Gate


def stack(frames: int) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 255, (frames, 60, 90), np.uint8)


def held_up(session) -> Gate:
    """A gate before the encoder."""
    gate = Gate()
    session.model.encode = gate.before(session.model.encode)
    return gate


def test_opening_the_widget_creates_exactly_three_empty_layers(annotate):
    session = annotate(stack(4), scale=(2, 0.5, 0.25))
    before = [session.workspace.image]
    added = [layer for layer in session.viewer.layers if layer not in before]
    assert added == list(session.workspace.layers.layers)
    assert len(added) == 3
    assert not session.preview.any()
    assert len(session.points.data) == len(session.shapes.data) == 0
    image = session.workspace.image
    np.testing.assert_allclose(
        session.workspace.layers.preview.extent.world[:, 1:],
        image.extent.world[:, 1:],
    )
    assert session.points.ndim == session.shapes.ndim == image.ndim


def test_a_click_previews_a_commit_labels_and_a_clear_leaves_labels_alone(annotate):
    session = annotate()
    bar = session.widget.action_bar
    assert not bar.commit.isEnabled()
    assert not bar.clear.isEnabled()
    session.click(60, 60)
    assert session.preview.any()
    assert session.workspace.target_layer is None
    assert bar.commit.isEnabled()
    assert bar.clear.isEnabled()
    bar.commit.click()
    assert not session.preview.any()
    assert not bar.commit.isEnabled()
    assert not bar.clear.isEnabled()
    session.click(60, 150)
    bar.commit.click()
    assert np.unique(session.labels).tolist() == [0, 1, 2]
    before = session.labels.copy()
    session.click(20, 100)
    bar.clear.click()
    assert not session.preview.any()
    np.testing.assert_array_equal(session.labels, before)


@pytest.mark.parametrize('frame', [(), (2,)], ids=['image', 'stack'])
def test_after_a_clear_the_mask_follows_the_new_point_only(annotate, frame):
    session = annotate(stack(4) if frame else None)
    if frame:
        session.viewer.dims.set_current_step(0, 2)
    session.click(*frame, 30, 20)
    session.controller.objects.refine()
    session.wait_for('ready')
    assert session.workspace.draft.mask is not None
    session.controller.clear()
    assert session.workspace.draft.mask is None, 'the earlier mask leaked'
    session.click(*frame, 30, 70)
    drawn = session.preview.reshape(session.preview.shape[-2:])
    assert drawn[30, 70]
    assert not drawn[30, 20]


def test_nothing_of_an_object_leaks_into_the_next_by_commit_frame_or_image(
    annotate,
):
    session = annotate(stack(3))
    session.viewer.dims.set_current_step(0, 0)
    session.click(0, 30, 20)
    session.controller.objects.refine()
    session.wait_for('ready')
    session.viewer.dims.set_current_step(0, 1)
    assert session.workspace.draft.empty
    session.click(1, 30, 70)
    session.controller.objects.commit()
    assert session.workspace.draft.empty
    assert session.labels[1, 30, 20] == 0
    other = session.viewer.add_image(np.zeros((40, 50), np.uint8), name='other')
    session.controller.set_image(other)
    assert session.workspace.draft.empty
    session.click(20, 40)
    assert session.workspace.draft.mask is None


def test_toggling_polarity_never_relabels_prompts_that_are_there(annotate):
    session = annotate()
    session.click(60, 60)
    session.controller.tools.use_scribble()
    session.shapes.add_paths(np.array([(50.0, 60), (60, 90), (70, 60)]))
    session.wait_for('ready')
    for use in (
        session.controller.tools.use_points,
        session.controller.tools.use_scribble,
    ):
        use()
        session.controller.tools.toggle_polarity()
        assert session.points.features['polarity'].tolist() == ['inside']
        assert session.shapes.features['polarity'].tolist() == ['inside']
    session.controller.tools.use_scribble()
    session.controller.tools.toggle_polarity()
    session.shapes.add_paths(np.array([(30.0, 60), (35, 90)]))
    session.wait_for('ready')
    session.settle()
    assert session.shapes.features['polarity'].tolist() == ['inside', 'outside']
    assert [s.positive for s in session.workspace.draft.scribbles] == [True, False]
    assert [p.positive for p in session.workspace.draft.points] == [True]


def test_toggling_a_selected_point_flips_that_one_on_whatever_frame(annotate):
    session = annotate(stack(3))
    for frame, column in ((0, 20), (1, 40), (0, 60)):
        session.viewer.dims.set_current_step(0, frame)
        session.click(frame, 30, column)
    session.points.mode = 'select'
    session.points.selected_data = {1}
    session.controller.tools.toggle_polarity()
    session.settle()
    drafts = session.workspace.session.state.drafts
    assert [p.positive for p in drafts[0,].points] == [True, True]
    assert [p.positive for p in drafts[1,].points] == [False]


def test_each_click_and_each_finished_box_is_one_prediction(annotate):
    session = annotate()
    for number, column in enumerate((60, 100, 140), 1):
        session.click(60, column)
        session.settle()
        assert session.model.decoded == number
    session.draw((20, 30), (100, 170))
    session.settle()
    assert session.model.decoded == 4
    assert session.model.encoded == 1


def test_a_dragged_point_takes_the_mask_along_and_keeps_it_when_let_go(annotate):
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest

    session = annotate()
    session.click(60, 60)
    canvas = session.show_canvas()
    session.points.mode = 'select'
    start, end = canvas.at(60, 60), canvas.at(60, 150)
    left = Qt.MouseButton.LeftButton
    canvas.move(start)
    QTest.mousePress(canvas.native, left, pos=start)
    for part in range(1, 21):
        canvas.move(start + (end - start) * (part / 20))
    session.qtbot.waitUntil(lambda: bool(session.preview[60, 150]), timeout=10_000)
    assert session.preview[60, 60] == 0
    assert session.workspace.draft.points[0].column == 60, 'not let go yet'
    # The mouse rests, so that the mask of the last place between is there too.
    session.qtbot.wait(300)
    before = session.model.decoded
    QTest.mouseRelease(canvas.native, left, pos=end)
    session.wait_for('ready')
    session.qtbot.wait(200)
    assert session.model.decoded == before, 'the mask of this place was there already'
    assert session.preview[60, 150] == 1
    assert session.workspace.draft.points[0].column == pytest.approx(150, abs=2)
    assert session.preview[60, 150] == 1
    session.controller.undo()
    session.wait_for('ready')
    assert session.workspace.draft.points[0].column == 60, 'one step takes it back'


def test_the_mask_follows_a_drag_that_never_rests(annotate):
    session = annotate()
    session.click(60, 60)
    data = session.points.data
    column = 60.0

    def followed() -> bool:
        nonlocal column
        column = min(column + 1, 150)
        with session.points.events.data.blocker():
            data[0] = (60, column)
        session.controller.prompts.on_drag()
        return bool(session.preview[60, 100])

    session.qtbot.waitUntil(followed, timeout=10_000)


def test_a_drag_back_to_where_it_began_shows_the_mask_of_there(annotate):
    from napari.layers.base import ActionType

    session = annotate()
    session.click(60, 60)
    with session.points.events.data.blocker():
        session.points.data[0] = (60, 150)
    session.controller.prompts.on_drag()
    session.qtbot.waitUntil(lambda: bool(session.preview[60, 150]), timeout=10_000)
    session.points.data[0] = (60, 60)
    session.points.events.data(
        value=session.points.data,
        action=ActionType.CHANGED,
        data_indices=(0,),
        vertex_indices=((),),
    )
    session.wait_for('ready')
    assert session.preview[60, 60] == 1
    assert session.preview[60, 150] == 0


@pytest.mark.parametrize('name', ['preview', 'shapes', 'points'])
def test_a_deleted_helper_layer_is_recreated_with_what_it_showed(annotate, name):
    session = annotate()
    session.draw((20, 30), (100, 170))
    session.click(60, 60)
    before = session.preview.copy()
    session.viewer.layers.remove(getattr(session.workspace.layers, name))
    session.settle()
    session.wait_for('ready')
    assert getattr(session.workspace.layers, name) in session.viewer.layers
    assert len(session.points.data) == len(session.shapes.data) == 1
    np.testing.assert_array_equal(session.preview, before)


def test_renamed_layers_are_followed(annotate):
    session = annotate()
    session.click(60, 60)
    session.controller.objects.commit()
    for number, layer in enumerate(list(session.viewer.layers)):
        layer.name = f'renamed {number}'
    session.click(60, 150)
    session.controller.objects.commit()
    assert np.unique(session.labels).tolist() == [0, 1, 2]


def test_changing_the_model_keeps_labels_and_drops_embeddings(annotate):
    session = annotate()
    session.click(60, 60)
    session.controller.objects.commit()
    labels = session.labels.copy()
    session.click(60, 150)
    assert session.model.encoded == 1
    session.controller.flow.set_model('another', 'cpu')
    session.wait_for('ready')
    assert session.model.encoded == 2
    np.testing.assert_array_equal(session.labels, labels)
    assert len(session.points.data) == 1


@pytest.mark.parametrize(
    'transform',
    [{'scale': (0.5, 0.1)}, {'translate': (-40, 300)}, {'rotate': 30}],
    ids=['scaled', 'translated', 'rotated'],
)
def test_a_transformed_image_gives_the_same_mask_by_a_real_click(annotate, transform):
    session = annotate(**transform)
    canvas = session.show_canvas()
    session.viewer.reset_view()
    session.settle()
    image = session.workspace.image
    canvas.click(*image.data_to_world((60, 100)))
    session.wait_for('ready')
    (point,) = session.workspace.draft.points
    assert abs(point.row - 60) < 3
    assert abs(point.column - 100) < 3
    from fakes import RADIUS

    rows, columns = np.ogrid[:120, :200]
    reach = RADIUS * 200 / 256
    disc = (rows - point.row) ** 2 + (columns - point.column) ** 2 <= reach**2
    assert (disc != session.preview.astype(bool)).mean() < 0.01


def test_as_many_undos_as_steps_lead_back_and_a_new_click_clears_redo(annotate):
    session = annotate()
    steps = [(60, 40), (60, 80), (60, 120)]
    for step in steps:
        session.click(*step)
    final = session.preview.copy()
    for _ in steps:
        session.controller.undo()
    assert session.workspace.draft.empty
    assert not session.preview.any()
    for _ in steps:
        session.controller.redo()
    session.wait_for('ready')
    np.testing.assert_array_equal(session.preview, final)
    session.controller.undo()
    session.click(20, 20)
    assert not session.workspace.session.can_redo


@pytest.mark.parametrize('made_on', ['the first frame seen', 'another'])
def test_undoing_a_commit_restores_both_layers_and_shows_its_frame(annotate, made_on):
    session = annotate(stack(6))
    if made_on == 'another':
        session.viewer.dims.set_current_step(0, 4)
    frame = session.workspace.frame[0]
    session.click(frame, 30, 40)
    preview = session.preview.copy()
    session.controller.objects.commit()
    session.viewer.dims.set_current_step(0, 1)
    session.settle()
    session.controller.undo()
    session.wait_for('ready')
    assert session.workspace.frame == (frame,)
    assert session.viewer.dims.current_step[0] == frame
    assert not session.labels.any()
    assert session.points.data.tolist() == [[frame, 30, 40]]
    np.testing.assert_array_equal(session.preview, preview)
    session.viewer.dims.set_current_step(0, 1)
    session.controller.redo()
    assert session.workspace.frame == (frame,)
    assert session.labels[frame, 30, 40] == 1
    assert len(session.points.data) == 0


def two_overlapping(session, overlap: str) -> None:
    session.controller.objects.set_overlap(overlap)
    session.click(60, 60)
    session.controller.objects.commit()
    session.click(60, 80)
    session.controller.objects.commit()


def test_keep_leaves_the_pixels_of_earlier_objects(annotate):
    session = annotate()
    two_overlapping(session, 'keep')
    assert session.labels[60, 60] == session.labels[60, 70] == 1
    assert session.labels[60, 90] == 2


def test_overwrite_gives_pixels_to_the_new_object_and_undo_gives_them_back(
    annotate,
):
    session = annotate()
    two_overlapping(session, 'overwrite')
    assert session.labels[60, 50] == 1
    assert session.labels[60, 70] == session.labels[60, 90] == 2
    first, second = session.workspace.session.state.objects
    assert not first.region.contains(60, 70)
    assert second.region.contains(60, 70)
    session.controller.undo()
    assert session.labels[60, 70] == 1
    assert session.labels[60, 90] == 0


@pytest.mark.parametrize(('answer', 'middle'), [('Keep', 1), ('Overwrite', 2)])
def test_ask_says_how_much_is_covered_and_does_what_is_answered(
    annotate, answer, middle
):
    session = annotate()
    two_overlapping(session, 'ask')
    assert np.unique(session.labels).tolist() == [0, 1], 'committed before the answer'
    question = session.workspace.question
    covered = (session.preview.astype(bool) & (session.labels == 1)).sum()
    assert question.pixels == covered
    assert question.labels == (1,)
    bar = session.widget.question
    assert bar.isVisibleTo(session.widget)
    next(b for b in bar.buttons if b.text() == answer).click()
    assert session.labels[60, 70] == middle
    assert session.labels[60, 90] == 2
    assert not bar.isVisibleTo(session.widget)


def test_committing_again_while_asked_keeps_and_changing_the_mask_asks_no_more(
    annotate,
):
    session = annotate()
    two_overlapping(session, 'ask')
    session.click(60, 100)
    assert session.workspace.question is None
    session.controller.objects.commit()
    session.controller.objects.commit()
    assert session.labels[60, 70] == 1
    assert session.labels[60, 100] == 2


def test_instance_output_numbers_objects_and_semantic_output_names_their_class(
    annotate,
):
    from napari_kdsam.annotation.state import FIRST_CLASS, ObjectClass

    session = annotate()
    objects = session.controller.objects
    objects.set_classes((FIRST_CLASS, ObjectClass(5, 'polyp', '#ff0000')))
    objects.choose_class(5)
    session.click(60, 30)
    session.controller.objects.commit()
    assert session.labels[60, 30] == 1
    objects.set_output('semantic')
    for column in (100, 170):
        session.click(60, column)
        session.controller.objects.commit()
    assert set(session.labels[60, [30, 100, 170]].tolist()) == {5}
    numbers = [item.number for item in session.workspace.session.state.objects]
    assert len(set(numbers)) == 3


@pytest.mark.parametrize('pending', [False, True], ids=['mask shown', 'mask to come'])
def test_changing_the_overlap_commits_the_object_in_the_making_under_the_old_one(
    annotate, pending
):
    session = annotate()
    session.click(60, 60)
    session.controller.objects.commit()
    if pending:
        session.controller.flow.set_model('another', 'cpu')
        session.settle()
        gate = held_up(session)
        session.points.add(np.array((60.0, 80)))
        session.qtbot.waitUntil(gate.reached.is_set)
        session.widget.overlap_choice.value = 'overwrite'
        gate.open()
        session.qtbot.waitUntil(lambda: bool((session.labels == 2).any()))
    else:
        session.click(60, 80)
        session.widget.overlap_choice.value = 'overwrite'
    assert session.labels[60, 70] == 1, 'it was kept, as the policy was'
    assert session.labels[60, 90] == 2
    assert session.controller.objects.overlap == 'overwrite'
    assert session.workspace.draft.empty


def test_changing_the_output_commits_the_object_in_the_making_first(
    annotate,
):
    session = annotate()
    session.click(60, 40)
    session.controller.objects.commit()
    session.click(60, 100)
    session.widget.output_choice.value = 'semantic'
    assert session.labels[60, 100] == 1, 'committed, and named as the output is now'
    assert len(session.workspace.session.state.objects) == 2
    session.click(60, 160)
    session.controller.objects.commit()
    assert session.labels[60, 160] == 1, 'the label of its class'


def test_changing_the_policy_while_asked_leaves_the_question_open(annotate):
    session = annotate()
    two_overlapping(session, 'ask')
    session.controller.objects.set_overlap('overwrite')
    assert session.workspace.question is not None
    assert np.unique(session.labels).tolist() == [0, 1]


def test_an_object_starts_from_an_existing_label_and_can_be_refined(annotate):
    session = annotate()
    existing = np.zeros((120, 200), np.int32)
    existing[40:80, 50:90] = 7
    layer = session.viewer.add_labels(existing, name='mine')
    session.controller.set_target(layer)
    assert session.controller.objects.load_mask_at((60, 60))
    session.wait_for('ready')
    preview = session.preview.astype(bool)
    assert (preview == (existing == 7)).mean() > 0.98
    session.controller.objects.refine()
    session.wait_for('ready')
    assert (session.preview.astype(bool) == (existing == 7)).mean() > 0.97
    session.controller.objects.commit(overwrite=True)
    assert layer.data[60, 60] == 8


def test_where_there_is_no_label_it_is_said_and_nothing_changes(annotate):
    session = annotate()
    for place in ((60, 60), (900, 900)):
        assert not session.controller.objects.load_mask_at(place)
        assert 'no label' in session.workspace.status.text
    assert session.workspace.draft.empty


def test_the_window_goes_on_while_the_encoder_works(annotate):
    from qtpy.QtCore import QTimer

    session = annotate()
    gate = held_up(session)
    ticks = []
    timer = QTimer()
    timer.timeout.connect(lambda: ticks.append(1))
    timer.start(5)
    session.points.add(np.array((60.0, 60)))
    session.qtbot.waitUntil(gate.reached.is_set)
    seen = len(ticks)
    session.qtbot.waitUntil(lambda: len(ticks) > seen + 40, timeout=15_000)
    assert session.stage() == 'working'
    assert session.model.decoded == 0
    gate.open()
    session.wait_for('ready')
    timer.stop()


def test_closing_the_dock_during_inference_leaves_no_thread_and_the_labels(
    annotate,
):
    session = annotate()
    session.click(60, 60)
    session.controller.objects.commit()
    session.controller.flow.set_model('another', 'cpu')
    session.settle()
    gate = held_up(session)
    session.points.add(np.array((60.0, 150)))
    session.qtbot.waitUntil(gate.reached.is_set)
    thread = session.controller.flow.thread
    layer = session.workspace.target_layer
    session.viewer.window.remove_dock_widget(session.widget)
    session.widget.deleteLater()
    session.settle()
    gate.open()
    session.qtbot.waitUntil(lambda: not thread.alive, timeout=10_000)
    session.settle()
    assert layer.data[60, 60] == 1
    assert layer.data[60, 150] == 0


_CLOSES_ITS_VIEWER = """
import sys, time
import napari, numpy as np
from qtpy.QtWidgets import QApplication
from fakes import FakeModel
from napari_kdsam import Predictor
from napari_kdsam.widgets.annotator.dock import AnnotatorWidget

model = FakeModel(encode_seconds=0.5)
viewer = napari.Viewer(show=False)
viewer.add_image(np.zeros((60, 90), np.uint8))
widget = AnnotatorWidget(viewer, lambda name, device: Predictor(model))
viewer.window.add_dock_widget(widget, name='Click to label')
thread = widget.controller.flow.thread
widget.controller.workspace.layers.points.add(np.array((30.0, 40)))
end = time.monotonic() + 60
while model.encoded == 0 and time.monotonic() < end:
    QApplication.processEvents()
viewer.close()
widget.controller.close()
while thread.alive and time.monotonic() < end:
    QApplication.processEvents()
sys.exit(0 if model.encoded and not thread.alive else 3)
"""


@pytest.mark.gui
def test_closing_the_viewer_during_inference_leaves_no_thread():
    # In a process of its own: a viewer that the fixture did not make upsets later ones.
    done = subprocess.run(
        [sys.executable, '-c', _CLOSES_ITS_VIEWER],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    assert 'Traceback' not in done.stderr
