"""What a training step must and must not do."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_kdsam.training.config import DecoderStageConfig
from napari_kdsam.training.data.order import TrainingBatch
from napari_kdsam.training.data.samples import Sample
from napari_kdsam.training.data.store import ImageStore, Squares
from napari_kdsam.training.finetuning.stage import DecoderStage
from napari_kdsam.training.initial_weights import starting_model
from napari_kdsam.training.stage import TrainingError

CONFIG = DecoderStageConfig(steps=1, neck_rate=1e-4, geometry=False, appearance=False)


class Bright:
    def __call__(self) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros((64, 64, 3), np.uint8), np.ones((64, 64), bool)


@pytest.fixture(scope='module')
def stage() -> DecoderStage:
    store = ImageStore([Sample('set', 'train', 'dark', read=Bright())], 512)
    return DecoderStage(starting_model(None, None, 512), CONFIG, 0, store)


def test_running_statistics_stay_as_they_are_while_training(
    stage: DecoderStage,
) -> None:
    stage.on_train_start()
    norms = [m for m in stage.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert norms
    assert not any(norm.training for norm in norms)
    assert stage.model.mask_decoder.training


def test_a_loss_that_is_not_finite_stops_with_the_names_of_the_images(
    stage: DecoderStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = iter([0.5, float('nan'), 0.5])

    def broken(squares: Squares, step: int) -> dict[str, torch.Tensor]:
        return {'loss': torch.tensor(next(losses))}

    monkeypatch.setattr(stage, 'losses', broken)
    monkeypatch.setattr(stage, 'log', lambda *args, **kwargs: None)
    for step in range(3):
        stage.training_step(TrainingBatch(step=step, places=[0]), 0)
    with pytest.raises(TrainingError, match=r'step 1 with the images set/dark'):
        stage.check_finite()


def test_a_run_in_which_all_is_finite_goes_on(
    stage: DecoderStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = DecoderStage(stage.model, CONFIG, 0, stage.store)
    monkeypatch.setattr(
        fresh, 'losses', lambda squares, step: {'loss': torch.tensor(1.0)}
    )
    monkeypatch.setattr(fresh, 'log', lambda *args, **kwargs: None)
    fresh.check_finite()
    fresh.training_step(TrainingBatch(step=0, places=[0]), 0)
    fresh.check_finite()


def test_an_image_gives_the_same_square_in_any_batch(stage: DecoderStage) -> None:
    config = CONFIG.model_copy(update={'geometry': True, 'appearance': True})
    varied = DecoderStage(stage.model, config, 0, stage.store)
    alone = varied.squares_of(TrainingBatch(step=5, places=[0]), 5)
    beside = varied.squares_of(TrainingBatch(step=5, places=[0, 0]), 5)
    assert torch.equal(alone.pixels[0], beside.pixels[1])
    later = varied.squares_of(TrainingBatch(step=6, places=[0]), 6)
    assert not torch.equal(alone.masks, later.masks)
