"""Drawn pictures with exact masks, so that shapes no organ has are not unlearnt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.draw import polygon

from napari_kdsam.core.geometry import Mask
from napari_kdsam.phantoms import (
    dermoscopy_phantom,
    endoscopy_phantom,
    ultrasound_phantom,
)
from napari_kdsam.training.data.samples import Pixels, Sample

DATA_SET = 'drawn'
_PHANTOMS = (dermoscopy_phantom, endoscopy_phantom, ultrasound_phantom)
# Low seeds are what the samples, the tests and the documentation show.
_FIRST_SEED = 1000
_LEAST_AREA = 0.004

Outline = NDArray[np.float64]


def drawn_samples(count: int, split: str = 'train') -> list[Sample]:
    """List drawn pictures: every other one a phantom, the rest flat noisy shapes.

    Parameters
    ----------
    count : int
        How many.
    split : str
        Written into the samples.

    Returns
    -------
    list of Sample
        Of the data set ``drawn``; each is drawn when read, always the same.
    """
    return [
        Sample(DATA_SET, split, f'drawn_{number:04d}', read=_Drawn(number))
        for number in range(count)
    ]


@dataclass(frozen=True)
class _Drawn:
    number: int

    def __call__(self) -> tuple[Pixels, Mask]:
        seed = _FIRST_SEED + self.number
        if self.number % 2:
            return draw_shapes(seed)
        phantom = _PHANTOMS[self.number // 2 % len(_PHANTOMS)](seed)
        image = phantom.image
        return np.stack([image] * 3, -1) if image.ndim == 2 else image, phantom.mask


def draw_shapes(seed: int) -> tuple[Pixels, Mask]:
    """Draw one to three flat shapes in noise; the first is the one to segment.

    Parameters
    ----------
    seed : int
        Decides everything.

    Returns
    -------
    image : numpy.ndarray
        (H, W, 3) uint8, grey or in colours, 160 to 640 pixels a side.
    mask : numpy.ndarray
        (H, W) bool, the visible part of the first shape.
    """
    generator = np.random.default_rng(seed)
    shape = (int(generator.integers(160, 641)), int(generator.integers(160, 641)))
    grey = generator.random() < 0.5
    background = _colour(generator, grey)
    picture = np.broadcast_to(background, (*shape, 3)).copy()
    target = np.zeros(shape, bool)
    while target.sum() < _LEAST_AREA * target.size:
        target = _shape(generator, shape)
    taken = ndimage.binary_dilation(target, iterations=3)
    for _ in range(int(generator.integers(0, 3))):
        other = _shape(generator, shape) & ~taken
        picture[other] = _apart_from(generator, background, grey)
        taken |= other
    picture[target] = _apart_from(generator, background, grey)
    picture = ndimage.gaussian_filter(picture, (*[generator.uniform(0, 1.5)] * 2, 0))
    noise = generator.normal(0, generator.uniform(0, 20), (*shape, 1 if grey else 3))
    return (picture + noise).clip(0, 255).astype(np.uint8), target


def _colour(generator: np.random.Generator, grey: bool) -> NDArray[np.float64]:
    return np.broadcast_to(generator.uniform(20, 235, 1 if grey else 3), 3)


def _apart_from(
    generator: np.random.Generator, background: NDArray[np.float64], grey: bool
) -> NDArray[np.float64]:
    while True:
        colour = _colour(generator, grey)
        if np.abs(colour - background).max() > 40:
            return colour


def _shape(generator: np.random.Generator, shape: tuple[int, int]) -> Mask:
    """One shape somewhere, turned anyhow, stretched along the picture's sides."""
    kinds: tuple[Callable[[np.random.Generator], list[Outline]], ...] = (
        _corner,
        _star,
        _corner,
        _bar,
        _round,
    )
    outlines = kinds[int(generator.integers(len(kinds)))](generator)
    # A quarter of the shapes stay upright, as drawings and screens show them.
    angle = generator.uniform(0, 2 * np.pi) if generator.random() < 0.75 else 0.0
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    size = generator.uniform(0.1, 0.42, 2) * shape
    centre = generator.uniform(0.25, 0.75, 2) * shape
    mask = np.zeros(shape, bool)
    for outline in outlines:
        rows, columns = (outline @ turn.T * size + centre).T
        mask[polygon(rows, columns, shape)] = True
    return mask


def _rectangle(row0: float, column0: float, row1: float, column1: float) -> Outline:
    return np.array(
        [[row0, column0], [row0, column1], [row1, column1], [row1, column0]]
    )


def _corner(generator: np.random.Generator) -> list[Outline]:
    """An L, a T or a U: two or three bars that leave a notch."""
    thick = generator.uniform(0.35, 0.8)
    upright = _rectangle(-1, -1, 1, -1 + thick)
    foot = _rectangle(1 - thick, -1, 1, 1)
    start = generator.uniform(-1, 1 - thick)
    other = _rectangle(-1, 1 - thick, 1, 1)
    return [
        [upright, foot],
        [upright, _rectangle(start, -1, start + thick, 1)],
        [upright, foot, other],
    ][int(generator.integers(3))]


def _star(generator: np.random.Generator) -> list[Outline]:
    count = int(generator.integers(5, 12))
    angles = np.sort(generator.uniform(0, 2 * np.pi, count))
    reach = generator.uniform(0.3, 1, count)
    return [np.stack([np.sin(angles) * reach, np.cos(angles) * reach], 1)]


def _bar(generator: np.random.Generator) -> list[Outline]:
    half = generator.uniform(0.2, 1)
    return [_rectangle(-1, -half, 1, half)]


def _round(generator: np.random.Generator) -> list[Outline]:
    angles = np.linspace(0, 2 * np.pi, 90)
    return [np.stack([np.sin(angles), np.cos(angles) * generator.uniform(0.3, 1)], 1)]
