"""A small head on the frozen embedding that proposes where the target is."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import nn
from torch.nn import functional

from napari_kdsam.core.errors import CheckpointError, quoted
from napari_kdsam.core.sizes import EMBEDDING_CHANNELS, EMBEDDING_SIZE
from napari_kdsam.model.checkpoint import (
    check_format,
    load_tensors,
    opened,
    read_header,
    read_tensors,
)
from napari_kdsam.model.weights_file import write_weights

# Version 2 can name what is found; version 1 had no classes.
HEAD_FORMAT = 2
HEAD_KEY = 'kdsam_proposals'
ARCHITECTURE = 'dilated-centre-heatmap-32'
# One cell is 16 pixels of a 512 pixel input, finer than a target's centre is known.
HEATMAP_SIZE = EMBEDDING_SIZE // 2
_CHANNELS = 96
_REDUCED = 64
_DILATIONS = (1, 2, 4, 8)
_GROUPS = 8
_ENCODER_PREFIX = 'encoder.'
# Before anything is learnt, a centre is as rare as this.
_FIRST_SCORE_LOGIT = -4.0


class ProposalMetadata(BaseModel):
    """What a proposal head says of itself; keys beyond these are kept as they are.

    Attributes
    ----------
    format : int
        Version of this file format.
    architecture : str
        ``dilated-centre-heatmap-32``.
    encoder : str
        `encoder_digest` of the weights whose embeddings it reads.
    threshold : float
        Score from which a proposal counts.
    classes : tuple of str
        Names of what it tells apart; empty for a head that names nothing.
    data, licence : str
        What it was trained on, and on which terms.
    """

    model_config = ConfigDict(extra='allow')

    format: int = HEAD_FORMAT
    architecture: str = ''
    encoder: str = Field(min_length=1)
    threshold: float = Field(default=0.3, gt=0, lt=1)
    classes: tuple[str, ...] = ()
    data: str = ''
    licence: str = ''


class Maps(NamedTuple):
    """What a head reads off embeddings.

    Attributes
    ----------
    scores : torch.Tensor
        (B, 32, 32) logits: whether the centre of a target, of whatever class, is in a
        cell.
    boxes : torch.Tensor
        (B, 4, 32, 32): the box (row0, col0, row1, col1) that a cell proposes, as
        shares of the padded square's side.
    classes : torch.Tensor
        (B, C, 32, 32) logits of the class of a target with its centre there; C may
        be 0.
    """

    scores: torch.Tensor
    boxes: torch.Tensor
    classes: torch.Tensor


class _Block(nn.Module):
    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            channels, channels, 3, padding=dilation, dilation=dilation, bias=False
        )
        self.norm = nn.GroupNorm(_GROUPS, channels)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values + functional.silu(self.norm(self.conv(values)))


class ProposalHead(nn.Module):
    """Where the target's centre is, how large its box, and what it is.

    One heatmap serves all classes: where a nodule could be of the breast or of the
    thyroid, the doubt lowers the certainty of the name and not of the find. Of two
    structures with the same centre only one can be proposed.

    Parameters
    ----------
    metadata : ProposalMetadata, optional
        What the weights say of themselves; that of an untrained head by default.
    """

    def __init__(self, metadata: ProposalMetadata | None = None) -> None:
        super().__init__()
        self.metadata = metadata or ProposalMetadata(encoder='untrained')
        self.reduce = nn.Conv2d(EMBEDDING_CHANNELS, _REDUCED, 1, bias=False)
        self.reduce_norm = nn.GroupNorm(_GROUPS, _REDUCED)
        self.shrink = nn.Conv2d(_REDUCED, _CHANNELS, 4, stride=2, padding=1, bias=False)
        self.shrink_norm = nn.GroupNorm(_GROUPS, _CHANNELS)
        self.drop = nn.Dropout2d(0.1)
        self.blocks = nn.Sequential(
            *(_Block(_CHANNELS, dilation) for dilation in _DILATIONS)
        )
        self.score = nn.Conv2d(_CHANNELS, 1, 3, padding=1)
        self.geometry = nn.Conv2d(_CHANNELS, 4, 3, padding=1)
        last = [self.score, self.geometry]
        self.classify: nn.Conv2d | None = None
        if self.metadata.classes:
            count = len(self.metadata.classes)
            self.classify = nn.Conv2d(_CHANNELS, count, 3, padding=1)
            last.append(self.classify)
        for layer in last:
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        nn.init.constant_(self.score.bias, _FIRST_SCORE_LOGIT)  # type: ignore[arg-type]

    def forward(self, embedding: torch.Tensor) -> Maps:
        """Read the maps off (B, 256, 64, 64) float embeddings."""
        values = functional.silu(self.reduce_norm(self.reduce(embedding)))
        values = functional.silu(self.shrink_norm(self.shrink(self.drop(values))))
        values = self.blocks(values)
        boxes = boxes_of_cells(self.geometry(values))
        classes = values[:, :0] if self.classify is None else self.classify(values)
        return Maps(self.score(values)[:, 0], boxes, classes)


def boxes_of_cells(geometry: torch.Tensor) -> torch.Tensor:
    """Turn each cell's centre offset and size into a box.

    Parameters
    ----------
    geometry : torch.Tensor
        (B, 4, S, S): offset of the centre from the cell's (rows, columns, in cells),
        then logits of the height and width as shares of the side.

    Returns
    -------
    torch.Tensor
        (B, 4, S, S) (row0, col0, row1, col1) as shares of the side.
    """
    side = geometry.shape[-1]
    line = torch.arange(side, device=geometry.device, dtype=torch.float32) + 0.5
    values = geometry.float()
    row = (line[:, None] + values[:, 0]) / side
    column = (line[None, :] + values[:, 1]) / side
    half_height, half_width = torch.sigmoid(values[:, 2:]).unbind(1)
    half_height, half_width = half_height / 2, half_width / 2
    return torch.stack(
        [
            row - half_height,
            column - half_width,
            row + half_height,
            column + half_width,
        ],
        dim=1,
    )


def encoder_digest(path: str | os.PathLike[str]) -> str:
    """Identify the encoder of a KD SAM checkpoint by its values.

    Parameters
    ----------
    path : path-like
        A KD SAM safetensors file.

    Returns
    -------
    str
        32 hexadecimal digits; the same for files that differ in the decoder or the
        header only, empty for a file without an encoder of this kind.

    Raises
    ------
    CheckpointError
        If the file is missing.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f'There is no weights file at {path}.')
    if path.suffix != '.safetensors':
        return ''
    digest = hashlib.blake2b(digest_size=16)
    found = False
    with opened(path) as file:
        for name in sorted(file.keys()):
            if not name.startswith(_ENCODER_PREFIX):
                continue
            found = True
            tensor = file.get_tensor(name).contiguous()
            digest.update(f'{name} {tuple(tensor.shape)} {tensor.dtype};'.encode())
            digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest() if found else ''


def read_proposal_metadata(path: str | os.PathLike[str]) -> ProposalMetadata:
    """Read a proposal head's description without its tensors.

    Raises
    ------
    CheckpointError
        If the file is missing, is not safetensors, or does not describe a proposal
        head that this version understands.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f'There is no proposal head at {path}.')
    metadata = read_header(path, ProposalMetadata, HEAD_KEY, 'a proposal head')
    check_format(path, metadata.format, HEAD_FORMAT)
    if metadata.architecture != ARCHITECTURE:
        raise CheckpointError(
            f'{path.name} holds the architecture {quoted(metadata.architecture)}; '
            f'{ARCHITECTURE!r} is expected.'
        )
    return metadata


def load_head(path: str | os.PathLike[str], encoder: str) -> ProposalHead:
    """Load a proposal head for one encoder.

    Parameters
    ----------
    path : path-like
        Written by `save_head`.
    encoder : str
        `encoder_digest` of the model whose embeddings it shall read.

    Returns
    -------
    ProposalHead
        On the CPU, float32, in evaluation mode and without gradients.

    Raises
    ------
    CheckpointError
        If anything about the file is not as it should be, or it belongs to another
        encoder.
    """
    path = Path(path)
    metadata = read_proposal_metadata(path)
    if metadata.encoder != encoder:
        raise CheckpointError(
            f'The proposals of {path.name} were trained on the embeddings of another '
            'model; choose that model, or train proposals for this one with '
            'napari-kdsam train proposals.'
        )
    head = ProposalHead(metadata)
    load_tensors(head, read_tensors(path), path.name)
    return head.eval().requires_grad_(False)


def save_head(
    head: ProposalHead, path: str | os.PathLike[str], metadata: dict[str, Any]
) -> Path:
    """Write a proposal head; the file appears only when it is complete.

    Matrices and kernels are stored as float16, one-dimensional tensors as float32.

    Parameters
    ----------
    head : ProposalHead
        To be written.
    path : path-like
        Where to write.
    metadata : dict
        Entries of the header: ``encoder`` must be there, the others may; the classes
        are the head's own.

    Returns
    -------
    pathlib.Path
        The file written.

    Raises
    ------
    CheckpointError
        If a value does not fit float16.
    OSError
        If the file cannot be written.
    """
    path = Path(path)
    header = ProposalMetadata(
        **{
            **metadata,
            'format': HEAD_FORMAT,
            'architecture': ARCHITECTURE,
            'classes': head.metadata.classes,
        }
    )
    write_weights(path, head.state_dict(), HEAD_KEY, header)
    return path
