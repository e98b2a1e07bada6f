"""The demonstration, on real images and on phantoms."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from napari_kdsam.cli.main import app
from napari_kdsam.io.results import is_replaceable, is_result


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
    result = CliRunner().invoke(app, ['demo', '--out', str(tmp_path), '--view'])
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
    # Its own files are replaced, and the phantoms are no results.
    assert all(is_replaceable(path) for path in tmp_path.iterdir())
    assert not is_result(tmp_path / 'ultrasound_phantom.png')
    assert not is_result(tmp_path / 'ultrasound_phantom_cine.tif')
    (tmp_path / 'lymph_node.json').write_text('{"mine": 1}')
    refused = CliRunner().invoke(app, ['demo', '--out', str(tmp_path)])
    assert refused.exit_code == 2
    assert 'lymph_node.json in' in refused.stderr


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
    result = CliRunner().invoke(app, ['demo', '--out', str(tmp_path)])
    assert result.exit_code == 2
    assert "'napari-kdsam[medical]'" in result.stderr


def test_dice_of_masks() -> None:
    from napari_kdsam.demo import dice_of

    one, two = np.zeros((4, 4), bool), np.zeros((4, 4), bool)
    assert dice_of(one, two) == 1
    one[0], two[0, :2] = True, True
    assert dice_of(one, two) == pytest.approx(2 * 2 / 6)
