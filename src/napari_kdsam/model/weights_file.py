"""Weights files: told from others by content, and written as one safetensors file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from pydantic import BaseModel
from safetensors.torch import save_file

from napari_kdsam.core.errors import CheckpointError
from napari_kdsam.core.files import replacing
from napari_kdsam.model.network import ModelIdentity


def weights_key(*files: Path) -> str:
    """Identify a model by the bytes of its files, wherever and since when they are there.

    Parameters
    ----------
    *files : pathlib.Path
        In the order of `ModelIdentity.path` and `ModelIdentity.parts`.

    Returns
    -------
    str
        64 hexadecimal digits.

    Raises
    ------
    CheckpointError
        If a file cannot be read.
    """
    total = hashlib.sha256()
    for path in files:
        try:
            with path.open('rb') as file:
                total.update(hashlib.file_digest(file, 'sha256').digest())
        except OSError as error:
            raise CheckpointError(
                f'{path.name} cannot be read ({error.strerror}); copy it again or '
                'choose another file.'
            ) from error
    return total.hexdigest()


def earlier_weights_key(identity: ModelIdentity) -> str:
    """What earlier versions told a model by: place, size and time of its files.

    Returns
    -------
    str
        `ModelIdentity.key` for a model without files.
    """
    if not identity.path:
        return identity.key
    parts = []
    for path in map(Path, (identity.path, *identity.parts)):
        status = path.stat()
        parts.append(f'{path.resolve()}:{status.st_size}:{status.st_mtime_ns}')
    return '+'.join(parts)


def write_weights(
    path: Path,
    tensors: Mapping[str, torch.Tensor],
    key: str,
    header: BaseModel,
    stored: Callable[[str], bool] = lambda name: True,
) -> None:
    """Write weights in half precision, so that the file is complete or not there.

    Parameters
    ----------
    path : pathlib.Path
        A file that exists is replaced.
    tensors : mapping of str to torch.Tensor
        Matrices and kernels are stored as float16; one-dimensional ones as float32,
        because running variances overflow float16.
    key : str
        Of the file's metadata, under which the header is.
    header : pydantic.BaseModel
        Stored as JSON.
    stored : callable
        Whether a tensor of this name is written.

    Raises
    ------
    CheckpointError
        If a value does not fit float16.
    OSError
        If the file cannot be written.
    """
    halves = {}
    for name, tensor in tensors.items():
        if not stored(name):
            continue
        dtype = torch.float16 if tensor.ndim > 1 else torch.float32
        half = tensor.detach().cpu().to(dtype).contiguous()
        if not bool(torch.isfinite(half).all()):
            raise CheckpointError(
                f'{name} has values that float16 cannot hold; nothing was written.'
            )
        halves[name] = half
    with replacing(path) as part:
        save_file(halves, part, {key: json.dumps(header.model_dump())})
