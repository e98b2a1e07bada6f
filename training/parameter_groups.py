"""What learns at which rate, and what decays."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from napari_kdsam.model.network import PromptableModel
from napari_kdsam.model.student import StudentEncoder

_STEM = ('conv1', 'bn1')


def decay_groups(
    parameters: Iterable[nn.Parameter], rate: float, weight_decay: float
) -> list[dict[str, Any]]:
    """Group parameters for an optimiser; norms and biases get no weight decay."""
    chosen = list(parameters)
    matrices = [p for p in chosen if p.ndim > 1]
    vectors = [p for p in chosen if p.ndim <= 1]
    return [
        {'params': matrices, 'lr': rate, 'weight_decay': weight_decay},
        {'params': vectors, 'lr': rate, 'weight_decay': 0.0},
    ]


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
    parts: list[tuple[float, Iterable[nn.Parameter]]] = [
        (decoder_rate, model.mask_decoder.parameters()),
        (neck_rate, encoder.neck.parameters()),
        (trunk_rate, trunk),
    ]
    groups = []
    for rate, parameters in parts:
        if rate > 0:
            groups += decay_groups(parameters, rate, weight_decay)
    for group in groups:
        for parameter in group['params']:
            parameter.requires_grad_(True)
    return groups
