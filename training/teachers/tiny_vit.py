"""TinyViT as SAM's image encoder: the network of MobileSAM and of LiteMedSAM.

TinyViT-5M (Wu et al., 2022) from the package ``timm``, with the last downsampling
left out and SAM's neck added, as in MobileSAM (Zhang et al., 2023).
"""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import nn

from napari_kdsam.core.errors import MissingExtraError
from napari_kdsam.core.sizes import EMBEDDING_CHANNELS
from napari_kdsam.model.torchvision_guard import import_torchvision

WIDTHS = (64, 128, 160, 320)
_RENAMED = (
    (re.compile(r'\.c\.'), '.conv.'),
    (re.compile(r'^patch_embed\.seq\.0\.'), 'patch_embed.conv1.'),
    (re.compile(r'^patch_embed\.seq\.2\.'), 'patch_embed.conv2.'),
    (re.compile(r'^layers\.(\d)\.blocks\.'), r'stages.\1.blocks.'),
)
_DOWNSAMPLE = re.compile(r'^layers\.(\d)\.downsample\.')


def import_tiny_vit() -> Any:
    """Import timm's TinyViT.

    Returns
    -------
    types.ModuleType
        ``timm.models.tiny_vit``.

    Raises
    ------
    MissingExtraError
        If ``timm`` is not installed.
    """
    import_torchvision()
    try:
        from timm.models import tiny_vit
    except ImportError as error:
        raise MissingExtraError(
            'Running the encoder of MobileSAM or LiteMedSAM', 'training'
        ) from error
    return tiny_vit


class TinyViTEncoder(nn.Module):
    """(B, 3, S, S) normalised float pixels to a (B, 256, S/16, S/16) embedding.

    Parameters are named as timm names them; `timm_name` translates the names of
    published checkpoints.

    Raises
    ------
    MissingExtraError
        If ``timm`` is not installed.
    """

    def __init__(self) -> None:
        super().__init__()
        tiny_vit = import_tiny_vit()
        from timm.layers.norm import LayerNorm2d

        vit: Any = tiny_vit.TinyVit(
            num_classes=0,
            embed_dims=WIDTHS,
            depths=(2, 2, 6, 2),
            num_heads=(2, 4, 5, 10),
            window_sizes=(7, 7, 14, 7),
            drop_path_rate=0.0,
        )
        # SAM's decoder wants a 64 x 64 grid of 1024 pixels: the last stage keeps it.
        vit.stages[3].downsample.conv2.conv.stride = (1, 1)
        self.patch_embed, self.stages = vit.patch_embed, vit.stages
        self.neck = nn.Sequential(
            nn.Conv2d(WIDTHS[-1], EMBEDDING_CHANNELS, 1, bias=False),
            LayerNorm2d(EMBEDDING_CHANNELS, eps=1e-6),
            nn.Conv2d(EMBEDDING_CHANNELS, EMBEDDING_CHANNELS, 3, padding=1, bias=False),
            LayerNorm2d(EMBEDDING_CHANNELS, eps=1e-6),
        )

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.neck(self.stages(self.patch_embed(pixels)))

    def fold_batch_norms(self) -> None:
        """Merge each batch norm into the convolution before it, which gets a bias."""
        conv_norm = import_tiny_vit().ConvNorm
        for module in self.modules():
            if isinstance(module, conv_norm):
                module.conv, module.bn = module.fuse(), nn.Identity()


def timm_name(name: str) -> str:
    """Name a tensor of `TinyViTEncoder` by its name in a published checkpoint."""
    # timm counts a downsampling layer to the stage after it.
    name = _DOWNSAMPLE.sub(
        lambda found: f'stages.{int(found[1]) + 1}.downsample.', name
    )
    for pattern, replacement in _RENAMED:
        name = pattern.sub(replacement, name)
    return name
