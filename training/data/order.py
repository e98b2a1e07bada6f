"""In which order images are drawn: a function of seed and step alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset, Sampler


class TrainingBatch(TypedDict, total=False):
    """What a step is asked to look at: places in a store, and the objects there.

    Without ``numbers`` the step draws one object of each image.
    """

    step: int
    places: list[int]
    numbers: list[int]


class Places(Dataset[tuple[int, int]]):
    """Hands the sampler's places through a data loader, for `collate_places`."""

    def __getitem__(self, item: tuple[int, int]) -> tuple[int, int]:
        return item


def collate_places(items: Sequence[tuple[int, int]]) -> TrainingBatch:
    """Join (place, step) pairs of one step."""
    return TrainingBatch(step=items[0][1], places=[place for place, _ in items])


def whole_batches(
    numbers: Sequence[Sequence[int]], batch_size: int
) -> list[TrainingBatch]:
    """Batches of every object of every image, in order, for validation.

    Parameters
    ----------
    numbers : sequence of sequence of int
        Class numbers of each image.
    batch_size : int
        Objects in a batch.
    """
    pairs = [(place, number) for place, own in enumerate(numbers) for number in own]
    return [
        TrainingBatch(
            step=0,
            places=[place for place, _ in pairs[start : start + batch_size]],
            numbers=[number for _, number in pairs[start : start + batch_size]],
        )
        for start in range(0, len(pairs), batch_size)
    ]


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
    most_repeats : float
        No sample is drawn more often than this a pass.
    shares : mapping of str to float
        How often a data set is drawn, as a multiple of what `balance` gives it.
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
        most_repeats: float = float('inf'),
        shares: Mapping[str, float] | None = None,
    ) -> None:
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.start = start
        names, inverse, counts = np.unique(
            np.asarray(groups), return_inverse=True, return_counts=True
        )
        wanted = [(shares or {}).get(str(name), 1.0) for name in names]
        repeats = (counts.max() / counts) ** balance * wanted
        self._repeats = np.minimum(repeats, most_repeats)[inverse]

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
