"""The same file is the same picture in the viewer, `segment`, `batch` and `evaluate`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import SeeingModel
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from typer.testing import CliRunner

from napari_kdsam import Predictor
from napari_kdsam.batch.work import predictor_for
from napari_kdsam.cli.main import app
from napari_kdsam.training.evaluation.folder import samples_of_folder
from napari_kdsam.widgets.napari_io import read_layers

ROWS, COLUMNS = 24, 40
ORIENTATION = 0x0112
MODES = {
    '.png': ('1', 'L', 'LA', 'P', 'RGB', 'RGBA', 'I;16'),
    '.jpg': ('L', 'RGB', 'CMYK'),
    '.bmp': ('1', 'L', 'P', 'RGB'),
    '.gif': ('L', 'P'),
    '.webp': ('RGB', 'RGBA'),
    '.tif': ('1', 'L', 'LA', 'P', 'RGB', 'RGBA', 'I;16', 'F', 'CMYK', 'YCbCr'),
    '.npy': ('u1', 'u2', 'i4', 'f2', 'f4'),
}
TURNED = ('.png', '.jpg', '.webp', '.tif')
COMPRESSIONS = (None, 'tiff_lzw', 'tiff_adobe_deflate', 'packbits')
BACK = {6: 8, 8: 6}


@st.composite
def pictures(draw: st.DrawFn) -> tuple[str, str, int, str | None]:
    suffix = draw(st.sampled_from(sorted(MODES)))
    return (
        suffix,
        draw(st.sampled_from(MODES[suffix])),
        draw(st.integers(1, 8)) if suffix in TURNED else 1,
        draw(st.sampled_from(COMPRESSIONS)) if suffix == '.tif' else None,
    )


def saved(folder: Path, kind: tuple[str, str, int, str | None]) -> Path:
    """A bright picture whose top left corner is dark, as a file of some kind."""
    suffix, mode, number, compression = kind
    drawn = np.full((ROWS, COLUMNS, 3), (218, 170, 138), np.uint8)
    drawn[:10, :12] = 20, 40, 160
    path = folder / f'a{suffix}'
    if suffix == '.npy':
        np.save(path, drawn[..., 0].astype(mode) * (1 if mode == 'u1' else 3))
        return path
    stored = turned(Image.fromarray(drawn), BACK.get(number, number))
    if mode in ('I;16', 'F'):
        deep = np.asarray(stored.convert('L')).astype(
            np.uint16 if mode == 'I;16' else np.float32
        )
        stored = Image.fromarray(deep * 200)
    elif mode == '1':
        stored = stored.convert('L').point(lambda value: value > 99, '1')
    elif mode == 'P':
        stored = stored.quantize(16)
    else:
        stored = stored.convert(mode)
    if mode in ('LA', 'RGBA'):
        stored.putalpha(200)
    if suffix == '.tif':
        stored.save(path, compression=compression, tiffinfo={ORIENTATION: number})
    elif suffix in TURNED:
        exif = Image.Exif()
        exif[ORIENTATION] = number
        stored.save(path, exif=exif)
    else:
        stored.save(path)
    return path


def turned(picture: Image.Image, number: int) -> Image.Image:
    picture.getexif()[ORIENTATION] = number
    return ImageOps.exif_transpose(picture)


def shown_to(run: Any) -> np.ndarray:
    """What the model is shown when something is done with it."""
    model = SeeingModel()
    run(model)
    assert model.shown
    return model.shown[0]


def by_command(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> np.ndarray:
    def run(model: SeeingModel) -> None:
        monkeypatch.setattr('napari_kdsam.model.loading.load_model', lambda *_: model)
        predictor_for.cache_clear()
        done = CliRunner().invoke(app, [str(item) for item in arguments])
        predictor_for.cache_clear()
        assert done.exit_code == 0, done.output

    return shown_to(run)


@settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@example(('.jpg', 'RGB', 6, None))
@example(('.tif', 'CMYK', 3, 'tiff_lzw'))
@given(kind=pictures())
def test_a_file_is_one_picture_everywhere(
    monkeypatch: pytest.MonkeyPatch, kind: tuple[str, str, int, str | None]
) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        (root / 'images').mkdir()
        (root / 'masks').mkdir()
        path = saved(root / 'images', kind)
        Image.new('L', (COLUMNS, ROWS), 255).save(root / 'masks' / 'a.png')
        box = ['--box', '1,1,20,30']

        ((data, _, layer),) = read_layers(path)
        viewer = np.asarray(data)
        (sample,) = samples_of_folder(root)
        evaluated, _ = sample.read()

        looks = {
            'viewer': shown_to(lambda model: Predictor(model).embed(viewer)),
            'evaluate': shown_to(lambda model: Predictor(model).embed(evaluated)),
            'segment': by_command(
                monkeypatch, 'segment', path, '--out', root / 'one', *box
            ),
            'batch': by_command(
                monkeypatch, 'batch', path, '--out', root / 'many', *box
            ),
        }
    assert layer == 'image'
    assert viewer.shape[:2] == (ROWS, COLUMNS)
    for look in looks.values():
        np.testing.assert_array_equal(look, looks['viewer'])
    brightness = viewer[..., :3].mean(-1) if viewer.ndim == 3 else viewer.astype(float)
    corners = [brightness[row, column] for row in (2, -3) for column in (2, -3)]
    assert corners[0] < min(corners[1:])
