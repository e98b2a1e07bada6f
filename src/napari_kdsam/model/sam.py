"""Meta's SAM checkpoints, and SAM's own prompt encoder and mask decoder."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import torch
from torch import nn

from napari_kdsam.core.errors import CheckpointError, excerpt
from napari_kdsam.core.sizes import PROMPT_SIDE
from napari_kdsam.model.checkpoint import load_tensors, read_tensors
from napari_kdsam.model.network import (
    ModelIdentity,
    PromptableModel,
    build_sam_decoder,
)
from napari_kdsam.model.torchvision_guard import import_segment_anything
from napari_kdsam.model.weights_file import weights_key

DECODER_FILE = 'sam_prompt_mask_decoder.safetensors'
_DECODER_PARTS = ('prompt_encoder.', 'mask_decoder.')
_VARIANT_BY_WIDTH = {768: 'vit_b', 1024: 'vit_l', 1280: 'vit_h'}


def read_official_tensors(path: str | os.PathLike[str]) -> dict[str, torch.Tensor]:
    """Read one of Meta's ``sam_vit_*.pth`` files without unpickling code.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, or holds anything but tensors.
    """
    path = Path(path)
    try:
        tensors = torch.load(path, map_location='cpu', weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f'There is no weights file at {path}.') from error
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f'{path.name} was refused: it is not a plain file of tensors, and loading '
            'it could run code hidden inside it.'
        ) from error
    except Exception as error:
        # PyTorch's readers raise whatever damaged bytes lead them to.
        reason = excerpt(error) or type(error).__name__
        raise CheckpointError(
            f'{path.name} is not a readable checkpoint ({reason}); download it again.'
        ) from error
    if not isinstance(tensors, dict) or not all(
        isinstance(name, str) and _is_plain(value) for name, value in tensors.items()
    ):
        raise CheckpointError(f'{path.name} does not hold a SAM checkpoint.')
    return tensors


def _is_plain(value: Any) -> bool:
    """Whether a value is a tensor that has its numbers with it, one after the other."""
    return (
        isinstance(value, torch.Tensor)
        and value.layout is torch.strided
        and value.device.type == 'cpu'
        and not value.is_quantized
    )


def load_official_sam(path: str | os.PathLike[str], name: str = '') -> PromptableModel:
    """Load SAM ViT-B, ViT-L or ViT-H from Meta's checkpoint file.

    Parameters
    ----------
    path : path-like
        A ``sam_vit_*.pth`` file; the variant is read from its tensors.
    name : str
        Name to show; the variant's by default.

    Returns
    -------
    PromptableModel
        On the CPU, float32, not yet prepared for inference.

    Raises
    ------
    CheckpointError
        If the file cannot be used.
    """
    path = Path(path)
    tensors = read_official_tensors(path)
    positions = tensors.get('image_encoder.pos_embed')
    width = positions.shape[-1] if positions is not None and positions.ndim else 0
    if width not in _VARIANT_BY_WIDTH:
        raise CheckpointError(
            f'{path.name} is not one of SAM ViT-B, ViT-L or ViT-H: its image encoder '
            'is of another kind.'
        )
    variant = _VARIANT_BY_WIDTH[width]
    sam = import_segment_anything().sam_model_registry[variant]()
    load_tensors(sam, tensors, path.name)
    architecture = f'sam_{variant}'
    return PromptableModel(
        sam.image_encoder,
        sam.prompt_encoder,
        sam.mask_decoder,
        PROMPT_SIDE,
        ModelIdentity(name or architecture, architecture, weights_key(path), str(path)),
    )


def load_sam_decoder(path: Path) -> tuple[Any, Any]:
    """Load SAM's own prompt encoder and mask decoder.

    Parameters
    ----------
    path : pathlib.Path
        A safetensors file with ``prompt_encoder.*`` and ``mask_decoder.*``, or one of
        Meta's ``.pth`` files.

    Returns
    -------
    prompt_encoder, mask_decoder : torch.nn.Module
        On the CPU, float32.

    Raises
    ------
    CheckpointError
        If the file cannot be used.
    """
    read = read_tensors if path.suffix == '.safetensors' else read_official_tensors
    tensors = {k: v for k, v in read(path).items() if k.startswith(_DECODER_PARTS)}
    prompt_encoder, mask_decoder = build_sam_decoder()
    parts = nn.ModuleDict(
        {'prompt_encoder': prompt_encoder, 'mask_decoder': mask_decoder}
    )
    load_tensors(parts, tensors, path.name)
    return prompt_encoder, mask_decoder
