"""A day with a series in a real window: click, next."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from series_window import draw, shape_of

from napari_kdsam.series.entries import ImageStatus
from napari_kdsam.series.label_files import read_label_file
from napari_kdsam.series.series import Series


def test_twenty_images_of_different_sizes_are_labelled_with_a_click_and_a_key_each(
    walking, tmp_path
):
    from qtpy.QtCore import Qt

    folder, output = tmp_path / 'scans', tmp_path / 'out'
    for number in range(20):
        draw(folder / f'img{number}.png', shape_of(number), number)
    day = walking()
    canvas = day.canvas()
    day.open(folder, output)
    actions = 0
    for number in range(20):
        assert day.walk.title == f'{number + 1} of 20: img{number}.png'
        assert day.images() == [f'img{number}']
        canvas.click(30, 40)
        day.qtbot.waitUntil(day.is_ready, timeout=30_000)
        canvas.key(Qt.Key.Key_PageDown)
        day.qtbot.waitUntil(
            lambda at=number: day.walk.index > at or 'last' in day.walk.message,
            timeout=30_000,
        )
        actions += 2
    day.settle()
    assert actions == 40
    assert day.walk.message == 'This is the last one. All are done.'
    for number in range(20):
        path = output / f'img{number}_labels.png'
        labels = read_label_file(path, '', shape_of(number)).labels
        assert labels[30, 40] == 1
    assert day.dock.progress.value() == 20


@pytest.mark.parametrize('ndim', [2, 3])
def test_prompts_and_masks_are_seen_where_another_image_was_annotated_before(
    walking, folder, ndim
):
    day = walking()
    pixels = np.zeros((3, 60, 90)[-ndim:], np.uint8)
    before = day.viewer.add_image(pixels, name='open before')
    day.annotator.guided.show(before, None, {})
    day.open(folder)
    names = [layer.name for layer in day.viewer.layers if layer.visible]
    ours = names[names.index('img0') :]
    assert ours[:2] == ['img0', 'img0 labels']
    helpers = sorted(name.split(' [')[0] for name in ours[2:])
    assert helpers == ['KD SAM points', 'KD SAM preview', 'KD SAM shapes']


@pytest.mark.parametrize('above', [False, True])
def test_an_image_that_is_shown_lies_below_prompts_and_masks(walking, above):
    day = walking()
    pixels = np.zeros((60, 90), np.uint8)
    day.viewer.add_image(pixels, name='first')
    image = day.viewer.add_image(pixels, name='second')
    if not above:
        day.viewer.layers.move(len(day.viewer.layers) - 1, 0)
    day.annotator.guided.show(image, None, {})
    names = [layer.name for layer in day.viewer.layers]
    assert names.index('second') < names.index('KD SAM preview')


def test_the_panel_is_seen_beside_the_annotators(walking):
    from qtpy.QtWidgets import QDockWidget

    day = walking()
    day.canvas()
    day.qtbot.wait(100)
    panel = day.dock.window().findChild(QDockWidget, 'Label a series of images')
    tabs = day.dock.window().tabifiedDockWidgets(panel)
    assert [one.objectName() for one in tabs] == ['layer list']
    assert not day.annotator.visibleRegion().isEmpty()
    assert not day.dock.visibleRegion().isEmpty()


def test_another_day_goes_on_where_it_was_left(walking, folder):
    first = walking()
    first.open(folder)
    for _ in range(2):
        first.point()
        first.walk.next()
        first.settle()
    first.walk.close()
    first.qtbot.wait(100)
    second = walking()
    assert second.dock.choices.images == str(folder)
    second.dock.start.click()
    second.settle()
    assert second.walk.title == '3 of 4: img2.png'
    second.walk.previous()
    second.settle()
    assert second.annotator.workspace.target_layer.data[30, 40] == 1
    second.annotator.controller.autosave._worker.close()
    second.qtbot.wait(100)
    assert not second.annotator.controller.autosave.offers
    second.point(5, 70)
    second.walk.next()
    second.settle()
    path = folder / 'labels' / 'img1_labels.png'
    assert set(np.unique(read_label_file(path, '', shape_of(1)).labels)) == {0, 1, 2}


def test_next_before_the_mask_is_there_waits_for_it(walking, folder):
    from fakes import Gate

    day = walking()
    day.open(folder)
    gate = Gate()
    thread = day.annotator.controller.flow.thread
    day.point()
    day.annotator.controller.clear()
    predictor = thread._predictor
    predictor.model.decode = gate.before(predictor.model.decode)
    day.annotator.workspace.layers.points.add(np.array([30.0, 40]))
    day.walk.next()
    day.qtbot.wait(50)
    assert day.walk.index == 0
    gate.open()
    day.qtbot.waitUntil(lambda: day.walk.index == 1, timeout=30_000)
    assert day.status(0) is ImageStatus.done


def test_classes_go_along_and_into_the_table(walking, folder):
    from napari_kdsam.annotation.state import ObjectClass

    day = walking()
    day.open(folder)
    day.annotator.controller.objects.set_classes((ObjectClass(1, 'polyp', '#ff0000'),))
    for _ in range(2):
        day.point()
        day.walk.next()
        day.settle()
    assert dict(day.walk.series.entry(1).classes) == {1: 'polyp'}


def test_pixels_given_in_centimetres_are_saved_in_millimetres(walking, folder):
    nibabel = pytest.importorskip('nibabel')
    from napari_kdsam.widgets.shared.transforms import set_pixel_size

    day = walking()
    day.walk.open(folder, folder / 'labels', 'nifti')
    day.settle()
    set_pixel_size(day.annotator.workspace.image, 0.05, 'cm')
    day.point(1.5, 2)
    day.walk.next()
    day.settle()
    saved = nibabel.load(folder / 'labels' / day.walk.series.entry(0).labels)
    np.testing.assert_allclose(saved.header.get_zooms()[:2], 0.5)


def test_no_lesion_is_one_key_and_refused_where_there_is_an_object(walking, folder):
    day = walking()
    day.open(folder)
    day.walk.no_lesion()
    day.settle()
    assert day.status(0) is ImageStatus.no_lesion
    assert day.walk.index == 1
    day.point()
    day.walk.no_lesion()
    assert day.walk.index == 1
    assert day.walk.failed
    assert day.status(1) is ImageStatus.new


def test_an_image_that_cannot_be_read_is_marked_and_passed_by(walking, folder):
    (folder / 'img0.png').write_bytes(b'\x89PNG damaged')
    (folder / 'img2.png').write_bytes(b'')
    day = walking()
    day.open(folder)
    assert day.walk.index == 1
    assert 'img0.png' in day.walk.message
    day.walk.next()
    day.settle()
    assert day.walk.index == 3
    assert day.walk.series.find('Failed') == [0, 2]
    day.walk.next()
    day.settle()
    assert day.walk.index == 3


def test_labels_that_cannot_be_written_keep_the_image_in_view(
    walking, folder, monkeypatch
):
    day = walking()
    day.open(folder)
    day.point()

    def full(*_: object) -> None:
        raise OSError(28, 'No space left on device')

    with monkeypatch.context() as patched:
        patched.setattr('napari_kdsam.core.files.os.replace', full)
        day.walk.next()
        day.settle()
    assert day.walk.index == 0
    assert 'No space left' in day.walk.message
    assert day.annotator.workspace.target_layer.data.any()
    day.walk.next()
    day.settle()
    assert day.walk.index == 1
    assert day.status(0) is ImageStatus.done


def test_a_folder_that_disappears_is_said_and_no_image_is_marked(walking, folder):
    day = walking()
    day.open(folder, folder.parent / 'out')
    day.walk.next()
    day.settle()
    folder.rename(folder.with_name('elsewhere'))
    day.walk.next()
    day.settle()
    day.walk.next()
    day.settle()
    assert 'is no longer there' in day.walk.message
    assert not day.walk.series.find('Failed')
    folder.with_name('elsewhere').rename(folder)
    at = day.walk.index
    day.walk.next()
    day.settle()
    assert day.walk.index == at + 1


def test_a_second_window_is_told(walking, folder):
    first, second = walking(), walking()
    first.open(folder)
    second.open(folder)
    assert second.walk.series is None
    assert 'Another window' in second.dock.status.text()


def test_labels_of_other_tools_are_seen_and_never_replaced(walking, folder):
    output = folder / 'labels'
    output.mkdir()
    labels = np.zeros(shape_of(0), np.uint16)
    labels[50:55, 5:9] = 4
    Image.fromarray(labels).save(output / 'img0_mask.png')
    before = (output / 'img0_mask.png').read_bytes()
    day = walking()
    day.open(folder)
    assert 'img0_mask.png is the start' in day.walk.message
    day.point()
    day.walk.next()
    day.settle()
    assert (output / 'img0_mask.png').read_bytes() == before
    made = read_label_file(output / 'img0_labels.png', '', shape_of(0)).labels
    assert set(np.unique(made)) == {0, 4, 5}


def test_what_was_committed_is_saved_when_the_window_is_closed(walking, folder):
    day = walking()
    day.open(folder)
    day.point()
    day.annotator.controller.objects.commit()
    day.walk.close()
    day.qtbot.waitUntil((folder / 'labels' / 'img0_labels.png').exists)
    day.qtbot.wait(200)
    series = Series(folder, folder / 'labels')
    assert series.find('Done') == [0]
    series.close()


def test_notes_typed_before_next_belong_to_the_image_they_were_typed_for(
    walking, folder
):
    day = walking()
    day.canvas()
    day.open(folder)
    day.dock.note.setFocus()
    day.qtbot.keyClicks(day.dock.note, 'ask Anna')
    day.dock.next.click()
    day.settle()
    assert day.walk.index == 1
    assert day.dock.note.text() == ''
    assert day.walk.series.entry(0).note == 'ask Anna'
    assert day.walk.series.entry(1).note == ''


def test_only_images_that_the_list_shows_are_walked_through(walking, folder):
    day = walking()
    day.open(folder)
    day.walk.mark(unsure=True)
    day.walk.go_to(3)
    day.settle()
    day.walk.mark(unsure=True)
    day.walk.go_to(0)
    day.settle()
    day.dock.filter.value = 'Unsure'
    assert day.dock.images.rowCount() == 2
    day.walk.next()
    day.settle()
    assert day.walk.index == 3
    day.dock.filter.value = 'All'
    day.dock.search.setText('img2')
    day.qtbot.waitUntil(lambda: day.dock.images.rowCount() == 1)
    day.dock.list.clicked.emit(day.dock.images.index(0))
    day.settle()
    assert day.walk.index == 2


def test_the_next_image_is_encoded_while_this_one_is_labelled(
    walking, folder, fake_model
):
    day = walking()
    day.open(folder)
    day.point()
    day.qtbot.waitUntil(lambda: fake_model.encoded == 2, timeout=30_000)
    day.walk.next()
    day.settle()
    day.qtbot.waitUntil(lambda: fake_model.encoded == 3, timeout=30_000)
    day.point()
    day.qtbot.wait(100)
    assert fake_model.encoded == 3


def test_classes_of_yesterday_are_offered_and_its_objects_keep_theirs(walking, folder):
    from napari_kdsam.annotation.state import ObjectClass

    first = walking()
    first.open(folder)
    controller = first.annotator.controller
    controller.objects.set_classes(
        (ObjectClass(1, 'polyp', '#ff0000'), ObjectClass(2, 'ulcer', '#00ff00'))
    )
    for class_id in (1, 2):
        controller.objects.choose_class(class_id)
        first.point()
        first.walk.next()
        first.settle()
    first.walk.close()
    first.qtbot.wait(100)
    second = walking()
    second.open(folder)
    state = second.annotator.workspace.session.state
    assert [item.name for item in state.classes] == ['polyp', 'ulcer']
    second.walk.go_to(1)
    second.settle()
    layer = second.annotator.workspace.target_layer
    assert list(layer.features['class']) == ['', 'ulcer']
    controller = second.annotator.controller
    assert controller.objects.reopen_at((30, 40))
    second.qtbot.waitUntil(second.is_ready, timeout=30_000)
    second.walk.next()
    second.settle()
    assert dict(second.walk.series.entry(1).classes) == {1: 'ulcer'}


def test_the_session_of_an_image_goes_when_its_labels_are_in_their_file(
    walking, folder, sessions
):
    day = walking()
    day.open(folder)

    def files() -> int:
        return len(list(sessions.glob('*.json')))

    day.point()
    day.annotator.controller.objects.commit()
    day.qtbot.waitUntil(lambda: files() == 1, timeout=30_000)
    day.walk.next()
    day.settle()
    day.qtbot.waitUntil(lambda: files() == 0, timeout=30_000)
    day.point()
    day.walk.close()
    day.annotator.controller.close()
    day.qtbot.waitUntil(lambda: files() == 1, timeout=30_000)


def test_what_is_committed_after_next_was_pressed_is_saved_as_well(
    walking, folder, monkeypatch
):
    from fakes import Gate

    day = walking()
    day.open(folder)
    day.point()
    day.walk.next()
    day.settle()
    gate = Gate()
    read = day.walk._read_now
    monkeypatch.setattr(day.walk, '_read_now', gate.before(read))
    # Image 2 was read ahead already; image 3 waits at the gate.
    day.walk.go_to(3)
    day.qtbot.wait(100)
    assert day.walk.index == 1
    day.point()
    assert day.annotator.controller.objects.commit()
    gate.open()
    day.qtbot.waitUntil(lambda: day.walk.index == 3, timeout=30_000)
    assert day.status(1) is ImageStatus.done
