"""Whole runs of training: they learn, go on after a kill, and share work."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from training_data import shared_data, write_shards

from napari_kdsam import Predictor, Prompt, load_model
from napari_kdsam.model.checkpoint import read_metadata
from napari_kdsam.model.proposal_head import encoder_digest, load_head

COMMAND = [sys.executable, '-m', 'napari_kdsam.cli', 'train']
SHORT = """
name: short
out: runs
data:
  sources: [{folder: "${KDSAM_SHARED}/data"}]
decoder:
  steps: 4
  batch_size: 1
  warmup_steps: 1
  neck_rate: 1.0e-4
  cross_entropy_weight: 0.5
  ema_decay: 0.5
loop: {precision: 32-true, accelerator: cpu, checkpoint_every: 1, validate_every: 9}
"""


@pytest.fixture(scope='session')
def phantom_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(tmp_path_factory.mktemp('shared') / 'data')


def environment(data: Path) -> dict[str, str]:
    return {**os.environ, 'KDSAM_SHARED': str(data.parent), 'OMP_NUM_THREADS': '1'}


def run(folder: Path, data: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=folder,
        env=environment(data),
        capture_output=True,
        text=True,
        check=False,
    )


def logged(folder: Path, column: str) -> list[float]:
    (path,) = folder.glob('logs/csv-from-0/metrics.csv')
    with path.open(newline='') as file:
        return [float(row[column]) for row in csv.DictReader(file) if row.get(column)]


@pytest.mark.timeout(1200)
def test_all_stages_run_on_twelve_images_and_their_losses_fall(
    tmp_path: Path, phantom_shards: Path
) -> None:
    data = shared_data() or phantom_shards
    done = run(tmp_path, data, 'all', '--config', 'smoke.yaml')
    assert done.returncode == 0, done.stderr
    run_folder = tmp_path / 'runs' / 'smoke'
    for stage in ('encoder', 'decoder'):
        losses = logged(run_folder / stage, 'train/loss')
        assert len(losses) == 12
        assert np.mean(losses[-4:]) < np.mean(losses[:4])
        assert min(logged(run_folder / stage, 'train/images_per_second')) > 0
        path = run_folder / f'{stage}.safetensors'
        entry = read_metadata(path).model_dump()['history'][-1]
        assert (entry['stage'], entry['run'], entry['steps']) == (stage, 'smoke', 12)
        assert sum(entry['images'].values()) == 12
        assert str(tmp_path) not in str(read_metadata(path))
        # No conversion step: the plugin and the command line load it by its path.
        predictor = Predictor(load_model(path, 'cpu'))
        image = np.zeros((40, 60, 3), np.uint8)
        mask = predictor.predict(
            predictor.embed(image), Prompt(box=(5, 5, 30, 40))
        ).mask
        assert mask.shape == (40, 60)
    losses = logged(run_folder / 'proposals', 'train/loss')
    assert np.mean(losses[-4:]) < np.mean(losses[:4])
    digest = encoder_digest(run_folder / 'decoder.safetensors')
    head = load_head(run_folder / 'proposals.safetensors', digest)
    assert len(head.metadata.classes) == 4
    assert (run_folder / 'proposals' / 'report.md').is_file()
    sheet = Image.open(run_folder / 'decoder/overlays/step-000012.png')
    assert np.asarray(sheet).std() > 10
    again = run(tmp_path, data, 'all', '--config', 'smoke.yaml')
    assert again.returncode == 0, again.stderr


@pytest.mark.timeout(900)
def test_a_killed_run_goes_on_to_the_weights_of_an_uninterrupted_one(
    tmp_path: Path, phantom_shards: Path
) -> None:
    results = []
    for name in ('whole', 'killed'):
        folder = tmp_path / name
        folder.mkdir()
        (folder / 'short.yaml').write_text(SHORT)
        if name == 'killed':
            kill_after_first_checkpoint(folder, phantom_shards)
        done = run(folder, phantom_shards, 'decoder', '--config', 'short.yaml')
        assert done.returncode == 0, done.stderr
        results.append(load_file(folder / 'runs/short/decoder.safetensors'))
    logs = tmp_path / 'killed/runs/short/decoder/logs'
    assert len(list(logs.glob('csv-from-*'))) == 2
    whole, killed = results
    assert whole.keys() == killed.keys()
    for key, tensor in whole.items():
        assert torch.equal(tensor, killed[key]), key


def kill_after_first_checkpoint(folder: Path, data: Path) -> None:
    process = subprocess.Popen(
        [*COMMAND, 'decoder', '--config', 'short.yaml'],
        cwd=folder,
        env=environment(data),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    checkpoint = folder / 'runs/short/decoder/last.ckpt'
    while not checkpoint.exists() and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.mark.timeout(900)
def test_two_processes_give_the_gradients_of_one_on_the_same_global_batch(
    tmp_path: Path, phantom_shards: Path
) -> None:
    script = Path(__file__).parents[1] / 'ddp_gradients.py'
    gradients = []
    for processes in (1, 2):
        out = tmp_path / f'{processes}.safetensors'
        command = [sys.executable, script, phantom_shards, str(processes), out]
        done = subprocess.run(
            command,
            env=environment(phantom_shards),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        gradients.append(load_file(out))
    one, two = gradients
    assert one.keys() == two.keys()
    assert any(name.startswith('model.encoder.neck') for name in one)
    largest = max(float(gradient.abs().max()) for gradient in one.values())
    for name, gradient in one.items():
        # Some gradients (of keys' biases) are zero but for rounding.
        scale = max(float(gradient.abs().max()), 1e-3 * largest)
        assert torch.allclose(gradient, two[name], atol=1e-3 * scale), name


def test_stage_two_without_its_encoder_says_what_to_do(
    tmp_path: Path, phantom_shards: Path
) -> None:
    done = run(tmp_path, phantom_shards, 'decoder', '--config', 'smoke.yaml')
    assert done.returncode == 2
    assert 'train encoder' in done.stderr
    assert 'Traceback' not in done.stderr


def test_a_damaged_checkpoint_is_not_resumed_from(
    tmp_path: Path, phantom_shards: Path
) -> None:
    (tmp_path / 'short.yaml').write_text(SHORT)
    folder = tmp_path / 'runs/short/decoder'
    folder.mkdir(parents=True)
    (folder / 'last.ckpt').write_bytes(b'half a file')
    done = run(tmp_path, phantom_shards, 'decoder', '--config', 'short.yaml')
    assert done.returncode == 1
    assert 'delete it' in done.stderr
    assert 'Traceback' not in done.stderr
