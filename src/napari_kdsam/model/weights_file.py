"""Writing tensors and what is said of them as one safetensors file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from pydantic import BaseModel
from safetensors.torch import save_file

from napari_kdsam.core.errors import CheckpointError
from napari_kdsam.core.files import replacing


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
