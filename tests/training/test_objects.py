"""Masks with several structures, and inputs at the edge of what is an image."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from training_data import write_shards

from napari_kdsam.core.errors import ImageError
from napari_kdsam.training.config import DataConfig, DecoderStageConfig, TrainingConfig
from napari_kdsam.training.data.order import TrainingBatch
from napari_kdsam.training.data.samples import Sample, single_objects
from napari_kdsam.training.data.shards import read_shards
from napari_kdsam.training.data.store import ImageStore, scaled_objects
from napari_kdsam.training.finetuning.stage import DecoderStage
from napari_kdsam.training.initial_weights import starting_model
from napari_kdsam.training.recipe import read_samples, split_samples


@dataclass(frozen=True)
class Drawn:
    """A grey image with the given mask."""

    mask: tuple[tuple[int, ...], ...]

    def __call__(self) -> tuple[np.ndarray, np.ndarray]:
        mask = np.array(self.mask, np.uint8)
        return np.full((*mask.shape, 3), 99, np.uint8), mask


def sample(mask: list[list[int]], objects: int, data_set: str = 'camus') -> Sample:
    rows = tuple(tuple(row) for row in mask)
    return Sample(data_set, 'train', 'x', objects=objects, read=Drawn(rows))


def test_a_class_number_that_is_not_announced_is_refused() -> None:
    with pytest.raises(ImageError, match='class number 4, but 3 structures'):
        sample([[0, 1], [2, 4]], 3).load()


def test_a_structure_that_is_announced_and_not_there_is_named() -> None:
    first, second, third = single_objects([sample([[0, 1], [3, 3]], 3)])
    assert [item.name for item in (first, second)] == ['camus/x#1', 'camus/x#2']
    assert first.load()[1].tolist() == [[False, True], [False, False]]
    assert third.load()[1].sum() == 2
    with pytest.raises(ImageError, match='camus/x#2: the mask has no myocardium'):
        second.load()


def test_one_structure_is_whatever_is_not_zero() -> None:
    single = sample([[0, 200], [7, 0]], 1, 'kvasir_seg')
    assert single_objects([single]) == [single]
    assert single.load()[1].sum() == 2


@pytest.mark.parametrize('text', ['0', '256', '-1', 'two'])
def test_an_index_with_an_impossible_number_of_objects_is_refused(
    tmp_path: Path, text: str
) -> None:
    folder = write_shards(tmp_path / 'data')
    path = folder / 'index.csv'
    with path.open(newline='') as file:
        rows = list(csv.DictReader(file))
    with path.open('w', newline='') as file:
        writer = csv.DictWriter(file, [*rows[0], 'objects'])
        writer.writeheader()
        writer.writerows({**row, 'objects': text} for row in rows)
    with pytest.raises(ImageError, match=f"announces '{text}' objects"):
        read_shards(folder)


def test_scaling_never_mixes_class_numbers() -> None:
    objects = np.zeros((90, 70), np.uint8)
    objects[10:40, 10:60], objects[40:80, 10:60] = 1, 3
    for shape in ((512, 398), (45, 35)):
        found, cover = scaled_objects(objects, shape)
        assert set(np.unique(found)) == {0, 1, 3}
        assert ((found > 0) == (cover > 0)).all()
        # Away from any border a pixel is wholly its object's.
        assert (cover[found > 0] == 255).mean() > 0.6


def test_an_object_that_vanishes_at_the_networks_size_is_left_out_with_a_reason() -> (
    None
):
    mask = np.zeros((600, 600), np.uint8)
    mask[7, 7] = 1
    tiny = Sample('set', 'train', 'tiny', read=Drawn(tuple(map(tuple, mask.tolist()))))
    store = ImageStore([tiny], 8)
    assert len(store) == 0
    assert 'nothing is left of the mask at 8 pixels' in store.failures['set/tiny']


@pytest.mark.parametrize('mask', [[[1]], [[1, 1, 1, 1, 1, 1, 1, 1, 1]], [[1], [0]]])
def test_images_of_a_pixel_or_a_line_give_a_finite_loss(mask: list[list[int]]) -> None:
    config = DecoderStageConfig(
        steps=1, outline_weight=0.2, ranking_weight=0.1, cross_entropy_weight=0.5
    )
    store = ImageStore([sample(mask, 1, 'set')], 512)
    stage = DecoderStage(starting_model(None, None, 512), config, 0, store)
    squares = stage.squares_of(TrainingBatch(step=0, places=[0]), 0)
    with torch.no_grad():
        losses = stage.losses(squares, 0)
    assert torch.isfinite(losses['loss'])


def test_a_set_without_validation_images_is_learnt_from_all_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_shards(tmp_path / 'data', train=2, val=0)
    config = TrainingConfig.model_validate(
        {
            'name': 'x',
            'data': {
                'sources': [{'folder': folder, 'data_sets': ['isic', 'hc18']}],
                'drop_leaks': False,
            },
        }
    )
    train, val = split_samples(config)
    assert (len(train), val) == (4, [])
    assert 'isic has no validation images' in ''.join(capsys.readouterr())
    with pytest.raises(ImageError, match='lists no val images of isic, hc18'):
        read_samples(DataConfig.model_validate(config.data.model_dump()), ['val'])


def test_more_images_than_fit_into_memory_are_said_in_one_sentence() -> None:
    class Endless(list[Sample]):
        def __len__(self) -> int:
            return 10**10

    with pytest.raises(ImageError, match=r'more memory than there is; set data\.train'):
        ImageStore(Endless(), 512)
