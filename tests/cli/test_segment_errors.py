"""What `segment` says of bad inputs (exit code 1) and wrong usage (2)."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from io_fixtures import BOX, Run, errors_in, image_file, labels_in, record_of, runner_in
from missing_package import take_away
from PIL import Image
from typer.testing import CliRunner

from napari_kdsam.cli.main import app


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, fake_model: Any, tmp_path: Path) -> Run:
    return runner_in(tmp_path, monkeypatch, fake_model)


# Bad inputs: exit code 1, the others are done


def test_one_bad_input_does_not_stop_the_others(run: Run, tmp_path: Path) -> None:
    image_file(tmp_path / 'a.png')
    (tmp_path / 'bad.png').write_text('no image')
    image_file(tmp_path / 'c.png')
    result = run('segment', 'a.png', 'bad.png', 'c.png', *BOX, '-o', 'out', code=1)
    assert len(errors_in(result)) == 1
    assert (tmp_path / 'out/a_labels.png').exists()
    assert (tmp_path / 'out/c_labels.png').exists()
    lines = result.stdout.splitlines()
    assert lines[1].startswith('bad.png: failed (bad.png is not a PNG, JPEG, BMP')
    assert lines[-1].startswith('2 of 3 images done')


def nan_image(path: Path) -> None:
    np.save(path, np.full((64, 96), np.nan, np.float32))


def infinite_image(path: Path) -> None:
    np.save(path, np.full((64, 96), np.inf, np.float32))


def pickled_image(path: Path) -> None:
    np.save(path, np.array([{}], object), allow_pickle=True)


def empty_image(path: Path) -> None:
    np.save(path, np.zeros((0, 5), np.uint8))


def cut_image(path: Path) -> None:
    np.save(path, np.zeros((64, 96), np.uint8))
    path.write_bytes(path.read_bytes()[:-50])


def folder_image(path: Path) -> None:
    path.mkdir()


def small_image(path: Path) -> None:
    np.save(path, np.zeros((8, 8), np.uint8))


@pytest.mark.parametrize(
    ('make', 'problem'),
    [
        (nan_image, 'no finite pixel'),
        (infinite_image, 'no finite pixel'),
        (pickled_image, 'Python objects'),
        (empty_image, 'no pixels'),
        (cut_image, 'damaged or not complete'),
        (folder_image, 'is a folder'),
        (small_image, 'outside the image'),
    ],
)
def test_a_bad_image_is_one_sentence_that_names_it(
    run: Run, tmp_path: Path, make: Callable[[Path], None], problem: str
) -> None:
    make(tmp_path / 'bad.npy')
    result = run('segment', 'bad.npy', *BOX, '--out', 'out', code=1)
    (error,) = errors_in(result)
    assert 'bad.npy' in error
    assert problem in error
    assert list((tmp_path / 'out').iterdir()) == [], 'no half-written results'
    assert '0 of 1 images done' in result.stdout


def test_nan_and_infinite_pixels_among_good_ones_do_no_harm(
    run: Run, tmp_path: Path
) -> None:
    pixels = np.random.default_rng(0).normal(size=(64, 96))
    pixels[0, :4] = np.nan, np.inf, -np.inf, 1e300
    np.save(tmp_path / 'a.npy', pixels)
    run('segment', 'a.npy', *BOX, '--overlay', '--out', 'out')
    low, high = record_of(tmp_path / 'out/a.json')['result']['frames'][0]['intensity']
    assert -5 < low < high < 5


def test_a_one_pixel_image_is_segmented(run: Run, tmp_path: Path) -> None:
    Image.fromarray(np.array([[7]], np.uint8)).save(tmp_path / 'a.png')
    run('segment', 'a.png', '--point', '0,0', '--overlay', '--out', 'out')
    assert labels_in(tmp_path / 'out/a_labels.png').shape == (1, 1)


def test_a_frame_or_object_beyond_the_stack_is_refused(
    run: Run, tmp_path: Path
) -> None:
    image_file(tmp_path / 'cine.npy', (5, 64, 96))
    result = run('segment', 'cine.npy', *BOX, '--frame', '5', '-o', 'out', code=1)
    assert 'no frame 5; its frames are 0 to 4' in errors_in(result)[0]
    objects = [{'box': [1, 2, 3, 4], 'frame': 5}]
    (tmp_path / 'p.json').write_text(json.dumps({'format': 1, 'objects': objects}))
    result = run('segment', 'cine.npy', '--prompts', 'p.json', '-o', 'out', code=1)
    assert 'object 1 is for frame 5' in errors_in(result)[0]


def test_a_prompt_outside_the_image_names_the_object(run: Run, tmp_path: Path) -> None:
    image_file(tmp_path / 'a.png')
    boxes = [*BOX, '--box', '100,100,200,200']
    result = run('segment', 'a.png', *boxes, '--out', 'out', code=1)
    assert 'a.png: Object 2: The box' in errors_in(result)[0]
    result = run('segment', 'a.png', '--point', '-3,5', '--out', 'out', code=1)
    assert 'The point (-3, 5) is outside the image' in errors_in(result)[0]


def test_dicom_without_pydicom_fails_alone_and_says_what_to_install(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image_file(tmp_path / 'a.png')
    (tmp_path / 'b.dcm').write_bytes(b'\0' * 128 + b'DICM')
    take_away(monkeypatch, 'pydicom')
    monkeypatch.delitem(sys.modules, 'napari_kdsam.io.dicom', raising=False)
    result = run('segment', 'b.dcm', 'a.png', *BOX, '--out', 'out', code=1)
    assert 'b.dcm: Reading DICOM needs packages' in result.stderr
    assert "pip install 'napari-kdsam[medical]'" in result.stderr
    assert (tmp_path / 'out/a_labels.png').exists()


# Wrong usage: exit code 2, nothing is done


@pytest.mark.parametrize(
    ('arguments', 'problem'),
    [
        ([], 'Say where the object is'),
        (['--negative', '3,4'], 'Say where the object is'),
        (['--point', '3'], '--point takes 2 numbers R,C'),
        (['--point', '3;4'], '--point takes 2 numbers R,C'),
        (['--point', 'nan,4'], '2 numbers'),
        (['--box', '1,2,3'], '--box takes 4 numbers'),
        (['--box', '5,5,5,9'], 'no area'),
        ([*BOX, *BOX, '--point', '3,4'], 'Several boxes are several objects'),
        ([*BOX, '--prompts', 'p.json'], 'not both'),
        (['--prompts', 'lost.json'], 'no prompts file lost.json'),
        (['--prompts', 'p.json'], 'p.json has no objects for a.png'),
    ],
)
def test_a_wrong_prompt_is_refused_before_any_work(
    run: Run,
    tmp_path: Path,
    fake_model: Any,
    arguments: list[str],
    problem: str,
) -> None:
    image_file(tmp_path / 'a.png')
    images = {'other.png': {'objects': [{'box': [1, 2, 3, 4]}]}}
    (tmp_path / 'p.json').write_text(json.dumps({'format': 1, 'images': images}))
    result = run('segment', 'a.png', *arguments, '--out', 'out', code=2)
    (error,) = errors_in(result)
    assert problem in error
    assert result.stdout == ''
    assert fake_model.encoded == 0
    assert not (tmp_path / 'out').exists()


def test_a_folder_that_cannot_be_made_is_refused_before_any_work(
    run: Run, tmp_path: Path, fake_model: Any
) -> None:
    image_file(tmp_path / 'a.png')
    result = run('segment', 'a.png', *BOX, '--out', 'a.png/out', code=2)
    assert 'cannot be made' in errors_in(result)[0]
    assert fake_model.encoded == 0


@pytest.mark.parametrize(
    'arguments',
    [
        ['segment', 'a.png', '--point', '1,2'],
        ['segment', '--point', '1,2', '--out', 'out'],
        ['segment', 'a.png', '--format', 'bmp', '--out', 'out'],
        ['segment', 'a.png', '--frame', '-1', '--out', 'out'],
        ['paint'],
    ],
)
def test_unknown_commands_and_options_are_wrong_usage(
    run: Run, arguments: list[str]
) -> None:
    assert run(*arguments, code=2).stderr


@pytest.mark.parametrize(
    ('arguments', 'problem'),
    [
        (['--model', 'unet'], "no model called 'unet'"),
        (['--model', 'lost.safetensors'], 'no weights file at lost.safetensors'),
        (['--model', 'sam_vit_h'], 'models --download sam_vit_h'),
        (['--device', 'tpu'], "no device called 'tpu'"),
    ],
)
def test_an_unknown_model_or_device_is_refused_before_any_work(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    problem: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('NAPARI_KDSAM_MODELS', str(tmp_path / 'models'))
    image_file(tmp_path / 'a.png')
    arguments = ['segment', 'a.png', *BOX, '--out', 'out', *arguments]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    (error,) = errors_in(result)
    assert problem in error
    assert list((tmp_path / 'out').iterdir()) == []
