"""Stages to time: as they are now, and as they were before images stayed on the device."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader

from napari_kdsam.training import config as settings
from napari_kdsam.training.data.samples import Sample
from napari_kdsam.training.distillation.losses import PerceptualLoss, VGG16Features
from napari_kdsam.training.initial_weights import starting_model
from napari_kdsam.training.teachers.projection import Projection

INPUT_SIZE = 512
VIEWS = ('identity', 'flip_columns')
BALANCE = 0.5
ANCHOR_SHARE = 0.125
_COMMON: dict[str, Any] = {'steps': 1000, 'warmup_steps': 20}
_OF_PART: dict[str, dict[str, Any]] = {
    'encoder': {'neck_rate': 1e-3, 'trunk_rate': 3e-4},
    'decoder': {
        'neck_rate': 2e-4,
        'trunk_rate': 5e-5,
        'cross_entropy_weight': 0.5,
        'ema_decay': 0.998,
    },
}
Feed = Callable[[], Any]


def new_stage(part: str, samples: Sequence[Sample], options: Any) -> tuple[Any, Feed]:
    """Build a stage of this version.

    Parameters
    ----------
    part : str
        ``encoder`` or ``decoder``.
    samples : sequence of Sample
        What to learn from.
    options : object
        Of the command line.

    Returns
    -------
    stage : TrainingStage
    feed : callable
        Makes its data loader.
    """
    from napari_kdsam.core.sizes import EMBEDDING_SHAPE
    from napari_kdsam.training.data.order import Places, StepSampler, collate_places
    from napari_kdsam.training.data.store import ImageStore
    from napari_kdsam.training.distillation.stage import EncoderStage
    from napari_kdsam.training.finetuning.stage import DecoderStage
    from napari_kdsam.training.teachers.memory import TeacherMemory

    store = ImageStore(samples, INPUT_SIZE, max(1, options.workers))
    model, config = starting_model(None, None, INPUT_SIZE), config_of(part, options)
    stage: Any
    if part == 'encoder':
        device = torch.device(options.device)
        shape = (len(store), len(VIEWS), *EMBEDDING_SHAPE)
        numbers = torch.randn(shape, dtype=torch.bfloat16, device=device)
        memory = TeacherMemory(numbers, device, 'random', VIEWS)
        stage = EncoderStage(model, config, 0, store, memory, perceptual=perceptual())
    else:
        stage = DecoderStage(model, config, 0, store, anchor=anchor_of(options))
    stage.speed_up(options.compile)

    def feed() -> Any:
        sets = [sample.data_set for sample in store.samples]
        sampler = StepSampler(sets, options.batch_size, 0, BALANCE)
        return DataLoader(Places(), batch_sampler=sampler, collate_fn=collate_places)

    return stage, feed


def anchor_of(options: Any) -> Any:
    """The frozen model beside stage 2, if one was asked for."""
    if not options.anchor:
        return None
    from napari_kdsam.training.finetuning.anchor import Anchor
    from napari_kdsam.training.teachers.teacher import open_teacher

    return Anchor(open_teacher(options.anchor, 'cpu'), ANCHOR_SHARE)


def old_stage(part: str, samples: Sequence[Sample], options: Any) -> tuple[Any, Feed]:
    """Build a stage of the version that this process has imported; see `new_stage`."""
    data: Any = importlib.import_module('napari_kdsam.training.data.dataset')
    stages: Any = importlib.import_module(f'napari_kdsam.training.{part}_stage')
    model, config = starting_model(None, None, INPUT_SIZE), config_of(part, options)
    view = None
    if part == 'encoder':
        stage = stages.EncoderStage(model, config, 0, perceptual())
        view = RandomTeacher(torch.randn(256, 64, 64).half())
    else:
        stage = stages.DecoderStage(model, config, 0)
    stage.model.encoder.to(memory_format=torch.channels_last)
    images = data.SegmentationDataset(samples, INPUT_SIZE, view)

    def feed() -> Any:
        sets = [sample.data_set for sample in samples]
        return DataLoader(
            images,
            batch_sampler=data.StepSampler(sets, options.batch_size, 0, BALANCE),
            num_workers=options.workers,
            collate_fn=data.collate,
            persistent_workers=options.workers > 0,
            pin_memory=torch.device(options.device).type == 'cuda',
        )

    return stage, feed


class RandomTeacher:
    """Gives every image the same embedding; picklable, for workers of a data loader."""

    def __init__(self, embedding: torch.Tensor) -> None:
        self.embedding = embedding

    def __call__(self, image: Any, mask: Any, step: int) -> tuple[Any, Any, Any]:
        return image, mask, self.embedding


def config_of(part: str, options: Any) -> Any:
    """Settings of a stage, those that both versions have."""
    values = {**_COMMON, **_OF_PART[part], 'batch_size': options.batch_size}
    if part == 'encoder':
        return settings.EncoderStageConfig(**values)
    if options.anchor and options.measure == 'new':
        values |= {'anchor_weight': 0.15, 'anchor_share': ANCHOR_SHARE}
    return settings.DecoderStageConfig(**values)


def perceptual() -> PerceptualLoss:
    """The perceptual loss with untrained features, which take as long."""
    basis = torch.eye(256)[:3]
    plain = Projection(torch.zeros(256), basis, torch.ones(3), torch.ones(3) / 3)
    return PerceptualLoss(VGG16Features(), plain)
