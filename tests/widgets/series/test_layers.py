"""A series of the images that are open."""

from __future__ import annotations

import numpy as np
from series_window import shape_of

from napari_kdsam.series.label_files import read_label_file


def open_files(day, folder, *numbers):
    for number in numbers:
        day.viewer.open(folder / f'img{number}.png', plugin='napari-kdsam')


def test_the_files_of_open_layers_are_a_series_and_another_day_goes_on(walking, folder):
    first = walking()
    open_files(first, folder, 2, 0)
    first.dock.layers_button.click()
    assert first.dock.images_button.text() == '2 files in scans'
    first.dock.start.click()
    first.settle()
    assert first.walk.title == '1 of 2: img2.png'
    first.point()
    first.walk.next()
    first.settle()
    assert first.walk.title == '2 of 2: img0.png'
    seen = [x.name for x in first.viewer.layers if x.visible and x.name == 'img2']
    assert not seen, 'what was open is hidden'
    path = folder / 'labels' / 'img2_labels.png'
    assert read_label_file(path, '', shape_of(2)).labels[30, 40] == 1
    first.walk.close()
    first.qtbot.wait(100)
    second = walking()
    assert second.dock.images_button.text() == '2 files in scans'
    second.dock.start.click()
    second.settle()
    assert second.walk.title == '2 of 2: img0.png'


def test_layers_without_a_file_of_their_own_are_named_and_left_out(walking, folder):
    day = walking()
    day.viewer.add_image(np.zeros((40, 50), np.uint8), name='made here')
    day.dock.layers_button.click()
    assert 'Not from a file, so left out: made here' in day.dock.status.text()
    assert not day.dock.start.isEnabled()
    day.viewer.open(
        [str(folder / f'img{n}.png') for n in (0, 0)], stack=True, plugin='napari-kdsam'
    )
    open_files(day, folder, 1, 1)
    day.dock.layers_button.click()
    assert 'choose their folder' in day.dock.status.text()
    assert day.dock.images_button.text() == '1 file in scans'


def test_images_of_a_folder_that_was_opened_are_told_apart(walking, folder):
    day = walking()
    day.viewer.open(folder, plugin='napari-kdsam')
    day.dock.layers_button.click()
    assert day.dock.images_button.text() == '4 files in scans'
    assert len(set(day.dock.choices.files)) == 4


def test_labels_that_are_open_stay_and_that_is_said(walking, folder):
    day = walking()
    open_files(day, folder, 0)
    day.annotator.begin()
    day.point()
    assert day.annotator.controller.objects.commit()
    labels = day.annotator.workspace.target_layer
    before = labels.data.copy()
    day.dock.layers_button.click()
    assert 'Labels that are open stay as they are' in day.dock.status.text()
    day.dock.start.click()
    day.settle()
    assert not labels.visible
    day.point(5, 70)
    day.walk.next()
    day.settle()
    np.testing.assert_array_equal(labels.data, before)
