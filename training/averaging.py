"""Average a fine-tuned model with the one it started from.

Fine-tuning on few kinds of images forgets others; the average of both weights keeps most of
what was gained and most of what was there (Wortsman et al. 2022, "Robust fine-tuning of
zero-shot models").
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from napari_kdsam.core.errors import CheckpointError
from napari_kdsam.model.checkpoint import load_kdsam, read_metadata, save_kdsam


def average_weights(tuned: Path, start: Path, share: float, out: Path) -> Path:
    """Write ``share * tuned + (1 - share) * start`` as a checkpoint.

    Parameters
    ----------
    tuned, start : pathlib.Path
        KD SAM checkpoints, of which the first was trained from the second.
    share : float
        Of the tuned weights, 0 to 1.
    out : pathlib.Path
        Where to write; its header is that of `tuned`, with one more step of history.

    Returns
    -------
    pathlib.Path
        The file written.

    Raises
    ------
    CheckpointError
        If a file cannot be used, they differ in size, or the share is out of range.
    """
    if not 0 <= share <= 1:
        raise CheckpointError(f'The share of the tuned weights is 0 to 1, not {share}.')
    model, other = load_kdsam(tuned), load_kdsam(start)
    if model.input_size != other.input_size:
        raise CheckpointError(
            f'{tuned.name} takes {model.input_size} pixels and {start.name} '
            f'{other.input_size}; only models of one size can be averaged.'
        )
    mine, theirs = model.state_dict(), other.state_dict()
    model.load_state_dict(
        {
            name: torch.lerp(theirs[name], tensor, share)
            if tensor.is_floating_point()
            else tensor
            for name, tensor in mine.items()
        }
    )
    return save_kdsam(model, out, _header(tuned, start, share))


def _header(tuned: Path, start: Path, share: float) -> dict[str, Any]:
    kept = read_metadata(tuned).model_dump()
    for name in ('format', 'architecture', 'input_size'):
        kept.pop(name)
    # Scores of either model are not those of their average.
    header = {k: v for k, v in kept.items() if not k.startswith('val_')}
    step = {
        'stage': 'average',
        'with': str(read_metadata(start).model_dump().get('name', start.stem)),
        'share': share,
    }
    return {**header, 'history': [*header.get('history', []), step]}
