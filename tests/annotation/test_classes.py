"""Classes that are found by their names, or added."""

from __future__ import annotations

from dataclasses import replace

from napari_kdsam.annotation.classes import class_named, with_known_classes
from napari_kdsam.annotation.state import FIRST_CLASS, AnnotationState, ObjectClass

POLYP = ObjectClass(1, 'polyp', '#ff0000')


def test_a_class_is_found_by_its_name_and_added_with_a_free_number_and_colour():
    assert class_named((POLYP,), 'Polyp', 7) == ((POLYP,), 1)
    classes, class_id = class_named((POLYP,), 'ulcer', 1)
    assert class_id == 2
    assert classes[1].color != POLYP.color
    assert class_named((POLYP,), 'ulcer', 5)[1] == 5


def test_classes_of_an_earlier_day_stand_in_for_the_one_that_everything_begins_with():
    state = with_known_classes(AnnotationState(), {2: 'polyp', 3: 'ulcer'}, {})
    assert [(item.id, item.name) for item in state.classes] == [
        (2, 'polyp'),
        (3, 'ulcer'),
    ]
    assert state.current_class == 2
    unused = with_known_classes(AnnotationState(), {}, {})
    assert unused.classes == (FIRST_CLASS,)
    again = with_known_classes(AnnotationState(), {1: 'object', 2: 'polyp'}, {})
    assert again.classes[0] == FIRST_CLASS


def test_classes_in_use_stay_and_labels_know_theirs():
    state = replace(AnnotationState(), classes=(POLYP,))
    state = with_known_classes(state, {1: 'ulcer'}, {4: 'polyp', 5: 'scar'})
    names = {item.id: item.name for item in state.classes}
    assert names == {1: 'polyp', 2: 'ulcer', 3: 'scar'}
    assert state.known_classes == {4: 1, 5: 3}
    assert state.current_class == 1
