"""The command `info`."""

from __future__ import annotations

from typer.testing import CliRunner

from napari_kdsam.cli.main import app


def test_info_shows_versions_devices_and_the_default_model() -> None:
    result = CliRunner().invoke(app, ['info'])
    assert result.exit_code == 0
    shown = dict(
        line.strip().split(maxsplit=1) for line in result.stdout.splitlines() if line
    )
    assert shown['torch'].startswith('2.')
    assert 'cpu' in shown['Devices']
    assert 'resnet50' in shown['architecture']
