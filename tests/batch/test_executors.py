"""Batches as users run them: the command, killed processes and a Dask cluster."""

from __future__ import annotations

import csv
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from typer.testing import CliRunner

from napari_kdsam.cli.main import app
from napari_kdsam.core.errors import NotWrittenError
from napari_kdsam.inference.embedding_store import EmbeddingStore
from napari_kdsam.phantoms import ultrasound_phantom

COMMAND = [sys.executable, '-m', 'napari_kdsam.cli']


@pytest.fixture(scope='module')
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two phantoms, and a stack of six frames of another."""
    folder = tmp_path_factory.mktemp('images')
    for seed in range(2):
        Image.fromarray(ultrasound_phantom(seed).image).save(folder / f'scan{seed}.png')
    frame = ultrasound_phantom(2).image
    np.save(folder / 'cine.npy', np.stack([np.roll(frame, 2 * n, 1) for n in range(6)]))
    return folder


@pytest.fixture(scope='module')
def whole(images: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What an uninterrupted batch writes."""
    out = tmp_path_factory.mktemp('whole')
    subprocess.run(
        batch(images, out), check=True, env=environment(), capture_output=True
    )
    return contents(out)


def batch(images: Path, out: Path, *options: str) -> list[str]:
    prompts = ['--box', '60,60,200,240']
    return [*COMMAND, 'batch', str(images), '--out', str(out), *prompts, *options]


def contents(results: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(results)): path.read_bytes()
        for path in sorted(results.rglob('*'))
        if path.is_file()
    }


def environment() -> dict[str, str]:
    return {**os.environ, 'OMP_NUM_THREADS': '1'}


def test_the_command_writes_labels_and_a_manifest(images, whole):
    assert sorted(whole) == [
        'cine_labels.json',
        'cine_labels.tif',
        'manifest.csv',
        'scan0_labels.png',
        'scan1_labels.png',
    ]
    listed = list(csv.DictReader(whole['manifest.csv'].decode().splitlines()))
    assert len(listed) == 8
    assert {row['status'] for row in listed} == {'done'}


@pytest.mark.timeout(600)
def test_a_batch_killed_at_random_moments_resumes_to_the_same_bytes(
    images, whole, tmp_path
):
    out, chance, kills = tmp_path / 'out', random.Random(5), 0
    for _ in range(20):
        process = subprocess.Popen(
            batch(images, out, '--resume'),
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        # Once something is written there is something to lose.
        deadline = time.monotonic() + 60
        before = len(list(out.rglob('*')))
        while process.poll() is None and time.monotonic() < deadline:
            if len(list(out.rglob('*'))) > before:
                break
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.4))
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
    assert kills > 2
    subprocess.run(
        batch(images, out, '--resume'),
        check=True,
        env=environment(),
        capture_output=True,
    )
    assert contents(out) == whole


@pytest.mark.timeout(300)
def test_two_processes_write_what_one_writes(images, whole, tmp_path):
    out = tmp_path / 'out'
    done = subprocess.run(
        batch(images, out, '--workers', '2'),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = contents(out)
    assert sorted(found) == sorted(whole)
    ours, theirs = (
        tifffile.imread(folder)
        for folder in (out / 'cine_labels.tif', _written(tmp_path, whole))
    )
    # The number of threads may change the last bits of the network's arithmetic.
    assert (ours == theirs).mean() > 0.999


def _written(folder: Path, whole: dict[str, bytes]) -> Path:
    path = folder / 'whole.tif'
    path.write_bytes(whole['cine_labels.tif'])
    return path


@pytest.mark.timeout(300)
def test_a_dask_cluster_loses_nothing_when_a_worker_is_killed(images, whole, tmp_path):
    from distributed import LocalCluster

    out = tmp_path / 'out'
    with LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None
    ) as cluster:
        process = subprocess.Popen(
            batch(images, out, '--scheduler', cluster.scheduler_address),
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        while process.poll() is None and not list(out.rglob('*labels*')):
            time.sleep(0.02)
        nanny = next(iter(cluster.workers.values()))
        os.kill(nanny.pid, signal.SIGKILL)
        said, complained = process.communicate()
    assert process.returncode == 0, complained
    assert '8 done' in said
    assert sorted(contents(out)) == sorted(whole)


@pytest.mark.parametrize('address', ['tcp://127.0.0.1:1', 'foo'])
def test_a_scheduler_that_is_not_there_is_one_clear_sentence(images, tmp_path, address):
    result = subprocess.run(
        batch(images, tmp_path / 'out', '--scheduler', address),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert f'no Dask scheduler at {address}' in result.stderr
    assert 'Traceback' not in result.stderr


def test_a_store_that_is_full_ends_embedding_with_the_truth(
    images, tmp_path, monkeypatch, caplog
):
    store = tmp_path / 'store.zarr'
    put = EmbeddingStore.put

    def nearly_full(self, key, values):
        if len(self) == 2:
            raise NotWrittenError('The embedding store cannot be written (full).')
        return put(self, key, values)

    monkeypatch.setattr(EmbeddingStore, 'put', nearly_full)
    result = CliRunner().invoke(app, ['embed', str(images), '--out', str(store)])
    assert result.exit_code == 1
    assert '2 embedded, 0 there already, 0 failed, 6 not reached' in result.output
    assert (result.output + caplog.text).count('cannot be written (full)') == 1
    assert len(EmbeddingStore(store)) == 2


def test_embeddings_are_made_once_and_used_by_a_batch(images, tmp_path):
    store, out = tmp_path / 'store.zarr', tmp_path / 'out'
    embed = ['embed', str(images), '--out', str(store)]
    first = CliRunner().invoke(app, embed)
    assert first.exit_code == 0, first.output
    assert '8 embedded, 0 there already, 0 failed' in first.output
    assert len(EmbeddingStore(store)) == 8
    again = CliRunner().invoke(app, embed)
    assert '0 embedded, 8 there already, 0 failed' in again.output
    chunk = sorted(store.glob('[!.]*/c/0/0/0'))[0]
    chunk.write_bytes(b'\0' * chunk.stat().st_size)
    third = CliRunner().invoke(app, embed)
    assert '1 embedded, 7 there already' in third.output, 'damaged, so made again'
    result = CliRunner().invoke(app, batch(images, out, '--embeddings', str(store))[3:])
    assert result.exit_code == 0, result.output
    assert len(EmbeddingStore(store)) == 8


def test_wrong_use_is_one_clear_sentence(images, tmp_path):
    def said(*arguments: str) -> str:
        result = CliRunner().invoke(app, ['batch', *arguments])
        assert result.exit_code == 2
        return result.output

    out = str(tmp_path / 'out')
    assert 'Say where the object is' in said(str(images), '--out', out)
    assert 'no image file' in said(
        str(tmp_path / '*.png'), '--out', out, '--point', '1,2'
    )
    assert 'takes no prompts' in said(
        str(images), '--out', out, '--prompts', 'automatic', '--point', '1,2'
    )
    assert 'no prompts file' in said(str(images), '--out', out, '--prompts', 'x.json')
    (tmp_path / 'other').mkdir()
    (tmp_path / 'other' / 'notes.txt').write_text('mine')
    assert 'no embedding store' in said(
        str(images),
        '--out',
        out,
        '--point',
        '9,9',
        '--embeddings',
        str(tmp_path / 'other'),
    )
