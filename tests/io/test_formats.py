"""Reading PNG, JPEG, TIFF and NPY files, good and bad."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pytest
import tifffile
from io_fixtures import problem_with
from PIL import Image

from napari_kdsam.io import formats
from napari_kdsam.io.formats import FORMATS, SUFFIXES, open_image

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (20, 30), np.uint8)
RGB = RNG.integers(0, 256, (20, 30, 3), np.uint8)
RGBA = RNG.integers(0, 256, (20, 30, 4), np.uint8)
DEEP = RNG.integers(0, 65536, (20, 30), np.uint16)


def frame_of(path: Path, index: int = 0) -> np.ndarray:
    with open_image(path) as image:
        frame = image.frame(index)
        assert frame.shape == image.frame_shape
        assert frame.dtype == image.dtype
        return frame


# PNG and JPEG


@pytest.mark.parametrize(
    'pixels',
    [GREY, RGB, RGBA, DEEP, GREY > 99, GREY[:1, :1]],
    ids=['grey', 'rgb', 'rgba', '16 bit', '1 bit', '1 pixel'],
)
def test_a_png_is_read_with_its_own_values_and_type(
    tmp_path: Path, pixels: np.ndarray
) -> None:
    path = tmp_path / 'a.png'
    Image.fromarray(pixels).save(path)
    read = frame_of(path)
    assert read.dtype == pixels.dtype
    np.testing.assert_array_equal(read, pixels)


def test_a_palette_png_becomes_rgb(tmp_path: Path) -> None:
    indexed = Image.fromarray(RGB).quantize(256)
    indexed.save(tmp_path / 'a.png')
    np.testing.assert_array_equal(
        frame_of(tmp_path / 'a.png'), np.asarray(indexed.convert('RGB'))
    )


def test_a_palette_png_with_a_transparent_colour_becomes_rgba(tmp_path: Path) -> None:
    indexed = Image.fromarray(np.array([[0, 1]], np.uint8), 'P')
    indexed.putpalette([10, 20, 30, 40, 50, 60])
    indexed.save(tmp_path / 'a.png', transparency=1)
    assert frame_of(tmp_path / 'a.png').tolist() == [
        [[10, 20, 30, 255], [40, 50, 60, 0]]
    ]


def test_grey_with_alpha_becomes_rgba(tmp_path: Path) -> None:
    Image.fromarray(np.array([[[7, 128]]], np.uint8), 'LA').save(tmp_path / 'a.png')
    assert frame_of(tmp_path / 'a.png').tolist() == [[[7, 7, 7, 128]]]


def test_a_cmyk_jpeg_becomes_rgb(tmp_path: Path) -> None:
    Image.new('CMYK', (8, 6), (0, 255, 255, 0)).save(tmp_path / 'a.jpg')
    read = frame_of(tmp_path / 'a.jpg')
    assert read.shape == (6, 8, 3)
    assert read[0, 0, 0] > 200
    assert read[0, 0, 1:].max() < 60


def test_a_jpeg_is_turned_upright_by_its_exif_orientation(tmp_path: Path) -> None:
    lying = np.zeros((20, 40), np.uint8)
    lying[:, :10] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(lying).save(tmp_path / 'a.jpg', exif=exif)
    read = frame_of(tmp_path / 'a.jpg')
    assert read.shape == (40, 20)
    assert read[:8].min() > 200
    assert read[12:].max() < 50


def test_a_jpeg_named_png_is_read_by_its_content(tmp_path: Path) -> None:
    Image.fromarray(np.full((9, 9), 80, np.uint8)).save(tmp_path / 'a.png', 'JPEG')
    assert abs(int(frame_of(tmp_path / 'a.png').mean()) - 80) < 3


def test_images_beyond_pillows_limit_are_read_without_touching_that_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(GREY).save(tmp_path / 'a.png')
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 10)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(tmp_path / 'a.png')
    np.testing.assert_array_equal(frame_of(tmp_path / 'a.png'), GREY)
    assert Image.MAX_IMAGE_PIXELS == 10


# NPY


@pytest.mark.parametrize('dtype', ['bool', 'u1', '>u2', 'i4', 'f2', 'f4', '>f8'])
def test_an_npy_array_is_read_with_its_own_values_and_type(
    tmp_path: Path, dtype: str
) -> None:
    values = (DEEP % 2 if dtype == 'bool' else DEEP % 100).astype(dtype)
    np.save(tmp_path / 'a.npy', values)
    read = frame_of(tmp_path / 'a.npy')
    assert read.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(read, values)


@pytest.mark.parametrize(
    ('shape', 'frames', 'frame_shape'),
    [
        ((6, 7), 1, (6, 7)),
        ((6, 7, 1), 1, (6, 7)),
        ((6, 7, 3), 1, (6, 7, 3)),
        ((6, 7, 4), 1, (6, 7, 4)),
        ((3, 7, 3), 1, (3, 7, 3)),
        ((5, 6, 7), 5, (6, 7)),
        ((1, 6, 7), 1, (6, 7)),
        ((3, 6, 7, 1), 3, (6, 7)),
        ((5, 6, 7, 3), 5, (6, 7, 3)),
        ((1, 6, 7, 4), 1, (6, 7, 4)),
    ],
)
def test_axes_are_told_apart_by_the_documented_rules(
    tmp_path: Path,
    shape: tuple[int, ...],
    frames: int,
    frame_shape: tuple[int, ...],
) -> None:
    values = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
    np.save(tmp_path / 'a.npy', values)
    with open_image(tmp_path / 'a.npy') as image:
        assert (image.frame_count, image.frame_shape) == (frames, frame_shape)
        assert image.is_stack == (frames > 1)
        assert image.shape == ((frames, *frame_shape) if frames > 1 else frame_shape)
        read = np.stack([image.frame(n) for n in range(frames)])
    np.testing.assert_array_equal(read, values.reshape(read.shape))


@pytest.mark.skipif(sys.platform == 'win32', reason='files are not sparse there')
def test_an_npy_stack_larger_than_memory_is_read_frame_by_frame(tmp_path: Path) -> None:
    big = np.lib.format.open_memmap(
        tmp_path / 'a.npy', 'w+', np.uint8, (200_000, 1000, 1000)
    )
    big[199_999] = 7
    del big
    assert frame_of(tmp_path / 'a.npy', 199_999).max() == 7


# TIFF


@pytest.mark.parametrize('compression', [None, 'zlib', 'lzw'])
@pytest.mark.parametrize(
    ('pixels', 'options'),
    [
        (GREY, {}),
        (RGB, {'photometric': 'rgb'}),
        (RGBA, {'photometric': 'rgb'}),
        (DEEP, {}),
        (GREY.astype(np.float32) / 7, {}),
        (np.stack([GREY] * 5), {'photometric': 'minisblack'}),
        (np.stack([RGB] * 5), {'photometric': 'rgb'}),
    ],
    ids=['grey', 'rgb', 'rgba', '16 bit', 'float', 'stack', 'rgb stack'],
)
def test_a_tiff_is_read_with_its_own_values_and_type(
    tmp_path: Path, pixels: np.ndarray, options: dict, compression: str | None
) -> None:
    pixels = pixels.copy()
    pixels.flat[0] = 1
    tifffile.imwrite(tmp_path / 'a.tif', pixels, compression=compression, **options)
    with open_image(tmp_path / 'a.tif') as image:
        assert image.shape == pixels.shape
        read = np.stack([image.frame(n) for n in range(image.frame_count)])
    assert read.dtype == pixels.dtype
    np.testing.assert_array_equal(read, pixels.reshape(read.shape))


def test_planar_rgb_tiffs_get_their_channels_last(tmp_path: Path) -> None:
    planes = np.moveaxis(RGB, -1, 0)
    tifffile.imwrite(
        tmp_path / 'a.tif', planes, photometric='rgb', planarconfig='separate'
    )
    np.testing.assert_array_equal(frame_of(tmp_path / 'a.tif'), RGB)


def test_three_named_time_points_are_a_stack_but_three_unnamed_planes_are_refused(
    tmp_path: Path,
) -> None:
    three = np.stack([GREY] * 3)
    tifffile.imwrite(
        tmp_path / 'a.tif', three, photometric='minisblack', metadata={'axes': 'TYX'}
    )
    tifffile.imwrite(tmp_path / 'b.tif', three, photometric='minisblack')
    assert open_image(tmp_path / 'a.tif').shape == (3, 20, 30)
    assert 'channels first' in problem_with(tmp_path / 'b.tif')


def test_pages_written_one_by_one_are_a_stack(tmp_path: Path) -> None:
    pages = [Image.fromarray(GREY + n) for n in range(3)]
    pages[0].save(tmp_path / 'a.tif', save_all=True, append_images=pages[1:])
    np.testing.assert_array_equal(frame_of(tmp_path / 'a.tif', 2), GREY + 2)


def test_an_imagej_stack_with_one_described_page_is_read(tmp_path: Path) -> None:
    stack = np.stack([DEEP + n for n in range(5)])
    tifffile.imwrite(tmp_path / 'a.tif', stack, imagej=True, metadata={'axes': 'TYX'})
    np.testing.assert_array_equal(frame_of(tmp_path / 'a.tif', 4), stack[4])


def test_separate_channels_and_several_stacks_are_refused(tmp_path: Path) -> None:
    five = np.zeros((2, 5, 8, 8), np.uint8)
    tifffile.imwrite(tmp_path / 'a.tif', five, imagej=True, metadata={'axes': 'TZYX'})
    assert '2 (T) x 5 (Z)' in problem_with(tmp_path / 'a.tif')
    tifffile.imwrite(tmp_path / 'b.tif', five[0], imagej=True, metadata={'axes': 'CYX'})
    assert '5 separate channels' in problem_with(tmp_path / 'b.tif')


def test_white_is_zero_tiffs_are_turned_around(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / 'a.tif', GREY, photometric='miniswhite')
    np.testing.assert_array_equal(frame_of(tmp_path / 'a.tif'), 255 - GREY)


def test_palette_and_one_bit_tiffs_become_rgb_and_boolean(tmp_path: Path) -> None:
    ramp = np.arange(256, dtype=np.uint16) * 257
    colormap = np.stack([ramp, ramp[::-1], np.zeros_like(ramp)])
    tifffile.imwrite(tmp_path / 'a.tif', GREY, photometric='palette', colormap=colormap)
    read = frame_of(tmp_path / 'a.tif')
    np.testing.assert_array_equal(read[..., 0], GREY)
    np.testing.assert_array_equal(read[..., 1], 255 - GREY)
    Image.fromarray(GREY > 99).save(tmp_path / 'b.tif')
    np.testing.assert_array_equal(frame_of(tmp_path / 'b.tif'), GREY > 99)


@pytest.mark.parametrize('photometric', ['minisblack', 'miniswhite'])
def test_lzw_tiffs_are_read_without_imagecodecs(
    tmp_path: Path, photometric: str
) -> None:
    for name, pixels in (('grey', GREY), ('other', GREY[::-1])):
        tifffile.imwrite(
            tmp_path / f'{name}.tif',
            np.stack([pixels, pixels + 1]),
            compression='lzw',
            photometric=photometric,
        )
    code = (
        'import sys; sys.modules["imagecodecs"] = None\n'
        'import numpy as np\n'
        'from napari_kdsam.io.formats import open_image\n'
        'np.save(sys.argv[2], open_image(sys.argv[1]).frame(1))'
    )
    paths = [str(tmp_path / 'grey.tif'), str(tmp_path / 'out.npy')]
    subprocess.run([sys.executable, '-c', code, *paths], check=True)
    expected = GREY + 1 if photometric == 'minisblack' else 255 - (GREY + 1)
    np.testing.assert_array_equal(np.load(tmp_path / 'out.npy'), expected)


# Huge images

HUGE = """
import resource, sys
from napari_kdsam import Predictor, Prompt, load_model
from napari_kdsam.io.formats import open_image
predictor = Predictor(load_model(device='cpu'))
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before = peak()
for path in sys.argv[1:]:
    with open_image(path) as image:
        embedding = predictor.embed(image.frame(0))
    print(peak() - before)
mask = predictor.predict(embedding, Prompt(box=(5e3, 5e3, 15e3, 15e3))).mask
assert mask.shape == (20_000, 20_000)
assert mask[10_000, 10_000] and not mask[100, 100]
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != 'linux', reason='measures memory as Linux does')
def test_20000_by_20000_images_are_segmented_within_a_few_times_their_size(
    tmp_path: Path,
) -> None:
    pixels = np.full((20_000, 20_000), 40, np.uint8)
    pixels[5000:15000, 5000:15000] = 200
    paths = [tmp_path / 'huge.png', tmp_path / 'huge.tif']
    Image.fromarray(pixels).save(paths[0], compress_level=1)
    tifffile.imwrite(paths[1], pixels, compression='zlib', rowsperstrip=256)
    del pixels
    done = subprocess.run(
        [sys.executable, '-c', HUGE, *map(str, paths)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # The image and the mask are 381 MB each; decoders may hold the image twice.
    assert max(map(float, done.stdout.split())) < 1200, done.stdout


# The table of formats


ROOT = Path(__file__).resolve().parents[2]
BARE_NAMES = ('IM_0001', 'I', 'DICOMDIR', '1.2.840.113619.2.55.3', 'IM-0001-0001')


def test_the_manifest_offers_every_kind_so_that_napari_shows_what_is_segmented() -> (
    None
):
    from npe2 import PluginManifest

    manifest = PluginManifest.from_file(ROOT / 'napari.yaml')
    (reader,) = manifest.contributions.readers or ()
    named = {f'*{end}' for end in SUFFIXES}
    assert named <= set(reader.filename_patterns)
    # The others are for files without a suffix, so that napari asks of no other kind.
    others = set(reader.filename_patterns) - named
    assert all(any(fnmatch(name, other) for other in others) for name in BARE_NAMES)
    for name in (
        'table.csv',
        'script.py',
        'a.nrrd',
        'a' * 20 + '.txt',
        '.x',
        'a.b.vtk',
    ):
        assert not any(fnmatch(name, other) for other in others)


def test_every_kind_has_an_opener_and_an_extra_that_exist() -> None:
    declared = tomllib.loads((ROOT / 'pyproject.toml').read_text(encoding='utf-8'))
    extras = {'', *declared['project']['optional-dependencies']}
    for known in FORMATS:
        module, _, name = known.opener.partition(':')
        text = Path(formats.__file__).with_name(f'{module}.py').read_text('utf-8')
        assert f'def {name}(' in text
        assert known.extra in extras


def test_the_guide_lists_every_suffix() -> None:
    guide = (ROOT / 'docs/formats.md').read_text(encoding='utf-8')
    assert [suffix for suffix in SUFFIXES if suffix not in guide] == []
