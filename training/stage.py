"""What both stages share: steps whose randomness depends on seed and step alone."""

from __future__ import annotations

import napari_kdsam.training.torchvision_first  # noqa: F401 # isort: skip
import hashlib
import time
from typing import Any, cast

import lightning.pytorch as lightning
import numpy as np
import torch
from numpy.typing import NDArray
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from napari_kdsam.errors import KDSAMError
from napari_kdsam.model.network import PromptableModel
from napari_kdsam.training.config import StageConfig
from napari_kdsam.training.data.dataset import Batch
from napari_kdsam.training.student import warmup_cosine


class TrainingError(KDSAMError):
    """Training had to stop."""


def generator_of(seed: int, step: int, name: str) -> np.random.Generator:
    """Random numbers of one image at one step, the same on whichever process."""
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return np.random.default_rng([seed, step, int.from_bytes(digest, 'little')])


class Stage(lightning.LightningModule):
    """Base of both stages.

    Parameters
    ----------
    model : PromptableModel
        Trained in place.
    config : StageConfig
        Steps, rates and augmentation.
    seed : int
        Of the run.
    """

    geometry = False

    def __init__(self, model: PromptableModel, config: StageConfig, seed: int) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.seed = seed
        self.augmentation: torch.nn.Module | None = None
        if self.geometry or config.appearance:
            from napari_kdsam.training.augmentation import Augmentation

            self.augmentation = Augmentation(
                geometry=self.geometry,
                appearance=config.appearance,
                strength=config.strength,
            )
        self.failures: dict[str, str] = {}
        self.tiles: list[NDArray[np.uint8]] = []
        self._averaged = 0
        self._ended: float | None = None
        self.groups = self.parameter_groups()
        self.average: AveragedModel | None = None
        if config.ema_decay > 0:
            self.average = AveragedModel(
                model, multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay)
            ).requires_grad_(False)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return what learns; called once, freezes the rest."""
        raise NotImplementedError

    def losses(self, batch: Batch, step: int) -> dict[str, torch.Tensor]:
        """Return named losses of an augmented batch, ``loss`` being their sum."""
        raise NotImplementedError

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.groups)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer,
            lambda step: warmup_cosine(
                step, self.config.warmup_steps, self.config.steps
            ),
        )
        return {
            'optimizer': optimizer,
            'lr_scheduler': {'scheduler': schedule, 'interval': 'step'},
        }

    @property
    def result(self) -> PromptableModel:
        """The weights to keep: the moving average where there is one."""
        if self.average is None:
            return self.model
        return cast(PromptableModel, self.average.module)

    def on_before_zero_grad(self, optimizer: Any) -> None:
        if self.average is not None and self.global_step > self._averaged:
            self.average.update_parameters(self.model)
            self._averaged = self.global_step

    def on_train_start(self) -> None:
        # Lightning leaves each module in the mode it finds it in.
        self.train()

    def train(self, mode: bool = True) -> Stage:
        super().train(mode)
        # Batch statistics of a few medical images would ruin the running ones.
        for module in self.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval()
        return self

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        # From end to end, so that waiting for data counts.
        now = time.perf_counter()
        if self._ended is not None:
            images = len(batch['names']) * self.trainer.world_size
            self.log('train/images_per_second', images / (now - self._ended))
        self._ended = now

    def on_validation_end(self) -> None:
        self._ended = None

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor | None:
        for name, reason in batch['failures']:
            if name not in self.failures:
                self.failures[name] = reason
                self.print(f'Skipped: {reason}')
        if 'pixels' not in batch:
            return None
        # Exact resume needs no saved generator: each step starts its own.
        step = batch['step']
        own = generator_of(self.seed, step, f'rank {self.global_rank}')
        torch.manual_seed(int(own.integers(2**62)))
        pixels, masks, sizes = (
            batch['pixels'].float(),
            batch['masks'].float() / 255,
            batch['sizes'],
        )
        if self.augmentation is not None:
            with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
                pixels, masks, sizes = self.augmentation(
                    pixels, masks, sizes, batch['modalities']
                )
        ready = Batch(**{**batch, 'pixels': pixels, 'masks': masks, 'sizes': sizes})
        found = self.losses(ready, step)
        total = found['loss']
        if not bool(torch.isfinite(total)):
            raise TrainingError(
                f'The loss is not finite at step {self.global_step} with the images '
                f'{", ".join(batch["names"])}; the last checkpoint is kept. Lower the '
                'learning rate or look at these images.'
            )
        for name, value in found.items():
            self.log(
                f'train/{name}',
                value.detach().float(),
                prog_bar=name == 'loss',
                batch_size=len(batch['names']),
            )
        return total
