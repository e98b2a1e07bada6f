"""TIFF: orientation, colour forms, layouts, and pages that are none or differ."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from io_fixtures import problem_with
from PIL import Image, ImageOps

from napari_kdsam.core.errors import ImageError, MissingExtraError
from napari_kdsam.io.formats import open_image

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (20, 30), np.uint8)
RGB = RNG.integers(0, 256, (20, 30, 3), np.uint8)
RGBA = RNG.integers(1, 256, (20, 30, 4), np.uint8)
BLUE, SKIN = (20, 40, 220), (218, 170, 138)
UNSPECIFIED, ASSOCIATED, UNASSOCIATED = 0, 1, 2


def picture() -> np.ndarray:
    """Skin with a blue corner at the top left, and smooth enough for JPEG."""
    pixels = np.full((32, 48, 3), SKIN, np.uint8)
    pixels[:16, :16] = BLUE
    return pixels


def written(path: Path, pixels: np.ndarray, **options: Any) -> Path:
    tifffile.imwrite(path, pixels, **options)
    return path


def read(path: Path) -> np.ndarray:
    with open_image(path) as image:
        frames = image.every_frame()
        assert frames.shape == image.shape
        assert frames.dtype == image.dtype
    return frames


def no_imagecodecs(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: Any, **__: Any) -> None:
        raise ValueError("<COMPRESSION.LZW: 5> requires the 'imagecodecs' package")

    monkeypatch.setattr(tifffile.TiffPage, 'asarray', missing)


def orientation(number: int) -> dict[str, Any]:
    return {'extratags': [(274, 3, 1, number, True)]}


def as_exif_says(stored: np.ndarray, number: int) -> np.ndarray:
    lying = Image.fromarray(stored)
    lying.getexif()[274] = number
    return np.asarray(ImageOps.exif_transpose(lying))


# Orientation


@pytest.mark.parametrize('decoder', ['imagecodecs', 'Pillow'])
@pytest.mark.parametrize('compression', [None, 'zlib', 'lzw', 'packbits'])
@pytest.mark.parametrize('number', range(1, 9))
def test_a_turned_page_is_upright_whatever_its_compression_and_decoder(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    compression: str | None,
    decoder: str,
) -> None:
    path = written(
        tmp_path / 'a.tif',
        RGB,
        photometric='rgb',
        compression=compression,
        **orientation(number),
    )
    if decoder == 'Pillow':
        no_imagecodecs(monkeypatch)
    np.testing.assert_array_equal(read(path), as_exif_says(RGB, number))


@pytest.mark.parametrize(
    ('pixels', 'options'),
    [
        (GREY, {}),
        (GREY.astype(np.uint16) * 257, {'tile': (16, 16)}),
        (np.moveaxis(RGB, -1, 0), {'photometric': 'rgb', 'planarconfig': 'separate'}),
        (RGB, {'photometric': 'rgb', 'tile': (16, 16)}),
        (GREY > 99, {}),
    ],
    ids=['grey', 'tiled 16 bit', 'planar', 'tiled', '1 bit'],
)
def test_every_layout_is_turned(
    tmp_path: Path, pixels: np.ndarray, options: dict[str, Any]
) -> None:
    upright = read(written(tmp_path / 'a.tif', pixels, **options))
    lying = read(written(tmp_path / 'b.tif', pixels, **options, **orientation(6)))
    np.testing.assert_array_equal(lying, np.rot90(upright, -1))


def test_every_page_is_turned_by_its_own_tag(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / 'a.tif') as file:
        for number in (1, 3, 2):
            file.write(RGB, photometric='rgb', **orientation(number), metadata=None)
    expected = [as_exif_says(RGB, number) for number in (1, 3, 2)]
    np.testing.assert_array_equal(read(tmp_path / 'a.tif'), expected)


# Colour forms


def is_the_picture(pixels: np.ndarray, close: int = 3) -> bool:
    assert pixels.shape == (32, 48, 3)
    assert pixels.dtype == np.uint8
    return bool(np.abs(pixels.astype(int) - picture()).max() <= close)


@pytest.mark.parametrize('decoder', ['tifffile', 'Pillow'])
@pytest.mark.parametrize('compression', [None, 'tiff_lzw', 'tiff_adobe_deflate'])
@pytest.mark.parametrize('mode', ['CMYK', 'YCbCr', 'LAB'])
def test_other_colours_become_rgb(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    mode: str,
    compression: str | None,
    decoder: str,
) -> None:
    from PIL import ImageCms

    drawn = Image.fromarray(picture())
    if mode == 'LAB':
        rgb, lab = (ImageCms.createProfile(name) for name in ('sRGB', 'LAB'))
        drawn = ImageCms.profileToProfile(drawn, rgb, lab, outputMode='LAB')
    elif mode == 'CMYK':
        # Black as well, which Pillow's own conversion never uses.
        ink = 255 - picture().astype(float)
        black = ink.min(axis=-1, keepdims=True)
        ink = np.concatenate([(ink - black) / (255 - black) * 255, black], axis=-1)
        drawn = Image.frombytes('CMYK', drawn.size, ink.round().astype('u1').tobytes())
    else:
        drawn = drawn.convert(mode)
    drawn.save(tmp_path / 'a.tif', compression=compression)
    if decoder == 'Pillow':
        no_imagecodecs(monkeypatch)
    # LAB of 8 bits is coarse.
    assert is_the_picture(read(tmp_path / 'a.tif'), close=8 if mode == 'LAB' else 3)


def test_colours_of_16_bits_are_kept_or_become_8_where_they_are_converted(
    tmp_path: Path,
) -> None:
    deep = RGB.astype(np.uint16) * 257 + 3
    path = written(tmp_path / 'a.tif', deep, photometric='rgb', compression='zlib')
    np.testing.assert_array_equal(read(path), deep)
    ink = np.zeros((4, 5, 4), np.uint16)
    ink[..., 1:3] = 65535
    path = written(tmp_path / 'b.tif', ink, photometric='separated')
    assert (read(path) == (255, 0, 0)).all()


def test_studio_range_ycbcr_is_stretched_as_its_reference_says(tmp_path: Path) -> None:
    stored = np.empty((4, 5, 3), np.uint8)
    stored[:2], stored[2:] = (16, 128, 128), (235, 128, 128)
    ends = (16, 1, 235, 1, 128, 1, 240, 1, 128, 1, 240, 1)
    path = tmp_path / 'a.tif'
    Image.frombytes('YCbCr', (5, 4), stored.tobytes()).save(path)
    with tifffile.TiffFile(path, mode='r+') as file:
        file.pages[0].tags[532].overwrite(ends)
    assert (read(path)[:2] == 0).all()
    assert (read(path)[2:] == 255).all()


@pytest.mark.parametrize('subsampling', [(1, 1), (2, 2)])
def test_jpeg_in_tiff_has_the_colours_of_the_picture(
    tmp_path: Path, subsampling: tuple[int, int]
) -> None:
    pytest.importorskip('imagecodecs')
    options = {'compression': 'jpeg', 'subsampling': subsampling}
    path = written(tmp_path / 'a.tif', picture(), photometric='rgb', **options)
    pixels = read(path).astype(int)
    assert np.abs(pixels[4, 4] - BLUE).max() < 5
    assert np.abs(pixels[-4, -4] - SKIN).max() < 5


@pytest.mark.parametrize('premultiplied', [False, True])
def test_opacity_is_kept_and_colours_are_not_dimmed_twice(
    tmp_path: Path, premultiplied: bool
) -> None:
    stored, kind = RGBA.copy(), UNASSOCIATED
    stored[..., 3] |= 128
    expected = stored.copy()
    if premultiplied:
        kind = ASSOCIATED
        stored[..., :3] = np.rint(stored[..., :3] * (stored[..., 3:] / 255))
    path = written(tmp_path / 'a.tif', stored, photometric='rgb', extrasamples=[kind])
    assert np.abs(read(path).astype(int) - expected).max() <= premultiplied


def test_a_fourth_channel_that_is_no_opacity_is_left_out(tmp_path: Path) -> None:
    path = written(
        tmp_path / 'a.tif', RGBA, photometric='rgb', extrasamples=[UNSPECIFIED]
    )
    np.testing.assert_array_equal(read(path), RGBA[..., :3])


def test_grey_with_opacity_is_rgba_and_two_channels_are_refused(tmp_path: Path) -> None:
    Image.fromarray(RGBA[..., :2], 'LA').save(tmp_path / 'a.tif')
    np.testing.assert_array_equal(read(tmp_path / 'a.tif'), RGBA[..., [0, 0, 0, 1]])
    options = {'photometric': 'minisblack', 'planarconfig': 'contig'}
    path = written(
        tmp_path / 'b.tif', RGBA[..., :2], extrasamples=[UNSPECIFIED], **options
    )
    assert '2 separate channels' in problem_with(path)


@pytest.mark.parametrize('bits', [1, 4, 8])
def test_palettes_of_any_depth_become_rgb(tmp_path: Path, bits: int) -> None:
    pytest.importorskip('imagecodecs')
    stored = GREY >> (8 - bits)
    colors = RNG.integers(0, 256, (2**bits, 3), np.uint8)
    colormap = (colors.T.astype(np.uint16) * 257).ravel().tolist()
    path = written(
        tmp_path / 'a.tif',
        stored.astype(bool) if bits == 1 else stored,
        photometric='minisblack',
        bitspersample=bits,
        extratags=[(320, 3, len(colormap), colormap, True)],
    )
    with tifffile.TiffFile(path, mode='r+') as file:
        file.pages[0].tags[262].overwrite(3)
    np.testing.assert_array_equal(read(path), colors[stored])


def test_each_page_has_its_own_palette(tmp_path: Path) -> None:
    ramp = np.arange(256, dtype=np.uint16) * 257
    with tifffile.TiffWriter(tmp_path / 'a.tif') as file:
        for colormap in ([ramp, ramp, ramp], [ramp[::-1], ramp, ramp]):
            options = {'photometric': 'palette', 'metadata': None}
            file.write(GREY, colormap=np.stack(colormap), **options)
    first, second = read(tmp_path / 'a.tif')
    np.testing.assert_array_equal(first[..., 0], GREY)
    np.testing.assert_array_equal(second[..., 0], 255 - GREY)


def test_a_palette_of_8_bits_is_not_black(tmp_path: Path) -> None:
    colormap = np.stack([np.arange(256, dtype=np.uint16)] * 3)
    path = written(tmp_path / 'a.tif', GREY, photometric='palette', colormap=colormap)
    np.testing.assert_array_equal(read(path)[..., 1], GREY)


@pytest.mark.parametrize('photometric', ['minisblack', 'miniswhite'])
def test_grey_of_4_bits_is_as_bright_as_of_8(tmp_path: Path, photometric: str) -> None:
    pytest.importorskip('imagecodecs')
    stored = GREY // 16
    options = {'photometric': photometric, 'bitspersample': 4}
    bright = read(written(tmp_path / 'a.tif', stored, **options))
    expected = stored * 17
    if photometric == 'miniswhite':
        expected = 255 - expected
    np.testing.assert_array_equal(bright, expected)


def test_an_imagej_stack_of_white_is_zero_is_turned_around(tmp_path: Path) -> None:
    stack = np.stack([GREY + n for n in range(4)])
    path = written(
        tmp_path / 'a.tif',
        stack,
        imagej=True,
        photometric='miniswhite',
        metadata={'axes': 'TYX'},
    )
    np.testing.assert_array_equal(read(path), 255 - stack)


@pytest.mark.parametrize(
    ('photometric', 'tag'), [('cfa', 'CFA'), ('linear_raw', 'LINEAR_RAW')]
)
def test_a_colour_form_that_is_not_supported_is_named(
    tmp_path: Path, photometric: str, tag: str
) -> None:
    pixels = GREY if photometric == 'cfa' else RGB
    path = written(tmp_path / 'a.tif', pixels, photometric=photometric)
    assert tag in problem_with(path)


def test_a_colour_form_of_very_many_numbers_is_quoted_in_short(tmp_path: Path) -> None:
    path = written(tmp_path / 'a.tif', GREY, photometric='minisblack')
    with tifffile.TiffFile(path, mode='r+b') as tiff:
        tiff.pages[0].tags['PhotometricInterpretation'].overwrite(range(900))
    said = problem_with(path)
    assert 'number (0, 1, 2' in said
    assert len(said) < 400


def test_inks_other_than_cmyk_are_refused(tmp_path: Path) -> None:
    path = written(
        tmp_path / 'a.tif',
        RGBA,
        photometric='separated',
        extratags=[(332, 3, 1, 2, True)],
    )
    assert 'inks other than CMYK' in problem_with(path)


def test_a_form_that_needs_a_decoder_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = RGB.astype(np.int16)
    path = written(tmp_path / 'a.tif', deep, photometric='rgb', compression='zstd')
    no_imagecodecs(monkeypatch)
    with open_image(path) as image, pytest.raises((MissingExtraError, ImageError)):
        image.frame()


# Pages


def pages_of(path: Path, *pages: tuple[np.ndarray, int], **options: Any) -> Path:
    with tifffile.TiffWriter(path) as file:
        for pixels, subfiletype in pages:
            file.write(
                pixels,
                photometric='rgb' if pixels.ndim == 3 else 'minisblack',
                subfiletype=subfiletype,
                **options,
            )
    return path


@pytest.mark.parametrize('metadata', [None, {}], ids=['plain', 'described'])
def test_pages_of_different_size_are_refused_and_named(
    tmp_path: Path, metadata: dict[str, Any] | None
) -> None:
    path = pages_of(
        tmp_path / 'a.tif', (RGB, 0), (RGB[:9], 0), (RGB, 0), metadata=metadata
    )
    message = problem_with(path)
    assert 'pages 0, 2: 20 x 30' in message
    assert 'page 1: 9 x 30' in message


def test_a_page_that_differs_deep_in_a_long_stack_is_refused(tmp_path: Path) -> None:
    pages = [(GREY, 0)] * 12
    pages[5] = (GREY[:, :-4], 0)
    path = pages_of(tmp_path / 'a.tif', *pages, metadata=None)
    assert 'page 5: 20 x 26' in problem_with(path)


def test_pages_of_different_colour_are_refused(tmp_path: Path) -> None:
    path = pages_of(tmp_path / 'a.tif', (RGB, 0), (GREY, 0), metadata=None)
    assert 'page 1: 20 x 30 (uint8 grey)' in problem_with(path)


@pytest.mark.parametrize('metadata', [None, {}], ids=['plain', 'described'])
def test_previews_are_no_pages_wherever_they_are(
    tmp_path: Path, metadata: dict[str, Any] | None
) -> None:
    preview = (RGB[::2, ::2], 1)
    path = pages_of(tmp_path / 'a.tif', preview, (RGB, 0), metadata=metadata)
    np.testing.assert_array_equal(read(path), RGB)
    path = pages_of(
        tmp_path / 'b.tif',
        (RGB, 0),
        preview,
        (RGB[::-1], 0),
        preview,
        metadata=metadata,
    )
    np.testing.assert_array_equal(read(path), [RGB, RGB[::-1]])


def test_a_file_with_a_preview_alone_is_read(tmp_path: Path) -> None:
    np.testing.assert_array_equal(
        read(pages_of(tmp_path / 'a.tif', (RGB, 1), metadata=None)), RGB
    )


def test_pages_that_were_written_in_separate_calls_are_all_there(
    tmp_path: Path,
) -> None:
    path = pages_of(tmp_path / 'a.tif', *((GREY + n, 0) for n in range(4)))
    np.testing.assert_array_equal(read(path), [GREY + n for n in range(4)])


@pytest.mark.parametrize('count', [2, 3, 4, 5])
def test_a_stack_of_colour_kept_plane_by_plane_is_a_stack(
    tmp_path: Path, count: int
) -> None:
    frames = np.stack([RGB + n for n in range(count)])
    planes = np.moveaxis(frames, -1, 1)
    path = tmp_path / 'a.tif'
    tifffile.imwrite(path, planes, photometric='rgb', planarconfig='separate')
    np.testing.assert_array_equal(read(path), frames)


def test_several_images_of_one_ome_tiff_are_refused(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / 'a.ome.tif', ome=True) as file:
        file.write(GREY, photometric='minisblack', metadata={'axes': 'YX'})
        file.write(GREY[:9], photometric='minisblack', metadata={'axes': 'YX'})
    assert '2 images' in problem_with(tmp_path / 'a.ome.tif')


def test_threads_that_share_a_stack_get_their_own_frames(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    stack = np.stack([np.full((64, 64), n, np.uint8) for n in range(50)])
    path = written(
        tmp_path / 'a.tif', stack, photometric='minisblack', compression='zlib'
    )
    order = [int(n) for n in RNG.integers(0, 50, 200)]
    with open_image(path) as image, ThreadPoolExecutor(4) as pool:
        assert [int(f.max()) for f in pool.map(image.frame, order)] == order


# More than the file may ask for


def test_a_strip_that_unpacks_to_more_than_the_page_is_refused_unread(
    tmp_path: Path,
) -> None:
    path = written(tmp_path / 'a.tif', np.zeros((64, 64), np.uint8), compression='zlib')
    bomb = path.read_bytes() * 1000
    content = io.BytesIO(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        tags = file.pages[0].tags
        places = {code: tags[code].offset + 8 for code in (273, 279)}
    for code, value in ((273, len(content.getvalue())), (279, len(bomb))):
        content.seek(places[code] - 6)
        content.write((4).to_bytes(2, 'little') + (1).to_bytes(4, 'little'))
        content.write(value.to_bytes(4, 'little'))
    content.seek(0, 2)
    content.write(bomb)
    path.write_bytes(content.getvalue())
    assert 'compressed bytes stand for 4096' in problem_with(path)


def test_a_page_that_has_fewer_parts_than_it_describes_is_refused(
    tmp_path: Path,
) -> None:
    path = written(tmp_path / 'a.tif', GREY, compression='zlib')
    with tifffile.TiffFile(path, mode='r+') as file:
        file.pages[0].tags[257].overwrite(400_000)
        file.pages[0].tags[278].overwrite(16)
    assert 'is not complete' in problem_with(path)


def test_a_tile_much_larger_than_its_page_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / 'a.tif', GREY, compression='zlib', tile=(32, 32))
    with tifffile.TiffFile(path, mode='r+') as file:
        file.pages[0].tags[322].overwrite(32_768)
        file.pages[0].tags[323].overwrite(32_768)
    assert 'parts of 1073 MB' in problem_with(path)
