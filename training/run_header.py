"""Weights of a run as a KD SAM checkpoint that says where it came from."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from napari_kdsam.training.config import TrainingConfig
from napari_kdsam.training.data.samples import Sample

_LICENCE = (
    'Apache-2.0; trained on research data sets (Kvasir-SEG: research and education): '
    'see the model card'
)


def describe_run(
    config: TrainingConfig,
    stage: str,
    samples: Sequence[Sample],
    earlier: dict[str, Any],
) -> dict[str, Any]:
    """Describe a run for the checkpoint's header.

    Paths are reduced to file names, so that nothing of the computer is told.

    Parameters
    ----------
    config : TrainingConfig
        Of the run.
    stage : str
        ``encoder``, ``decoder`` or ``proposals``.
    samples : sequence of Sample
        What was trained on.
    earlier : dict
        The header of the checkpoint that the run started from.

    Returns
    -------
    dict
        Entries for the file's header.
    """
    counts = Counter((s.data_set, s.split) for s in samples)
    recipe = getattr(config, stage).model_dump(mode='json')
    teacher = config.teacher.weights.stem if config.teacher else ''
    history = list(earlier.get('history', []))
    if not history and earlier:
        history = [
            {
                'stage': 'start',
                'name': earlier.get('name', 'kdsam-bootstrap'),
                'teacher': earlier.get('teacher', ''),
            }
        ]
    history = [h for h in history if (h.get('run'), h['stage']) != (config.name, stage)]
    entry = {
        'stage': stage,
        'run': config.name,
        'steps': 0,
        'of_steps': recipe['steps'],
        'recipe': recipe,
        'loop': config.loop.model_dump(mode='json'),
        'images': {f'{name}/{split}': n for (name, split), n in sorted(counts.items())},
        'device': _device(),
        'commit': _commit(),
        'torch': str(torch.__version__),
    }
    if stage == 'encoder':
        entry['teacher'] = teacher
    return {
        'name': f'kdsam-{config.name}',
        'teacher': (teacher if stage == 'encoder' else '')
        or earlier.get('teacher', ''),
        'data': ', '.join(sorted({s.data_set for s in samples})),
        'licence': _LICENCE,
        'history': [*history, entry],
    }


def _device() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else 'cpu'


def _commit() -> str:
    here = Path(__file__).parent
    try:
        done = subprocess.run(
            ['git', 'describe', '--always', '--dirty', '--exclude', '*'],
            cwd=here,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return ''
    return done.stdout.strip()
