"""What a training step must and must not do."""

from __future__ import annotations

import pytest
import torch

from napari_kdsam.training.config import DecoderStageConfig
from napari_kdsam.training.data.dataset import Batch
from napari_kdsam.training.run import PARTS  # before lightning
from napari_kdsam.training.student import starting_model

from napari_kdsam.training.decoder_stage import DecoderStage  # isort: skip
from napari_kdsam.training.stage import TrainingError  # isort: skip

CONFIG = DecoderStageConfig(steps=1, neck_rate=1e-4, geometry=False, appearance=False)


@pytest.fixture(scope='module')
def stage() -> DecoderStage:
    assert PARTS
    return DecoderStage(starting_model(None, None, 512), CONFIG, 0)


def batch() -> Batch:
    return Batch(
        step=3,
        names=['set/dark'],
        modalities=['other'],
        failures=[],
        pixels=torch.zeros(1, 3, 512, 512, dtype=torch.uint8),
        masks=torch.full((1, 1, 512, 512), 255, dtype=torch.uint8),
        sizes=torch.tensor([[512, 512]]),
    )


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
    def broken(ready: Batch, step: int) -> dict[str, torch.Tensor]:
        return {'loss': torch.tensor(float('nan'))}

    monkeypatch.setattr(stage, 'losses', broken)
    monkeypatch.setattr(type(stage), 'global_step', 3)
    monkeypatch.setattr(type(stage), 'global_rank', 0)
    with pytest.raises(TrainingError, match='set/dark'):
        stage.training_step(batch(), 0)


def test_a_batch_without_a_readable_image_is_no_step_and_is_told_once(
    stage: DecoderStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(stage, 'print', said.append)
    empty = Batch(step=0, names=[], modalities=[], failures=[('set/x', 'set/x is bad')])
    assert stage.training_step(empty, 0) is None
    assert stage.training_step(empty, 1) is None
    assert said == ['Skipped: set/x is bad']
    assert stage.failures == {'set/x': 'set/x is bad'}
