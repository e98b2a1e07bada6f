"""Writing results: labels and JSON, complete or not at all."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from napari_kdsam.core.errors import ImageError
from napari_kdsam.core.files import atomic_path, write_json
from napari_kdsam.io import label_images
from napari_kdsam.io.formats import open_image
from napari_kdsam.io.label_images import write_labels, write_stack

GREY = np.random.default_rng(0).integers(0, 256, (20, 30), np.uint8)


def frame_of(path: Path) -> np.ndarray:
    with open_image(path) as image:
        return image.frame(0)


@settings(
    max_examples=40,
    deadline=None,
    # All examples share the folder, which is what this test wants.
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    labels=arrays(
        st.sampled_from([np.uint8, np.uint16, np.int32]),
        array_shapes(min_dims=2, max_dims=3, max_side=9),
        elements=st.integers(0, 255),
    ),
    highest=st.sampled_from([0, 255, 256, 65535]),
)
def test_labels_are_read_back_as_written(
    tmp_path: Path, labels: np.ndarray, highest: int
) -> None:
    labels = labels.astype(np.int64)
    labels.flat[0] = highest
    paths = [tmp_path / 'a.tif']
    if labels.ndim == 2:
        paths.append(tmp_path / 'a.png')
    for path in paths:
        write_labels(path, labels)
        read = tifffile.imread(path) if path.suffix == '.tif' else frame_of(path)
        assert read.dtype == (np.uint8 if labels.max() < 256 else np.uint16)
        np.testing.assert_array_equal(read.reshape(labels.shape), labels)


def test_a_written_stack_opens_as_a_stack_even_with_three_frames(
    tmp_path: Path,
) -> None:
    labels = np.stack([GREY] * 3)
    write_labels(tmp_path / 'a.tif', labels)
    assert open_image(tmp_path / 'a.tif').shape == (3, 20, 30)


def test_labels_beyond_16_bits_need_a_tiff(tmp_path: Path) -> None:
    labels = np.array([[70_000]])
    write_labels(tmp_path / 'a.tif', labels)
    assert tifffile.imread(tmp_path / 'a.tif').item() == 70_000
    with pytest.raises(ImageError, match=r'write a \.tif file'):
        write_labels(tmp_path / 'a.png', labels)


@pytest.mark.parametrize(
    'labels',
    [np.zeros((2, 2)), np.array([[-1]]), np.zeros((0, 3), int), np.zeros(3, int)],
    ids=['floats', 'negative', 'empty', 'a line'],
)
def test_what_is_not_labels_is_not_written(tmp_path: Path, labels: np.ndarray) -> None:
    with pytest.raises(ImageError):
        write_labels(tmp_path / 'a.png', labels)
    assert list(tmp_path.iterdir()) == []


def test_bigtiff_is_used_only_beyond_4_gib(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = np.stack([GREY] * 3)
    write_stack(tmp_path / 'a.tif', stack, stack.shape, stack.dtype)
    monkeypatch.setattr(label_images, '_CLASSIC_TIFF_BYTES', 1000)
    write_stack(tmp_path / 'b.tif', stack, stack.shape, stack.dtype)
    assert (tmp_path / 'a.tif').read_bytes()[2] == 42
    assert (tmp_path / 'b.tif').read_bytes()[2] == 43


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / 'a.tif'
    write_labels(path, GREY)
    before = path.read_bytes()

    def frames() -> Iterator[np.ndarray]:
        yield GREY
        raise ImageError('the second frame is damaged.')

    with pytest.raises(ImageError, match='second frame'):
        write_stack(path, frames(), (2, 20, 30), GREY.dtype)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_one_clear_sentence(tmp_path: Path) -> None:
    with (
        pytest.raises(ImageError, match=r'a\.png could not be written \(No space left'),
        atomic_path(tmp_path / 'a.png'),
    ):
        raise OSError(28, 'No space left on device')
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_does_not_exist_is_one_clear_sentence(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match='could not be written'):
        write_json(tmp_path / 'lost' / 'a.json', {})


def test_written_files_have_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / 'usual').touch()
    write_json(tmp_path / 'a.json', {'ü': 1.5})
    assert (tmp_path / 'a.json').stat().st_mode == (tmp_path / 'usual').stat().st_mode
    assert json.loads((tmp_path / 'a.json').read_text('utf-8')) == {'ü': 1.5}


def test_json_refuses_numbers_that_json_cannot_hold(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='JSON'):
        write_json(tmp_path / 'a.json', float('nan'))
    assert list(tmp_path.iterdir()) == []


def test_empty_frames_of_a_stack_are_compressed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, compress = [], zlib.compress

    def counted(content: Any) -> bytes:
        calls.append(1)
        return compress(content)

    monkeypatch.setattr(zlib, 'compress', counted)
    frames: list[np.ndarray | None] = [None] * 50
    frames[7] = GREY
    path = tmp_path / 'a.tif'
    write_stack(path, frames, (50, *GREY.shape), GREY.dtype, 'segment')
    assert len(calls) == 2
    found = tifffile.imread(path)
    assert found.shape == (50, *GREY.shape)
    np.testing.assert_array_equal(found[7], GREY)
    assert np.flatnonzero(found.any((1, 2))).tolist() == [7]


def test_frames_of_many_strips_come_back(tmp_path: Path) -> None:
    large = np.random.default_rng(2).integers(0, 9, (2, 700, 500), np.uint16)
    write_stack(
        tmp_path / 'a.tif', [large[0], None, large[1]], (3, 700, 500), large.dtype
    )
    found = tifffile.imread(tmp_path / 'a.tif')
    np.testing.assert_array_equal(found[[0, 2]], large)
    assert not found[1].any()
    with Image.open(tmp_path / 'a.tif') as pages:
        pages.seek(2)
        np.testing.assert_array_equal(np.asarray(pages), large[1])
