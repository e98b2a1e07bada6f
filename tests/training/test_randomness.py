"""Random numbers by counting: the same wherever an image is, others anywhere else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_kdsam.training import randomness
from napari_kdsam.training.randomness import Draws, name_key, name_keys

NAMES = [f'image {k}' for k in range(200)]
MASK = (1 << 64) - 1


def splitmix64(value: int) -> int:
    """The published finaliser, on Python's integers."""
    value ^= value >> 30
    value = value * 0xBF58476D1CE4E5B9 & MASK
    value ^= value >> 27
    value = value * 0x94D049BB133111EB & MASK
    return value ^ value >> 31


@settings(deadline=None)
@given(value=st.integers(-(1 << 63), (1 << 63) - 1))
def test_the_hash_is_splitmix64_s_finaliser(value: int) -> None:
    found = int(randomness._mixed(torch.tensor([value]))[0])
    assert found & MASK == splitmix64(value & MASK)


def test_uniform_numbers_are_in_range_and_evenly_spread() -> None:
    numbers = Draws.of_names(1, 2, NAMES).uniform('x', 500, low=-2.0, high=3.0)
    assert numbers.shape == (len(NAMES), 500)
    assert numbers.min() >= -2 and numbers.max() < 3
    counts = torch.histc(numbers, bins=20, min=-2, max=3)
    assert (counts / numbers.numel() - 0.05).abs().max() < 0.005
    assert numbers.mean().item() == pytest.approx(0.5, abs=0.02)
    assert numbers.var().item() == pytest.approx(25 / 12, rel=0.02)


def test_normal_numbers_have_mean_0_and_variance_1() -> None:
    numbers = Draws.of_names(1, 2, NAMES).normal('x', 500)
    assert torch.isfinite(numbers).all()
    assert numbers.mean().item() == pytest.approx(0, abs=0.02)
    assert numbers.var().item() == pytest.approx(1, rel=0.02)
    assert (numbers.abs() < 1).float().mean().item() == pytest.approx(0.683, abs=0.01)


def test_images_and_their_numbers_are_not_correlated() -> None:
    numbers = Draws.of_names(1, 2, NAMES).uniform('x', 500).double().numpy()
    for table in (numbers, numbers.T):
        off = np.corrcoef(table) - np.eye(len(table))
        assert abs(off).max() < 6 / np.sqrt(table.shape[1])


@settings(deadline=None)
@given(
    seed=st.integers(0, 1 << 40),
    step=st.integers(0, 1 << 40),
    low=st.floats(-10, 0, width=32),
    high=st.floats(1, 10, width=32),
)
def test_the_host_draws_exactly_what_the_device_draws(
    seed: int, step: int, low: float, high: float
) -> None:
    draws = Draws.of_names(seed, step, NAMES[:5])
    here = draws.on_host('x', 3, 2, low=low, high=high)
    assert here.dtype == np.float32
    assert np.array_equal(here, draws.uniform('x', 3, 2, low=low, high=high).numpy())


@settings(deadline=None)
@given(places=st.lists(st.integers(0, 19), min_size=1, max_size=10))
def test_some_images_draw_what_they_draw_among_all(places: list[int]) -> None:
    draws = Draws.of_names(3, 4, NAMES[:20])
    assert len(draws.of(places)) == len(places)
    for few in (draws.of(places), draws.of(torch.tensor(places))):
        assert torch.equal(few.uniform('x', 7), draws.uniform('x', 7)[places])
        assert torch.equal(few.normal('x', 7), draws.normal('x', 7)[places])


def test_more_numbers_begin_with_the_fewer() -> None:
    draws = Draws.of_names(3, 4, NAMES[:3])
    assert torch.equal(draws.uniform('x', 5), draws.uniform('x', 9)[:, :5])


def test_purpose_step_seed_and_image_each_make_other_numbers() -> None:
    first = Draws.of_names(1, 1, NAMES[:4])
    numbers = first.uniform('x', 50)
    others = [
        first.uniform('y', 50),
        Draws.of_names(1, 2, NAMES[:4]).uniform('x', 50),
        Draws.of_names(2, 1, NAMES[:4]).uniform('x', 50),
        Draws.of_names(1, 1, NAMES[4:8]).uniform('x', 50),
    ]
    for other in others:
        assert (numbers != other).float().mean() > 0.99
    assert torch.equal(numbers, Draws.of_names(1, 1, NAMES[:4]).uniform('x', 50))


def test_names_have_keys_of_their_own_that_stay() -> None:
    keys = name_keys(NAMES)
    assert keys.dtype == np.int64
    assert len(set(keys.tolist())) == len(NAMES)
    # Written down once: another key would change every run's augmentation.
    assert name_key('image 0') == 4523324479069945525
