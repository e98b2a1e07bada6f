"""Splits keep patients together, and leaks between them are found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from napari_kdsam.core.errors import ImageError
from napari_kdsam.core.geometry import Mask
from napari_kdsam.training.data.leaks import (
    LeakError,
    check_no_leaks,
    drop_leaks,
    find_leaks,
)
from napari_kdsam.training.data.samples import Pixels, Sample
from napari_kdsam.training.data.splits import (
    assign_split,
    make_split,
    read_split,
    write_split,
)


@dataclass(frozen=True)
class Textured:
    """A smooth random picture, the same for the same seed."""

    seed: int
    brightness: float = 1.0
    shape: tuple[int, int] = (90, 120)

    def __call__(self) -> tuple[Pixels, Mask]:
        noise = np.random.default_rng(self.seed).integers(0, 200, (9, 12), np.uint8)
        size = self.shape[::-1]
        grey = Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)
        values = np.clip(np.asarray(grey) * self.brightness, 0, 255).astype(np.uint8)
        return np.repeat(values[..., None], 3, axis=2), np.ones(self.shape, bool)


def sample(stem: str, seed: int = 0, patient: str = '', **look: float) -> Sample:
    return Sample('set', '', stem, patient=patient, read=Textured(seed, **look))


@given(
    patients=st.lists(st.sampled_from(['', 'a', 'b', 'c', 'd']), min_size=2),
    fraction=st.floats(0.01, 0.9),
    order=st.randoms(use_true_random=False),
)
def test_no_patient_spans_splits_in_whatever_order_samples_come(
    patients: list[str], fraction: float, order: object
) -> None:
    samples = [sample(f's{i}', patient=p) for i, p in enumerate(patients)]
    placed = make_split(samples, fraction, seed=3)
    homes: dict[str, set[str]] = {}
    for item in placed:
        homes.setdefault(item.patient or item.stem, set()).add(item.split)
    assert all(len(splits) == 1 for splits in homes.values())
    if len(homes) > 1:
        assert {item.split for item in placed} == {'train', 'val'}
    shuffled = list(samples)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    again = {item.stem: item.split for item in make_split(shuffled, fraction, seed=3)}
    assert again == {item.stem: item.split for item in placed}


def test_a_split_file_gives_back_what_was_written(tmp_path: Path) -> None:
    samples = make_split([sample(f's{i}') for i in range(20)], 0.2)
    write_split(tmp_path / 'split.csv', samples)
    bare = [replace(item, split='') for item in samples]
    assert assign_split(bare, tmp_path / 'split.csv') == samples


def test_a_sample_without_a_split_is_named(tmp_path: Path) -> None:
    write_split(tmp_path / 'split.csv', [sample('known')])
    with pytest.raises(ImageError, match='set/unknown'):
        assign_split([sample('known'), sample('unknown')], tmp_path / 'split.csv')


def test_a_bad_split_file_says_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / 'split.csv'
    with pytest.raises(ImageError, match='no split file'):
        read_split(path)
    path.write_text('data_set,stem\n')
    with pytest.raises(ImageError, match='split'):
        read_split(path)
    path.write_text('data_set,stem,split\na,b,train\na,b,val\n')
    with pytest.raises(ImageError, match='two splits'):
        read_split(path)


def test_a_near_duplicate_is_found_and_others_are_not() -> None:
    val = [sample('original', seed=1)]
    train = [
        sample('copy', seed=1, brightness=1.2, shape=(60, 80)),
        *(sample(f'other{seed}', seed=seed) for seed in range(2, 30)),
    ]
    (leak,) = find_leaks(train, val)
    assert (leak.train.stem, leak.val.stem) == ('copy', 'original')
    assert leak.reason == 'near-duplicate'
    kept, dropped = drop_leaks(train, val)
    assert [item.stem for item in kept] == [item.stem for item in train[1:]]
    assert dropped == [leak]


def test_the_same_name_or_patient_is_a_leak() -> None:
    val = [sample('a', seed=1, patient='p')]
    train = [sample('a', seed=2), sample('b', seed=3, patient='p')]
    assert [leak.reason for leak in find_leaks(train, val)] == [
        'same name',
        'same patient',
    ]
    with pytest.raises(LeakError, match='set/a'):
        check_no_leaks(train, val)


def test_clean_splits_pass_and_empty_ones_do_too() -> None:
    check_no_leaks([sample('a', seed=1)], [sample('b', seed=2)])
    check_no_leaks([sample('a', seed=1)], [])


def test_leaks_are_looked_for_in_all_of_val_even_if_little_of_it_is_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from napari_kdsam.training import recipe
    from napari_kdsam.training.config import DataConfig, TrainingConfig

    val = [sample('first', seed=1), sample('second', seed=2)]
    train = [sample('copy of second', seed=2), sample('other', seed=3)]
    config = TrainingConfig.model_validate(
        {'name': 'x', 'data': {'sources': [{'folder': 'f'}], 'val_limit': 1}}
    )

    def read(data: DataConfig, splits: Sequence[str], **how: bool) -> list[Sample]:
        return train if 'train' in splits else val

    monkeypatch.setattr(recipe, 'read_samples', read)
    kept, used = recipe.split_samples(config)
    assert [item.stem for item in kept] == ['other']
    assert len(used) == 1
