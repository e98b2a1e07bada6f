"""Losses of stage 1: the student's embedding against the teacher's.

The paper's loss (arXiv 2501.16740) is ``L = L_MSE + lambda * L_P``: mean squared
error and a perceptual loss, which compares features that a frozen ImageNet VGG16
computes on both embeddings.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from napari_kdsam.core.errors import CheckpointError
from napari_kdsam.model.checkpoint import load_tensors, read_tensors
from napari_kdsam.training.embedding_distances import cosine_distance, weighted_mse
from napari_kdsam.training.teachers.projection import (
    Projection,
)

PERCEPTUAL_LAYERS = ('relu1_2', 'relu2_2', 'relu3_3')
_STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
# 0..1 of an image spans this many standard deviations of a projected channel.
_SPAN = 4.0
_TINY = 1e-6


class VGG16Features(nn.Module):
    """VGG16's convolutions as far as the deepest layer asked for, frozen.

    Parameters
    ----------
    layers : sequence of str
        Such as ``relu1_2``: stage 1 to 5, then the convolution within it, from 1.

    Raises
    ------
    ValueError
        If a layer does not exist or none is given.
    """

    def __init__(self, layers: Sequence[str] = PERCEPTUAL_LAYERS) -> None:
        super().__init__()
        modules: list[nn.Module] = []
        places: dict[str, int] = {}
        channels = 3
        for stage, widths in enumerate(_STAGES, 1):
            for number, width in enumerate(widths, 1):
                modules += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
                places[f'relu{stage}_{number}'] = len(modules) - 1
                channels = width
            modules.append(nn.MaxPool2d(2))
        unknown = [name for name in layers if name not in places]
        if unknown or not layers:
            raise ValueError(
                f'VGG16 has no layers {unknown}; choose from {", ".join(places)}.'
            )
        self.places = tuple(sorted({places[name] for name in layers}))
        # torchvision's numbering, so that its parameter names fit.
        self.features = nn.Sequential(*modules[: self.places[-1] + 1])
        self.requires_grad_(False)

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Compute the features of each layer, shallow to deep.

        Parameters
        ----------
        images : torch.Tensor
            (B, 3, H, W) in 0..1, normalised as ImageNet.

        Returns
        -------
        list of torch.Tensor
            (B, C, H / 2^k, W / 2^k) each, k pooling layers deep.
        """
        found = []
        for index, module in enumerate(self.features):
            images = module(images)
            if index in self.places:
                found.append(images)
        return found


def load_vgg16(
    path: str | os.PathLike[str], layers: Sequence[str] = PERCEPTUAL_LAYERS
) -> VGG16Features:
    """Read ImageNet weights of VGG16.

    Parameters
    ----------
    path : path-like
        safetensors file with torchvision's names ``features.N.weight`` and ``.bias``.
    layers : sequence of str
        See `VGG16Features`.

    Raises
    ------
    CheckpointError
        If the file cannot be read or does not hold these layers.
    """
    path = Path(path)
    network = VGG16Features(layers)
    wanted = network.state_dict()
    tensors = {name: t for name, t in read_tensors(path).items() if name in wanted}
    if not tensors:
        raise CheckpointError(
            f"{path.name} does not hold VGG16's convolutions (features.N.weight)."
        )
    load_tensors(network, tensors, path.name)
    return network


class PerceptualLoss(nn.Module):
    """Squared difference between VGG16's features of two embeddings.

    Both embeddings are projected to their teacher's three principal components,
    scaled so that two standard deviations either side of the mean fill 0..1 (not
    clipped, so gradients never vanish), normalised as ImageNet and upsampled. In each
    layer the mean squared difference is divided by the variance of the teacher's
    features there (over the batch), so that every layer counts alike: about 1 for
    a student that predicts the mean, whatever the teacher. That keeps lambda
    comparable between teachers and layers. The loss is the mean over layers.

    Parameters
    ----------
    network : VGG16Features
        Frozen here.
    projection : Projection
        Stored in this module's state as buffers ``mean``, ``basis`` and ``scale``.
    upsample : int
        Factor; 2 gives VGG images of 128 pixels.
    """

    mean: torch.Tensor
    basis: torch.Tensor
    scale: torch.Tensor
    image_mean: torch.Tensor
    image_std: torch.Tensor

    def __init__(
        self, network: VGG16Features, projection: Projection, upsample: int = 2
    ) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False)
        self.upsample = upsample
        self.register_buffer('mean', projection.mean.clone())
        self.register_buffer('basis', projection.basis.clone())
        self.register_buffer('scale', projection.scale.clone())
        image_mean = torch.tensor(_IMAGENET_MEAN).view(1, 3, 1, 1)
        image_std = torch.tensor(_IMAGENET_STD).view(1, 3, 1, 1)
        self.register_buffer('image_mean', image_mean, persistent=False)
        self.register_buffer('image_std', image_std, persistent=False)

    def image(self, embedding: torch.Tensor) -> torch.Tensor:
        """Turn (B, 256, H, W) embeddings into VGG's input, (B, 3, uH, uW)."""
        weight = (self.basis / self.scale[:, None])[:, :, None, None]
        bias = -(self.basis @ self.mean) / self.scale
        # Half precision would blur the difference this loss is about.
        with torch.autocast(embedding.device.type, enabled=False):
            channels = functional.conv2d(embedding.float(), weight, bias)
        pixels = (channels / _SPAN + 0.5 - self.image_mean) / self.image_std
        if self.upsample == 1:
            return pixels
        return functional.interpolate(
            pixels, scale_factor=self.upsample, mode='bilinear', align_corners=False
        )

    def forward(
        self,
        student: torch.Tensor,
        teacher: torch.Tensor,
        weight: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Compare embeddings.

        Parameters
        ----------
        student, teacher : torch.Tensor
            (B, 256, H, W); no gradient flows to `teacher`.
        weight : torch.Tensor, optional
            (B, 1, H, W), brought to each layer's size by area.

        Returns
        -------
        torch.Tensor
            Scalar float32, 0 for equal embeddings.
        """
        with torch.no_grad():
            targets = self.network(self.image(teacher))
        losses = []
        for own, target in zip(self.network(self.image(student)), targets, strict=True):
            variance = target.float().var(correction=0).clamp_min(_TINY)
            resized = None
            if weight is not None:
                resized = functional.interpolate(
                    weight.float(), target.shape[-2:], mode='area'
                )
            losses.append(weighted_mse(own, target, resized) / variance)
        return torch.stack(losses).mean()


class DistillationLoss(nn.Module):
    """``MSE + lambda * perceptual + mu * cosine``; parts weighted 0 are not computed.

    Parameters
    ----------
    perceptual : PerceptualLoss, optional
        Needed if `perceptual_weight` is not 0.
    perceptual_weight : float
        The paper's lambda.
    cosine_weight : float
        mu; 0 in the paper.

    Raises
    ------
    ValueError
        If a weight is negative, or the perceptual loss is weighted but not given.
    """

    def __init__(
        self,
        perceptual: PerceptualLoss | None = None,
        perceptual_weight: float = 0.0,
        cosine_weight: float = 0.0,
    ) -> None:
        super().__init__()
        if min(perceptual_weight, cosine_weight) < 0:
            raise ValueError('Weights of losses must not be negative.')
        if perceptual_weight and perceptual is None:
            raise ValueError('A perceptual weight needs a perceptual loss.')
        self.perceptual = perceptual
        self.perceptual_weight = perceptual_weight
        self.cosine_weight = cosine_weight

    def forward(
        self,
        student: torch.Tensor,
        teacher: torch.Tensor,
        weight: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """Compute the loss and its parts.

        Parameters
        ----------
        student, teacher : torch.Tensor
            (B, 256, 64, 64); no gradient flows to `teacher`.
        weight : torch.Tensor, optional
            (B, 1, 64, 64), such as from `padding_weight`.

        Returns
        -------
        dict of str to torch.Tensor
            Scalars: ``loss`` to minimise, and unweighted ``mse`` and, where weighted,
            ``perceptual`` and ``cosine``.
        """
        parts = {'mse': weighted_mse(student, teacher, weight)}
        loss = parts['mse']
        if self.perceptual is not None and self.perceptual_weight:
            parts['perceptual'] = self.perceptual(student, teacher, weight)
            loss = loss + self.perceptual_weight * parts['perceptual']
        if self.cosine_weight:
            parts['cosine'] = cosine_distance(student, teacher, weight)
            loss = loss + self.cosine_weight * parts['cosine']
        return {'loss': loss, **parts}
