"""Every way to say what an object is, and what can be done with it afterwards."""

from __future__ import annotations

import numpy as np
import pytest

from napari_kdsam.annotation.cleanup import CleanUp
from napari_kdsam.annotation.state import FIRST_CLASS, ObjectClass

POLYP = ObjectClass(5, 'polyp', '#ff0000')


def stack(frames: int) -> np.ndarray:
    return np.random.default_rng(4).integers(0, 255, (frames, 60, 90), np.uint8)


def scribble(session, *places: tuple[float, float]) -> None:
    session.shapes.add_paths(np.array(places, float))
    session.settle()
    session.wait_for('ready')


def lasso(session, *places: tuple[float, float]) -> None:
    session.shapes.add_polygons(np.array(places, float))
    session.settle()
    session.wait_for('ready')


def press(session, key: str) -> None:
    """Call what a key is bound to on the viewer, as napari does."""
    bound = {str(name): action for name, action in session.viewer.keymap.items()}
    result = bound[key](session.viewer)
    if result is not None:
        # The action of a key that can be held: pressed, then released.
        next(result)
        result.close()


def test_a_scribble_is_one_prediction_along_its_whole_length(annotate):
    session = annotate()
    session.controller.tools.use_scribble()
    assert session.widget.tools.buttons['Scribble'].isChecked()
    scribble(session, (60, 30), (60, 100), (60, 170))
    assert session.model.decoded == 1
    assert session.preview[60, 30] == session.preview[60, 100] == 1
    assert session.preview[60, 170] == 1
    (drawn,) = session.workspace.draft.scribbles
    assert drawn.places == ((60, 30), (60, 100), (60, 170))
    session.controller.objects.commit()
    assert session.labels[60, 170] == 1
    assert len(session.shapes.data) == 0


def test_a_scribble_outside_trims_the_mask(annotate):
    session = annotate()
    session.draw((20, 30), (100, 170))
    session.controller.tools.use_scribble()
    session.controller.tools.toggle_polarity()
    assert session.workspace.layers.shape_tool is not None, 'the tool stays'
    scribble(session, (60, 140), (60, 160))
    assert session.workspace.draft.scribbles[0].positive is False
    assert session.preview[60, 60] == 1
    assert session.preview[60, 150] == 0


def test_a_scribble_drawn_with_the_mouse_is_read(annotate):
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest

    session = annotate()
    canvas = session.show_canvas()
    start, end = canvas.at(60, 60), canvas.at(60, 140)
    session.controller.tools.use_scribble()
    left = Qt.MouseButton.LeftButton
    canvas.move(start)
    QTest.mousePress(canvas.native, left, pos=start)
    for part in range(1, 9):
        canvas.move(start + (end - start) * (part / 8))
    QTest.mouseRelease(canvas.native, left, pos=end)
    session.wait_for('ready')
    (drawn,) = session.workspace.draft.scribbles
    assert drawn.places[0] == pytest.approx((60, 60), abs=4)
    assert drawn.places[-1] == pytest.approx((60, 140), abs=15)
    assert session.preview[60, 100] == 1


def test_a_lasso_starts_from_the_area_it_encloses(annotate):
    session = annotate()
    session.controller.tools.use_lasso()
    assert session.widget.tools.buttons['Lasso'].isChecked()
    lasso(session, (20, 40), (20, 120), (90, 120), (90, 40))
    assert session.preview[50, 80] == 1
    assert session.preview[50, 20] == 0
    assert int(session.preview.sum()) == pytest.approx(70 * 80, rel=0.1)
    session.controller.tools.toggle_polarity()
    lasso(session, (40, 90), (40, 130), (70, 130), (70, 90))
    assert session.preview[55, 105] == 0, 'a lasso outside is cut out'
    assert session.preview[55, 60] == 1


def test_the_label_under_the_cursor_becomes_the_mask_prompt(annotate):
    session = annotate()
    existing = np.zeros((120, 200), np.int32)
    existing[40:80, 80:120] = 3
    layer = session.viewer.add_labels(existing)
    session.widget.labels_choice.value = layer
    press(session, 'Ctrl+Shift+Right')
    press(session, 'Shift+Q')
    session.wait_for('ready')
    assert (session.preview.astype(bool) == (existing == 3)).mean() > 0.98
    session.click(60, 130)
    session.controller.objects.commit()
    assert session.labels[60, 100] == 3, 'the other label is kept'
    assert session.labels[60, 130] == 4


def test_refine_predicts_from_the_mask_shown_and_is_one_undo(annotate):
    session = annotate()
    session.click(60, 60)
    session.controller.choose_candidate(2)
    shown = session.preview.copy()
    before = session.model.decoded
    session.widget.action_bar.refine.click()
    session.wait_for('ready')
    assert session.model.decoded == before + 1
    mask = session.workspace.draft.mask.full_mask((120, 200))
    np.testing.assert_array_equal(mask, shown.astype(bool))
    session.controller.undo()
    session.wait_for('ready')
    assert session.workspace.draft.mask is None
    np.testing.assert_array_equal(session.preview, shown)


def test_refining_without_a_single_mask_says_what_to_do(annotate):
    session = annotate()
    session.controller.objects.refine()
    assert 'click first' in session.workspace.status.text
    session.draw((10, 10), (30, 30))
    session.draw((60, 60), (100, 120))
    session.controller.objects.refine()
    assert 'single object' in session.workspace.status.text
    assert session.workspace.draft.mask is None


def test_prompts_belong_to_the_box_they_lie_in(annotate):
    session = annotate()
    session.draw((10, 10), (50, 50))
    session.draw((60, 100), (110, 180))
    session.settle()
    session.wait_for('ready')
    session.controller.tools.set_polarity(False)
    session.click(100, 170)
    assert session.preview[20, 20] != 0
    assert session.preview[62, 102] not in (0, session.preview[20, 20])
    assert session.preview[100, 170] == 0
    session.controller.objects.commit()
    first, second = session.workspace.session.state.objects
    assert first.draft.points == ()
    assert len(second.draft.points) == 1
    assert (first.label, second.label) == (1, 2)


def test_all_kinds_of_prompts_describe_one_object_and_each_is_one_undo(annotate):
    session = annotate()
    session.draw((20, 30), (100, 170))
    session.click(60, 60)
    session.controller.tools.set_polarity(False)
    session.click(60, 165)
    session.controller.tools.set_polarity(True)
    session.controller.tools.use_scribble()
    scribble(session, (40, 50), (40, 110))
    session.controller.tools.use_lasso()
    lasso(session, (30, 40), (30, 120), (90, 120), (90, 40))
    draft = session.workspace.draft
    counts = [
        len(kind)
        for kind in (draft.points, draft.boxes, draft.scribbles, draft.outlines)
    ]
    assert counts == [2, 1, 1, 1]
    assert session.preview[60, 80] == 1
    assert session.preview[60, 165] == 0
    final = session.preview.copy()
    session.controller.objects.commit()
    (item,) = session.workspace.session.state.objects
    assert item.draft.same_prompts(draft)
    np.testing.assert_array_equal(session.labels == 1, final.astype(bool))
    for _ in range(6):
        session.controller.undo()
    assert session.workspace.draft.empty
    assert len(session.points.data) == len(session.shapes.data) == 0


def test_an_object_is_made_with_the_keyboard_alone(annotate):
    from qtpy.QtCore import Qt

    session = annotate()
    canvas = session.show_canvas()
    control, shift = (
        Qt.KeyboardModifier.ControlModifier,
        Qt.KeyboardModifier.ShiftModifier,
    )
    alt = Qt.KeyboardModifier.AltModifier
    canvas.key(Qt.Key.Key_Left, control, shift)
    canvas.key(Qt.Key.Key_Up, control, shift)
    canvas.key(Qt.Key.Key_Up, control, shift)
    canvas.key(Qt.Key.Key_G, alt)
    session.wait_for('ready')
    (point,) = session.workspace.draft.points
    assert (point.row, point.column) == (59.5 - 2 * 4 + 0.5, 99.5 - 4 + 0.5)
    canvas.key(Qt.Key.Key_Q)
    for _ in range(4):
        canvas.key(Qt.Key.Key_Right, control, shift)
    canvas.key(Qt.Key.Key_G, alt)
    session.qtbot.waitUntil(lambda: len(session.points.data) == 2)
    session.wait_for('ready')
    assert [p.positive for p in session.workspace.draft.points] == [True, False]
    canvas.key(Qt.Key.Key_W)
    assert session.labels[51, 90] == 1
    canvas.key(Qt.Key.Key_U)
    assert not session.labels.any()


def test_the_keyboard_cursor_stops_at_the_edge_and_goes_with_its_image(annotate):
    session = annotate()
    for _ in range(80):
        session.controller.cursor.move(0, 1)
        session.controller.cursor.move(1, 0)
    assert session.controller.cursor.position == (119, 199)
    session.controller.cursor.place_point()
    session.wait_for('ready')
    other = session.viewer.add_image(np.zeros((40, 50), np.uint8), name='other')
    session.controller.set_image(other)
    assert 'KD SAM cursor' not in [layer.name for layer in session.viewer.layers]


def test_class_keys_choose_the_class_of_the_next_objects(annotate):
    session = annotate()
    session.controller.objects.set_classes((FIRST_CLASS, POLYP))
    press(session, 'Alt+2')
    assert session.workspace.session.state.current_class == 5
    session.click(60, 40)
    session.controller.objects.commit()
    press(session, 'Shift+C')
    assert session.workspace.session.state.current_class == 1
    session.click(60, 150)
    session.controller.objects.commit()
    classes = [item.class_id for item in session.workspace.session.state.objects]
    assert classes == [5, 1]
    features = session.workspace.target_layer.features
    named = dict(zip(features['index'], features['class'], strict=True))
    assert named == {0: '', 1: 'polyp', 2: 'object'}
    press(session, 'Alt+7')
    assert session.workspace.session.state.current_class == 1, 'there is no seventh'


def test_semantic_labels_have_the_values_names_and_colours_of_classes(annotate):
    session = annotate()
    objects = session.controller.objects
    objects.set_classes((FIRST_CLASS, POLYP))
    objects.set_output('semantic')
    press(session, 'Alt+2')
    for column in (40, 150):
        session.click(60, column)
        session.controller.objects.commit()
    layer = session.workspace.target_layer
    assert np.unique(layer.data).tolist() == [0, 5]
    named = dict(zip(layer.features['index'], layer.features['class'], strict=True))
    assert named == {0: '', 5: 'polyp'}
    np.testing.assert_allclose(layer.get_color(5)[:3], (1, 0, 0), atol=0.01)
    objects.set_classes((FIRST_CLASS, ObjectClass(5, 'adenoma', '#0000ff')))
    assert layer.features['class'].tolist() == ['', 'adenoma']
    np.testing.assert_allclose(layer.get_color(5)[:3], (0, 0, 1), atol=0.01)


def test_the_names_of_classes_in_the_labels_follow_undo(annotate):
    session = annotate()
    session.click(60, 40)
    session.controller.objects.commit()
    session.click(60, 150)
    session.controller.objects.commit()
    layer = session.workspace.target_layer
    assert layer.features['index'].tolist() == [0, 1, 2]
    session.controller.undo()
    assert layer.features['index'].tolist() == [0, 1]


def test_the_object_under_the_cursor_is_deleted_and_comes_back_by_undo(annotate):
    session = annotate()
    for column in (40, 100):
        session.click(60, column)
        session.controller.objects.commit()
    before = session.labels.copy()
    press(session, 'Ctrl+Shift+Right')
    press(session, 'Shift+K')
    assert np.unique(session.labels).tolist() == [0, 1]
    assert 'undo brings it back' in session.workspace.status.text
    session.controller.undo()
    np.testing.assert_array_equal(session.labels, before)
    assert not session.controller.objects.delete_at((5, 195))
    np.testing.assert_array_equal(session.labels, before)


@pytest.mark.parametrize(('output', 'label'), [('instance', 1), ('semantic', 5)])
@pytest.mark.parametrize('changed', [False, True])
def test_an_object_gets_another_class_and_its_label_only_if_that_is_the_classs(
    annotate, output, label, changed
):
    session = annotate()
    objects = session.controller.objects
    objects.set_classes((FIRST_CLASS, POLYP))
    other = 'semantic' if output == 'instance' else 'instance'
    objects.set_output(other if changed else output)
    session.click(60, 40)
    session.controller.objects.commit()
    objects.set_output(output)
    assert objects.reclassify_at((60, 40), 5)
    assert session.labels[60, 40] == label
    (item,) = session.workspace.session.state.objects
    assert (item.class_id, item.label) == (5, label)
    features = session.workspace.target_layer.features
    assert features['class'].tolist() == ['', 'polyp']
    session.controller.undo()
    assert session.labels[60, 40] == 1
    assert session.workspace.session.state.objects[0].class_id == 1


def test_a_change_of_the_clean_up_shows_at_once_is_committed_and_undone(annotate):
    session = annotate()
    session.click(60, 60)
    session.click(60, 195)
    both = session.preview.copy()
    decoded = session.model.decoded
    session.widget.cleanup.largest.setChecked(True)
    assert session.preview[60, 195] == 0
    assert session.preview[60, 60] == 1
    assert session.model.decoded == decoded, 'nothing is predicted again'
    session.controller.undo()
    np.testing.assert_array_equal(session.preview, both)
    assert not session.widget.cleanup.largest.isChecked()
    session.controller.objects.set_cleanup(CleanUp(largest_only=True))
    session.controller.objects.commit()
    assert session.labels[60, 195] == 0
    assert session.labels[60, 60] == 1


def test_keys_go_to_the_next_and_previous_frame_without_objects(annotate):
    session = annotate(stack(5))
    session.controller.frames.prefetching = False
    for frame in (1, 2):
        session.viewer.dims.set_current_step(0, frame)
        session.click(frame, 30, 40)
        session.controller.objects.commit()
    session.viewer.dims.set_current_step(0, 0)
    press(session, 'Shift+Right')
    assert session.workspace.frame == (3,)
    press(session, 'Shift+Left')
    assert session.workspace.frame == (0,)
    press(session, 'Shift+Left')
    assert session.workspace.frame == (4,), 'round at the end'
    assert session.controller.frames.done == {1, 2}
    for frame in (0, 3, 4):
        session.viewer.dims.set_current_step(0, frame)
        session.click(frame, 30, 40)
        session.controller.objects.commit()
    press(session, 'Shift+Right')
    assert session.workspace.frame == (4,)
    assert 'Every frame' in session.workspace.status.text


def test_neighbours_are_encoded_at_idle_so_that_a_click_there_needs_no_encoding(
    annotate,
):
    session = annotate(stack(6))
    session.viewer.dims.set_current_step(0, 2)
    session.qtbot.wait(100)
    assert session.model.encoded == 0, 'nothing is encoded before the first click'
    session.click(2, 30, 40)
    session.qtbot.waitUntil(lambda: session.model.encoded == 4, timeout=10_000)
    session.controller.frames.prefetching = False
    session.viewer.dims.set_current_step(0, 3)
    said = []
    session.workspace.updated.connect(
        lambda: said.append(session.workspace.status.text)
    )
    session.click(3, 30, 40)
    session.settle()
    assert session.model.encoded == 4
    assert not any('Encoding' in text for text in said)
    session.viewer.dims.set_current_step(0, 5)
    session.click(5, 30, 40)
    assert session.model.encoded == 5
    assert any('Encoding' in text for text in said)
