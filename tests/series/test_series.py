"""A series: listed, labelled, left, and gone on with."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_kdsam.core.errors import ImageError, KDSAMError, NotWrittenError
from napari_kdsam.series.entries import ImageStatus
from napari_kdsam.series.errors import SeriesError
from napari_kdsam.series.label_files import LabelsOfImage, read_label_file
from napari_kdsam.series.series import Series


def draw(path: Path, shape: tuple[int, int] = (20, 30), seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, shape, np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def some_labels(shape: tuple[int, int] = (20, 30), value: int = 1) -> LabelsOfImage:
    labels = np.zeros(shape, np.uint16)
    labels[5:10, 5:10] = value
    return LabelsOfImage(labels, {value: 'polyp'})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in (1, 2, 10):
        draw(tmp_path / 'scans' / f'img{number}.png', seed=number)
    return tmp_path / 'scans'


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / 'labels'


def names(series: Series) -> list[str]:
    return [image.name for image in series.images]


def again(series: Series, choice: Path) -> Series:
    series.close()
    return Series(choice, series.output, series.form)


def test_images_come_by_number_without_masks_results_and_litter(folder, output):
    draw(folder / 'img2_mask.png')
    draw(folder / '.hidden.png')
    (folder / 'notes.docx').write_text('no image')
    draw(folder / 'later' / 'img3.png')
    series = Series(folder, output)
    assert names(series) == ['img1.png', 'img2.png', 'img10.png', 'later/img3.png']
    series.close()


def test_class_names_with_the_table_s_own_signs_are_read_again(folder, output):
    series = Series(folder, output)
    labels = some_labels()
    labels.labels[12:15, 12:15] = 2
    classes = {1: 'cyst; or = not', 2: 'a,"b"'}
    series.save(0, LabelsOfImage(labels.labels, classes))
    series = again(series, folder)
    assert dict(series.entry(0).classes) == classes
    series.close()


def test_labels_beside_the_images_are_no_images_the_next_day(folder):
    series = Series(folder, folder)
    (folder / 'img1_labels.png').write_bytes(b'of somebody else')
    series.save(0, some_labels())
    assert series.entry(0).labels == 'img1_labels_2.png'
    series = again(series, folder)
    assert names(series) == ['img1.png', 'img2.png', 'img10.png']
    assert series.entry(0).status is ImageStatus.done
    series.close()


def test_a_text_list_gives_the_order_and_what_is_missing_stays_in_it(folder, output):
    listed = folder / 'today.txt'
    listed.write_text('img10.png\n\nimg1.png\nnowhere.png\nimg10.png\n')
    series = Series(listed, output)
    assert names(series) == ['img10.png', 'img1.png', 'nowhere.png']
    with pytest.raises(ImageError, match='no longer there'):
        series.check_image(2)
    series.close()


@pytest.mark.parametrize('wrong', ['nowhere', 'scans/img1.png', 'empty'])
def test_what_is_no_series_is_said_in_a_sentence(tmp_path, folder, output, wrong):
    (tmp_path / 'empty').mkdir()
    with pytest.raises(SeriesError, match='choose|check'):
        Series(tmp_path / wrong, output)


@pytest.mark.parametrize('form', ['image', 'png', 'tiff', 'nifti', 'coco'])
def test_labels_come_back_from_every_form_on_another_day(folder, output, form):
    series = Series(folder, output, form)
    saved = series.save(1, some_labels(value=3))
    assert (saved.status, saved.objects) == (ImageStatus.done, 1)
    series = again(series, folder)
    start = series.start_of(1, (20, 30))
    np.testing.assert_array_equal(start.labels, some_labels(value=3).labels)
    assert start.classes == {3: 'polyp'}
    assert not start.notice
    assert series.first_to_do() == 0
    assert series.find('Done') == [1]
    assert [path.name for path in output.glob('.*')] == ['.napari-kdsam.lock']
    series.close()


def test_labels_of_a_stack_are_one_file(folder, output):
    made = np.zeros((3, 20, 30), np.uint16)
    made[1, 4:6, 4:6] = 2
    series = Series(folder, output, 'png')
    assert series.save(0, LabelsOfImage(made)).labels == 'img1_labels.tif'
    np.testing.assert_array_equal(series.start_of(0, made.shape).labels, made)
    series.close()


def test_images_of_one_name_have_labels_of_their_own(folder, output):
    draw(folder / 'img1.bmp')
    series = Series(folder, output)
    places = [n for n, image in enumerate(series.images) if 'img1.' in image.name]
    assert len({series.save(place, some_labels()).labels for place in places}) == 2
    series.close()


def test_labels_of_other_tools_are_the_start_and_stay_as_they_are(folder, output):
    output.mkdir()
    foreign = output / 'img1_labels.png'
    Image.fromarray(some_labels(value=7).labels).save(foreign)
    before = foreign.read_bytes()
    series = Series(folder, output)
    start = series.start_of(0, (20, 30))
    assert start.labels[6, 6] == 7
    assert 'stays as it is' in start.notice
    assert series.entry(0).status is ImageStatus.new
    assert series.save(0, some_labels()).labels == 'img1_labels_2.png'
    assert foreign.read_bytes() == before
    series.close()


def test_own_labels_that_something_else_changed_are_never_replaced(folder, output):
    series = Series(folder, output)
    path = output / series.save(0, some_labels()).labels
    Image.fromarray(some_labels(value=9).labels).save(path)
    changed = path.read_bytes()
    series = again(series, folder)
    start = series.start_of(0, (20, 30))
    assert start.labels[6, 6] == 9
    assert 'changed' in start.notice
    assert series.save(0, some_labels()).labels != path.name
    assert path.read_bytes() == changed
    series.close()


def test_labels_of_an_image_of_another_size_are_neither_used_nor_replaced(
    folder, output
):
    series = Series(folder, output)
    path = output / series.save(0, some_labels()).labels
    before = path.read_bytes()
    draw(folder / 'img1.png', (40, 50))
    series = again(series, folder)
    start = series.start_of(0, (40, 50))
    assert start.labels is None
    assert '(20 x 30 instead of 40 x 50 pixels)' in start.notice
    series.save(0, some_labels((40, 50)))
    assert path.read_bytes() == before
    series.close()


def test_a_mask_that_is_no_mask_is_said_and_the_image_begins_empty(folder, output):
    output.mkdir()
    np.save(output / 'img1.npy', np.zeros((20, 30)))
    Image.fromarray(np.full((20, 30), 0.5, np.float32)).save(output / 'img1_mask.tif')
    series = Series(folder, output)
    start = series.start_of(0, (20, 30))
    assert start.labels is None
    assert 'img1_mask.tif was not opened' in start.notice
    series.close()


def test_renamed_and_removed_images_keep_what_is_known_of_them(folder, output):
    series = Series(folder, output)
    for place in range(3):
        series.save(place, some_labels())
    series.note(1, note='ask the senior', tags=('blurred',))
    series.store()
    (folder / 'img2.png').rename(folder / 'patient.png')
    (folder / 'img10.png').unlink()
    series = again(series, folder)
    assert names(series) == ['img1.png', 'patient.png']
    assert series.entry(1).note == 'ask the senior'
    assert series.entry(1).labels == 'img2_labels.png'
    (notice,) = series.notices
    assert notice.startswith('1 image of an earlier time is no longer there')
    draw(folder / 'img10.png', seed=10)
    series = again(series, folder)
    assert series.find('Done') == [0, 1, 2]
    series.close()


def test_images_whose_labels_are_gone_are_to_do_again(folder, output):
    series = Series(folder, output)
    (output / series.save(0, some_labels()).labels).unlink()
    series = again(series, folder)
    assert series.entry(0).status is ImageStatus.new
    assert 'to do again' in series.notices[0]
    series.close()


def test_no_lesion_is_an_empty_label_image_and_counts_as_finished(folder, output):
    series = Series(folder, output)
    empty = LabelsOfImage(np.zeros((20, 30), np.uint16))
    saved = series.save(0, empty, no_lesion=True)
    assert saved.status is ImageStatus.no_lesion
    assert not read_label_file(output / saved.labels, '', (20, 30)).labels.any()
    assert series.first_to_do() == 1
    series.close()


def test_filters_and_search_find_images_by_mark_name_tag_and_note(folder, output):
    series = Series(folder, output)
    series.save(0, some_labels())
    series.note(0, checked=True)
    series.note(1, unsure=True, note='Ask Anna')
    series.note(2, status=ImageStatus.failed, reason='damaged', tags=('dark',))
    found = {
        'To do': [1],
        'Done': [0],
        'Unsure': [1],
        'Checked': [0],
        'Failed': [2],
        'With note or tag': [1, 2],
    }
    assert {chosen: series.find(chosen) for chosen in found} == found
    assert series.find(text='anna') == [1]
    assert series.find('Failed', 'DARK') == [2]
    assert series.find(text='img1') == [0, 2]
    series.close()


def test_no_cell_of_the_table_is_a_formula(folder, output):
    series = Series(folder, output)
    series.note(0, note='=HYPERLINK("http://x")', tags=('+1', 'b'))
    series.store()
    with (output / 'series.csv').open(encoding='utf-8', newline='') as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert not any(cell.startswith(('=', '+', '-', '@')) for cell in cells)
    series = again(series, folder)
    assert series.entry(0).note == '=HYPERLINK("http://x")'
    assert series.entry(0).tags == ('+1', 'b')
    series.close()


@pytest.mark.parametrize('content', ['a,b\n1,2\n', '', 'image,status\n\0'])
def test_a_table_of_something_else_is_refused_and_stays(folder, output, content):
    output.mkdir()
    (output / 'series.csv').write_text(content)
    with pytest.raises(SeriesError, match=r'series\.csv'):
        Series(folder, output)
    assert (output / 'series.csv').read_text() == content
    assert not (output / '.napari-kdsam.lock').exists()


def test_a_second_window_is_told_and_comes_in_after_the_first(folder, output):
    first = Series(folder, output)
    with pytest.raises(SeriesError, match='Another window'):
        Series(folder, output)
    first.close()
    Series(folder, output).close()


def test_a_folder_that_cannot_be_written_to_is_said(folder, tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(SeriesError, match='cannot be used for labels'):
        Series(folder, tmp_path / 'file' / 'labels')


def test_a_full_disk_leaves_the_labels_and_the_table_as_they_were(
    folder, output, monkeypatch
):
    series = Series(folder, output)
    path = output / series.save(0, some_labels()).labels
    before = path.read_bytes(), (output / 'series.csv').read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr('napari_kdsam.core.files.os.replace', full)
    with pytest.raises(KDSAMError, match='No space left'):
        series.save(0, some_labels(value=2))
    monkeypatch.undo()
    assert (path.read_bytes(), (output / 'series.csv').read_bytes()) == before
    series.save(0, some_labels(value=2))
    assert series.start_of(0, (20, 30)).labels[6, 6] == 2
    series.close()


def test_a_table_that_cannot_be_written_is_caught_up_with_on_the_next_day(
    folder, output, monkeypatch
):
    series = Series(folder, output)

    def refuse() -> None:
        raise NotWrittenError('full')

    monkeypatch.setattr(series, 'store', refuse)
    with pytest.raises(NotWrittenError):
        series.save(0, some_labels())
    series = again(series, folder)
    assert series.find('Done') == [0]
    assert series.start_of(0, (20, 30)).labels.any()
    series.close()


_WALK = """
import sys
from pathlib import Path
import numpy as np
from napari_kdsam.series.label_files import LabelsOfImage
from napari_kdsam.series.series import Series

series = Series(Path(sys.argv[1]), Path(sys.argv[2]))
print('open', flush=True)
value = 0
while True:
    value = value % 200 + 1
    for place in range(len(series.images)):
        labels = np.full((20, 30), value, np.uint16)
        series.save(place, LabelsOfImage(labels))
        print(place, value, flush=True)
"""


@pytest.mark.parametrize('seed', range(int(os.environ.get('KDSAM_KILLS', '3'))))
def test_a_kill_leaves_each_image_with_old_or_new_labels_and_a_table_that_agrees(
    folder, output, seed
):
    walk = [sys.executable, '-c', _WALK, str(folder), str(output)]
    with subprocess.Popen(walk, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == 'open\n'
        time.sleep(np.random.default_rng(seed).uniform(0.02, 0.5))
        process.send_signal(signal.SIGKILL)
        said = [tuple(map(int, line.split())) for line in process.stdout if ' ' in line]
    last = dict(said)
    series = Series(folder, output)
    for place in range(3):
        start = series.start_of(place, (20, 30))
        entry = series.entry(place)
        if place not in last and start.labels is None:
            assert entry.status is ImageStatus.new
            continue
        assert not start.notice
        assert entry.status is ImageStatus.done
        value = int(start.labels[0, 0])
        assert (start.labels == value).all()
        # What was said to be saved is there, or the one that came after it.
        assert value in (last.get(place, 0), last.get(place, 0) % 200 + 1)
    assert not series.notices
    assert not list(output.glob('.*.part'))
    series.close()


def test_classes_have_the_numbers_of_labels_of_classes_and_no_others(folder, output):
    series = Series(folder, output)

    def save(place: int, label: int, name: str) -> None:
        series.save(
            place, LabelsOfImage(some_labels(value=label).labels, {label: name})
        )

    save(0, 2, 'polyp')
    save(1, 3, 'ulcer')
    assert series.classes() == {2: 'polyp', 3: 'ulcer'}
    save(2, 1, 'ulcer')
    assert series.classes() == {1: 'polyp', 2: 'ulcer'}
    series.close()
