"""Masks become labels by one rule, and a frame that fails is told from one that is done."""

from __future__ import annotations

import numpy as np

from napari_kdsam.core.errors import ImageError, KDSAMError
from napari_kdsam.segmentation.frame_labels import (
    NOTHING_FOUND,
    FrameLabels,
    LabelledObject,
    attempt,
    label_masks,
)


def test_masks_that_overlap_leave_the_pixels_to_the_earlier_object():
    first, second = np.zeros((2, 4, 4), bool)
    first[:2], second[1:3] = True, True
    found = label_masks((4, 4), [(1, first, 0.9), (7, second, 0.123456)], 7)
    assert found.labels[:, 0].tolist() == [1, 1, 7, 0]
    assert found.objects == (LabelledObject(1, 0.9, 8), LabelledObject(7, 0.1235, 4))


def test_a_frame_without_a_labelled_pixel_is_to_be_looked_at():
    nothing = np.zeros((4, 4), bool)
    assert label_masks((4, 4), [(1, nothing, 0.9)], 1).note == NOTHING_FOUND
    assert label_masks((4, 4), [(1, ~nothing, 0.9)], 1).note == ''
    assert label_masks((4, 4), [], 0, note='It drifted.').note == 'It drifted.'


def test_whatever_is_wrong_with_a_frame_is_a_sentence_and_not_the_end():
    def failing(error: Exception) -> FrameLabels:
        raise error

    refused = ImageError('The frame is gone.')
    assert attempt(lambda: failing(refused)) is refused
    for error in (MemoryError(), ZeroDivisionError('division by zero')):
        found = attempt(lambda error=error: failing(error))
        assert isinstance(found, KDSAMError)
        assert str(found).endswith(('.', 'zero'))
