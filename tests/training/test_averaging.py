"""Averaging two checkpoints."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file
from typer.testing import CliRunner

from napari_kdsam import load_model, save_kdsam
from napari_kdsam.model.checkpoint import load_kdsam, read_metadata


@pytest.fixture
def moved(saved: Path, tmp_path: Path) -> Path:
    """The saved student with every weight shifted by one."""
    model = load_kdsam(saved)
    tensors = {
        k: v + 1 if v.is_floating_point() else v for k, v in model.state_dict().items()
    }
    model.load_state_dict(tensors)
    return save_kdsam(
        model, tmp_path / 'moved.safetensors', {'name': 'moved', 'val_box_dice': {}}
    )


def test_an_average_lies_between_both_and_says_where_it_came_from(
    saved: Path, moved: Path, tmp_path: Path
) -> None:
    from napari_kdsam.cli.train import app

    out = tmp_path / 'average.safetensors'
    result = CliRunner().invoke(
        app, ['average', str(moved), str(saved), '--out', str(out), '--share', '0.75']
    )
    assert result.exit_code == 0, result.output
    first, second, found = load_file(saved), load_file(moved), load_file(out)
    for name, tensor in found.items():
        wanted = first[name].float() * 0.25 + second[name].float() * 0.75
        assert float((tensor.float() - wanted).abs().max()) < 0.01, name
    header = read_metadata(out).model_dump()
    assert header['history'][-1]['share'] == 0.75
    assert 'val_box_dice' not in header, 'scores of another model'
    load_model(str(out), 'cpu')


def test_a_share_out_of_range_and_a_missing_file_are_refused_in_a_sentence(
    saved: Path, tmp_path: Path
) -> None:
    from napari_kdsam.cli.train import app
    from napari_kdsam.core.errors import CheckpointError
    from napari_kdsam.training.averaging import average_weights

    out = tmp_path / 'average.safetensors'
    with pytest.raises(CheckpointError, match='0 to 1'):
        average_weights(saved, saved, 1.5, out)
    missing = str(tmp_path / 'missing.safetensors')
    result = CliRunner().invoke(
        app, ['average', missing, str(saved), '--out', str(out)]
    )
    assert result.exit_code == 1
    assert 'missing.safetensors' in result.output
    assert not out.exists()
