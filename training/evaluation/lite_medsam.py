"""LiteMedSAM, a baseline that takes boxes (Ma et al., MedSAM, 2024; Apache-2.0).

TinyViT on 256 pixels with SAM's prompt encoder and mask decoder in a 256-pixel square. The
encoder is MobileSAM's but for its stem.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn
from torch.nn import functional

from napari_kdsam.core.errors import PromptError
from napari_kdsam.core.geometry import PaddedSquare
from napari_kdsam.model.checkpoint import load_tensors, read_tensors
from napari_kdsam.model.device import resolve_device
from napari_kdsam.model.network import build_sam_decoder
from napari_kdsam.training.evaluation.segmenter import (
    BOX,
    SegmentedMask,
    digest_of,
    wait_for,
)
from napari_kdsam.training.teachers.tiny_vit import (
    WIDTHS,
    TinyViTEncoder,
    import_tiny_vit,
    timm_name,
)

NAME = 'lite_medsam'
WEIGHTS_FILE = 'lite_medsam.safetensors'
SIDE = 256
_ENCODER = 'image_encoder.'


class _Encoder(TinyViTEncoder):
    """(1, 3, 256, 256) float to a (1, 256, 64, 64) embedding."""

    def __init__(self) -> None:
        super().__init__()
        conv_norm = import_tiny_vit().ConvNorm
        # LiteMedSAM keeps full resolution at the stem.
        self.patch_embed.conv1 = conv_norm(3, WIDTHS[0] // 2, 1, 1, 0)
        self.patch_embed.conv2 = conv_norm(WIDTHS[0] // 2, WIDTHS[0], 1, 1, 0)


def _renamed(name: str) -> str:
    own = name.removeprefix(_ENCODER)
    return name if own == name else _ENCODER + timm_name(own)


def _build() -> nn.ModuleDict:
    prompt_encoder, mask_decoder = build_sam_decoder(SIDE)
    return nn.ModuleDict(
        {
            'image_encoder': _Encoder(),
            'prompt_encoder': prompt_encoder,
            'mask_decoder': mask_decoder,
        }
    )


class LiteMedSAM:
    """LiteMedSAM as a `Segmenter`; float32.

    Parameters
    ----------
    path : path-like
        Its tensors as safetensors, under the names of the published checkpoint.
    name : str
        For tables and file names.
    device : str
        As for `load_model`.

    Raises
    ------
    CheckpointError
        If the file cannot be used.
    MissingExtraError
        If ``timm`` is not installed.
    """

    prompts = frozenset({BOX})

    def __init__(
        self, path: str | os.PathLike[str], name: str = NAME, device: str = 'auto'
    ) -> None:
        path = Path(path)
        self.name = name
        self.device = resolve_device(device)
        parts = _build()
        tensors = {_renamed(key): value for key, value in read_tensors(path).items()}
        load_tensors(parts, tensors, path.name)
        parts.eval().requires_grad_(False).to(self.device)
        self._encoder = parts['image_encoder']
        self._prompt_encoder: Any = parts['prompt_encoder']
        self._mask_decoder = parts['mask_decoder']
        self.parameters: int | None = sum(p.numel() for p in parts.parameters())
        self.fingerprint = f'{digest_of(path)}|float32|{self.device.type}'

    def embed(self, image: NDArray[np.uint8]) -> Any:
        """See `Segmenter.embed`."""
        placed = PaddedSquare((image.shape[0], image.shape[1]), SIDE)
        rows, columns = placed.scaled_shape
        picture = Image.fromarray(image)
        scaled = picture.resize((columns, rows), Image.Resampling.BOX)
        pixels = np.asarray(scaled, np.float32)
        low, high = float(pixels.min()), float(pixels.max())
        square = np.zeros((SIDE, SIDE, 3), np.float32)
        square[:rows, :columns] = (pixels - low) / max(high - low, 1e-8)
        batch = torch.from_numpy(square.transpose(2, 0, 1)[None].copy())
        with torch.inference_mode():
            return self._encoder(batch.to(self.device)), placed

    def segment(
        self,
        state: Any,
        points: Sequence[tuple[float, float]],
        labels: Sequence[int],
        box: tuple[float, float, float, float] | None,
        previous: Any,
    ) -> SegmentedMask:
        """See `Segmenter.segment`.

        Raises
        ------
        PromptError
            If there are points, or no box.
        """
        if box is None or len(points):
            raise PromptError('LiteMedSAM takes a box and nothing else.')
        features, placed = state
        corners = torch.as_tensor(
            placed.box_to_square(box)[None], dtype=torch.float32, device=self.device
        )
        with torch.inference_mode():
            sparse, dense = self._prompt_encoder(points=None, boxes=corners, masks=None)
            logits, scores = self._mask_decoder(
                image_embeddings=features,
                image_pe=self._prompt_encoder.get_dense_pe(),
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
                multimask_output=False,
            )
            rows, columns = placed.scaled_shape
            full = functional.interpolate(
                logits[:, :, :rows, :columns],
                placed.image_shape,
                mode='bilinear',
                align_corners=False,
            )
        return SegmentedMask((full[0, 0] > 0).cpu().numpy(), float(scores[0, 0]))

    def sync(self) -> None:
        """See `Segmenter.sync`."""
        wait_for(self.device)
