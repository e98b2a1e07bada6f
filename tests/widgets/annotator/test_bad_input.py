"""What goes wrong is said in one sentence, and nothing already done is lost."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pytest

IMAGE = np.random.default_rng(5).integers(0, 255, (120, 200), np.uint8)


def said(session) -> str:
    text = session.workspace.status.text
    assert text.strip(), 'nothing was said'
    assert 'Traceback' not in text
    return text


def wait_for_error(session) -> str:
    session.wait_for('error')
    return said(session)


def commit_at(session, *place: float) -> None:
    session.click(*place)
    session.controller.objects.commit()


def saved_session(annotate, sessions: Path) -> Path:
    """Annotate `IMAGE` and close; the file of the session."""
    session = annotate(IMAGE)
    commit_at(session, 60, 60)
    session.qtbot.waitUntil(
        lambda: any('"label": 1' in p.read_text() for p in sessions.glob('*.json')),
        timeout=10_000,
    )
    session.controller.close()
    (path,) = sessions.glob('*.json')
    return path


@pytest.mark.parametrize('alpha', [0, 128, 255])
def test_an_rgba_image_is_annotated_whatever_its_alpha(annotate, alpha):
    image = np.dstack([IMAGE, IMAGE, IMAGE, np.full_like(IMAGE, alpha)])
    session = annotate(image, rgb=True)
    commit_at(session, 60, 60)
    assert session.labels.shape == (120, 200)
    assert session.labels[60, 60] == 1


def test_a_channel_first_array_is_a_stack_of_its_channels(annotate):
    session = annotate(np.stack([IMAGE, IMAGE // 2, IMAGE // 3]), rgb=False)
    session.viewer.dims.set_current_step(0, 1)
    commit_at(session, 1, 60, 60)
    assert session.labels.shape == (3, 120, 200)
    assert session.labels[1, 60, 60] == 1
    assert not session.labels[[0, 2]].any()


def test_a_boolean_image_is_annotated(annotate):
    session = annotate(IMAGE > 128)
    commit_at(session, 60, 60)
    assert session.labels[60, 60] == 1


@pytest.mark.parametrize('kind', [np.complex64, object])
def test_pixels_that_are_no_numbers_are_refused_and_another_image_works(
    annotate, kind, monkeypatch
):
    from napari_kdsam.widgets.shared.image_frames import ImageFrames

    session = annotate(IMAGE)
    commit_at(session, 60, 60)
    first = session.workspace.image
    image = session.viewer.add_image(IMAGE[:50, :60], name='odd')
    # napari itself draws no such pixels; files opened lazily may bring them.
    odd = IMAGE[:50, :60].astype(kind)
    session.controller.set_image(image)
    with monkeypatch.context() as patch:
        patch.setattr(ImageFrames, 'reader', lambda *_: lambda frame: odd)
        session.points.add(np.array((20.0, 20)))
        text = wait_for_error(session)
    assert str(np.dtype(kind)) in text
    session.controller.set_image(first)
    commit_at(session, 60, 150)
    assert np.unique(session.labels).tolist() == [0, 1, 2]


@pytest.mark.parametrize('as_displayed', [False, True])
def test_a_layer_of_nans_is_answered_in_a_sentence(annotate, as_displayed):
    session = annotate(np.full((40, 50), np.nan, np.float32))
    session.controller.flow.set_intensity(as_displayed)
    session.points.add(np.array((20.0, 20)))
    session.qtbot.waitUntil(lambda: session.stage() in ('error', 'ready'))
    if session.stage() == 'error':
        assert 'no finite pixel' in said(session)
    assert len(session.points.data) == 1


def test_an_empty_stack_is_refused_and_the_next_image_works(annotate):
    shape = (0, 60, 90)
    session = annotate(IMAGE)
    commit_at(session, 60, 60)
    first = session.workspace.image
    empty = session.viewer.add_image(
        np.zeros(shape, np.uint8), name='empty', contrast_limits=(0, 255), rgb=False
    )
    session.widget.image_choice.value = empty
    session.settle()
    assert session.workspace.image is None
    assert str(shape) in wait_for_error(session)
    session.controller.frames.go_to_unfinished(1)
    session.controller.set_image(first)
    session.viewer.layers.remove(empty)
    session.settle()
    commit_at(session, 60, 150)
    assert np.unique(session.labels).tolist() == [0, 1, 2]


def test_read_only_zarr_labels_refuse_a_commit_and_the_prompts_stay(annotate, tmp_path):
    import zarr

    path = tmp_path / 'labels.zarr'
    writable = zarr.create_array(path, shape=(120, 200), dtype='u2', chunks=(60, 100))
    writable[:10] = 3
    session = annotate(IMAGE)
    layer = session.viewer.add_labels(zarr.open_array(path, mode='r'), name='disk')
    session.widget.labels_choice.value = layer
    session.click(60, 60)
    session.controller.objects.commit()
    assert 'new labels layer' in wait_for_error(session)
    assert len(session.points.data) == 1
    assert session.workspace.session.state.objects == ()
    assert not np.asarray(writable[10:]).any()
    session.widget.labels_choice.value = 'New labels layer'
    session.controller.objects.commit()
    assert session.labels[60, 60] == 1


def test_labels_that_have_become_read_only_refuse_undo_in_a_sentence(annotate):
    session = annotate(IMAGE)
    commit_at(session, 60, 60)
    before = session.labels.copy()
    session.workspace.target_layer.data.flags.writeable = False
    for act in (
        session.controller.undo,
        lambda: session.controller.objects.delete_at((60, 60)),
        lambda: session.controller.objects.reopen_at((60, 60)),
    ):
        act()
        assert 'cannot be written' in wait_for_error(session)
        np.testing.assert_array_equal(session.labels, before)
        assert len(session.workspace.session.state.objects) == 1
    session.workspace.target_layer.data.flags.writeable = True
    session.controller.undo()
    assert not session.labels.any()


def test_labels_that_cannot_be_read_are_not_taken_as_the_target(annotate):
    import dask.array

    def fail(block: np.ndarray) -> np.ndarray:
        if block.size and gone:
            raise OSError('the disk is gone')
        return block

    gone: list[int] = []
    data = dask.array.zeros((120, 200), dtype='u2', chunks=(120, 200)).map_blocks(
        fail, dtype='u2'
    )
    session = annotate(IMAGE)
    layer = session.viewer.add_labels(data, name='away')
    gone.append(1)
    session.widget.labels_choice.value = layer
    assert 'the disk is gone' in wait_for_error(session)
    assert session.workspace.target_layer is None
    assert session.widget.labels_choice.value == 'New labels layer'
    session.viewer.layers.remove(layer)
    commit_at(session, 60, 60)
    assert session.labels[60, 60] == 1


def test_labels_whose_shape_was_changed_are_replaced_by_new_ones(annotate):
    session = annotate(IMAGE)
    layer = session.viewer.add_labels(np.zeros((120, 200), int), name='mine')
    session.controller.set_target(layer)
    session.click(60, 60)
    layer.data = np.zeros((30, 40), int)
    session.controller.objects.commit()
    assert session.workspace.target_layer is not layer
    assert session.labels[60, 60] == 1


def test_an_image_given_pixels_of_another_shape_begins_anew_and_keeps_its_labels(
    annotate,
):
    session = annotate(IMAGE)
    commit_at(session, 60, 60)
    old = session.workspace.target_layer
    session.click(60, 150)
    session.workspace.image.data = IMAGE[:50, :70]
    session.settle()
    assert 'another shape' in said(session)
    assert old in session.viewer.layers
    assert old.data[60, 60] == 1
    assert session.preview.shape == (50, 70)
    assert len(session.points.data) == 0
    commit_at(session, 20, 30)
    assert session.labels.shape == (50, 70)
    assert session.labels[20, 30] == 1


def test_an_image_removed_while_it_is_encoded_leaves_its_labels(annotate):
    session = annotate(IMAGE)
    commit_at(session, 60, 60)
    labels = session.workspace.target_layer
    session.controller.cursor.move(0, 1)
    started, go_on = threading.Event(), threading.Event()
    encode = session.model.encode

    def held(pixels):
        started.set()
        assert go_on.wait(20)
        return encode(pixels)

    session.controller.flow.set_model('another', 'cpu')
    session.model.encode = held
    session.points.add(np.array((60.0, 150)))
    session.qtbot.waitUntil(started.is_set)
    session.viewer.layers.remove(session.workspace.image)
    session.settle()
    go_on.set()
    session.qtbot.wait(200)
    assert session.workspace.image is None
    assert 'Open an image' in said(session)
    assert list(session.viewer.layers) == [labels]
    assert labels.data[60, 60] == 1


def test_two_viewers_are_annotated_side_by_side(annotate):
    first, second = annotate(IMAGE), annotate(IMAGE[:80, :90])
    first.points.add(np.array((60.0, 60)))
    second.click(40, 40)
    first.wait_for('ready')
    second.controller.objects.commit()
    assert first.controller.workspace.target_layer is None
    assert first.preview[60, 60] == 1
    first.controller.objects.commit()
    assert first.labels.shape == (120, 200)
    assert second.labels.shape == (80, 90)
    second.controller.undo()
    assert first.labels[60, 60] == 1


def test_two_widgets_on_one_viewer_share_a_labels_layer(annotate, fake_factory):
    from annotator_window import Annotating

    from napari_kdsam.widgets.annotator.dock import AnnotatorWidget

    first = annotate(IMAGE)
    widget = AnnotatorWidget(first.viewer, fake_factory)
    first.viewer.window.add_dock_widget(widget, name='Click to label, again')
    second = Annotating(first.viewer, widget, first.qtbot, first.model)
    assert (
        first.controller.workspace.layers.points
        is not second.controller.workspace.layers.points
    )
    commit_at(first, 60, 40)
    layer = first.controller.workspace.target_layer
    assert second.controller.workspace.possible_targets() == [layer]
    second.widget.labels_choice.value = layer
    commit_at(second, 60, 150)
    assert layer.data[60, 150] == 2
    commit_at(first, 20, 100)
    assert layer.data[20, 100] == 3, 'no label is given twice'
    second.controller.undo()
    second.settle()
    assert layer.data[60, 150] == 0
    assert layer.data[60, 40] == 1
    assert layer.data[20, 100] == 3
    assert len(first.controller.workspace.session.state.objects) == 2
    second.controller.close()
    commit_at(first, 100, 100)
    assert layer.data[100, 100] != 0
    widget.controller.flow.thread.stop(timeout=5)


@pytest.mark.parametrize('kind', ['point', 'box', 'scribble', 'lasso'])
def test_a_prompt_beside_the_image_is_ignored_and_said_so(annotate, kind):
    session = annotate(IMAGE)
    session.click(60, 60)
    before = session.preview.copy()
    far = np.array([(300.0, 300), (300, 330), (330, 330), (330, 300)])
    if kind == 'point':
        session.points.add(far[0])
    elif kind == 'box':
        session.shapes.add_rectangles(far)
    elif kind == 'scribble':
        session.shapes.add_paths(far)
    else:
        session.shapes.add_polygons(far)
    session.settle()
    assert 'outside' in said(session)
    assert len(session.points.data) == 1
    assert len(session.shapes.data) == 0
    np.testing.assert_array_equal(session.preview, before)
    assert session.model.decoded == 1


def test_a_prompt_on_another_frame_waits_there_and_one_beyond_the_stack_is_ignored(
    annotate,
):
    session = annotate(np.stack([IMAGE] * 3))
    session.viewer.dims.set_current_step(0, 0)
    session.click(0, 60, 60)
    before = session.preview.copy()
    session.points.add(np.array((2.0, 60, 150)))
    session.settle()
    np.testing.assert_array_equal(session.preview, before)
    session.points.add(np.array((9.0, 60, 60)))
    session.settle()
    assert 'outside' in said(session)
    assert len(session.points.data) == 2
    session.viewer.dims.set_current_step(0, 2)
    session.wait_for('ready')
    assert session.preview[0, 60, 150] == 1
    assert session.preview[0, 60, 60] == 0


@pytest.mark.parametrize(
    'damage',
    [
        lambda text: '',
        lambda text: text[: len(text) // 2],
        lambda text: '[1, 2]',
        lambda text: text.replace('"label": 1', '"label": -1'),
        lambda text: text.replace('"format": 1', '"format": 99'),
    ],
    ids=['empty', 'cut', 'other json', 'wrong value', 'newer'],
)
def test_a_damaged_session_file_is_said_stays_and_does_not_stop_new_work(
    annotate, sessions, damage
):
    path = saved_session(annotate, sessions)
    broken = damage(path.read_text())
    path.write_text(broken)
    again = annotate(IMAGE)
    again.qtbot.waitUntil(lambda: path.name in said(again), timeout=10_000)
    assert not again.controller.autosave.offers
    commit_at(again, 60, 150)
    assert again.labels[60, 150] == 1
    assert path.read_text() == broken


def test_a_session_of_another_image_is_not_offered(annotate, sessions):
    path = saved_session(annotate, sessions)
    content = json.loads(path.read_text())
    content['image'] = '0' * 32
    path.write_text(json.dumps(content))
    again = annotate(IMAGE)
    again.qtbot.waitUntil(lambda: 'another image' in said(again), timeout=10_000)
    assert not again.controller.autosave.offers
    assert path.exists()


def test_a_full_disk_is_said_and_what_was_done_is_written_when_there_is_room(
    annotate, sessions, monkeypatch
):
    from napari_kdsam.widgets.annotator import autosave

    write = autosave.write_session

    def full(*_: object) -> None:
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(autosave, 'write_session', full)
    session = annotate(IMAGE)
    commit_at(session, 60, 60)
    session.qtbot.waitUntil(lambda: 'No space left' in said(session), timeout=10_000)
    assert 'in memory only' in said(session)
    commit_at(session, 60, 150)
    assert np.unique(session.labels).tolist() == [0, 1, 2]
    session.qtbot.wait(200)
    assert not list(sessions.glob('*.json'))
    monkeypatch.setattr(autosave, 'write_session', write)
    session.controller.close()
    session.qtbot.waitUntil(
        lambda: any('"label": 2' in p.read_text() for p in sessions.glob('*.json')),
        timeout=10_000,
    )


def test_every_action_without_an_image_does_nothing(
    make_napari_viewer_proxy, fake_factory
):
    from napari_kdsam.widgets.annotator.dock import AnnotatorWidget
    from napari_kdsam.widgets.annotator.shortcuts import ACTIONS

    viewer = make_napari_viewer_proxy()
    widget = AnnotatorWidget(viewer, fake_factory)
    viewer.window.add_dock_widget(widget, name='Click to label')
    for name, act in ACTIONS.items():
        if name != 'show_help':
            act(widget.controller)
    assert len(viewer.layers) == 0
    assert widget.controller.workspace.status.text
    widget.controller.flow.thread.stop(timeout=5)
