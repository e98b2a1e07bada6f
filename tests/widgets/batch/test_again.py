"""Doing a batch again, and the classes of what it found, in a real window."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from batch_window import Batching, add_box, stack

from napari_kdsam.segmentation.frame_labels import FrameLabels, LabelledObject


def layers_of(session: Batching) -> list[str]:
    return [layer.name for layer in session.viewer.layers if 'labels' in layer.name]


def paint(layer: Any, place: tuple[Any, ...], label: int) -> None:
    """Paint as a person does."""
    grid = np.mgrid[place]
    layer.data_setitem(tuple(axis.ravel() for axis in grid), label)


@pytest.fixture
def proposing(batch, monkeypatch):
    """Let likely objects be found: some named squares on each frame."""
    from napari_kdsam.segmentation.methods import Proposed

    found: dict[int, list[tuple[str, tuple[slice, slice]]]] = {}

    def label(self, predictor, frame, pixels) -> FrameLabels:
        labels = np.zeros(pixels.shape[:2], np.uint8)
        objects = []
        for number, (name, place) in enumerate(found[frame], self.first_label):
            labels[place] = number
            objects.append(LabelledObject(number, 0.9, 100, name))
        return FrameLabels(labels, tuple(objects))

    monkeypatch.setattr(Proposed, 'label', label)
    return batch, found


LEFT, RIGHT = np.s_[10:20, 10:20], np.s_[10:20, 40:50]


def classes(layer: Any) -> dict[int, str]:
    from napari_kdsam.widgets.shared.label_classes import classes_of

    return classes_of(layer)


def test_several_images_done_again_get_their_own_labels_and_the_new_one_new_ones(batch):
    session = batch(stack(1)[0], stack(2)[1])
    session.viewer.add_points([(30, 20)])
    scans = [layer for layer in session.viewer.layers if 'scan' in layer.name]
    session.viewer.layers.selection = {scans[0]}
    session.run('SAME', image='Selected image layers')
    assert layers_of(session) == ['scan 0 labels']
    session.viewer.layers.selection = set(scans)
    assert session.choices.again.isVisibleTo(session.widget)
    session.run('SAME')
    assert layers_of(session) == ['scan 0 labels', 'scan 1 labels']
    session.viewer.layers.selection = set(scans)
    session.run('SAME', output='New labels layer')
    assert len(layers_of(session)) == 4


def test_an_image_that_is_chosen_again_offers_its_labels_in_a_new_panel_too(batch):
    from napari_kdsam.widgets.batch.dock import BatchWidget

    session = batch(stack(3), stack(4)[1:])
    first, second = session.viewer.layers[:2]
    session.choices.image.value = first
    session.look_at(0)
    add_box(session, 0)
    session.run('SAME')
    made = session.choices.output.value
    assert made.name == 'scan 0 labels'
    first.name, made.name = 'moved', 'kept'
    session.choices.image.value = second
    assert session.choices.output.value == 'New labels layer'
    session.choices.image.value = first
    assert session.choices.output.value is made
    later = BatchWidget(session.viewer)
    later.choices.image.value = first
    assert later.choices.output.value is made
    assert 'stay as they are' in later.choices.again.text()
    later.choices.overlap.value = True
    assert 'so are frames' in later.choices.again.text()
    later.close()
    later.controller.close()


@pytest.mark.parametrize('how', ['shrunk', 'added', 'deleted'])
def test_a_frame_that_somebody_has_corrected_is_kept_and_said(batch, how):
    session = batch(stack(3))
    session.look_at(0)
    add_box(session, 0)
    session.run('SAME')
    layer = session.choices.output.value
    places = {
        'shrunk': (np.s_[1:2, 10:15, 30:50], 0),
        'added': (np.s_[1:2, 45:50, 5:15], 7),
        'deleted': (np.s_[1:2, 0:60, 0:90], 0),
    }
    paint(layer, *places[how])
    corrected = session.labels[1].copy()
    session.run('SAME', first_label=4)
    np.testing.assert_array_equal(session.labels[1], corrected)
    assert np.unique(session.labels[0]).tolist() == [0, 4]
    (line,) = session.listed
    assert line.startswith('Frame 1: Changed after a batch')
    assert session.controller.counts[:3] == (2, 0, 1)
    session.look_at(0)
    session.run('SAME', overlap=True)
    assert session.labels[1, 15, 40] == 4


def test_what_is_found_where_nothing_was_found_before_leaves_an_objects_rim_alone(
    proposing,
):
    batch, found = proposing
    session = batch(stack(1)[0])
    found[0] = []
    session.run('PROPOSALS')
    layer = session.choices.output.value
    paint(layer, np.s_[12:18, 12:18], 1)
    found[0] = [('polyp', LEFT)]
    session.run('PROPOSALS')
    assert session.labels.sum() == 36
    assert len(session.listed) == 1


def test_a_frame_that_was_accepted_stays(batch):
    session = batch(stack(3).astype(np.float32))
    session.look_at(0)
    add_box(session, 0)
    session.run('SAME')
    sink = session.controller.batch.outputs[0]
    sink.release((2,))
    before = session.labels[2].copy()
    session.run('SAME', first_label=9)
    np.testing.assert_array_equal(session.labels[2], before)
    assert session.listed[0].startswith('Frame 2: Looked at before')


def test_a_label_has_one_class_on_all_frames_and_measurements_show_it(proposing, qtbot):
    from napari_kdsam.widgets.measure.dock import MeasureWidget

    batch, found = proposing
    session = batch(stack(3))
    found[0] = [('polyp', LEFT), ('instrument', RIGHT)]
    found[1] = [('instrument', LEFT)]
    found[2] = [('polyp', LEFT), ('polyp', RIGHT)]
    session.run('PROPOSALS')
    layer = session.choices.output.value
    named = classes(layer)
    seen = [
        {named[n] for n in np.unique(frame).tolist() if n} for frame in session.labels
    ]
    assert seen == [{'polyp', 'instrument'}, {'instrument'}, {'polyp'}]
    assert len(np.unique(session.labels[2])) == 3
    measure = MeasureWidget(session.viewer)
    session.viewer.window.add_dock_widget(measure, name='measure')
    qtbot.waitUntil(lambda: measure.model.rowCount() == 5, timeout=20_000)
    assert measure.view.has_classes


def test_done_again_the_classes_are_those_found_now(proposing):
    batch, found = proposing
    session = batch(stack(1)[0])
    found[0] = [('polyp', LEFT), ('instrument', RIGHT)]
    session.run('PROPOSALS')
    layer = session.choices.output.value
    found[0] = [('instrument', RIGHT)]
    session.run('PROPOSALS')
    assert classes(layer) == {1: 'instrument'}
    session.viewer.add_points([(30, 20)])
    session.run('SAME')
    assert classes(layer) == {}, 'a prompt names nothing'


def test_labels_of_others_in_the_layer_are_not_mixed_with_what_is_found(proposing):
    batch, found = proposing
    session = batch(stack(1)[0])
    own = np.zeros((60, 90), np.uint16)
    own[40:50, 40:50] = 1
    layer = session.viewer.add_labels(own, name='mine')
    found[0] = [('polyp', LEFT)]
    session.run('PROPOSALS', output=layer)
    assert (layer.data[40:50, 40:50] == 1).all()
    assert layer.data[15, 15] == 2
    assert classes(layer) == {2: 'polyp'}


def test_classes_and_colours_of_followed_labels_are_carried_along(batch):
    from napari_kdsam.widgets.annotator.class_display import colormap_of
    from napari_kdsam.widgets.shared.label_classes import name_classes

    session = batch(stack(3))
    mine = np.zeros((3, 60, 90), np.uint16)
    mine[0, 5:25, 5:25] = 2
    layer = session.viewer.add_labels(mine, name='mine')
    name_classes(layer, {2: 'ventricle'})
    layer.colormap = colormap_of({2: '#123456'})
    session.run('FOLLOW_KEYS', keys=layer)
    followed = session.choices.output.value
    assert classes(followed) == {2: 'ventricle'}
    assert np.allclose(followed.get_color(2), layer.get_color(2))


def test_the_annotator_shows_the_classes_keeps_them_and_gives_them_to_what_it_opens(
    annotate,
):
    from napari_kdsam.widgets.shared.label_classes import name_classes
    from napari_kdsam.widgets.shared.labels_writer import new_labels_layer

    session = annotate()
    layer = new_labels_layer(session.viewer.layers['scan'])
    layer.data[10:30, 10:40] = 1
    layer.data[60:90, 10:40] = 2
    name_classes(layer, {1: 'polyp', 2: 'instrument'})
    session.viewer.add_layer(layer)
    session.controller.set_target(layer)
    state = session.workspace.session.state
    assert [item.name for item in state.classes] == ['object', 'polyp', 'instrument']
    session.click(60, 150)
    session.controller.objects.commit()
    assert classes(layer) == {1: 'polyp', 2: 'instrument', 3: 'object'}
    assert session.controller.objects.reopen_at((20, 20))
    session.wait_for('ready')
    session.controller.objects.commit()
    assert classes(layer)[1] == 'polyp'
    paint(layer, np.s_[60:90, 40:50], 2)
    assert classes(layer)[2] == 'instrument'
    for _ in range(5):
        session.controller.undo()
    assert [item.name for item in session.workspace.session.state.classes] == [
        'object',
        'polyp',
        'instrument',
    ]
    assert classes(layer) == {1: 'polyp', 2: 'instrument'}


def test_a_class_that_is_renamed_is_renamed_on_labels_made_elsewhere(annotate):
    from dataclasses import replace

    from napari_kdsam.widgets.shared.label_classes import name_classes
    from napari_kdsam.widgets.shared.labels_writer import new_labels_layer

    session = annotate()
    layer = new_labels_layer(session.viewer.layers['scan'])
    layer.data[10:30, 10:40] = 1
    session.viewer.add_layer(layer)
    session.controller.set_target(layer)
    # As a batch does while the annotator is open.
    name_classes(layer, {1: 'polyp'})
    first, polyp = session.workspace.session.state.classes
    session.controller.objects.set_classes((first, replace(polyp, name='adenoma')))
    assert classes(layer) == {1: 'adenoma'}
