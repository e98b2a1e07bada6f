"""Random numbers of an image at a step: the same in any batch, process and device.

A counter is hashed (SplitMix64: Steele, Lea and Flood 2014, "Fast splittable pseudorandom
number generators") instead of a generator being advanced, so nothing has to be saved to
resume, and a GPU draws the numbers that a CPU draws.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

_INCREMENT = 0x9E3779B97F4A7C15
_FACTORS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
_SHIFTS = (30, 27, 31)
_WORD = 1 << 64
# As many as a float32 holds exactly.
_BITS = 24


def name_key(name: str) -> int:
    """Signed 64-bit number that stands for a name, such as an image's."""
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return int.from_bytes(digest, 'little', signed=True)


def name_keys(names: Sequence[str]) -> NDArray[np.int64]:
    """(B,) int64 keys of names."""
    return np.array([name_key(name) for name in names], np.int64)


@lru_cache(maxsize=1024)
def _purpose_key(purpose: str) -> int:
    return name_key(f'purpose {purpose}')


def _signed(value: int) -> int:
    value %= _WORD
    return value - _WORD if value >= _WORD // 2 else value


def _mixed(value: torch.Tensor) -> torch.Tensor:
    """SplitMix64's finaliser on int64, whose products wrap as unsigned ones do."""
    for shift, factor in zip(_SHIFTS, (*_FACTORS, None), strict=True):
        # torch shifts the sign in; the mask takes it out again.
        value = value ^ ((value >> shift) & ((1 << (64 - shift)) - 1))
        if factor is not None:
            value = value * _signed(factor)
    return value


@dataclass(frozen=True, eq=False)
class Draws:
    """What chance decides for the images of a batch at a step.

    Attributes
    ----------
    seed, step : int
        Of the run.
    host_keys : torch.Tensor
        (B,) int64 on the CPU, from `name_keys`.
    device : torch.device
        Where numbers are wanted.
    """

    seed: int
    step: int
    host_keys: torch.Tensor
    device: torch.device = torch.device('cpu')

    @classmethod
    def of_names(
        cls,
        seed: int,
        step: int,
        names: Sequence[str],
        device: torch.device | str = 'cpu',
    ) -> Draws:
        """Draws for images by their names."""
        keys = torch.from_numpy(name_keys(names))
        return cls(seed, step, keys, torch.device(device))

    def __len__(self) -> int:
        return len(self.host_keys)

    @cached_property
    def keys(self) -> torch.Tensor:
        """`host_keys` on `device`."""
        return self.host_keys.to(self.device, non_blocking=True)

    def of(self, places: Sequence[int] | torch.Tensor) -> Draws:
        """Draws of some of the images, by their (host) places in the batch."""
        chosen = self.host_keys[torch.as_tensor(places, dtype=torch.int64)]
        return Draws(self.seed, self.step, chosen, self.device)

    def uniform(
        self, purpose: str, *shape: int, low: float = 0.0, high: float = 1.0
    ) -> torch.Tensor:
        """Uniform numbers.

        Parameters
        ----------
        purpose : str
            Another purpose, other numbers.
        *shape : int
            Of each image's own numbers.
        low, high : float
            Bounds; `high` is never reached.

        Returns
        -------
        torch.Tensor
            (B, *shape) float32 on `device`.
        """
        return low + (high - low) * self._units(self.keys, purpose, shape)

    def on_host(
        self, purpose: str, *shape: int, low: float = 0.0, high: float = 1.0
    ) -> NDArray[np.float32]:
        """The same numbers as `uniform`, without asking the device for them."""
        units = self._units(self.host_keys, purpose, shape)
        return (low + (high - low) * units).numpy()

    def normal(self, purpose: str, *shape: int) -> torch.Tensor:
        """(B, *shape) float32 standard normal numbers on `device` (Box and Muller)."""
        first = self.uniform(f'{purpose} radius', *shape)
        second = self.uniform(f'{purpose} angle', *shape)
        # 1 - u is in (0, 1], so the logarithm is finite.
        return (-2 * (1 - first).log()).sqrt() * (2 * math.pi * second).cos()

    def _units(
        self, keys: torch.Tensor, purpose: str, shape: tuple[int, ...]
    ) -> torch.Tensor:
        start = _signed(_purpose_key(purpose) + self.seed * _INCREMENT)
        state = _mixed(_mixed(keys + start) + _signed((self.step + 1) * _FACTORS[0]))
        count = math.prod(shape)
        counter = torch.arange(count, dtype=torch.int64, device=keys.device)
        values = _mixed(state[:, None] + (counter + 1) * _signed(_INCREMENT))
        units = ((values >> (64 - _BITS)) & ((1 << _BITS) - 1)).float() / (1 << _BITS)
        return units.reshape(len(keys), *shape)
