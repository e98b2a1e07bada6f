"""The same file is the same picture in the viewer, `segment`, `batch` and `evaluate`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import tifffile
from dicom_files import dataset_of
from fakes import SeeingModel
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageOps
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
    '.tif': ('1', 'L', 'LA', 'P', 'RGB', 'RGBA', 'I;16', 'F', 'CMYK', 'YCbCr', 'LAB'),
    '.dcm': ('MONOCHROME1', 'MONOCHROME2', 'RGB', 'YBR_FULL', 'u2', 'i2'),
    '.nii': ('u1', 'i2', 'f4'),
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
        np.save(path, deep(drawn, mode))
        return path
    if suffix == '.nii':
        volume = nibabel.Nifti1Image(deep(drawn, mode).T, np.eye(4))
        nibabel.save(volume, path)
        return path
    if suffix == '.dcm':
        as_dicom(drawn, mode).save_as(path, enforce_file_format=True)
        return path
    stored = turned(Image.fromarray(drawn), BACK.get(number, number))
    if mode in ('I;16', 'F'):
        grey = np.asarray(stored.convert('L'))
        stored = Image.fromarray(
            grey.astype(np.uint16 if mode == 'I;16' else np.float32) * 200
        )
    elif mode == 'LAB':
        ends = (ImageCms.createProfile('sRGB'), ImageCms.createProfile('LAB'))
        stored = ImageCms.profileToProfile(stored, *ends, outputMode='LAB')
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


def deep(drawn: np.ndarray, dtype: str) -> np.ndarray:
    """The red of a picture, spread beyond 8 bits where the type has more."""
    return drawn[..., 0].astype(dtype) * (1 if dtype == 'u1' else 3)


def as_dicom(drawn: np.ndarray, mode: str) -> Any:
    if mode in ('u2', 'i2'):
        return dataset_of(deep(drawn, mode))
    if mode == 'YBR_FULL':
        stored = np.asarray(Image.fromarray(drawn).convert('YCbCr'))
    else:
        stored = drawn if mode == 'RGB' else np.ascontiguousarray(drawn[..., 0])
    stored = 255 - stored if mode == 'MONOCHROME1' else stored
    return dataset_of(stored, PhotometricInterpretation=mode)


def turned(picture: Image.Image, number: int) -> Image.Image:
    picture.getexif()[ORIENTATION] = number
    return ImageOps.exif_transpose(picture)


def seen_of(array: np.ndarray) -> np.ndarray:
    """What the model is shown when an array is embedded."""
    model = SeeingModel()
    Predictor(model).embed(array)
    return model.shown[0]


def seen_by(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> list[np.ndarray]:
    """What a command shows the model, frame by frame."""
    model = SeeingModel()
    monkeypatch.setattr('napari_kdsam.model.loading.load_model', lambda *_: model)
    predictor_for.cache_clear()
    done = CliRunner().invoke(app, [str(item) for item in arguments])
    predictor_for.cache_clear()
    assert done.exit_code == 0, done.output
    return model.shown


@settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@example(('.jpg', 'RGB', 6, None))
@example(('.tif', 'CMYK', 3, 'tiff_lzw'))
@example(('.webp', 'RGBA', 8, None))
@example(('.dcm', 'YBR_FULL', 1, None))
@example(('.nii', 'i2', 1, None))
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
            'viewer': seen_of(viewer),
            'evaluate': seen_of(evaluated),
            'segment': seen_by(
                monkeypatch, 'segment', path, '--out', root / 'one', *box
            )[0],
            'batch': seen_by(monkeypatch, 'batch', path, '--out', root / 'many', *box)[
                0
            ],
        }
    assert layer == 'image'
    assert viewer.shape[:2] == (ROWS, COLUMNS)
    for look in looks.values():
        np.testing.assert_array_equal(look, looks['viewer'])
    brightness = viewer[..., :3].mean(-1) if viewer.ndim == 3 else viewer.astype(float)
    corners = [brightness[row, column] for row in (2, -3) for column in (2, -3)]
    assert corners[0] < min(corners[1:])


def stack_of(folder: Path, suffix: str, form: str) -> Path:
    """Three frames of which the second has a dark corner of its own."""
    frames = np.full((3, ROWS, COLUMNS, 3), 200, np.uint8)
    frames[:, :10, :12] = 20, 40, 160
    frames[1, -6:, -8:] = 10
    path = folder / f'a{suffix}'
    if suffix in ('.gif', '.webp'):
        first, *rest = (Image.fromarray(frame) for frame in frames)
        options = {'lossless': True} if suffix == '.webp' else {}
        first.save(path, save_all=True, append_images=rest, **options)
    elif suffix == '.dcm':
        dataset_of(frames, 3).save_as(path, enforce_file_format=True)
    elif suffix == '.nii':
        volume = frames[..., 0].astype(form).transpose(2, 1, 0)
        nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), path)
    elif form == 'planar':
        planes = np.moveaxis(frames, -1, 1)
        tifffile.imwrite(path, planes, photometric='rgb', planarconfig='separate')
    else:
        lying = np.ascontiguousarray(np.rot90(frames, axes=(1, 2)))
        with tifffile.TiffWriter(path) as tiff:
            for page in lying.astype('u2') * 257 if form == 'u2' else lying:
                tag = (ORIENTATION, 'H', 1, 6, True)
                tile = (16, 16) if form == 'tiled' else None
                tiff.write(page, photometric='rgb', tile=tile, extratags=[tag])
            preview = lying[0, ::4, ::4]
            tiff.write(preview, photometric='rgb', subfiletype=1)
    return path


@pytest.mark.parametrize(
    ('suffix', 'form'),
    [
        ('.tif', 'u2'),
        ('.tif', 'tiled'),
        ('.tif', 'planar'),
        ('.gif', ''),
        ('.webp', ''),
        ('.dcm', ''),
        ('.nii', 'i2'),
    ],
)
def test_a_frame_is_one_picture_everywhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, suffix: str, form: str
) -> None:
    path = stack_of(tmp_path, suffix, form)
    box = ['--box', '1,1,20,30']
    ((data, _, _),) = read_layers(path)
    assert data.shape[:3] == (3, ROWS, COLUMNS)
    viewer = np.asarray(data[1])
    grey = viewer[..., 0] if viewer.ndim == 3 else viewer
    assert max(grey[2, 2], grey[-3, -3]) < min(grey[2, -3], grey[-3, 2])

    seen = seen_of(viewer)
    single = seen_by(
        monkeypatch, 'segment', path, '--out', tmp_path / 'one', '--frame', 1, *box
    )
    frames = seen_by(monkeypatch, 'batch', path, '--out', tmp_path / 'many', *box)
    np.testing.assert_array_equal(single, [seen])
    np.testing.assert_array_equal(frames[1], seen)
