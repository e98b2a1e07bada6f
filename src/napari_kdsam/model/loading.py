"""From a model's name, or a weights file, to a model ready to use."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import torch

from napari_kdsam.core.errors import CheckpointError, ModelNotFoundError
from napari_kdsam.model.checkpoint import load_kdsam
from napari_kdsam.model.device import preferred_dtype, resolve_device
from napari_kdsam.model.network import PromptableModel
from napari_kdsam.model.onnx import OnnxEncoder, load_onnx_sam
from napari_kdsam.model.registry import (
    DEFAULT_MODEL,
    WEIGHTS_SUFFIXES,
    find_model,
    list_models,
    missing_files_message,
)
from napari_kdsam.model.sam import load_official_sam

_Loader = Callable[..., PromptableModel]
_LOADERS: dict[str, _Loader] = {
    '.safetensors': load_kdsam,
    '.pth': load_official_sam,
    '.pt': load_official_sam,
    '.onnx': load_onnx_sam,
}


def load_model(
    name_or_path: str | os.PathLike[str] | None = None,
    device: str = 'auto',
    *,
    dtype: torch.dtype | None = None,
) -> PromptableModel:
    """Load a model and make it ready for inference.

    Parameters
    ----------
    name_or_path : str or path-like, optional
        A name from ``napari-kdsam models`` (the bundled KD SAM by default), or the
        path of a weights file: a KD SAM checkpoint (``.safetensors``), one of
        Meta's SAM checkpoints (``.pth``), or a SAM-compatible image encoder
        (``.onnx``) with ``sam_prompt_mask_decoder.safetensors`` beside it.
    device : str
        ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
    dtype : torch.dtype, optional
        Precision of the network; by default bfloat16 on CPUs that compute in it
        natively and float32 elsewhere.

    Raises
    ------
    ModelNotFoundError
        If the name is unknown or its files are not on this computer.
    CheckpointError
        If a weights file cannot be used.
    DeviceError
        If the device is not available.
    """
    target = resolve_device(device)
    model = _load(name_or_path or DEFAULT_MODEL)
    if isinstance(model.encoder, OnnxEncoder):
        model.encoder.run_on(target)
    return model.prepare(target, dtype or preferred_dtype(target))


def _load(name_or_path: str | os.PathLike[str]) -> PromptableModel:
    path = Path(name_or_path).expanduser()
    known = any(entry.name == str(name_or_path) for entry in list_models())
    looks_like_a_path = path.suffix.lower() in _LOADERS or os.sep in str(name_or_path)
    if not known and (looks_like_a_path or path.is_file()):
        loader = _LOADERS.get(path.suffix.lower())
        if not path.is_file():
            raise ModelNotFoundError(f'There is no weights file at {path}.')
        if loader is None:
            raise CheckpointError(
                f'{path.name} is not a kind of weights file this can read; use '
                f'{", ".join(WEIGHTS_SUFFIXES)}.'
            )
        return loader(path)
    entry = find_model(str(name_or_path))
    if not entry.available:
        raise ModelNotFoundError(missing_files_message(entry) + '.')
    return _LOADERS[entry.path.suffix](entry.path, name=entry.name)
