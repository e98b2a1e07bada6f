"""Samples as padded squares, in an order that depends only on seed and step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import Dataset, Sampler

from napari_kdsam.errors import ImageError
from napari_kdsam.inference.geometry import Frame
from napari_kdsam.inference.intensity import IntensityMapping, to_model_pixels
from napari_kdsam.training.data.samples import Sample

RAW = IntensityMapping(0, 255)


class Example(TypedDict, total=False):
    """One sample as the network sees it, or why it could not be read."""

    name: str
    step: int
    modality: str
    pixels: torch.Tensor
    mask: torch.Tensor
    size: torch.Tensor
    embedding: torch.Tensor
    failure: str


class Batch(TypedDict, total=False):
    """What a training step gets.

    ``pixels`` (B, 3, S, S) uint8 and ``masks`` (B, 1, S, S) uint8 0..255 have the
    image at the top left and zeros elsewhere; ``sizes`` (B, 2) int64 is the height
    and width of that part; ``embeddings`` (B, 256, 64, 64) float16 is there in
    stage 1. ``failures`` holds (name, reason) of samples that could not be read and
    ``step`` the batch's place in the run.
    """

    pixels: torch.Tensor
    masks: torch.Tensor
    sizes: torch.Tensor
    embeddings: torch.Tensor
    names: list[str]
    modalities: list[str]
    failures: list[tuple[str, str]]
    step: int


def pad_to_square(array: NDArray[np.uint8], side: int) -> torch.Tensor:
    """Put an (h, w, C) uint8 array at the top left of a (C, side, side) tensor."""
    square = torch.zeros(array.shape[2], side, side, dtype=torch.uint8)
    square[:, : array.shape[0], : array.shape[1]] = torch.from_numpy(
        array.transpose(2, 0, 1).copy()
    )
    return square


class SegmentationDataset(Dataset[Example]):
    """Images and masks at the encoder's input size.

    Parameters
    ----------
    samples : sequence of Sample
        What to read.
    input_size : int
        Side of the padded square in pixels, 512 or 1024.
    view : callable, optional
        ``view(image, mask, step) -> (image, mask, embedding or None)``, applied to
        the (H, W, 3) image and (H, W) mask before scaling; stage 1 uses it to pair
        each image with a cached teacher embedding of the same view.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        input_size: int,
        view: Callable[[Any, Any, int], tuple[Any, Any, torch.Tensor | None]]
        | None = None,
    ) -> None:
        self.samples = list(samples)
        self.input_size = input_size
        self.view = view

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, item: int | tuple[int, int]) -> Example:
        """Return one example.

        Parameters
        ----------
        item : int or tuple of int
            Index of the sample, or (index, step) where the view depends on the step.

        Returns
        -------
        Example
            With ``failure`` alone beside the name if the sample cannot be used, so
            that one bad file does not end an epoch.
        """
        index, step = (item, 0) if isinstance(item, int) else item
        sample = self.samples[index]
        embedding = None
        try:
            image, mask = sample.load()
            if self.view is not None:
                image, mask, embedding = self.view(image, mask, step)
        except ImageError as error:
            return Example(name=sample.name, step=step, failure=str(error))
        rows, columns = Frame(
            (image.shape[0], image.shape[1]), self.input_size
        ).scaled_shape
        pixels = to_model_pixels(image, RAW, self.input_size)
        opaque = Image.fromarray(np.ascontiguousarray(mask, np.uint8) * 255)
        scaled = np.asarray(opaque.resize((columns, rows), Image.Resampling.BILINEAR))
        example = Example(
            name=sample.name,
            step=step,
            modality=sample.modality,
            pixels=pad_to_square(pixels, self.input_size),
            mask=pad_to_square(scaled[..., None], self.input_size),
            size=torch.tensor([rows, columns]),
        )
        if embedding is not None:
            example['embedding'] = embedding
        return example


def collate(examples: Sequence[Example]) -> Batch:
    """Stack examples; the unreadable ones are left out and listed in ``failures``."""
    good = [example for example in examples if 'failure' not in example]
    batch = Batch(
        step=examples[0]['step'],
        names=[e['name'] for e in good],
        modalities=[e['modality'] for e in good],
        failures=[(e['name'], e['failure']) for e in examples if 'failure' in e],
    )
    if good:
        batch['pixels'] = torch.stack([e['pixels'] for e in good])
        batch['masks'] = torch.stack([e['mask'] for e in good])
        batch['sizes'] = torch.stack([e['size'] for e in good])
        if 'embedding' in good[0]:
            batch['embeddings'] = torch.stack([e['embedding'] for e in good])
    return batch


class StepSampler(Sampler[list[tuple[int, int]]]):
    """Endless batches whose content is a function of seed and step alone.

    Each pass shuffles all samples; data sets smaller than the largest are repeated
    by `balance`. A resumed run only has to start at the right step, and processes
    share each global batch without talking to each other.

    Parameters
    ----------
    groups : sequence of str
        Data set of each sample.
    batch_size : int
        Samples in a batch of one process.
    seed : int
        Chooses the order.
    balance : float
        0 draws each sample once a pass; 1 draws each data set equally often.
    rank, world_size : int
        Which process of how many this is.
    start : int
        First step to draw.
    """

    def __init__(
        self,
        groups: Sequence[str],
        batch_size: int,
        seed: int = 0,
        balance: float = 0.0,
        rank: int = 0,
        world_size: int = 1,
        start: int = 0,
    ) -> None:
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.start = start
        _, inverse, counts = np.unique(
            np.asarray(groups), return_inverse=True, return_counts=True
        )
        repeats = (counts.max() / counts) ** balance
        self._repeats = repeats[inverse]

    def _pass(self, number: int) -> NDArray[np.int64]:
        generator = np.random.default_rng([self.seed, number])
        # Fractional repeats are drawn, so that every pass has the right share on average.
        whole = np.floor(self._repeats + generator.random(len(self._repeats)))
        order = np.repeat(np.arange(len(self._repeats)), whole.astype(np.int64))
        return generator.permutation(order)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        size, step, number = self.batch_size * self.world_size, 0, 0
        pool = np.empty(0, np.int64)
        while True:
            while len(pool) < size:
                pool = np.concatenate([pool, self._pass(number)])
                number += 1
            batch, pool = pool[:size], pool[size:]
            if step >= self.start:
                mine = batch[self.rank :: self.world_size]
                yield [(int(index), step) for index in mine]
            step += 1
