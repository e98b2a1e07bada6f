"""Stacks are known by the descriptions of their pages alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_kdsam.core.errors import ImageError
from napari_kdsam.io.formats import open_image
from napari_kdsam.io.tiff_pages import is_plain_stack

FRAMES = np.random.default_rng(3).integers(0, 255, (5, 20, 30), np.uint8)
COLORS = np.random.default_rng(3).integers(0, 255, (5, 20, 30, 3), np.uint8)
PLAIN: dict[str, Any] = {'metadata': None}


def written(path: Path, pages: Any, **options: Any) -> Path:
    with tifffile.TiffWriter(path, **options.pop('file', {})) as tiff:
        for number, page in enumerate(pages):
            own = {key: value[number] for key, value in options.get('own', {}).items()}
            same = {key: value for key, value in options.items() if key != 'own'}
            tiff.write(page, **{**PLAIN, **same, **own})
    return path


def is_plain(path: Path) -> bool:
    with tifffile.TiffFile(path) as tiff:
        return is_plain_stack(tiff)


@pytest.mark.parametrize(
    'options',
    [
        {},
        {'compression': 'zlib', 'rowsperstrip': 7},
        {'own': {'description': list('abcde')}},
        {'file': {'bigtiff': True}},
        {'file': {'byteorder': '>'}},
        {'tile': (16, 16)},
    ],
    ids=['plain', 'strips', 'described', 'big', 'big-endian', 'tiles'],
)
@pytest.mark.parametrize('stack', [FRAMES, COLORS], ids=['grey', 'color'])
def test_pages_described_alike_are_frames_and_each_has_its_own_pixels(
    tmp_path: Path, options: dict[str, Any], stack: np.ndarray
) -> None:
    color = {'photometric': 'rgb' if stack.ndim == 4 else 'minisblack'}
    path = written(tmp_path / 'a.tif', stack, **color, **options)
    assert is_plain(path)
    with open_image(path) as image:
        assert image.frame_count == 5
        for number in (3, 0, 4, 1):
            np.testing.assert_array_equal(image.frame(number), stack[number])


def test_palettes_that_differ_are_not_taken_for_the_first(tmp_path: Path) -> None:
    palettes = [np.full((3, 256), 257 * n, np.uint16) for n in range(1, 6)]
    options = {'photometric': 'palette', 'own': {'colormap': palettes}}
    path = written(tmp_path / 'a.tif', FRAMES, **options)
    assert not is_plain(path)
    with open_image(path) as image:
        means = [image.frame(n).mean() for n in range(5)]
    assert means == [1, 2, 3, 4, 5]


def test_a_page_that_differs_is_found_wherever_it_is(tmp_path: Path) -> None:
    for place in range(5):
        pages = list(FRAMES)
        pages[place] = pages[place][:, :29]
        path = written(tmp_path / f'{place}.tif', pages)
        assert not is_plain(path)
        with pytest.raises(ImageError, match='20 x 29'):
            open_image(path)


def test_a_preview_is_no_frame(tmp_path: Path) -> None:
    kinds = [0, 1, 0, 1, 0]
    path = written(tmp_path / 'a.tif', FRAMES, own={'subfiletype': kinds})
    assert not is_plain(path)
    with open_image(path) as image:
        assert image.frame_count == 3


def test_a_program_that_says_what_pages_are_is_heard(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / 'a.tif', FRAMES, imagej=True)
    tifffile.imwrite(tmp_path / 'b.tif', FRAMES, metadata={'axes': 'ZYX'})
    assert not is_plain(tmp_path / 'a.tif')
    assert not is_plain(tmp_path / 'b.tif')


def test_opening_makes_an_object_of_few_pages_however_many_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path / 'a.tif', np.zeros((300, 4, 4), np.uint8))
    made: list[int] = []
    for kind in (tifffile.TiffPage, tifffile.TiffFrame):

        def counted(self: Any, *args: Any, made_by: Any = kind.__init__, **more: Any):
            made.append(1)
            made_by(self, *args, **more)

        monkeypatch.setattr(kind, '__init__', counted)
    with open_image(path) as image:
        assert image.frame_count == 300
        assert len(made) < 20
        image.frame(150)
    assert len(made) < 25
