"""The student at the start of a run."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from napari_kdsam.core.errors import CheckpointError
from napari_kdsam.model.checkpoint import (
    load_kdsam,
    load_tensors,
    read_tensors,
    tensor_names,
)
from napari_kdsam.model.network import PromptableModel, build_kdsam
from napari_kdsam.model.registry import DEFAULT_MODEL, find_model
from napari_kdsam.model.student import StudentEncoder

_TRUNK_FIRST = 'conv1.weight'
FRESH_LATERALS = 'fresh-laterals'


def starting_model(
    initial: Path | None, decoder: Path | None, input_size: int
) -> PromptableModel:
    """Build the student that a run starts from.

    Parameters
    ----------
    initial : pathlib.Path or None
        A KD SAM checkpoint, or a ResNet-50 in safetensors with torchvision's names;
        the bundled weights if None; ``fresh-laterals`` for those with untrained
        laterals, to try stage 1 without downloads.
    decoder : pathlib.Path or None
        SAM's prompt encoder and mask decoder, where `initial` has none.
    input_size : int
        512 or 1024; trunk and laterals serve both.

    Returns
    -------
    PromptableModel
        float32, on the CPU.

    Raises
    ------
    CheckpointError
        If a file cannot be used or the decoder is missing.
    """
    fresh = initial is not None and str(initial) == FRESH_LATERALS
    bundled = Path(find_model(DEFAULT_MODEL).path)
    path = bundled if initial is None or fresh else initial
    model = build_kdsam(input_size)
    assert isinstance(model.encoder, StudentEncoder)
    if _TRUNK_FIRST not in tensor_names(path):
        start = load_kdsam(path)
        model.load_state_dict(start.state_dict())
        if not fresh:
            model.identity = start.identity
            return model
        torch.manual_seed(0)
        for lateral in model.encoder.neck.children():
            if isinstance(lateral, nn.Conv2d):
                lateral.reset_parameters()
        return model
    if decoder is None:
        raise CheckpointError(
            f'{path.name} has an encoder only; set initial_decoder to the file with '
            "SAM's prompt encoder and mask decoder."
        )
    tensors = read_tensors(path)
    trunk = {name: t for name, t in tensors.items() if not name.startswith('fc.')}
    load_tensors(model.encoder.trunk, trunk, path.name)
    parts = nn.ModuleDict(
        {'prompt_encoder': model.prompt_encoder, 'mask_decoder': model.mask_decoder}
    )
    load_tensors(parts, read_tensors(decoder), decoder.name)
    return model
