"""The command `models`."""

from __future__ import annotations

from pathlib import Path

import pytest
from io_fixtures import errors_in
from typer.testing import CliRunner

from napari_kdsam.cli.main import app
from napari_kdsam.core.errors import ModelNotFoundError
from napari_kdsam.model import registry


def test_models_lists_every_model_and_where_its_file_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('NAPARI_KDSAM_MODELS', str(tmp_path))
    (tmp_path / 'sam_vit_b_01ec64.pth').touch()
    result = CliRunner().invoke(app, ['models'])
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

    monkeypatch.setattr(registry, 'download_model', download)
    runner = CliRunner()
    assert runner.invoke(app, ['models']).exit_code == 0
    assert asked == []
    result = runner.invoke(app, ['models', '--download', 'sam_vit_b'])
    assert (result.exit_code, asked) == (0, ['sam_vit_b'])
    assert f'sam_vit_b is in {tmp_path / "sam_vit_b"}' in result.stdout
    failed = runner.invoke(app, ['models', '--download', 'sam_vit_h'])
    assert (failed.exit_code, errors_in(failed)) == (1, ['Error: Downloading failed.'])
    unknown = runner.invoke(app, ['models', '--download', 'unet'])
    assert unknown.exit_code == 2
    assert "no model called 'unet'" in errors_in(unknown)[0]
