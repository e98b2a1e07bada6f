"""What paths, folders and patterns stand for."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_kdsam.batch.inputs import expand, name_of
from napari_kdsam.batch.runner import find_sources
from napari_kdsam.core.errors import ImageError


def image(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((4, 5), np.uint8)).save(path, format='PNG')
    return path


def names(*inputs: Path | str) -> list[str]:
    """The names of the images that inputs stand for."""
    found = expand([str(item) for item in inputs])
    return [name_of(item.location) for item in found if not item.left_out]


def left_out(folder: Path) -> dict[str, str]:
    found = expand([str(folder)])
    return {name_of(f.location): f.left_out for f in found if f.left_out}


def test_links_are_followed_once(tmp_path: Path) -> None:
    folder = tmp_path / 'scans'
    image(folder / 'b.png')
    image(folder / 'deep' / 'c.png')
    elsewhere = image(tmp_path / 'elsewhere' / 'd.png').parent
    (folder / 'deep' / 'here').symlink_to('.')
    (folder / 'deep' / 'up').symlink_to('..')
    (folder / 'deep' / 'up too').symlink_to(folder)
    (folder / 'a link.png').symlink_to('b.png')
    (folder / 'other').symlink_to(elsewhere)
    (folder / 'again').symlink_to(elsewhere)
    (folder / 'self').symlink_to('self')
    assert names(folder) == ['d.png', 'b.png', 'c.png']
    assert names(folder, folder / 'a link.png', folder / 'deep' / '..') == names(folder)
    assert left_out(folder) == {'self': 'left out: a link that leads nowhere'}


def test_patterns_of_any_folders_enter_each_folder_once(tmp_path: Path) -> None:
    folder = tmp_path / 'scans'
    image(folder / 'b.png')
    image(folder / 'deep' / 'set [1]' / 'c.png')
    image(folder / '.trash' / 'e.png')
    image(folder / 'other' / 'd.jpg')
    # Enough links back up that following them all would never end.
    for number in range(5):
        (folder / f'up {number}').symlink_to(folder)
        (folder / 'deep' / f'up {number}').symlink_to('..')
    assert names(f'{folder}/**/*.png') == ['b.png', 'c.png']
    assert names(f'{folder}/**/set*/*.png') == ['c.png']
    assert names(f'{folder}/**') == ['b.png', 'c.png', 'd.jpg']


def test_what_is_no_image_is_named(tmp_path: Path) -> None:
    image(tmp_path / 'a.png')
    image(tmp_path / '.b.png')
    image(tmp_path / '.trash' / 'c.png')
    (tmp_path / 'notes.txt').write_text('mine')
    (tmp_path / 'IM_0001').write_bytes(b'\0' * 128 + b'DICM')
    os.mkfifo(tmp_path / 'pipe')
    for litter in ('.DS_Store', '._a.png', 'Thumbs.db', '.a.png.0a1b2c3d.part'):
        (tmp_path / litter).write_text('of the system')
    assert names(tmp_path) == ['IM_0001', 'a.png']
    assert left_out(tmp_path) == {
        '.b.png': 'left out: hidden, as its name begins with a dot',
        '.trash': 'left out: hidden, as its name begins with a dot',
        'notes.txt': 'left out: not a kind of image that is read',
        'pipe': 'left out: no regular file',
    }


def test_a_folder_that_cannot_be_opened_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image(tmp_path / 'a.png')
    (tmp_path / 'locked').mkdir()
    scan = os.scandir

    def refuse(folder: str) -> object:
        if folder.endswith('locked'):
            raise PermissionError(13, 'Permission denied')
        return scan(folder)

    monkeypatch.setattr(os, 'scandir', refuse)
    problems = [item.problem for item in expand([str(tmp_path)])]
    assert problems == [
        '',
        f'The folder {tmp_path / "locked"} cannot be opened (Permission denied).',
    ]


def test_a_folder_with_zarr_in_it_is_one_image(tmp_path: Path) -> None:
    for name in ('a.zarr', 'b'):
        (tmp_path / name / 'c').mkdir(parents=True)
        (tmp_path / name / 'zarr.json').write_text('{}')
        image(tmp_path / name / 'c' / '0.png')
    assert names(tmp_path) == ['a.zarr', 'b']
    assert names(tmp_path / 'b') == ['b']


def test_folders_that_a_pattern_matches_are_searched(tmp_path: Path) -> None:
    image(tmp_path / 'a.png')
    image(tmp_path / 'deep' / 'b.png')
    assert names(tmp_path / '*') == ['a.png', 'b.png']


def test_a_folder_without_any_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / 'notes.txt').write_text('mine')
    with pytest.raises(ImageError, match='holds no image file'):
        expand([str(tmp_path)])


def test_a_path_that_no_system_takes_is_left_to_the_reader() -> None:
    assert names('x' * 300 + '.png') == ['x' * 300 + '.png']


def disc(folder: Path, *names: tuple[str, ...]) -> Path:
    """A table of contents of files, as a disc has it."""
    pydicom = pytest.importorskip('pydicom')
    table = pydicom.Dataset()
    table.file_meta = pydicom.dataset.FileMetaDataset()
    table.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    kind = pydicom.uid.MediaStorageDirectoryStorage
    table.file_meta.MediaStorageSOPClassUID = kind
    table.file_meta.MediaStorageSOPInstanceUID = '1.2.3'
    patient, *records = (pydicom.Dataset() for _ in range(len(names) + 1))
    patient.DirectoryRecordType = 'PATIENT'
    for record, name in zip(records, names, strict=True):
        record.DirectoryRecordType, record.ReferencedFileID = 'IMAGE', list(name)
    table.DirectoryRecordSequence = [patient, *records]
    folder.mkdir(exist_ok=True)
    table.save_as(folder / 'DICOMDIR', enforce_file_format=True)
    return folder / 'DICOMDIR'


def test_a_dicomdir_stands_for_the_files_of_its_disc(tmp_path: Path):
    path = disc(tmp_path / 'cd', ('IMAGES', 'IM0'), ('IMAGES', 'IM1'), ('LOST',))
    (tmp_path / 'cd' / 'images').mkdir()
    for name in ('im0', 'IM1', 'IM2'):
        (tmp_path / 'cd' / 'images' / name).write_bytes(b'x')
    found = expand([str(path)])
    places = [Path(item.location).relative_to(tmp_path / 'cd') for item in found]
    assert [place.as_posix() for place in places] == [
        'images/im0',
        'images/IM1',
        'LOST',
    ]
    assert [bool(item.problem) for item in found] == [False, False, True]
    assert 'copy the whole disc' in found[2].problem
    assert expand([str(tmp_path / 'cd' / 'DICOM*')]) == found


@pytest.mark.filterwarnings('ignore:Invalid value for VR')
@pytest.mark.parametrize('name', [('..', 'a.dcm'), ('A/../../B',)])
def test_a_dicomdir_that_names_files_elsewhere_is_refused(
    tmp_path: Path, name: tuple[str, ...]
):
    with pytest.raises(ImageError, match='no file of its disc'):
        expand([str(disc(tmp_path / 'cd', name))])


def test_a_dicomdir_without_files_is_refused(tmp_path: Path):
    with pytest.raises(ImageError, match='names no file'):
        expand([str(disc(tmp_path / 'cd'))])


def test_files_are_counted_as_they_are_found_and_then_as_they_are_looked_at(
    tmp_path: Path,
) -> None:
    image(tmp_path / 'a.png')
    image(tmp_path / 'deep' / 'b.png')
    (tmp_path / 'notes.txt').write_text('mine')
    steps: list[tuple[int, int]] = []
    find_sources(
        [str(tmp_path)],
        on_step=lambda looked_at, found: steps.append((looked_at, found)),
    )
    assert steps == [(0, 1), (0, 2), (0, 3), (1, 3), (2, 3), (3, 3)]
