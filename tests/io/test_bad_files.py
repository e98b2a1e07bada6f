"""Image files that cannot be read: one sentence each, and never a traceback."""

from __future__ import annotations

import io
import os
import pickle
import sys
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from io_fixtures import problem_with
from missing_package import take_away
from PIL import Image

from napari_kdsam.core.errors import ImageError, KDSAMError, MissingExtraError
from napari_kdsam.io import pictures
from napari_kdsam.io.formats import open_image, stem_of
from napari_kdsam.io.image_file import FrameLayout, ImageFile, layout_of
from napari_kdsam.io.label_images import write_labels
from napari_kdsam.io.limits import max_frame_pixels

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (20, 30), np.uint8)
RGB = RNG.integers(0, 256, (20, 30, 3), np.uint8)


def test_more_than_the_megapixels_allowed_is_refused_before_decoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(GREY).save(tmp_path / 'a.png')
    bomb = bytearray((tmp_path / 'a.png').read_bytes())
    bomb[16:24] = (30_000).to_bytes(4, 'big') * 2
    bomb[29:33] = crc32(bytes(bomb[12:29])).to_bytes(4, 'big')
    (tmp_path / 'a.png').write_bytes(bomb)
    monkeypatch.setattr(pictures._PictureFile, '_read', None)
    assert '500 megapixels' in problem_with(tmp_path / 'a.png')


@pytest.mark.parametrize(
    ('shape', 'advice'),
    [
        ((3, 6, 7), 'channels first'),
        ((4, 6, 7), 'channels first'),
        ((5, 3, 6, 7), 'channels first'),
        ((6, 7, 2), 'two channels'),
        ((6,), 'neither an image'),
        ((2, 3, 4, 5, 6), 'neither an image'),
        ((5, 6, 7, 8), 'neither an image'),
        ((0, 7), 'no pixels'),
    ],
)
def test_other_axes_are_refused_with_advice(
    tmp_path: Path, shape: tuple[int, ...], advice: str
) -> None:
    np.save(tmp_path / 'a.npy', np.zeros(shape, np.uint8))
    assert advice in problem_with(tmp_path / 'a.npy')


def test_frames_beyond_the_limit_are_refused() -> None:
    side = int(max_frame_pixels() ** 0.5) + 1
    with pytest.raises(ImageError, match='megapixels'):
        layout_of('a.tif', (side, side))
    assert layout_of('a.tif', (20_000, 20_000)).frame_count == 1


class Explosive:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ('exploded',)


def test_a_pickled_npy_is_refused_and_never_unpickled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save('a.npy', np.array([Explosive()], dtype=object), allow_pickle=True)
    assert 'Python objects' in problem_with(tmp_path / 'a.npy')
    (tmp_path / 'b.npy').write_bytes(pickle.dumps(Explosive()))
    assert 'not an NPY array' in problem_with(tmp_path / 'b.npy')
    assert not (tmp_path / 'exploded').exists()


def test_complex_numbers_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / 'a.npy', np.zeros((4, 4), np.complex64))
    assert 'complex64' in problem_with(tmp_path / 'a.npy')


# Hypothesis reuses one folder for all examples, which is what these tests want.
in_one_folder = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.mark.parametrize('suffix', ['.png', '.jpg', '.tif', '.npy', '.dcm'])
def test_a_text_file_with_an_images_name_is_refused(
    tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f'notes{suffix}'
    path.write_text('These are notes, not an image. ' * 20)
    assert path.name in problem_with(path)


@pytest.mark.parametrize('suffix', ['.png', '.jpg', '.tif', '.npy', '.dcm', ''])
def test_an_empty_file_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f'empty{suffix}'
    path.touch()
    assert 'is empty (0 bytes)' in problem_with(path)


def test_missing_files_folders_and_other_kinds_are_refused_with_advice(
    tmp_path: Path,
) -> None:
    assert 'There is no file lost.png' in problem_with(tmp_path / 'lost.png')
    (tmp_path / 'scans.png').mkdir()
    assert 'is a folder' in problem_with(tmp_path / 'scans.png')
    (tmp_path / 'sound.mp3').write_bytes(b'x' * 200)
    assert 'save it as PNG, JPEG, TIFF, NPY, DICOM' in problem_with(
        tmp_path / 'sound.mp3'
    )
    (tmp_path / 'unknown').write_bytes(b'x' * 200)
    assert 'unknown kind' in problem_with(tmp_path / 'unknown')


def last_frame_of(path: Path) -> np.ndarray:
    with open_image(path) as image:
        frame = image.frame(image.frame_count - 1)
        assert frame.shape == image.frame_shape
        assert frame.dtype == image.dtype
        return frame


def encoded(kind: str) -> bytes:
    buffer = io.BytesIO()
    if kind == 'npy':
        np.save(buffer, GREY)
    elif kind == 'tif':
        tifffile.imwrite(
            buffer,
            np.stack([GREY] * 3),
            compression='zlib',
            photometric='minisblack',
            metadata={'axes': 'TYX'},
        )
    else:
        Image.fromarray(RGB).save(buffer, {'png': 'PNG', 'jpg': 'JPEG'}[kind])
    return buffer.getvalue()


@pytest.mark.parametrize('kind', ['png', 'tif', 'npy'])
def test_a_file_cut_short_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f'a.{kind}'
    path.write_bytes(encoded(kind)[:-150])
    with pytest.raises(ImageError, match=f'a.{kind} cannot be read'):
        last_frame_of(path)


def test_a_stack_cut_short_is_not_taken_for_a_shorter_stack(tmp_path: Path) -> None:
    path = tmp_path / 'a.tif'
    write_labels(path, np.stack([GREY] * 4))
    with tifffile.TiffFile(path) as tiff:
        third = tiff.pages[2].offset
    path.write_bytes(path.read_bytes()[:third])
    assert 'frames after frame 1 are missing' in problem_with(path)


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('kind', ['png', 'jpg', 'tif', 'npy'])
@in_one_folder
@given(data=st.data())
def test_damaged_files_give_pixels_or_an_image_error_and_nothing_else(
    tmp_path: Path, kind: str, data: st.DataObject
) -> None:
    content = bytearray(encoded(kind))
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    path = tmp_path / f'a.{kind}'
    path.write_bytes(content[: data.draw(st.integers(1, len(content)))])
    try:
        last_frame_of(path)
    except ImageError as error:
        assert 'a.' in str(error)


class PanicException(BaseException):
    """As libraries in Rust raise it: not an `Exception`."""


class Promising(ImageFile):
    """Says that its frames are (2, 3) uint8 and gives something else."""

    def __init__(self, given: Any) -> None:
        super().__init__('a.tif', FrameLayout(1, (2, 3)), np.dtype(np.uint8))
        self._given = given

    def _read(self, index: int) -> Any:
        if isinstance(self._given, BaseException):
            raise self._given
        return self._given


@pytest.mark.parametrize(
    'given',
    [
        np.zeros((2, 3), np.bool_),
        np.zeros((2, 3), np.uint16),
        np.zeros((0, 3), np.uint8),
        np.zeros((3, 2), np.uint8),
        np.zeros((2, 3, 3), np.uint8),
        PanicException('index out of bounds'),
        RecursionError(),
    ],
    ids=str,
)
def test_a_frame_that_is_not_as_the_file_says_is_refused(given: Any) -> None:
    with pytest.raises(ImageError, match='damaged'):
        Promising(given).frame()


def test_what_stops_the_program_is_no_damaged_file() -> None:
    with pytest.raises(KeyboardInterrupt):
        Promising(KeyboardInterrupt()).frame()


def test_a_later_page_of_other_bits_than_the_first_is_refused(tmp_path: Path) -> None:
    path = tmp_path / 'a.tif'
    tifffile.imwrite(path, np.zeros((5, 12, 16), np.uint8), bigtiff=True)
    with tifffile.TiffFile(path, mode='r+b') as tiff:
        tiff.pages[1].aspage().tags['BitsPerSample'].overwrite(1)
    with open_image(path) as image, pytest.raises(ImageError, match='damaged'):
        image.frame(1)


def test_frames_that_do_not_exist_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / 'a.npy', np.zeros((5, 8, 8), np.uint8))
    with open_image(tmp_path / 'a.npy') as image:
        for index in (-1, 5):
            with pytest.raises(ImageError, match='it has frames 0 to 4'):
                image.frame(index)


def test_dicom_without_pydicom_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / 'a.dcm').write_bytes(b'\0' * 128 + b'DICM')
    take_away(monkeypatch, 'pydicom')
    monkeypatch.delitem(sys.modules, 'napari_kdsam.io.dicom', raising=False)
    with pytest.raises(MissingExtraError, match=r"'napari-kdsam\[medical\]'"):
        open_image(tmp_path / 'a.dcm')


def test_stems_lose_image_suffixes_but_not_the_dots_of_uids() -> None:
    assert stem_of('a.b.PNG') == 'a.b'
    assert stem_of('a.b.NII.gz') == 'a.b'
    assert stem_of('a.zarr') == 'a'
    assert stem_of('.png') == '.png'
    assert stem_of('1.2.840.10008') == '1.2.840.10008'


def test_every_error_is_one_that_users_of_the_package_can_catch() -> None:
    assert issubclass(ImageError, KDSAMError)
    assert issubclass(MissingExtraError, KDSAMError)
