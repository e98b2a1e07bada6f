"""What a file may ask for, and how to allow more."""

from __future__ import annotations

import struct
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
from io_fixtures import problem_with
from PIL import Image

from napari_kdsam.core.errors import ImageError
from napari_kdsam.io.formats import open_image
from napari_kdsam.io.image_file import layout_of
from napari_kdsam.io.limits import (
    FRAMES_VARIABLE,
    MEGAPIXELS_VARIABLE,
    check_frame_count,
    check_size,
    max_frame_pixels,
)


def test_frames_may_have_as_many_bytes_as_8_bit_rgba_of_the_megapixels() -> None:
    check_size('a.tif', (20_000, 20_000, 4))
    with pytest.raises(ImageError, match='pixels of 8 bytes'):
        check_size('a.tif', (20_000, 20_000, 4), itemsize=2)


def test_variables_set_the_limits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new('L', (1000, 1001)).save(tmp_path / 'a.png')
    np.save(tmp_path / 'a.npy', np.zeros((5, 4, 5), np.uint8))
    assert open_image(tmp_path / 'a.png').shape == (1001, 1000)
    monkeypatch.setenv(MEGAPIXELS_VARIABLE, '1')
    monkeypatch.setenv(FRAMES_VARIABLE, '2')
    message = problem_with(tmp_path / 'a.png')
    assert '1001 x 1000' in message
    assert MEGAPIXELS_VARIABLE in message
    assert FRAMES_VARIABLE in problem_with(tmp_path / 'a.npy')
    monkeypatch.setenv(MEGAPIXELS_VARIABLE, '900')
    assert layout_of('a.tif', (30_000, 30_000)).frame_count == 1


@pytest.mark.parametrize('value', ['many', '-1', '0', '1.5', '9' * 5000, '٣'])
def test_a_variable_that_is_no_number_is_named(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv(MEGAPIXELS_VARIABLE, value)
    with pytest.raises(ImageError, match=MEGAPIXELS_VARIABLE) as caught:
        max_frame_pixels()
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ('kind', 'mode'), [('png', '1'), ('png', 'L'), ('gif', 'L'), ('jpg', 'L')]
)
def test_a_picture_may_be_blank_but_not_larger_than_its_file_can_hold(
    tmp_path: Path, kind: str, mode: str
) -> None:
    path = tmp_path / f'a.{kind}'
    Image.new(mode, (4000, 3000)).save(path)
    assert open_image(path).shape[:2] == (3000, 4000)
    content = path.read_bytes()
    size = {'png': '>II', 'gif': '<HH', 'jpg': '>HH'}[kind]
    said = (3000, 4000) if kind == 'jpg' else (4000, 3000)
    content = content.replace(struct.pack(size, *said), struct.pack(size, 22222, 22222))
    if kind == 'png':
        content = content[:29] + struct.pack('>I', crc32(content[12:29])) + content[33:]
    path.write_bytes(content[:2000])
    assert '22222 x 22222 pixels, more than fit into its' in problem_with(path)


@pytest.mark.parametrize('frames', [1, 2])
def test_a_webp_of_one_colour_is_read_unless_it_promises_very_much(
    tmp_path: Path, frames: int
) -> None:
    path = tmp_path / 'a.webp'
    pictures = [Image.new('RGB', (400, 300), color) for color in ('red', 'blue')]
    pictures[0].save(
        path, lossless=True, save_all=frames > 1, append_images=pictures[1:frames]
    )
    with open_image(path) as image:
        assert image.shape == ((2,) if frames > 1 else ()) + (300, 400, 3)
    Image.new('RGB', (9000, 7000)).save(path, lossless=True)
    assert '7000 x 9000 pixels, more than fit into its' in problem_with(path)


def test_a_gif_with_a_canvas_much_larger_than_its_frames_is_refused(
    tmp_path: Path,
) -> None:
    path = tmp_path / 'a.gif'
    pictures = [Image.new('L', (16, 12), shade) for shade in (0, 99)]
    pictures[0].save(path, save_all=True, append_images=pictures[1:])
    content = bytearray(path.read_bytes())
    content[6:10] = struct.pack('<HH', 9000, 7000)
    path.write_bytes(content + bytes(9000))
    assert '7000 x 9000 pixels, more than fit into its' in problem_with(path)


@pytest.mark.parametrize('index', [1, 2])
def test_a_gif_with_a_frame_much_larger_than_its_canvas_is_refused(
    tmp_path: Path, index: int
) -> None:
    path = tmp_path / 'a.gif'
    pictures = [Image.new('L', (16, 12), shade) for shade in (0, 99, 200)]
    pictures[0].save(path, save_all=True, append_images=pictures[1:])
    content = bytearray(path.read_bytes())
    # The second frame begins with its place and its size.
    place = content.index(b',', content.index(b',') + 1)
    content[place + 5 : place + 9] = struct.pack('<HH', 9000, 7000)
    path.write_bytes(content + bytes(9000))
    with open_image(path) as image:
        assert image.frame(0).shape == (12, 16, 3)
        with pytest.raises(ImageError, match='7000 x 9000 pixels, more than fit into'):
            image.frame(index)
        assert image.frame(0).shape == (12, 16, 3)


def test_a_million_frames_are_enough() -> None:
    check_frame_count('a.avi', 1_000_000)
    with pytest.raises(ImageError, match='2147483647 frames'):
        check_frame_count('a.dcm', 2**31 - 1)
