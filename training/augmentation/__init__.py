"""Augmentation of a batch on its device: geometry, and appearance by modality.

The host launches kernels and waits for none: whatever it must know, it draws itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from napari_kdsam.training.augmentation.appearance import vary_appearance
from napari_kdsam.training.augmentation.geometry import vary_geometry
from napari_kdsam.training.randomness import Draws

__all__ = ['Augmentation']


class Augmentation(nn.Module):
    """Random changes that an annotator would see through.

    Parameters
    ----------
    geometry : bool
        Whether to flip, turn, zoom and crop.
    appearance : bool
        Whether to change the look, by modality.
    strength : float
        1 as described in docs/training.md; less is milder.
    """

    def __init__(
        self, geometry: bool = True, appearance: bool = True, strength: float = 1.0
    ) -> None:
        super().__init__()
        self.geometry = geometry
        self.appearance = appearance
        self.strength = strength

    def forward(
        self,
        pixels: torch.Tensor,
        masks: torch.Tensor,
        sizes: torch.Tensor,
        modalities: Sequence[str],
        draws: Draws,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Change a batch; what becomes of an image depends on it and its draws alone.

        Parameters
        ----------
        pixels : torch.Tensor
            (B, 3, S, S) float RGB 0..255, image at the top left, 0 elsewhere.
        masks : torch.Tensor
            (B, C, S, S) float 0..1 in the same frame, the objects of each image; that
            of channel 0 stays in view.
        sizes : torch.Tensor
            (B, 2) int64 (height, width) of the image parts, on the device of the others.
        modalities : sequence of str
            B of `catalogue.MODALITIES`.
        draws : Draws
            Of the B images, on the same device.

        Returns
        -------
        pixels, masks, sizes : torch.Tensor
            By the same conventions; at least a quarter and 30 pixels of the object of
            channel 0 are in view, unless it was smaller.
        """
        if self.geometry:
            pixels, masks, sizes = vary_geometry(
                pixels, masks, sizes, modalities, self.strength, draws
            )
        if self.appearance:
            pixels = vary_appearance(pixels, sizes, modalities, self.strength, draws)
        return pixels, masks, sizes
