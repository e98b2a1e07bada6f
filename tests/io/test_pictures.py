"""PNG, JPEG, BMP, GIF and WebP: turned, transparent, animated."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from io_fixtures import problem_with
from PIL import Image, ImageOps, PngImagePlugin

from napari_kdsam.io import pictures
from napari_kdsam.io.formats import open_image

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (20, 30), np.uint8)
RGB = RNG.integers(0, 256, (20, 30, 3), np.uint8)
ORIENTATION = 0x0112


def read(path: Path) -> np.ndarray:
    with open_image(path) as image:
        frames = image.every_frame()
        assert frames.shape == image.shape
        assert frames.dtype == image.dtype
    return frames


def as_exif_says(stored: np.ndarray, number: int) -> np.ndarray:
    lying = Image.fromarray(stored)
    lying.getexif()[ORIENTATION] = number
    return np.asarray(ImageOps.exif_transpose(lying))


@pytest.mark.parametrize(
    ('suffix', 'options'), [('.png', {}), ('.webp', {'lossless': True})]
)
@pytest.mark.parametrize('number', range(1, 9))
def test_pictures_are_upright(
    tmp_path: Path, number: int, suffix: str, options: dict[str, Any]
) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = number
    path = tmp_path / f'a{suffix}'
    Image.fromarray(RGB).save(path, exif=exif, **options)
    np.testing.assert_array_equal(read(path), as_exif_says(RGB, number))


def test_exif_after_the_pixels_of_a_png_counts_too(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    Image.fromarray(RGB).save(tmp_path / 'a.png', exif=exif)
    content = (tmp_path / 'a.png').read_bytes()
    at = content.index(b'eXIf') - 4
    chunk = content[at : at + 12 + int.from_bytes(content[at : at + 4], 'big')]
    end = content.index(b'IEND') - 4
    moved = content[:at] + content[at + len(chunk) : end] + chunk + content[end:]
    (tmp_path / 'b.png').write_bytes(moved)
    np.testing.assert_array_equal(read(tmp_path / 'b.png'), as_exif_says(RGB, 6))


def test_a_png_is_not_decoded_to_know_its_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(RGB).save(tmp_path / 'a.png')
    monkeypatch.setattr(PngImagePlugin.PngImageFile, 'load', None)
    assert open_image(tmp_path / 'a.png').shape == RGB.shape


@pytest.mark.parametrize('pixels', [GREY, RGB, GREY > 99], ids=['grey', 'rgb', '1 bit'])
def test_a_bmp_is_read_with_its_own_values(tmp_path: Path, pixels: np.ndarray) -> None:
    Image.fromarray(pixels).save(tmp_path / 'a.bmp')
    np.testing.assert_array_equal(read(tmp_path / 'a.bmp'), pixels)


def test_transparent_ground_stays_transparent(tmp_path: Path) -> None:
    clear = np.dstack([RGB, np.where(GREY > 99, 255, 0).astype(np.uint8)])
    Image.fromarray(clear).save(tmp_path / 'a.webp', lossless=True, exact=True)
    np.testing.assert_array_equal(read(tmp_path / 'a.webp'), clear)
    indexed = Image.fromarray(np.array([[0, 1]], np.uint8), 'P')
    indexed.putpalette([10, 20, 30, 40, 50, 60])
    indexed.save(tmp_path / 'a.gif', transparency=1)
    assert read(tmp_path / 'a.gif')[0, :, 3].tolist() == [255, 0]


@pytest.mark.parametrize(
    ('suffix', 'options'), [('.gif', {}), ('.webp', {'lossless': True})]
)
def test_frames_of_an_animation_are_whole_pictures_in_any_order(
    tmp_path: Path, suffix: str, options: dict[str, Any]
) -> None:
    # Few colours, which GIF keeps, and changes in one place only.
    frames = [np.full((20, 30, 3), 60, np.uint8) for _ in range(5)]
    for number, frame in enumerate(frames):
        frame[:4, 5 * number : 5 * number + 5] = 255, 0, 0
    first, *rest = (Image.fromarray(frame) for frame in frames)
    path = tmp_path / f'a{suffix}'
    first.save(path, save_all=True, append_images=rest, **options)
    with open_image(path) as image:
        assert image.frame_count == 5
        for index in (4, 0, 3, 1, 2):
            # An animated WebP has opacity even where its pictures have none.
            colors, opacity = np.split(image.frame(index), [3], axis=-1)
            np.testing.assert_array_equal(colors, frames[index])
            assert (opacity == 255).all()


def test_colours_that_come_later_in_a_grey_animation_are_not_lost(
    tmp_path: Path,
) -> None:
    grey, red = Image.new('L', (8, 6), 90), Image.new('RGB', (8, 6), (200, 0, 0))
    grey.save(tmp_path / 'a.gif', save_all=True, append_images=[red])
    assert read(tmp_path / 'a.gif')[1, 0, 0].tolist() == [200, 0, 0]


def test_an_animated_png_is_refused(tmp_path: Path) -> None:
    frames = [Image.fromarray(RGB), Image.fromarray(RGB[::-1])]
    frames[0].save(tmp_path / 'a.png', save_all=True, append_images=frames[1:])
    assert 'animation of 2 pictures' in problem_with(tmp_path / 'a.png')


def test_what_is_called_a_picture_and_is_none_is_refused(tmp_path: Path) -> None:
    for suffix in ('bmp', 'gif', 'webp'):
        path = tmp_path / f'a.{suffix}'
        path.write_bytes(b'RIFF' + bytes(100))
        assert 'is not a PNG, JPEG, BMP, GIF or WebP' in problem_with(path)


def test_a_bmp_of_a_byte_a_pixel_may_have_but_black_and_white(tmp_path: Path):
    places = np.random.default_rng(0).integers(0, 2, (9, 13), np.uint8)
    picture = Image.fromarray(places)
    picture.putpalette([0, 0, 0, 255, 255, 255])
    picture.save(tmp_path / 'a.bmp')
    with open_image(tmp_path / 'a.bmp') as image:
        assert np.array_equal(image.frame(), places.astype(bool))


def _chunk(kind: bytes, content: bytes) -> bytes:
    check = struct.pack('>I', zlib.crc32(kind + content))
    return struct.pack('>I', len(content)) + kind + content + check


def _write_deep_png(path: Path, pixels: np.ndarray, *further: bytes) -> None:
    rows, columns, channels = pixels.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    lines = b''.join(b'\0' + row.astype('>u2').tobytes() for row in pixels)
    header = struct.pack('>IIBBBBB', columns, rows, 16, kind, 0, 0, 0)
    path.write_bytes(
        b'\x89PNG\r\n\x1a\n'
        + _chunk(b'IHDR', header)
        + b''.join(further)
        + _chunk(b'IDAT', zlib.compress(lines))
        + _chunk(b'IEND', b'')
    )


DEEP = RNG.integers(0, 2**16, (20, 30, 4)).astype(np.uint16)


@pytest.mark.parametrize('channels', [1, 2, 3, 4])
@pytest.mark.parametrize('number', [1, 6])
def test_png_of_16_bits_keeps_them(tmp_path: Path, channels: int, number: int):
    pytest.importorskip('imagecodecs')
    exif = Image.Exif()
    exif[ORIENTATION] = number
    note = _chunk(b'eXIf', exif.tobytes().removeprefix(b'Exif\0\0'))
    _write_deep_png(tmp_path / 'a.png', DEEP[..., :channels], note)
    expected = {
        1: DEEP[..., 0],
        2: DEEP[..., [0, 0, 0, 1]],
        3: DEEP[..., :3],
        4: DEEP,
    }[channels]
    expected = np.rot90(expected, -1) if number == 6 else expected
    found = read(tmp_path / 'a.png')
    assert found.dtype == np.uint16
    assert np.array_equal(found, expected)


@pytest.mark.parametrize('channels', [1, 3])
def test_png_of_16_bits_with_a_transparent_colour_is_rgba(
    tmp_path: Path, channels: int
):
    pytest.importorskip('imagecodecs')
    colour = DEEP[3, 5, :channels]
    clear = _chunk(b'tRNS', colour.astype('>u2').tobytes())
    _write_deep_png(tmp_path / 'a.png', DEEP[..., :channels], clear)
    found = read(tmp_path / 'a.png')
    assert found.shape == (20, 30, 4)
    is_colour = (DEEP[..., :channels] == colour).all(axis=-1)
    assert np.array_equal(found[..., 3] == 0, is_colour)


def test_a_damaged_png_of_16_bits_is_refused(tmp_path: Path):
    pytest.importorskip('imagecodecs')
    path = tmp_path / 'a.png'
    _write_deep_png(path, DEEP)
    path.write_bytes(path.read_bytes()[:300])
    assert 'damaged' in problem_with(path)


def test_without_imagecodecs_png_of_16_bits_is_read_as_8(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(pictures, 'find_spec', lambda name: None)
    _write_deep_png(tmp_path / 'a.png', DEEP[..., :3])
    assert np.array_equal(read(tmp_path / 'a.png'), DEEP[..., :3] >> 8)
