"""Lazy stacks whose frames are not what the layer claims, as folders of files are."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

FIRST = (120, 200)


def stack_of(tmp_path, *frames: np.ndarray):
    """What napari's own reader makes of a folder."""
    from napari_builtins.io import magic_imread

    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / f'{number}.png')
    return magic_imread(sorted(tmp_path.glob('*.png')))


def pixels(*shape: int, kind: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 255, shape).astype(kind)


def warnings_of(monkeypatch) -> list[str]:
    from napari_kdsam.widgets.annotator import prediction

    said: list[str] = []
    monkeypatch.setattr(prediction, 'show_warning', said.append)
    return said


@pytest.mark.parametrize(
    'own', [(118, 190), (130, 240), (90, 260), (150, 150)], ids=str
)
def test_a_frame_of_another_size_is_labelled_as_far_as_the_stack_goes(
    annotate, tmp_path, monkeypatch, own
):
    said = warnings_of(monkeypatch)
    session = annotate(stack_of(tmp_path, pixels(*FIRST), pixels(*own)), rgb=False)
    session.viewer.dims.set_current_step(0, 1)
    session.settle()
    canvas = session.show_canvas()
    canvas.click(60, 60)
    session.wait_for('ready')
    from qtpy.QtCore import Qt

    canvas.key(Qt.Key.Key_W)
    session.settle()
    assert session.labels.shape == (2, *FIRST)
    assert session.labels[1, 60, 60] == 1
    assert not session.labels[0].any()
    assert f'{own[0]} x {own[1]}' in said[0]
    assert ('cut' in said[0]) == (own[0] > FIRST[0] or own[1] > FIRST[1])
    assert len(said) == 1


def test_no_label_lies_beyond_a_smaller_frame(annotate, tmp_path, monkeypatch):
    warnings_of(monkeypatch)
    session = annotate(stack_of(tmp_path, pixels(*FIRST), pixels(70, 80)), rgb=False)
    session.viewer.dims.set_current_step(0, 1)
    # The disc of the fake model would reach beyond row 70 and column 80.
    session.click(1, 66, 76)
    assert session.preview[0, 66, 76]
    session.controller.objects.commit()
    assert session.labels[1, 66, 76] == 1
    assert not session.labels[1, 70:].any()
    assert not session.labels[1, :, 80:].any()


@pytest.mark.parametrize(
    ('first', 'second'),
    [
        (pixels(*FIRST, 3), pixels(*FIRST, 4)),
        (pixels(*FIRST), pixels(110, 220, kind=np.uint16)),
    ],
    ids=['alpha', 'deep and larger'],
)
def test_frames_of_other_channels_and_depths_are_answered(
    annotate, tmp_path, monkeypatch, first, second
):
    warnings_of(monkeypatch)
    session = annotate(stack_of(tmp_path, first, second), rgb=first.ndim == 3)
    session.viewer.dims.set_current_step(0, 1)
    session.click(1, 60, 60)
    session.controller.objects.commit()
    assert session.labels[1, 60, 60] == 1


@pytest.mark.parametrize('shape', [(4, *FIRST), (1, 50, 60), (7,), (2, 3, *FIRST)])
def test_frames_that_are_no_pictures_are_refused_in_a_sentence(
    annotate, monkeypatch, shape
):
    from napari_kdsam.widgets.annotator.image_record import ImageRecord

    session = annotate()
    odd = np.zeros(shape, np.uint8)
    monkeypatch.setattr(ImageRecord, 'reader', lambda _: lambda frame: odd)
    session.points.add(np.array((20.0, 20)))
    session.wait_for('error')
    assert session.workspace.status.text.strip()


def test_whatever_goes_wrong_with_an_answer_ends_the_waiting(annotate, monkeypatch):
    from napari_kdsam.widgets.annotator.preview import PreviewLayer

    session = annotate()

    def broken(*_):
        raise AssertionError('out of paint')

    with monkeypatch.context() as patch:
        patch.setattr(PreviewLayer, 'show', broken)
        session.points.add(np.array((60.0, 60)))
        session.wait_for('error')
        assert 'out of paint' in session.workspace.status.text
    session.click(62, 62)
    session.controller.objects.commit()
    assert session.labels[60, 60] == 1
