"""Measure how fast both stages train, and what limits them.

Each stage trains for a few steps in a process of its own, on the images of a folder of
shards or on phantoms, from the bundled weights. Its steps are timed without waiting for
the device, then their launches alone, then (on CUDA) the kernels by torch's profiler, and
last each part of a step, waiting for the device after each. A teacher is not needed:
stage 1 learns from random numbers instead of embeddings, which takes as long.

An earlier version of the training, on NumPy and a data loader, is compared in the same
run, in turns, with `--old FOLDER`, a checkout of commit bed3bac that you make with
`git worktree add FOLDER bed3bac`. It reads its images in every step, as it always did, but
not its embeddings. It knows the data sets kvasir_seg, isic, busi, busbra and hc18; give
others to neither.

Usage: python benchmarks/training_speed.py [--data FOLDER] [--old FOLDER] [--batch-size N]
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

STAGES = {'encoder': 'stage 1', 'decoder': 'stage 2'}
VERSIONS = ('old', 'new')
# From here on a share of a step's time counts as all of it.
_MOST = 0.85


def write_phantoms(folder: Path, count: int) -> None:
    """Write drawn pictures as shards, so that they are read as real images are."""
    from PIL import Image

    from napari_kdsam import phantoms

    makers = {
        'kvasir_seg': phantoms.endoscopy_phantom,
        'isic': phantoms.dermoscopy_phantom,
        'busi': phantoms.ultrasound_phantom,
    }
    names = list(makers)
    lines = [('dataset', 'split', 'stem', 'shard')]
    with tarfile.open(folder / 'phantoms.tar', 'w') as tar:

        def add(name: str, array: NDArray[np.uint8], kind: str) -> None:
            buffer = io.BytesIO()
            Image.fromarray(array).save(buffer, kind)
            entry = tarfile.TarInfo(name)
            entry.size = buffer.tell()
            buffer.seek(0)
            tar.addfile(entry, buffer)

        for number in range(count):
            name = names[number % len(names)]
            phantom, stem = makers[name](seed=number), f'{number:04d}'
            add(f'{stem}.jpg', phantom.image, 'JPEG')
            add(f'{stem}.mask.png', phantom.mask.astype(np.uint8) * 255, 'PNG')
            lines.append((name, 'train', stem, 'phantoms.tar'))
    with (folder / 'index.csv').open('w', newline='', encoding='utf-8') as file:
        csv.writer(file).writerows(lines)


def measure(options: Any) -> dict[str, Any]:
    """Measure one stage of one version in this process."""
    import napari_kdsam

    if options.measure == 'old':
        # Installing that version would have made its folder `training` part of it.
        napari_kdsam.__path__.append(str(options.old))
    import torch
    from training_steps import time_stage
    from training_versions import new_stage, old_stage

    from napari_kdsam.training.data.shards import read_shards

    samples = read_shards(options.data, options.data_sets)
    samples = samples[:: max(1, len(samples) // options.images)]
    build = old_stage if options.measure == 'old' else new_stage
    stage, feed = build(options.part, samples, options)
    found: dict[str, Any] = time_stage(
        stage,
        feed,
        device=torch.device(options.device),
        precision=options.precision,
        warm_up=options.warm_up,
        steps=options.steps,
    )
    return found


def measured(version: str, part: str, data: Path, options: Any) -> dict[str, Any]:
    """Measure one stage of one version in a new process."""
    values: dict[str, Any] = {
        **vars(options),
        'measure': version,
        'part': part,
        'data': data,
    }
    plain = {k: str(v) if isinstance(v, Path) else v for k, v in values.items()}
    environment = dict(os.environ)
    if version == 'old':
        environment['PYTHONPATH'] = str(options.old / 'src')
    finished = subprocess.run(
        [sys.executable, str(Path(__file__).resolve()), '--measure', json.dumps(plain)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if finished.returncode:
        raise SystemExit(f'{version}, {STAGES[part]}: failed, see above.')
    found: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
    print(f'{version}, {STAGES[part]}: {1000 * found["whole"]:.0f} ms', file=sys.stderr)
    return found


def medians(runs: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Medians over several measurements of the same."""
    runs = list(runs)
    found: dict[str, Any] = {
        key: None if runs[0][key] is None else float(np.median([r[key] for r in runs]))
        for key in ('whole', 'launch', 'busy', 'memory')
    }
    found['parts'] = {
        part: float(np.median([run['parts'][part] for run in runs]))
        for part in runs[0]['parts']
    }
    return found


def limit_of(found: dict[str, Any]) -> str:
    """What a step waits for."""
    if found['busy'] is None:
        return 'the processor'
    if found['busy'] > _MOST * found['whole']:
        return 'the GPU'
    if found['launch'] > _MOST * found['whole']:
        return 'the host, which launches'
    return 'images, which are waited for'


def tables(found: dict[tuple[str, str], dict[str, Any]], batch_size: int) -> str:
    """Both tables, from the medians by part and version."""
    lines = [
        '| stage | version | images/s | step, ms | host, ms | GPU busy | memory, GB | limit |',
        '|---|---|--:|--:|--:|--:|--:|---|',
    ]
    for (part, version), own in found.items():
        busy = memory = 'n/a'
        if own['busy'] is not None:
            busy = f'{min(1.0, own["busy"] / own["whole"]):.0%}'
            memory = f'{own["memory"] / 1e9:.1f}'
        lines.append(
            f'| {STAGES[part]} | {version} | {batch_size / own["whole"]:.1f} '
            f'| {1000 * own["whole"]:.1f} | {1000 * own["launch"]:.1f} | {busy} '
            f'| {memory} | {limit_of(own)} |'
        )
    columns = [f'{STAGES[part]}, {version}' for part, version in found]
    lines += ['', f'| part of a step, ms | {" | ".join(columns)} |']
    lines += ['|---|' + '--:|' * len(columns)]
    for name in next(iter(found.values()))['parts']:
        cells = [f'{1000 * own["parts"][name]:.1f}' for own in found.values()]
        lines.append(f'| {name} | {" | ".join(cells)} |')
    return '\n'.join(lines)


def resolved(options: Any) -> Any:
    """Fill in what depends on the computer."""
    import torch

    from napari_kdsam.model.device import preferred_dtype, resolve_device

    device = resolve_device(options.device)
    on_gpu = device.type == 'cuda'
    options.device = str(device)
    if options.precision == 'auto':
        native = (
            torch.cuda.is_bf16_supported(including_emulation=False)
            if on_gpu
            else preferred_dtype(device) == torch.bfloat16
        )
        options.precision = 'bf16-mixed' if native else '32-true'
    if options.compile is None:
        options.compile = on_gpu
    return options


def main() -> None:
    """Measure what was asked for and print the tables."""
    if sys.argv[1:2] == ['--measure']:
        options = SimpleNamespace(**json.loads(sys.argv[2]))
        print(json.dumps(measure(options)))
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--data', type=Path, help='shards; phantoms if left out')
    parser.add_argument('--data-sets', nargs='+', default=[], help='of these; all')
    parser.add_argument('--images', type=int, default=256, help='to draw from')
    parser.add_argument('--old', type=Path, help='a checkout of commit bed3bac')
    parser.add_argument('--stages', nargs='+', choices=STAGES, default=list(STAGES))
    parser.add_argument('--batch-size', type=int, default=64)
    parser.add_argument('--device', default='auto')
    parser.add_argument(
        '--precision', choices=('auto', '32-true', 'bf16-mixed'), default='auto'
    )
    parser.add_argument(
        '--compile',
        action=argparse.BooleanOptionalAction,
        help='of the new version; by default on a GPU',
    )
    parser.add_argument('--anchor', help='model that the new stage 2 is held to')
    parser.add_argument('--workers', type=int, default=min(12, os.cpu_count() or 1))
    parser.add_argument('--warm-up', type=int, default=5, help='steps, at least 1')
    parser.add_argument('--steps', type=int, default=20)
    parser.add_argument('--rounds', type=int, default=1, help='of all measurements')
    options = resolved(parser.parse_args())
    versions = [v for v in VERSIONS if v == 'new' or options.old]
    with tempfile.TemporaryDirectory() as folder:
        data = options.data
        if data is None:
            data = Path(folder)
            write_phantoms(data, options.images)
        runs: dict[tuple[str, str], list[dict[str, Any]]] = {
            (part, version): [] for part in options.stages for version in versions
        }
        for number in range(options.rounds):
            for part in options.stages:
                for version in versions[:: -1 if number % 2 else 1]:
                    found = measured(version, part, data, options)
                    runs[part, version].append(found)
    print(tables({k: medians(v) for k, v in runs.items()}, options.batch_size))
    print(
        f'\nBatch {options.batch_size}, {options.device}, '
        f'{options.precision}, encoder {"" if options.compile else "not "}compiled '
        f'(old: never), {options.steps} steps, {options.rounds} rounds. Parts are timed '
        'one by one and add up to more than a step, whose parts overlap.'
    )


if __name__ == '__main__':
    main()
