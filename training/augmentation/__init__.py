"""Augmentation on the device: geometry, appearance and what each modality shows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from napari_kdsam.training.augmentation.appearance import vary_appearance
from napari_kdsam.training.augmentation.geometry import vary_geometry

__all__ = ['Augmentation']


class Augmentation(nn.Module):
    """Random changes that an annotator would see through.

    All random numbers come from torch's generator of the CPU, so that a seed gives
    the same augmentation on every device.

    Parameters
    ----------
    geometry : bool
        Whether to flip, turn, zoom and stretch.
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
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Change a batch.

        Parameters
        ----------
        pixels : torch.Tensor
            (B, 3, S, S) float RGB 0..255, image at the top left, 0 elsewhere.
        masks : torch.Tensor
            (B, 1, S, S) float 0..1 in the same frame.
        sizes : torch.Tensor
            (B, 2) int64 (height, width) of the image parts.
        modalities : sequence of str
            B of ``ultrasound``, ``dermoscopy``, ``endoscopy`` and ``other``.

        Returns
        -------
        pixels, masks, sizes : torch.Tensor
            By the same conventions; at least a quarter of every object stays in view.
        """
        if self.geometry:
            pixels, masks, sizes = vary_geometry(
                pixels, masks, sizes, modalities, self.strength
            )
        if self.appearance:
            pixels = vary_appearance(pixels, sizes, modalities, self.strength)
        return pixels, masks, sizes
