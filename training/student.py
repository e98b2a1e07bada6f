"""The student at the start of a run, and which of its parts learn."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from napari_kdsam.core.errors import CheckpointError
from napari_kdsam.model.checkpoint import (
    load_kdsam,
    load_tensors,
    read_tensors,
    tensor_names,
)
from napari_kdsam.model.network import (
    PromptableModel,
    build_kdsam,
    normalise_pixels,
)
from napari_kdsam.model.registry import DEFAULT_MODEL, find_model
from napari_kdsam.model.student import (
    StudentEncoder,
)

_STEM = ('conv1', 'bn1')
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


def normalise(pixels: torch.Tensor, sizes: torch.Tensor) -> torch.Tensor:
    """Normalise (B, 3, S, S) RGB 0..255 and set the padding to 0 (SAM's convention).

    Parameters
    ----------
    pixels : torch.Tensor
        (B, 3, S, S) float or uint8.
    sizes : torch.Tensor
        (B, 2) height and width of the image part.

    Returns
    -------
    torch.Tensor
        (B, 3, S, S) float32, channels last.
    """
    inside = image_part(sizes, pixels.shape[-1], pixels.device)
    normal = normalise_pixels(pixels.float()) * inside
    return normal.contiguous(memory_format=torch.channels_last)


def image_part(sizes: torch.Tensor, side: int, device: torch.device) -> torch.Tensor:
    """(B, 1, side, side) float: 1 on the image part of a padded square, else 0."""
    line = torch.arange(side, device=device)
    sizes = sizes.to(device)
    rows = line[None, :] < sizes[:, :1]
    columns = line[None, :] < sizes[:, 1:]
    return (rows[:, None, :, None] & columns[:, None, None, :]).float()


def learning_groups(
    model: PromptableModel,
    *,
    decoder_rate: float,
    neck_rate: float,
    trunk_rate: float,
    frozen: list[str],
    weight_decay: float,
) -> list[dict[str, Any]]:
    """Choose what learns at which rate, and freeze everything else.

    One-dimensional parameters (norms, biases) get no weight decay.

    Returns
    -------
    list of dict
        Parameter groups for an optimiser.
    """
    model.requires_grad_(False)
    encoder = model.encoder
    assert isinstance(encoder, StudentEncoder)
    held = {name for name in frozen if name != 'stem'}
    held |= set(_STEM) if 'stem' in frozen else set()
    trunk = [
        p for n, p in encoder.trunk.named_parameters() if n.split('.')[0] not in held
    ]
    parts: list[tuple[float, Iterator[nn.Parameter] | list[nn.Parameter]]] = [
        (decoder_rate, model.mask_decoder.parameters()),
        (neck_rate, encoder.neck.parameters()),
        (trunk_rate, trunk),
    ]
    groups = []
    for rate, parameters in parts:
        chosen = list(parameters)
        if rate <= 0:
            continue
        for parameter in chosen:
            parameter.requires_grad_(True)
        matrices = [p for p in chosen if p.ndim > 1]
        vectors = [p for p in chosen if p.ndim <= 1]
        groups.append({'params': matrices, 'lr': rate, 'weight_decay': weight_decay})
        groups.append({'params': vectors, 'lr': rate, 'weight_decay': 0.0})
    return groups


def warmup_cosine(step: int, warmup: int, steps: int) -> float:
    """Factor of the learning rate: linear warm-up, then a cosine to 1 %."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    done = min(1.0, (step - warmup) / max(1, steps - warmup))
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done))
