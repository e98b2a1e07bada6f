"""LiteMedSAM, a baseline that takes boxes (Ma et al., MedSAM, 2024; Apache-2.0).

TinyViT on 256 pixels with SAM's prompt encoder and mask decoder in a 256 frame. The
TinyViT comes from the package ``timm``; only names and strides differ.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn
from torch.nn import functional

from napari_kdsam.errors import MissingExtraError, PromptError
from napari_kdsam.inference.geometry import Frame
from napari_kdsam.model.checkpoint import load_tensors, read_tensors
from napari_kdsam.model.device import resolve_device
from napari_kdsam.model.network import build_sam_decoder
from napari_kdsam.model.torchvision_guard import import_segment_anything
from napari_kdsam.training.evaluation.segmenters import BOX, Answer, digest_of, wait_for

NAME = 'lite_medsam'
WEIGHTS_FILE = 'lite_medsam.safetensors'
SIDE = 256
_WIDTHS = (64, 128, 160, 320)
_RENAMED = (
    (r'\.c\.', '.conv.'),
    (r'^image_encoder\.patch_embed\.seq\.0\.', 'image_encoder.patch_embed.conv1.'),
    (r'^image_encoder\.patch_embed\.seq\.2\.', 'image_encoder.patch_embed.conv2.'),
    (r'^image_encoder\.layers\.(\d)\.blocks\.', r'image_encoder.stages.\1.blocks.'),
)
_DOWNSAMPLE = re.compile(r'^image_encoder\.layers\.(\d)\.downsample\.')


class _Encoder(nn.Module):
    """(1, 3, 256, 256) float to a (1, 256, 64, 64) embedding."""

    def __init__(self) -> None:
        super().__init__()
        layer_norm = import_segment_anything().modeling.common.LayerNorm2d
        try:
            from timm.models.tiny_vit import ConvNorm, TinyVit
        except ImportError as error:
            raise MissingExtraError('Evaluating LiteMedSAM', 'training') from error
        vit: Any = TinyVit(
            num_classes=0,
            embed_dims=_WIDTHS,
            num_heads=(2, 4, 5, 10),
            window_sizes=(7, 7, 14, 7),
            drop_path_rate=0.0,
        )
        # LiteMedSAM keeps full resolution at the stem and in the last stage.
        vit.patch_embed.conv1 = ConvNorm(3, _WIDTHS[0] // 2, 1, 1, 0)
        vit.patch_embed.conv2 = ConvNorm(_WIDTHS[0] // 2, _WIDTHS[0], 1, 1, 0)
        vit.stages[3].downsample.conv2.conv.stride = (1, 1)
        self.patch_embed, self.stages = vit.patch_embed, vit.stages
        self.neck = nn.Sequential(
            nn.Conv2d(_WIDTHS[-1], 256, 1, bias=False),
            layer_norm(256),
            nn.Conv2d(256, 256, 3, padding=1, bias=False),
            layer_norm(256),
        )

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.neck(self.stages(self.patch_embed(pixels)))


def _renamed(name: str) -> str:
    # timm counts a downsampling layer to the stage after it.
    name = _DOWNSAMPLE.sub(
        lambda found: f'image_encoder.stages.{int(found[1]) + 1}.downsample.', name
    )
    for pattern, replacement in _RENAMED:
        name = re.sub(pattern, replacement, name)
    return name


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
        frame = Frame((image.shape[0], image.shape[1]), SIDE)
        rows, columns = frame.scaled_shape
        picture = Image.fromarray(image)
        scaled = picture.resize((columns, rows), Image.Resampling.BOX)
        pixels = np.asarray(scaled, np.float32)
        low, high = float(pixels.min()), float(pixels.max())
        square = np.zeros((SIDE, SIDE, 3), np.float32)
        square[:rows, :columns] = (pixels - low) / max(high - low, 1e-8)
        batch = torch.from_numpy(square.transpose(2, 0, 1)[None].copy())
        with torch.inference_mode():
            return self._encoder(batch.to(self.device)), frame

    def segment(
        self,
        state: Any,
        points: Sequence[tuple[float, float]],
        labels: Sequence[int],
        box: tuple[float, float, float, float] | None,
        previous: Any,
    ) -> Answer:
        """See `Segmenter.segment`.

        Raises
        ------
        PromptError
            If there are points, or no box.
        """
        if box is None or len(points):
            raise PromptError('LiteMedSAM takes a box and nothing else.')
        features, frame = state
        corners = torch.as_tensor(
            frame.box_to_frame(box)[None], dtype=torch.float32, device=self.device
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
            rows, columns = frame.scaled_shape
            full = functional.interpolate(
                logits[:, :, :rows, :columns],
                frame.image_shape,
                mode='bilinear',
                align_corners=False,
            )
        return Answer((full[0, 0] > 0).cpu().numpy(), float(scores[0, 0]))

    def sync(self) -> None:
        """See `Segmenter.sync`."""
        wait_for(self.device)
