"""The annotator in a real napari window, with a fake model whose masks are known."""

from __future__ import annotations

import numpy as np
import pytest


def disc_area(image_shape: tuple[int, int]) -> float:
    """Area in image pixels of the fake model's middle disc."""
    from fakes import RADIUS

    return np.pi * (RADIUS * max(image_shape) / 256) ** 2


def test_opening_the_widget_adds_three_empty_helper_layers_of_the_images_shape(
    annotate,
):
    session = annotate()
    names = [layer.name for layer in session.viewer.layers]
    assert names == ['scan', 'KD SAM preview', 'KD SAM shapes', 'KD SAM points']
    assert len(session.points.data) == 0
    assert len(session.shapes.data) == 0
    assert session.preview.shape == (120, 200)
    assert not session.preview.any()
    assert session.viewer.layers.selection.active == session.points
    assert session.points.mode == 'add'


def test_opening_the_widget_encodes_nothing(annotate):
    session = annotate()
    session.qtbot.wait(200)
    assert session.model.encoded == 0


def test_click_preview_commit_undo_and_a_second_object(annotate):
    session = annotate()
    assert not session.widget.action_bar.commit.isEnabled()

    session.click(60, 60)
    assert session.preview[60, 60] == 1
    assert session.preview.sum() == pytest.approx(disc_area((120, 200)), rel=0.1)
    assert session.workspace.target_layer is None, 'committed before it was asked to'
    assert session.widget.action_bar.commit.isEnabled()

    session.widget.action_bar.commit.click()
    assert set(np.unique(session.labels)) == {0, 1}
    assert session.labels[60, 60] == 1
    assert not session.preview.any()
    assert len(session.points.data) == 0
    assert not session.widget.action_bar.commit.isEnabled()

    session.widget.action_bar.undo.click()
    session.wait_for('ready')
    assert not session.labels.any()
    assert len(session.points.data) == 1, 'the prompts of the object come back'
    assert session.preview[60, 60] == 1

    session.widget.action_bar.redo.click()
    session.click(60, 150)
    session.widget.action_bar.commit.click()
    assert set(np.unique(session.labels)) == {0, 1, 2}
    assert session.labels[60, 150] == 2


def test_one_click_makes_exactly_one_prediction(annotate):
    session = annotate()
    session.click(60, 60)
    assert session.model.decoded == 1
    session.click(60, 80)
    session.settle()
    assert session.model.decoded == 2
    assert session.model.encoded == 1


def test_one_finished_drag_makes_exactly_one_prediction(annotate):
    session = annotate()
    session.draw((20, 30), (70, 90))
    session.settle()
    assert session.model.decoded == 1


def test_moving_a_point_makes_one_prediction_and_the_mask_follows(annotate):
    session = annotate()
    session.click(60, 60)
    moved = session.points.data.copy()
    moved[0] = (60, 150)
    session.points.data = moved
    session.wait_for('ready')
    session.settle()
    assert session.model.decoded == 2
    assert session.preview[60, 150] == 1
    assert session.preview[60, 60] == 0


def test_inference_runs_in_its_own_thread(annotate):
    session = annotate()
    session.click(60, 60)
    assert session.model.threads == {'kdsam-inference'}


def test_a_click_that_is_overtaken_by_another_is_predicted_only_with_it(annotate):
    session = annotate()
    session.model.encode_seconds = 0.5
    session.points.add(np.array((60, 60)))
    session.qtbot.waitUntil(lambda: session.model.encoded == 1, timeout=10_000)
    session.points.add(np.array((60, 90)))
    session.points.add(np.array((60, 120)))
    session.wait_for('ready')
    assert session.model.encoded == 1
    assert session.model.decoded <= 2
    assert session.preview[60, 60] == session.preview[60, 120] == 1


def test_polarity_can_be_switched_and_an_outside_point_trims_the_mask(annotate):
    session = annotate()
    session.click(60, 60)
    before = session.preview.sum()
    assert session.widget.tools.buttons['Inside'].isChecked()
    session.controller.tools.toggle_polarity()
    assert session.widget.tools.buttons['Outside'].isChecked()
    session.click(60, 80)
    assert 0 < session.preview.sum() < before
    assert session.points.features['polarity'].tolist() == ['inside', 'outside']
    symbols = [str(symbol) for symbol in session.points.symbol]
    assert symbols[0] != symbols[1], 'polarity must not be told by colour alone'


def test_in_select_mode_toggling_flips_the_selected_points(annotate):
    session = annotate()
    session.click(60, 60)
    session.click(60, 100)
    session.points.mode = 'select'
    session.points.selected_data = {1}
    session.controller.tools.toggle_polarity()
    session.wait_for('ready')
    assert session.points.features['polarity'].tolist() == ['inside', 'outside']
    assert session.preview[60, 100] == 0


def test_outside_points_alone_ask_for_an_inside_point_and_predict_nothing(annotate):
    session = annotate()
    session.controller.tools.set_polarity(False)
    session.points.add(np.array((60, 60)))
    session.settle()
    assert session.model.decoded == 0
    assert 'inside' in session.workspace.status.text
    assert not session.widget.action_bar.commit.isEnabled()


def test_a_prompt_outside_the_image_is_ignored_and_said_so(annotate):
    session = annotate()
    session.click(60, 60)
    session.points.add(np.array((60, 500)))
    session.settle()
    assert len(session.points.data) == 1
    assert 'outside' in session.workspace.status.text
    assert session.model.decoded == 1
    assert session.preview.any()


@pytest.mark.parametrize(('start', 'end'), [((20, 30), (70, 90)), ((70, 90), (20, 30))])
def test_a_box_drawn_in_any_direction_is_the_same_box(annotate, start, end):
    session = annotate()
    session.draw(start, end)
    assert session.workspace.draft.boxes == ((20.5, 30.5, 70.5, 90.5),)
    assert session.preview[40, 60] == 1
    assert session.preview[90, 60] == 0


def test_several_boxes_are_several_objects(annotate):
    session = annotate()
    session.draw((10, 10), (30, 30))
    session.draw((60, 60), (100, 120))
    session.settle()
    session.wait_for('ready')
    assert len(session.shapes.data) == 2
    assert session.preview[80, 90] != session.preview[20, 20] != 0
    session.controller.objects.commit()
    assert session.labels[20, 20] == 1
    assert session.labels[80, 90] == 2
    assert [item.draft.boxes for item in session.workspace.session.state.objects] == [
        ((10.5, 10.5, 30.5, 30.5),),
        ((60.5, 60.5, 100.5, 120.5),),
    ]
    session.controller.undo()
    assert not session.labels.any(), 'one step for all'


def test_choosing_a_candidate_changes_the_mask_without_predicting_again(annotate):
    session = annotate()
    session.click(60, 100)
    buttons = session.widget.candidates.buttons
    texts = [button.text() for button in buttons]
    assert texts == ['0.70', '★ 0.90', '0.80']
    assert buttons[1].isChecked()
    middle = session.preview.sum()
    buttons[0].click()
    small = session.preview.sum()
    session.controller.next_candidate()
    session.controller.next_candidate()
    large = session.preview.sum()
    assert small < middle < large
    assert session.model.decoded == 1
    session.controller.undo()
    assert session.preview.sum() == middle
    session.controller.choose_candidate(0)
    session.controller.objects.commit()
    assert (session.labels > 0).sum() == small


def test_several_prompts_offer_no_alternatives(annotate):
    session = annotate()
    session.click(60, 60)
    session.click(60, 80)
    assert len(session.workspace.candidates) == 1
    assert not session.widget.candidates.buttons[0].isEnabled()


def test_clear_then_click_follows_the_new_point_only(annotate):
    session = annotate()
    session.click(60, 40)
    session.widget.action_bar.clear.click()
    assert not session.preview.any()
    session.click(60, 160)
    assert session.preview[60, 160] == 1
    assert session.preview[60, 40] == 0


def test_as_many_undos_as_steps_lead_back_and_redos_forth(annotate):
    session = annotate()
    session.click(60, 40)
    session.click(60, 80)
    session.draw((10, 10), (100, 190))
    final = session.preview.copy()
    for _ in range(3):
        session.controller.undo()
    session.settle()
    assert not session.preview.any()
    assert len(session.points.data) == len(session.shapes.data) == 0
    assert not session.widget.action_bar.undo.isEnabled()
    for _ in range(3):
        session.controller.redo()
    session.wait_for('ready')
    np.testing.assert_array_equal(session.preview, final)
    session.controller.undo()
    session.click(60, 120)
    assert not session.widget.action_bar.redo.isEnabled()


def test_a_new_object_keeps_the_pixels_of_earlier_ones(annotate):
    session = annotate()
    session.click(60, 60)
    session.controller.objects.commit()
    first = session.labels == 1
    session.click(60, 75)
    session.controller.objects.commit()
    np.testing.assert_array_equal(session.labels == 1, first)
    assert (session.labels == 2).any()


def test_a_mask_wholly_on_other_labels_is_not_committed_and_said_so(annotate):
    session = annotate()
    session.click(60, 60)
    session.controller.objects.commit()
    session.click(60, 60)
    session.controller.objects.commit()
    assert session.stage() == 'error'
    assert set(np.unique(session.labels)) == {0, 1}
    assert len(session.points.data) == 1, 'the prompts are still there to change'


def test_napari_own_undo_takes_a_commit_back_and_our_history_follows(annotate):
    session = annotate()
    session.click(60, 60)
    session.controller.objects.commit()
    layer = session.workspace.target_layer
    layer.undo()
    session.wait_for('ready')
    assert not session.labels.any()
    assert len(session.points.data) == 1, 'the object is open again'
    layer.redo()
    session.settle()
    assert session.labels[60, 60] == 1
    assert len(session.points.data) == 0
    assert not session.workspace.session.can_redo


def test_undo_takes_back_painting_by_hand_before_the_commit_under_it(annotate):
    session = annotate()
    session.click(60, 60)
    session.controller.objects.commit()
    committed = session.labels.copy()
    layer = session.workspace.target_layer
    layer.paint((60, 60), 9)
    assert session.labels[60, 60] == 9
    session.controller.undo()
    np.testing.assert_array_equal(session.labels, committed)
    session.controller.redo()
    assert session.labels[60, 60] == 9
    session.controller.undo()
    session.controller.undo()
    assert not session.labels.any()


def test_painting_by_hand_belongs_to_the_object_with_that_label(annotate):
    session = annotate()
    session.click(60, 60)
    session.controller.objects.commit()
    layer = session.workspace.target_layer
    layer.brush_size = 9
    layer.paint((5, 5), 1)
    layer.paint((60, 60), 0)
    (item,) = session.workspace.session.state.objects
    mask = item.region.full_mask((120, 200))
    np.testing.assert_array_equal(mask, session.labels == 1)
    assert mask[5, 5]
    assert not mask[60, 60]


def test_undoing_a_commit_leaves_what_others_wrote_over_it(annotate):
    session = annotate()
    session.click(60, 60)
    session.controller.objects.commit()
    session.workspace.target_layer.data[60, 60] = 9
    session.controller.undo()
    assert session.labels[60, 60] == 9
    assert (session.labels > 0).sum() == 1


def test_the_next_label_is_above_any_painted_by_hand(annotate):
    session = annotate()
    session.click(60, 60)
    session.controller.objects.commit()
    layer = session.workspace.target_layer
    with layer.block_history():
        layer.data_setitem((np.array([5]), np.array([5])), 7)
    session.click(60, 150)
    session.controller.objects.commit()
    assert session.labels[60, 150] == 8


def test_commits_go_into_a_chosen_labels_layer_and_leave_what_is_there(annotate):
    session = annotate()
    existing = np.zeros((120, 200), np.int32)
    existing[:10] = 4
    layer = session.viewer.add_labels(existing, name='mine')
    session.widget.labels_choice.value = layer
    session.click(60, 60)
    session.controller.objects.commit()
    assert session.workspace.target_layer == layer
    assert layer.data[60, 60] == 5
    assert (np.asarray(layer.data)[:10] == 4).all()


def test_labels_of_another_shape_are_not_offered(annotate):
    session = annotate()
    session.viewer.add_labels(np.zeros((50, 50), int), name='other')
    assert session.workspace.possible_targets() == []


def test_commit_pressed_before_the_mask_is_there_happens_when_it_is(annotate):
    session = annotate()
    session.model.encode_seconds = 0.3
    session.points.add(np.array((60, 60)))
    session.controller.objects.commit()
    assert session.workspace.target_layer is None
    session.qtbot.waitUntil(
        lambda: session.workspace.target_layer is not None, timeout=10_000
    )
    session.settle()
    assert session.labels[60, 60] == 1


def test_changing_the_model_keeps_labels_and_prompts_and_predicts_anew(annotate):
    session = annotate()
    session.click(60, 60)
    session.controller.objects.commit()
    session.click(60, 150)
    decoded = session.model.decoded
    session.controller.flow.set_model('another', 'cpu')
    session.wait_for('ready')
    assert session.labels[60, 60] == 1
    assert len(session.points.data) == 1
    assert session.model.decoded == decoded + 1


def test_a_deleted_helper_layer_comes_back_with_its_prompts(annotate):
    session = annotate()
    session.click(60, 60)
    session.viewer.layers.remove(session.points)
    session.settle()
    assert len(session.points.data) == 1
    assert session.points in session.viewer.layers
    session.click(60, 90)
    assert len(session.points.data) == 2


def test_renaming_helper_and_image_layers_changes_nothing(annotate):
    session = annotate()
    for number, layer in enumerate(list(session.viewer.layers)):
        layer.name = f'renamed {number}'
    session.click(60, 60)
    session.controller.objects.commit()
    assert session.labels[60, 60] == 1


def test_a_deleted_labels_layer_is_noticed_and_undo_brings_it_back(annotate):
    session = annotate()
    session.click(60, 60)
    session.controller.objects.commit()
    layer = session.workspace.target_layer
    session.viewer.layers.remove(layer)
    session.settle()
    assert session.workspace.session.state.objects == ()
    assert '1 object; undo brings it back' in session.workspace.status.text
    session.controller.undo()
    assert layer in session.viewer.layers
    assert session.workspace.target_layer is layer
    assert session.labels[60, 60] == 1
    assert len(session.workspace.session.state.objects) == 1
    session.controller.redo()
    session.settle()
    assert layer not in session.viewer.layers
    session.click(60, 150)
    session.controller.objects.commit()
    assert session.workspace.target_layer is not layer
    assert set(np.unique(session.labels)) == {0, 1}


def test_a_commit_that_was_undone_leaves_its_label_to_the_next(annotate):
    session = annotate()
    for column in (60, 150):
        session.click(60, column)
        session.controller.objects.commit()
    session.controller.undo()
    session.wait_for('ready')
    session.controller.objects.commit()
    assert set(np.unique(session.labels)) == {0, 1, 2}


def test_drafts_of_an_image_wait_while_another_is_annotated(annotate):
    session = annotate()
    first = session.workspace.image
    session.click(60, 60)
    other = session.viewer.add_image(np.zeros((80, 90), np.uint8), name='other')
    session.widget.image_choice.value = other
    assert len(session.points.data) == 0
    assert session.preview.shape == (80, 90)
    session.click(40, 40)
    session.widget.image_choice.value = first
    session.wait_for('ready')
    assert session.points.data.tolist() == [[60, 60]]
    assert session.preview[60, 60] == 1


def test_replacing_the_pixels_of_the_image_predicts_anew(annotate):
    session = annotate()
    session.click(60, 60)
    session.workspace.image.data = np.zeros((120, 200), np.uint8)
    session.wait_for('ready')
    assert session.model.encoded == 2


def test_the_status_tells_encoding_ready_and_error(annotate):
    session = annotate()
    session.model.encode_seconds = 0.3
    seen = []
    session.workspace.updated.connect(
        lambda: seen.append(session.workspace.status.text)
    )
    session.click(60, 60)
    assert any('Encoding' in text for text in seen)
    assert any('Ready' in text for text in seen)
    assert 'Ready' in session.widget.status.sentence.toPlainText()


def test_a_failing_model_shows_its_sentence_and_loses_nothing(annotate):
    from napari_kdsam.core.errors import CheckpointError

    session = annotate()
    session.click(60, 60)
    session.controller.objects.commit()
    session.model.fail_with = CheckpointError('The file is broken; fetch it again.')
    session.controller.flow.set_model('broken', 'cpu')
    session.points.add(np.array((60, 150)))
    session.wait_for('error')
    assert 'broken; fetch' in session.widget.status.sentence.toPlainText()
    assert session.labels[60, 60] == 1
    session.model.fail_with = None
    session.points.add(np.array((60, 160)))
    session.wait_for('ready')
    assert session.preview[60, 150] == 1


def test_intensities_as_displayed_use_the_contrast_limits_of_the_layer(annotate):
    image = np.linspace(0, 4000, 120 * 200).reshape(120, 200).astype(np.uint16)
    session = annotate(image, contrast_limits=(100, 900))
    session.click(60, 60)
    assert session.controller.flow.mapping.high > 3000
    session.widget.intensity_choice.value = 'as displayed'
    session.wait_for('ready')
    mapping = session.controller.flow.mapping
    assert (mapping.low, mapping.high) == (100, 900)


def test_the_labels_choice_says_where_the_commits_of_each_image_go(annotate):
    session = annotate()
    session.click(60, 60)
    session.controller.objects.commit()
    first = session.workspace.target_layer
    assert session.widget.labels_choice.value == first
    twin = session.viewer.add_image(np.zeros((120, 200), np.uint8), name='twin')
    session.widget.image_choice.value = twin
    assert session.workspace.target_layer is None
    assert session.widget.labels_choice.value == 'New labels layer'
    session.click(60, 150)
    session.controller.objects.commit()
    assert session.workspace.target_layer != first
    assert session.widget.labels_choice.value == session.workspace.target_layer


def test_a_helper_layer_that_came_back_still_has_its_keys(annotate):
    session = annotate()
    wanted = {str(key) for key in session.points.keymap}
    assert {'Q', 'Ctrl+Z'} <= wanted
    session.viewer.layers.remove(session.points)
    session.settle()
    assert {str(key) for key in session.points.keymap} == wanted


def test_a_first_commit_reads_no_other_frame_of_the_new_labels(annotate, monkeypatch):
    from napari_kdsam.widgets.shared import labels_writer

    session = annotate()
    session.click(60, 60)
    read = []
    monkeypatch.setattr(labels_writer, '_highest_label', lambda data: read.append(data))
    session.controller.objects.commit()
    assert session.labels[60, 60] == 1
    assert read == []


def test_after_a_choice_in_the_panel_the_keys_still_reach_the_canvas(annotate):
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest

    session = annotate()
    canvas = session.show_canvas()
    canvas.click(60, 60)
    session.wait_for('ready')
    choice = session.widget.overlap_choice
    QTest.mouseClick(choice.native, Qt.MouseButton.LeftButton)
    session.settle()
    choice.native.hidePopup()
    choice.value = 'ask'
    assert not choice.native.hasFocus()
    canvas.key(Qt.Key.Key_K)
    session.settle()
    assert choice.value == 'ask'
    assert session.workspace.draft.empty, 'K clears'


def test_the_wheel_over_a_choice_scrolls_the_panel(annotate, qtbot):
    from qtpy.QtCore import QPoint, QPointF, Qt
    from qtpy.QtGui import QWheelEvent
    from qtpy.QtWidgets import QApplication

    session = annotate()
    choice = session.widget.overlap_choice
    before = choice.value
    turned = QWheelEvent(
        QPointF(5, 5),
        QPointF(5, 5),
        QPoint(0, -120),
        QPoint(0, -120),
        Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    QApplication.sendEvent(choice.native, turned)
    assert choice.value == before
    assert not turned.isAccepted()


def test_long_names_of_layers_leave_the_panel_narrow(annotate):
    session = annotate()
    narrow = session.widget.minimumSizeHint().width()
    session.viewer.layers['scan'].name = 'f3a9' * 20
    session.settle()
    assert session.widget.image_choice.native.minimumSizeHint().width() < 250
    assert session.widget.minimumSizeHint().width() <= narrow
