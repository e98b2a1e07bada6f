"""The other commands: models, info, help, and the demonstration."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from io_fixtures import errors_in, record_of
from typer.testing import CliRunner

from napari_kdsam.cli import main as cli
from napari_kdsam.cli import tables
from napari_kdsam.core.errors import ModelNotFoundError

# The other commands


def test_models_lists_every_model_and_where_its_file_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('NAPARI_KDSAM_MODELS', str(tmp_path))
    (tmp_path / 'sam_vit_b_01ec64.pth').touch()
    result = CliRunner().invoke(cli.app, ['models'])
    assert result.exit_code == 0
    rows = {line.split()[1]: line for line in result.stdout.splitlines() if '│' in line}
    assert 'bundled' in rows['kdsam']
    assert 'on this computer' in rows['sam_vit_b']
    assert 'not here' in rows['sam_vit_h']
    assert '641.1 M' in rows['sam_vit_h']
    assert 'Apache-2.0' in rows['sam_vit_h']
    assert f'sam_vit_h belongs in {tmp_path / "sam_vit_h_4b8939.pth"}' in result.stdout
    assert f'Models folder: {tmp_path}' in result.stdout


def test_models_downloads_on_request_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def download(name: str, *, progress: bool) -> Path:
        asked.append(name)
        if name == 'sam_vit_h':
            raise ModelNotFoundError('Downloading failed.')
        return tmp_path / name

    monkeypatch.setattr(tables, 'download_model', download)
    runner = CliRunner()
    assert runner.invoke(cli.app, ['models']).exit_code == 0
    assert asked == []
    result = runner.invoke(cli.app, ['models', '--download', 'sam_vit_b'])
    assert (result.exit_code, asked) == (0, ['sam_vit_b'])
    assert f'sam_vit_b is in {tmp_path / "sam_vit_b"}' in result.stdout
    failed = runner.invoke(cli.app, ['models', '--download', 'sam_vit_h'])
    assert (failed.exit_code, errors_in(failed)) == (1, ['Error: Downloading failed.'])
    unknown = runner.invoke(cli.app, ['models', '--download', 'unet'])
    assert unknown.exit_code == 2
    assert "no model called 'unet'" in errors_in(unknown)[0]


def test_info_shows_versions_devices_and_the_default_model() -> None:
    result = CliRunner().invoke(cli.app, ['info'])
    assert result.exit_code == 0
    shown = dict(
        line.strip().split(maxsplit=1) for line in result.stdout.splitlines() if line
    )
    assert shown['torch'].startswith('2.')
    assert 'cpu' in shown['Devices']
    assert 'resnet50' in shown['architecture']


def test_help_needs_no_torch_and_tells_the_overlap_rule() -> None:
    code = (
        'import sys\n'
        'from typer.testing import CliRunner\n'
        'from napari_kdsam.cli import main as cli\n'
        'print(CliRunner().invoke(cli.app, ["segment", "--help"]).stdout)\n'
        'assert "torch" not in sys.modules and "numpy" not in sys.modules'
    )
    done = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    text = ' '.join(done.stdout.split())
    assert 'the earlier object keeps the pixels where objects overlap' in text
    assert 'Exit code: 0 all inputs done, 1 some input failed' in text
    assert '[[R,C], ...]' in text


def test_the_program_itself_segments_with_the_bundled_weights(tmp_path: Path) -> None:
    pydicom = pytest.importorskip('pydicom')
    heart = pydicom.examples.get_path('ybr_color')
    (tmp_path / 'bad.png').write_text('no image')
    arguments = ['segment', str(heart), 'bad.png', '--box', '64,156,130,202']
    arguments += ['--frame', '0', '--out', 'out']
    done = subprocess.run(
        [sys.executable, '-m', 'napari_kdsam.cli.main', *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.count('\n') == 1, 'one sentence for the bad input, no more'
    labels = tifffile.imread(tmp_path / 'out/examples_ybr_color_labels.tif')
    assert labels.shape == (30, 240, 320)
    assert 0.6 < labels[0, 64:130, 156:202].mean() <= 1
    model = record_of(tmp_path / 'out/examples_ybr_color.json')['result']['model']
    assert model['name'] == 'kdsam'
    assert len(model['sha256']) == 64
    assert 'examples_ybr_color.dcm: 1 object in 1 frame' in done.stdout


def test_the_demonstration_works_on_real_images_and_is_accurate_on_phantoms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip('pydicom')
    from napari_kdsam import demo

    every = demo.real_cases()
    assert [case.name for case in every][1] == 'heart_cine'
    # The cine's 30 frames are covered above; the others are quick.
    monkeypatch.setattr(demo, 'real_cases', lambda: [*every[:1], *every[2:]])
    monkeypatch.setattr(demo, '_CINE_FRAMES', 2)
    seen: list[demo.DemoResult] = []
    monkeypatch.setattr('napari_kdsam.widgets.demo_view.show', seen.extend)
    result = CliRunner().invoke(cli.app, ['demo', '--out', str(tmp_path), '--view'])
    assert result.exit_code == 0, result.output
    assert '7 of 7 images done' in result.stdout
    dice = {
        row[1].strip(): float(row[6])
        for row in (line.split('│') for line in result.stdout.splitlines())
        if len(row) > 6 and row[6].strip().replace('.', '').isdigit()
    }
    assert len(dice) == 4
    assert min(dice.values()) > 0.85
    for item in seen:
        assert item.labels.shape == item.image.shape[: item.labels.ndim]
        assert item.rgb == (item.image.ndim > item.labels.ndim)
        covered = np.mean(item.labels > 0)
        assert 0.01 < covered < 0.5, item.name
        assert (tmp_path / f'{item.name}_overlay.png').exists()
    assert len(seen) == 7


@pytest.mark.parametrize('kind', ['dermoscopy', 'endoscopy', 'ultrasound'])
def test_a_box_finds_the_target_of_each_phantom(kind: str) -> None:
    import napari_kdsam as kdsam
    from napari_kdsam import phantoms
    from napari_kdsam.demo import dice_of

    phantom = getattr(phantoms, f'{kind}_phantom')(seed=3)
    predictor = kdsam.Predictor(kdsam.load_model(device='cpu'))
    embedding = predictor.embed(phantom.image)
    mask = predictor.predict(embedding, kdsam.Prompt(box=phantom.box)).mask
    assert dice_of(mask, phantom.mask) > 0.85


def test_the_demonstration_without_pydicom_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, 'pydicom.examples', None)
    result = CliRunner().invoke(cli.app, ['demo', '--out', str(tmp_path)])
    assert result.exit_code == 2
    assert "'napari-kdsam[medical]'" in result.stderr


def test_dice_of_masks() -> None:
    from napari_kdsam.demo import dice_of

    one, two = np.zeros((4, 4), bool), np.zeros((4, 4), bool)
    assert dice_of(one, two) == 1
    one[0], two[0, :2] = True, True
    assert dice_of(one, two) == pytest.approx(2 * 2 / 6)
