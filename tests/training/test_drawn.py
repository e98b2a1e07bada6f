"""Drawn pictures among the training images."""

from __future__ import annotations

import pickle

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from training_data import write_shards

from napari_kdsam.training.config import DataConfig, SourceConfig, TrainingConfig
from napari_kdsam.training.data.drawn import draw_shapes, drawn_samples
from napari_kdsam.training.recipe import split_samples


def test_drawn_pictures_are_the_same_each_time_and_in_every_process() -> None:
    samples = drawn_samples(4)
    copies = pickle.loads(pickle.dumps(samples))
    for sample, copy in zip(samples, copies, strict=True):
        image, mask = sample.load()
        again, mask_again = copy.load()
        assert np.array_equal(image, again)
        assert np.array_equal(mask, mask_again)
    assert len({sample.load()[0].tobytes() for sample in samples}) == 4


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_a_drawn_shape_is_large_enough_to_learn_from(seed: int) -> None:
    image, mask = draw_shapes(seed)
    assert image.shape == (*mask.shape, 3)
    assert 0.004 * mask.size <= mask.sum() < 0.9 * mask.size


def test_drawn_shapes_stand_out_from_what_is_around_them() -> None:
    for seed in range(20):
        image, mask = draw_shapes(seed)
        inside, outside = image[mask].astype(float), image[~mask].astype(float)
        assert np.abs(np.median(inside, 0) - np.median(outside, 0)).max() > 15


def test_drawn_pictures_are_a_data_set_of_the_training_images_only(tmp_path) -> None:
    data = write_shards(tmp_path / 'data')
    config = TrainingConfig(
        name='drawn',
        data=DataConfig(sources=[SourceConfig(folder=data)], drawn=5, train_limit=1),
    )
    train, val = split_samples(config)
    assert sum(sample.data_set == 'drawn' for sample in train) == 5
    assert not any(sample.data_set == 'drawn' for sample in val)
