"""OME-Zarr images and plain Zarr arrays: full resolution, frame by frame."""

from __future__ import annotations

import json
import os
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from io_fixtures import problem_with
from missing_package import take_away

from napari_kdsam.core.errors import ImageError, MissingExtraError
from napari_kdsam.io.formats import open_image

zarr = pytest.importorskip('zarr', minversion='3')

RNG = np.random.default_rng(0)
SPACE = {'t': ('time', 'second'), 'c': ('channel', None)}


def ome(
    path: Path,
    pixels: np.ndarray,
    axes: str,
    scale: list[float] | None = None,
    version: str = '0.5',
    unit: str | None = 'micrometer',
    omero: dict[str, Any] | None = None,
) -> Path:
    """Write an OME-Zarr image of two levels, the second one black."""
    group = zarr.open_group(path, mode='w', zarr_format=3 if version == '0.5' else 2)
    chunks = (1,) * (pixels.ndim - 2) + pixels.shape[-2:]
    group.create_array('0', data=pixels, chunks=chunks)
    group.create_array('1', data=np.zeros_like(pixels[..., ::2, ::2]))
    described = []
    for axis in axes:
        kind, own = SPACE.get(axis, ('space', unit))
        described.append({'name': axis, 'type': kind} | ({'unit': own} if own else {}))
    transform = [{'type': 'scale', 'scale': scale or [1.0] * len(axes)}]
    image = {
        'axes': described,
        'datasets': [
            {'path': level, 'coordinateTransformations': transform} for level in '01'
        ],
    }
    found: dict[str, Any] = {'multiscales': [image]}
    if omero:
        found['omero'] = omero
    if version == '0.5':
        group.attrs['ome'] = {'version': '0.5', **found}
    else:
        image['version'] = '0.4'
        group.attrs.update(found)
    return path


@pytest.mark.parametrize('version', ['0.4', '0.5'])
def test_the_full_resolution_is_read_with_its_size_in_millimetres(
    tmp_path: Path, version: str
) -> None:
    pixels = RNG.integers(0, 999, (3, 1, 4, 6, 8), np.uint16)
    scale = [2.0, 1.0, 500.0, 25.0, 12.5]
    path = ome(tmp_path / 'a.zarr', pixels, 'tczyx', scale, version)
    with open_image(path) as image:
        assert image.name == 'a.zarr'
        assert image.shape == (12, 6, 8)
        assert image.spacing == pytest.approx((0.025, 0.0125))
        assert [(axis.name, axis.size) for axis in image.frame_axes] == [
            ('t', 3),
            ('z', 4),
        ]
        assert image.frame_axes[1].spacing == pytest.approx(0.5)
        for index in (11, 0, 5):
            np.testing.assert_array_equal(
                image.frame(index), pixels[index // 4, 0, index % 4]
            )


@pytest.mark.parametrize('version', ['0.4', '0.5'])
@pytest.mark.parametrize('channels', [3, 4])
def test_eight_bit_channels_of_red_green_and_blue_become_rgb(
    tmp_path: Path, version: str, channels: int
) -> None:
    pixels = RNG.integers(0, 255, (2, channels, 6, 8), np.uint8)
    colours = ['FF0000', '00FF00', '0000ff', 'FFFFFF'][:channels]
    omero = {'channels': [{'color': colour} for colour in colours]}
    path = ome(tmp_path / 'a.zarr', pixels, 'tcyx', None, version, omero=omero)
    with open_image(path) as image:
        assert image.shape == (2, 6, 8, channels)
        np.testing.assert_array_equal(image.frame(1), np.moveaxis(pixels[1], 0, -1))


@pytest.mark.parametrize(
    ('dtype', 'channels', 'omero'),
    [
        (np.uint16, 3, None),
        (np.uint8, 2, None),
        (np.uint8, 3, {'channels': [{'color': c} for c in ('0000FF', '00FF00')]}),
    ],
    ids=['16 bit', 'two', 'stains'],
)
def test_channels_that_are_no_picture_are_refused(
    tmp_path: Path, dtype: type, channels: int, omero: dict[str, Any] | None
) -> None:
    pixels = np.zeros((channels, 6, 8), dtype)
    path = ome(tmp_path / 'a.zarr', pixels, 'cyx', omero=omero)
    assert f'{channels} separate channels' in problem_with(path)


def test_without_a_unit_there_is_no_spacing(tmp_path: Path) -> None:
    path = ome(tmp_path / 'a.zarr', np.zeros((6, 8), np.uint8), 'yx', unit=None)
    assert open_image(path).spacing is None


@pytest.mark.parametrize('zarr_format', [2, 3])
@pytest.mark.parametrize(
    ('shape', 'shown'),
    [
        ((6, 8), (6, 8)),
        ((5, 6, 8), (5, 6, 8)),
        ((1, 6, 8), (6, 8)),
        ((6, 8, 3), (6, 8, 3)),
        ((5, 6, 8, 3), (5, 6, 8, 3)),
        ((3, 6, 8, 1), (3, 6, 8)),
    ],
)
def test_plain_arrays_follow_the_rules_of_npy_files(
    tmp_path: Path, zarr_format: int, shape: tuple[int, ...], shown: tuple[int, ...]
) -> None:
    pixels = RNG.integers(0, 255, shape, np.uint8)
    zarr.save_array(tmp_path / 'a.zarr', pixels, zarr_format=zarr_format)
    with open_image(tmp_path / 'a.zarr') as image:
        assert image.shape == shown
        np.testing.assert_array_equal(image.every_frame(), pixels.reshape(shown))


def test_a_folder_of_another_name_is_known_by_what_is_in_it(tmp_path: Path) -> None:
    pixels = RNG.integers(0, 255, (6, 8), np.uint8)
    zarr.save_array(tmp_path / 'scan', pixels)
    np.testing.assert_array_equal(open_image(tmp_path / 'scan').frame(), pixels)


def test_only_the_chunks_of_a_frame_are_read(tmp_path: Path) -> None:
    pixels = RNG.integers(1, 255, (4, 6, 8), np.uint8)
    path = ome(tmp_path / 'a.zarr', pixels, 'zyx')
    for chunk in (path / '0' / 'c').glob('[013]/**/*'):
        if chunk.is_file():
            chunk.write_bytes(b'damaged')
    with open_image(path) as image:
        np.testing.assert_array_equal(image.frame(2), pixels[2])
        with pytest.raises(ImageError, match=r'a\.zarr cannot be read'):
            image.frame(1)


def test_folders_that_hold_no_image_are_refused(tmp_path: Path) -> None:
    (tmp_path / 'a.zarr').mkdir()
    assert 'without a Zarr image' in problem_with(tmp_path / 'a.zarr')
    zarr.open_group(tmp_path / 'b.zarr', mode='w').create_array('x', data=np.ones(3))
    assert 'not an OME-Zarr image' in problem_with(tmp_path / 'b.zarr')
    (tmp_path / 'scans').mkdir()
    assert 'is a folder' in problem_with(tmp_path / 'scans')


def test_descriptions_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    pixels = np.zeros((2, 6, 8), np.uint8)
    assert 'axes t, c, z, y, x' in problem_with(ome(tmp_path / 'a.zarr', pixels, 'qyx'))
    assert 'describes 2 axes' in problem_with(ome(tmp_path / 'b.zarr', pixels, 'yx'))
    assert 'must be y and x' in problem_with(ome(tmp_path / 'c.zarr', pixels, 'zyy'))
    path = ome(tmp_path / 'd.zarr', pixels, 'zyx')
    (path / 'zarr.json').write_text('{"zarr_format": 3, ')
    problem_with(path)


class Explosive:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ('exploded',)


@pytest.mark.parametrize('dtype', ['|u1', '|O'])
@pytest.mark.parametrize('place', ['compressor', 'filters'])
def test_chunks_packed_with_pickle_are_refused_and_never_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, dtype: str
) -> None:
    monkeypatch.chdir(tmp_path)
    zarr.save_array('a.zarr', np.zeros((4, 4), np.uint8), zarr_format=2)
    described = json.loads(Path('a.zarr/.zarray').read_text())
    codec = {'id': 'pickle', 'protocol': 5}
    described.update(compressor=None, filters=None, dtype=dtype)
    described[place] = [codec] if place == 'filters' else codec
    Path('a.zarr/.zarray').write_text(json.dumps(described))
    Path('a.zarr/0.0').write_bytes(pickle.dumps(Explosive()))
    problem_with(tmp_path / 'a.zarr')
    assert not Path('exploded').exists()


def test_without_zarr_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / 'a.zarr').mkdir()
    take_away(monkeypatch, 'zarr')
    monkeypatch.delitem(sys.modules, 'napari_kdsam.io.ome_zarr', raising=False)
    with pytest.raises(MissingExtraError, match=r"'napari-kdsam\[zarr\]'"):
        open_image(tmp_path / 'a.zarr')


def described_array(path: Path, **changes: Any) -> Path:
    """A plain array of 64 x 64 whose description is then changed."""
    zarr.save_array(path, np.zeros((64, 64), np.uint8), zarr_format=2)
    described = json.loads((path / '.zarray').read_text())
    (path / '.zarray').write_text(json.dumps(described | changes))
    return path


@pytest.mark.parametrize(
    ('changes', 'problem'),
    [
        ({'chunks': [60_000, 50_000]}, 'parts of 3000 MB'),
        ({'shape': [20_000, 20_000], 'chunks': [1, 1]}, '400000000 parts'),
        ({'shape': [30_000, 30_000], 'chunks': [1, 1]}, '500 megapixels'),
        ({'shape': [10**12, 64, 64], 'chunks': [1, 64, 64]}, '1000000000000 frames'),
    ],
)
def test_arrays_that_cost_more_than_they_show_are_refused(
    tmp_path: Path, changes: dict[str, Any], problem: str
) -> None:
    assert problem in problem_with(described_array(tmp_path / 'a.zarr', **changes))


@pytest.mark.parametrize('zarr_format', [2, 3])
def test_a_chunk_that_unpacks_to_more_than_it_may_is_refused_unread(
    tmp_path: Path, zarr_format: int
) -> None:
    zarr.save_array(
        tmp_path / 'a.zarr', np.ones((64, 64), np.uint8), zarr_format=zarr_format
    )
    (chunk,) = (
        file
        for file in (tmp_path / 'a.zarr').rglob('*')
        if file.is_file() and file.name[0] in '0123456789'
    )
    chunk.write_bytes(chunk.read_bytes() * 5000)
    assert 'compressed bytes stand for 4096' in problem_with(tmp_path / 'a.zarr')


def test_chunks_of_several_frames_and_shards_are_read(tmp_path: Path) -> None:
    pixels = RNG.integers(0, 255, (6, 32, 40), np.uint8)
    array = zarr.create_array(
        tmp_path / 'a.zarr',
        shape=pixels.shape,
        dtype=pixels.dtype,
        chunks=(2, 16, 8),
        shards=(4, 32, 40),
    )
    array[...] = pixels
    np.testing.assert_array_equal(open_image(tmp_path / 'a.zarr').every_frame(), pixels)
