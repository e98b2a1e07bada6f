"""The annotator's tools beyond the click, each as a user meets it."""

from __future__ import annotations

import numpy as np
import pytest

from napari_kdsam.annotation.cleanup import CleanUp
from napari_kdsam.annotation.state import ObjectClass

SHAPE = (120, 200)


def draw(session, vertices, kind):
    session.shapes.add(np.array(vertices, float), shape_type=kind)
    session.wait_for('ready')


def press(session, key):
    """Press one of our keys on the viewer."""
    session.viewer.keymap[key](session.viewer)


def by_name(session, name):
    """The function bound to the key of an action."""
    keys = {shortcut.action: shortcut.key for shortcut in session.widget.shortcuts}
    actions = {
        action.__name__: action for action in session.viewer.keymap.values() if action
    }
    assert name in keys
    return actions[name]


def test_a_scribble_is_a_prompt_and_an_outside_one_trims_the_mask(annotate):
    session = annotate()
    draw(session, [(60, 40), (60, 100)], 'path')
    before = session.preview.copy()
    assert before[60, 70] == 1
    session.controller.tools.toggle_polarity()
    draw(session, [(40, 70), (80, 70)], 'path')
    assert 0 < session.preview.sum() < before.sum()
    scribbles = session.workspace.draft.scribbles
    assert [scribble.positive for scribble in scribbles] == [True, False]


def test_a_lasso_is_a_mask_to_start_from_and_an_outside_one_cuts(annotate):
    session = annotate()
    draw(session, [(20, 20), (20, 100), (100, 100), (100, 20)], 'polygon')
    assert session.preview[60, 60] == 1
    assert session.preview[60, 150] == 0
    session.controller.tools.toggle_polarity()
    draw(session, [(20, 20), (20, 60), (100, 60), (100, 20)], 'polygon')
    assert session.preview[60, 40] == 0
    assert session.preview[60, 80] == 1


def test_toggling_with_one_layer_active_relabels_nothing_on_the_other(annotate):
    session = annotate()
    draw(session, [(60, 40), (60, 100)], 'path')
    session.click(60, 60)
    session.controller.tools.use_scribble()
    session.controller.tools.toggle_polarity()
    session.controller.tools.use_points()
    session.controller.tools.toggle_polarity()
    assert session.shapes.features['polarity'].tolist() == ['inside']
    assert session.points.features['polarity'].tolist() == ['inside']


def test_all_kinds_of_prompts_describe_one_object_and_undo_one_by_one(annotate):
    session = annotate()
    session.click(60, 60)
    session.draw((30, 30), (90, 120))
    draw(session, [(60, 60), (60, 90)], 'path')
    draw(session, [(40, 40), (40, 80), (80, 80), (80, 40)], 'polygon')
    assert len(session.workspace.shown.predictions) == 1
    for _ in range(4):
        session.controller.undo()
    session.settle()
    assert session.workspace.draft.empty
    assert len(session.shapes.data) == len(session.points.data) == 0


def test_a_label_of_anyone_can_be_the_start_of_an_object(annotate):
    session = annotate()
    labels = np.zeros(SHAPE, np.uint16)
    labels[30:80, 40:100] = 7
    layer = session.viewer.add_labels(labels, name='theirs')
    session.controller.set_target(layer)
    session.controller.objects.load_mask_at((50, 60))
    session.wait_for('ready')
    assert session.preview[50, 60] == 1
    assert session.preview[100, 150] == 0
    session.controller.objects.load_mask_at((110, 190))
    assert 'no label' in session.workspace.status.text


def test_refining_starts_again_from_the_mask_shown(annotate):
    session = annotate()
    session.click(60, 60)
    decoded = session.model.decoded
    session.controller.objects.refine()
    session.wait_for('ready')
    assert session.model.decoded == decoded + 1
    assert session.workspace.draft.mask is not None
    session.controller.undo()
    assert session.workspace.draft.mask is None


def test_overwriting_takes_pixels_from_the_earlier_object_and_undo_gives_them_back(
    annotate,
):
    session = annotate()
    session.click(60, 60)
    session.controller.objects.commit()
    first = session.labels.copy()
    session.controller.objects.set_overlap('overwrite')
    session.click(60, 75)
    session.controller.objects.commit()
    assert session.labels[60, 75] == 2
    assert (session.labels == 1).sum() < (first == 1).sum()
    one, two = session.workspace.session.state.objects
    np.testing.assert_array_equal(one.region.full_mask(SHAPE), session.labels == 1)
    np.testing.assert_array_equal(two.region.full_mask(SHAPE), session.labels == 2)
    session.controller.undo()
    np.testing.assert_array_equal(session.labels, first)


def test_asking_waits_for_an_answer_and_a_second_commit_keeps_the_others(annotate):
    session = annotate()
    session.click(60, 60)
    session.controller.objects.commit()
    first = session.labels.copy()
    session.controller.objects.set_overlap('ask')
    session.click(60, 75)
    above = session.widget.action_bar.geometry()
    session.controller.objects.commit()
    np.testing.assert_array_equal(session.labels, first)
    assert not session.widget.question.isHidden()
    assert 'label 1' in session.widget.question.text.text()
    assert 'label 1' not in session.workspace.status.text, 'it was asked twice'
    session.settle()
    assert session.widget.action_bar.geometry() == above
    session.controller.objects.commit()
    assert session.widget.question.isHidden()
    np.testing.assert_array_equal(session.labels == 1, first == 1)
    assert session.labels[60, 90] == 2
    session.controller.undo()
    session.wait_for('ready')
    session.controller.objects.commit()
    session.widget.question.buttons[1].click()
    assert session.labels[60, 70] == 2, 'overwritten, under the number undo gave back'


def test_changing_the_policy_commits_the_object_in_the_making_the_old_way(annotate):
    session = annotate()
    session.click(60, 60)
    session.controller.objects.commit()
    session.click(60, 75)
    session.controller.objects.set_overlap('overwrite')
    assert session.labels[60, 60] == 1, 'kept, as it was when the object began'
    assert len(session.workspace.session.state.objects) == 2


def test_classes_name_labels_and_semantic_output_writes_them(annotate):
    session = annotate()
    controller = session.controller
    controller.objects.set_classes(
        (ObjectClass(1, 'polyp', '#ff0000'), ObjectClass(2, 'tool', '#00ff00'))
    )
    by_name(session, 'class_2')(session.viewer)
    assert controller.workspace.session.state.current_class == 2
    session.click(60, 40)
    controller.objects.commit()
    features = controller.workspace.target_layer.features.set_index('index')
    assert features.loc[1, 'class'] == 'tool'
    controller.objects.set_output('semantic')
    session.click(60, 150)
    controller.objects.commit()
    assert session.labels[60, 150] == 2, 'the class, not the next number'
    assert session.labels[60, 40] == 2, 'the one before is of that class, too'
    controller.objects.next_class()
    assert controller.workspace.session.state.current_class == 1
    numbers = [item.number for item in controller.workspace.session.state.objects]
    assert len(set(numbers)) == 2


def test_an_object_can_be_deleted_and_given_another_class(annotate):
    session = annotate()
    controller = session.controller
    controller.objects.set_classes(
        (ObjectClass(1, 'polyp', '#ff0000'), ObjectClass(2, 'tool', '#00ff00'))
    )
    session.click(60, 60)
    controller.objects.commit()
    assert controller.objects.reclassify_at((60, 60), 2)
    assert controller.workspace.session.state.objects[0].class_id == 2
    assert controller.objects.delete_at((60, 60))
    assert not session.labels.any()
    controller.undo()
    assert session.labels[60, 60] == 1
    assert not controller.objects.delete_at((5, 195))


def test_the_object_under_the_cursor_gets_the_class_of_the_next_object(annotate):
    session = annotate()
    controller = session.controller
    controller.objects.set_classes(
        (ObjectClass(1, 'polyp', '#ff0000'), ObjectClass(2, 'tool', '#00ff00'))
    )
    session.click(60, 60)
    controller.objects.commit()
    controller.objects.use_class(2)
    session.viewer.cursor.position = (60, 60)
    controller.objects.reclassify_current(session.controller.cursor.position)
    assert controller.workspace.session.state.objects[0].class_id == 2
    controller.undo()
    assert controller.workspace.session.state.objects[0].class_id == 1
    session.viewer.cursor.position = (5, 195)
    controller.objects.reclassify_current(session.controller.cursor.position)
    assert 'no object under the cursor' in controller.workspace.status.text


def test_changing_the_image_changes_whose_labels_undo_is_for(annotate):
    session = annotate()
    controller, first = session.controller, session.workspace.image
    session.click(60, 60)
    controller.objects.commit()
    labels = controller.workspace.target_layer
    other = session.viewer.add_image(np.zeros((40, 50), np.uint8), name='other')
    bound = len(labels.keymap)
    assert bound
    controller.set_image(other)
    assert len(labels.keymap) < bound, 'undo here would undo on the other image'
    controller.set_image(first)
    assert len(labels.keymap) == bound


def test_clean_up_changes_the_preview_at_once_and_is_what_is_committed(annotate):
    session = annotate()
    session.click(60, 60)
    before = float(session.preview.sum())
    session.widget.cleanup.snap.setCurrentIndex(2)
    assert session.workspace.session.state.cleanup == CleanUp(snap='ellipse')
    assert 'circumference' in session.widget.cleanup.ellipse.text()
    fitted = session.preview.copy()
    assert float(fitted.sum()) == pytest.approx(before, rel=0.1)
    session.controller.objects.commit()
    np.testing.assert_array_equal(session.labels > 0, fitted > 0)
    session.controller.undo()
    session.controller.undo()
    assert not session.workspace.session.state.cleanup.active
    assert session.widget.cleanup.value == CleanUp()


def test_neighbours_are_encoded_at_idle_so_that_the_next_click_need_not_wait(annotate):
    stack = np.random.default_rng(0).integers(0, 255, (9, *SHAPE), np.uint8)
    session = annotate(stack)
    session.viewer.dims.set_point(0, 4)
    session.click(4, 60, 60)
    session.qtbot.waitUntil(lambda: session.model.encoded == 4, timeout=10_000)
    session.viewer.dims.set_point(0, 5)
    session.click(5, 60, 60)
    frame = session.workspace.shown
    assert frame is not None
    seen = session.model.encoded
    session.viewer.dims.set_point(0, 6)
    session.qtbot.waitUntil(lambda: session.model.encoded >= seen, timeout=10_000)


def test_without_prefetching_nothing_is_encoded_that_was_not_clicked(annotate):
    stack = np.zeros((5, *SHAPE), np.uint8)
    session = annotate(stack)
    session.controller.frames.prefetching = False
    session.viewer.dims.set_point(0, 2)
    session.click(2, 60, 60)
    session.qtbot.wait(200)
    assert session.model.encoded == 1


def test_keys_go_to_the_next_unfinished_frame_and_the_strip_shows_what_is_done(
    annotate,
):
    stack = np.zeros((4, *SHAPE), np.uint8)
    session = annotate(stack)
    for frame in (0, 1):
        session.viewer.dims.set_point(0, frame)
        session.click(frame, 60, 60)
        session.controller.objects.commit()
    session.viewer.dims.set_point(0, 0)
    by_name(session, 'next_unfinished')(session.viewer)
    assert session.workspace.frame == (2,)
    session.viewer.dims.set_point(0, 0)
    by_name(session, 'previous_unfinished')(session.viewer)
    assert session.workspace.frame == (3,)
    assert session.widget.strip.text.text().startswith('2 of 4')
    session.widget.strip.frame_chosen.emit(1)
    assert session.workspace.frame == (1,)


def test_undo_shows_the_frame_it_changes(annotate):
    stack = np.zeros((4, *SHAPE), np.uint8)
    session = annotate(stack)
    session.viewer.dims.set_point(0, 1)
    session.click(1, 60, 60)
    session.controller.objects.commit()
    session.viewer.dims.set_point(0, 3)
    session.controller.undo()
    session.wait_for('ready')
    assert session.workspace.frame == (1,)
    assert not session.labels.any()
    session.viewer.dims.set_point(0, 3)
    session.controller.redo()
    session.settle()
    assert session.workspace.frame == (1,)
    assert session.labels[1, 60, 60] == 1


def test_everything_can_be_done_without_a_mouse(annotate):
    session = annotate()
    for _ in range(5):
        session.controller.cursor.move(0, -1)
    session.controller.cursor.move(-1, 0)
    by_name(session, 'place_point')(session.viewer)
    session.wait_for('ready')
    (point,) = session.workspace.draft.points
    assert point.column == pytest.approx(99.5 - 20, abs=1)
    by_name(session, 'commit')(session.viewer)
    assert session.labels.any()
    by_name(session, 'reopen')(session.viewer)
    session.wait_for('ready')
    assert session.workspace.draft.number == 1
    by_name(session, 'clear')(session.viewer)
    assert not session.labels.any()


def in_use(session) -> list[str]:
    return [n for n, b in session.widget.tools.buttons.items() if b.isChecked()]


def test_after_a_commit_the_next_click_is_inside_again(annotate):
    session = annotate()
    session.click(60, 60)
    session.controller.tools.set_polarity(False)
    session.click(60, 150)
    session.controller.objects.commit()
    assert in_use(session) == ['Inside']
    session.click(30, 30)
    assert session.points.features['polarity'].tolist() == ['inside']


def test_no_tool_looks_active_while_another_layer_is_selected(annotate):
    session = annotate()
    session.click(60, 60)
    session.controller.objects.commit()
    layers = session.viewer.layers
    layers.selection.active = layers['scan labels']
    session.settle()
    assert in_use(session) == []
    assert 'choose a tool' in session.workspace.status.text
    session.controller.tools.use_points()
    session.settle()
    assert in_use(session) == ['Inside']
    assert 'choose a tool' not in session.workspace.status.text
