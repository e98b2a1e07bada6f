"""Which change of appearance befalls which image of a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch

from napari_kdsam.training.augmentation import changes
from napari_kdsam.training.data.catalogue import MODALITIES
from napari_kdsam.training.randomness import Draws
from napari_kdsam.training.squares import image_part

_MOST_LIKELY = 0.95


class Change(NamedTuple):
    """A change of appearance and where it is seen.

    Attributes
    ----------
    apply : callable
        From `changes`.
    chances : mapping of str to float
        By modality, at strength 1; 0 where it is not named.
    """

    apply: Callable[[torch.Tensor, torch.Tensor, Draws], torch.Tensor]
    chances: Mapping[str, float]


def _everywhere(chance: float) -> dict[str, float]:
    return dict.fromkeys(MODALITIES, chance)


# In this order.
CHANGES = (
    Change(changes.speckle, {'ultrasound': 0.3}),
    Change(changes.depth_gain, {'ultrasound': 0.3}),
    Change(changes.shadow, {'ultrasound': 0.2}),
    Change(changes.sector, {'ultrasound': 0.1}),
    Change(changes.burnt_in, {'ultrasound': 0.2}),
    Change(changes.colour_cast, {'dermoscopy': 0.4, 'endoscopy': 0.4}),
    Change(changes.hairs, {'dermoscopy': 0.25}),
    Change(changes.highlights, {'endoscopy': 0.3}),
    Change(changes.lens_circle, {'dermoscopy': 0.15, 'endoscopy': 0.1}),
    Change(changes.vignette, {'dermoscopy': 0.2, 'endoscopy': 0.2}),
    Change(changes.motion, {'endoscopy': 0.15}),
    Change(changes.gamma, _everywhere(0.4)),
    Change(changes.contrast, _everywhere(0.4)),
    Change(changes.blur, _everywhere(0.15)),
    Change(changes.noise, _everywhere(0.15)),
    Change(changes.low_resolution, _everywhere(0.15)),
    Change(changes.compression, _everywhere(0.1)),
)


def chosen_images(
    modalities: Sequence[str], strength: float, draws: Draws
) -> list[torch.Tensor]:
    """For each of `CHANGES`, the places of the images that get it, on the host."""
    chances = torch.tensor(
        [[change.chances.get(name, 0.0) for change in CHANGES] for name in modalities]
    )
    units = torch.from_numpy(draws.on_host('appearance', len(CHANGES)))
    gets = units < (chances * strength).clamp(max=_MOST_LIKELY)
    return [column.nonzero()[:, 0] for column in gets.unbind(1)]


def vary_appearance(
    pixels: torch.Tensor,
    sizes: torch.Tensor,
    modalities: Sequence[str],
    strength: float,
    draws: Draws,
) -> torch.Tensor:
    """Change each image's part of the padded frame as its modality suggests.

    Parameters
    ----------
    pixels : torch.Tensor
        (B, 3, S, S) float 0..255.
    sizes : torch.Tensor
        (B, 2) int64 (height, width) of the image parts.
    modalities : sequence of str
        Of `MODALITIES`.
    strength : float
        Multiplies the probability of every change.
    draws : Draws
        Of the images.

    Returns
    -------
    torch.Tensor
        (B, 3, S, S) float 0..255, 0 on the padding.
    """
    images = pixels / 255
    chosen = chosen_images(modalities, strength, draws)
    # One copy to the device for all changes.
    index = torch.cat(chosen).to(pixels.device, non_blocking=True)
    parts = index.split([len(places) for places in chosen])
    for change, places, part in zip(CHANGES, chosen, parts, strict=True):
        if len(places):
            changed = change.apply(images[part], sizes[part], draws.of(places))
            images.index_copy_(0, part, changed.clamp_(0, 1))
    return images.mul_(image_part(sizes, pixels.shape[-1], pixels.device) * 255)
