"""Both forms of napari's paint event, as changes of pixels and as frames."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from napari_kdsam.widgets.shared.paint_events import changes_of_paint, frames_of_paint


def by_indices(frame: int) -> tuple[Any, ...]:
    """Two pixels of a frame, as before napari 0.9."""
    indices = (np.array([frame, frame]), np.array([4, 5]), np.array([6, 6]))
    return indices, np.array([0, 2], np.uint8), 7


def by_slices(frame: int) -> SimpleNamespace:
    """The same two pixels in a box of three, as since napari 0.9."""
    return SimpleNamespace(
        slice_key=(slice(frame, frame + 1), slice(4, 7), slice(6, 7)),
        mask=np.array([[[True], [True], [False]]]),
        old_values=np.array([[[0], [2], [9]]], np.uint8),
        new_value=7,
    )


@pytest.mark.parametrize('form', [by_indices, by_slices])
def test_both_forms_of_the_event_are_the_same_change(form):
    (change,) = changes_of_paint([form(3)], 3)
    assert change.region.frame == (3,)
    assert change.before.tolist() == [0, 2]
    assert change.after.tolist() == [7, 7]
    assert frames_of_paint([form(3), form(1)], 3) == {(3,), (1,)}


def test_a_single_image_has_one_frame():
    stroke = ((np.array([4]), np.array([6])), np.array([0]), 7)
    assert frames_of_paint([stroke], 2) == {()}
    assert frames_of_paint([], 2) == frozenset()


def test_of_an_event_of_another_form_the_frames_are_not_known():
    assert frames_of_paint([object()], 3) is None
    assert frames_of_paint([(np.array([1]), 2)], 3) is None
