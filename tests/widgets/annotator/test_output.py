"""The labels of one layer are of objects or of classes, never of both."""

from __future__ import annotations

import numpy as np
from qtpy.QtCore import Qt

from napari_kdsam.annotation.state import FIRST_CLASS, ObjectClass

IMAGE = np.random.default_rng(0).integers(0, 255, (120, 200), np.uint8)
PIGMENT = ObjectClass(2, 'pigment', '#ff8800')


def commit_at(session, column: int) -> None:
    session.click(60, column)
    session.controller.objects.commit()


def three_objects(session) -> None:
    """Two objects of the first class, and then one of another."""
    objects = session.controller.objects
    objects.set_classes((FIRST_CLASS, PIGMENT))
    commit_at(session, 30)
    commit_at(session, 100)
    objects.choose_class(2)
    commit_at(session, 170)


def labels_of(session) -> list[int]:
    return session.labels[60, [30, 100, 170]].tolist()


def test_changing_the_output_renames_every_label_and_undo_names_them_back(annotate):
    session = annotate(IMAGE)
    three_objects(session)
    session.widget.output_choice.value = 'semantic'
    assert labels_of(session) == [1, 1, 2]
    assert 'label of its class' in session.workspace.status.text
    features = session.workspace.target_layer.features
    assert dict(zip(features['index'], features['class'], strict=True)) == {
        0: '',
        1: 'object',
        2: 'pigment',
    }
    session.show_canvas().key(Qt.Key.Key_U)
    session.settle()
    assert labels_of(session) == [1, 2, 3]
    assert session.widget.output_choice.value == 'instance'
    session.controller.redo()
    session.widget.output_choice.value = 'instance'
    assert labels_of(session) == [1, 2, 3]
    session.controller.objects.choose_class(1)
    session.click(15, 15)
    session.controller.objects.commit()
    assert session.labels[15, 15] == 4


def test_labels_of_others_keep_the_output_and_new_labels_let_it_change(annotate):
    session = annotate(IMAGE)
    found = np.zeros(IMAGE.shape, np.uint16)
    found[100:110, 10:20] = 2
    session.viewer.add_labels(found, name='batch')
    session.widget.labels_choice.value = session.viewer.layers['batch']
    commit_at(session, 60)
    session.widget.output_choice.value = 'semantic'
    assert session.stage() == 'error'
    assert 'batch' in session.workspace.status.text
    assert session.widget.output_choice.value == 'instance'
    assert session.labels[60, 60] == 3
    assert session.labels[105, 15] == 2
    session.widget.labels_choice.value = 'New labels layer'
    session.widget.output_choice.value = 'semantic'
    commit_at(session, 150)
    assert session.labels[60, 150] == 1
    assert found[60, 60] == 3


def test_each_image_has_an_output_of_its_own(annotate):
    session = annotate(IMAGE)
    commit_at(session, 30)
    commit_at(session, 100)
    session.viewer.add_image(255 - IMAGE, name='next')
    session.settle()
    session.widget.output_choice.value = 'semantic'
    commit_at(session, 30)
    session.widget.image_choice.value = session.viewer.layers['scan']
    assert session.widget.output_choice.value == 'instance'
    commit_at(session, 170)
    assert labels_of(session) == [1, 2, 3]


def test_restoring_brings_output_and_overlap_back(annotate, sessions):
    session = annotate(IMAGE)
    session.widget.overlap_choice.value = 'ask'
    session.widget.output_choice.value = 'semantic'
    three_objects(session)
    session.qtbot.waitUntil(
        lambda: any('"number": 3' in p.read_text() for p in sessions.glob('*.json')),
        timeout=10_000,
    )
    session.controller.close()

    again = annotate(IMAGE)
    again.qtbot.waitUntil(lambda: bool(again.controller.autosave.offers))
    assert again.widget.output_choice.value == 'instance'
    again.widget.offer.buttons[0].click()
    assert labels_of(again) == [1, 1, 2]
    assert again.widget.output_choice.value == 'semantic'
    assert again.widget.overlap_choice.value == 'ask'


def test_objects_have_shades_of_their_classs_colour(annotate):
    session = annotate(IMAGE)
    three_objects(session)
    layer = session.workspace.target_layer
    first, second, third = (np.array(layer.get_color(n)[:3]) for n in (1, 2, 3))
    assert abs(first - second).max() > 0.1, 'neighbours look alike'
    # The first class is cyan, the other orange.
    assert first[0] < first[2] and second[0] < second[2]
    assert third[0] > third[2]
    session.controller.objects.set_output('semantic')
    np.testing.assert_allclose(layer.get_color(2)[:3], (1, 0x88 / 255, 0), atol=0.01)
