"""The program as a whole: its help, and how it is started."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import tifffile
from io_fixtures import record_of


def test_help_needs_no_torch_and_tells_the_overlap_rule() -> None:
    code = (
        'import sys\n'
        'from typer.testing import CliRunner\n'
        'from napari_kdsam.cli.main import app\n'
        'print(CliRunner().invoke(app, ["segment", "--help"]).stdout)\n'
        'assert "torch" not in sys.modules and "numpy" not in sys.modules'
    )
    done = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    text = ' '.join(done.stdout.split())
    assert 'the earlier object keeps the pixels where objects overlap' in text
    assert 'Exit code: 0 all inputs done or skipped, 1 some input failed' in text
    assert '[[R,C], ...]' in text


def test_the_program_itself_segments_with_the_bundled_weights(tmp_path: Path) -> None:
    pydicom = pytest.importorskip('pydicom')
    heart = pydicom.examples.get_path('ybr_color')
    (tmp_path / 'bad.png').write_text('no image')
    arguments = ['segment', str(heart), 'bad.png', '--box', '64,156,130,202']
    arguments += ['--frame', '0', '--out', 'out']
    done = subprocess.run(
        [sys.executable, '-m', 'napari_kdsam.cli', *arguments],
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
