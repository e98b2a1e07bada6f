"""What the stages share: steps whose randomness depends on seed and step alone."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Any, Generic, Self, TypeVar, cast

import lightning.pytorch as lightning
import numpy as np
import torch
from numpy.typing import NDArray
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from napari_kdsam.core.errors import KDSAMError
from napari_kdsam.model.checkpoint import save_kdsam
from napari_kdsam.model.network import PromptableModel
from napari_kdsam.training.config import AugmentedStageConfig, StageConfig
from napari_kdsam.training.data.order import TrainingBatch
from napari_kdsam.training.data.store import ImageStore, Squares
from napari_kdsam.training.schedule import warmup_cosine

_NO_STEP = -1
Model = TypeVar('Model', bound=torch.nn.Module)


class TrainingError(KDSAMError):
    """Training had to stop."""


class TrainingStage(lightning.LightningModule, Generic[Model]):
    """Base of the stages.

    After start-up a step touches the host only to launch it: what is learnt from stays
    on the device, and no value is asked back from it but every `log_every` steps.

    Parameters
    ----------
    model : torch.nn.Module
        Trained in place.
    config : StageConfig
        Steps and rates.
    seed : int
        Of the run.
    store : ImageStore
        What is learnt from.
    val_store : ImageStore, optional
        What is looked at on the way.
    """

    def __init__(
        self,
        model: Model,
        config: StageConfig,
        seed: int,
        store: ImageStore,
        val_store: ImageStore | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.seed = seed
        self.store = store
        self.val_store = val_store
        self.tiles: list[NDArray[np.uint8]] = []
        self._averaged = 0
        self._ended: float | None = None
        self._first_bad: torch.Tensor | None = None
        self._recent: deque[TrainingBatch] = deque(maxlen=1000)
        self.groups = self.parameter_groups()
        self.average: AveragedModel | None = None
        if config.ema_decay > 0:
            self.average = AveragedModel(
                model, multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay)
            ).requires_grad_(False)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return what learns; called once, freezes the rest."""
        raise NotImplementedError

    def losses_of(self, batch: TrainingBatch, step: int) -> dict[str, torch.Tensor]:
        """Return named losses of a batch, ``loss`` being their sum."""
        raise NotImplementedError

    def speed_up(self, compiled: bool) -> None:
        """Prepare the model for a run, compiled or not."""
        raise NotImplementedError

    def save(self, path: Path, header: dict[str, Any]) -> None:
        """Write `result` as a file that the rest of the package reads."""
        raise NotImplementedError

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.groups, fused=self.device.type == 'cuda')
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
    def result(self) -> Model:
        """The weights to keep: the moving average where there is one."""
        if self.average is None:
            return self.model
        return cast(Model, self.average.module)

    def average_in(self) -> None:
        """Let the moving average follow, once for each optimiser step."""
        if self.average is not None and self.global_step > self._averaged:
            self.average.update_parameters(self.model)
            self._averaged = self.global_step

    def on_before_zero_grad(self, optimizer: Any) -> None:
        self.average_in()

    def on_fit_start(self) -> None:
        self.store.place_on(self.device)
        if self.val_store is not None:
            self.val_store.place_on(self.device)
        if self.average is not None:
            # It is compared at every update, which would wait for a GPU.
            self.average.n_averaged = self.average.n_averaged.cpu()

    def on_train_start(self) -> None:
        # Lightning leaves each module in the mode it finds it in.
        self.train()
        # A checkpoint's average has its own step in it already.
        self._averaged = self.global_step

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        # TrainingBatch statistics of a few medical images would ruin the running ones.
        for module in self.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval()
        return self

    def on_train_batch_end(
        self, outputs: Any, batch: TrainingBatch, batch_idx: int
    ) -> None:
        # From end to end, so that waiting for data counts.
        now = time.perf_counter()
        if self._ended is not None:
            images = len(batch['places']) * self.trainer.world_size
            self.log('train/images_per_second', images / (now - self._ended))
        self._ended = now

    def on_validation_end(self) -> None:
        self._ended = None

    def training_step(self, batch: TrainingBatch, batch_idx: int) -> torch.Tensor:
        step = batch['step']
        self._recent.append(batch)
        found = self.losses_of(batch, step)
        total = found['loss']
        self._watch(total.detach(), step)
        for name, value in found.items():
            self.log(
                f'train/{name}',
                value.detach().float(),
                prog_bar=name == 'loss',
                batch_size=len(batch['places']),
            )
        return total

    def _watch(self, total: torch.Tensor, step: int) -> None:
        """Note the first step whose loss is not finite, without waiting for it."""
        if self._first_bad is None:
            self._first_bad = torch.full((), _NO_STEP, device=total.device)
        bad = ~torch.isfinite(total) & (self._first_bad == _NO_STEP)
        self._first_bad = torch.where(bad, step, self._first_bad)

    def check_finite(self) -> None:
        """Stop if a loss since the last look was not finite.

        Raises
        ------
        TrainingError
            Naming the step and its images.
        """
        step = _NO_STEP if self._first_bad is None else int(self._first_bad)
        if step == _NO_STEP:
            return
        batches = [batch for batch in self._recent if batch['step'] == step]
        places = [place for batch in batches for place in batch['places']]
        names = ', '.join(self.store.samples[place].name for place in places)
        raise TrainingError(
            f'The loss is not finite at step {step} with the images {names}; the last '
            'checkpoint is kept. Lower the learning rate or look at these images.'
        )


class PromptableStage(TrainingStage[PromptableModel]):
    """Base of the stages that train KD SAM itself, on augmented images.

    Parameters
    ----------
    model : PromptableModel
        Trained in place.
    config : AugmentedStageConfig
        Steps, rates and augmentation.
    seed : int
        Of the run.
    store : ImageStore
        What is learnt from.
    val_store : ImageStore, optional
        What is looked at on the way.
    """

    config: AugmentedStageConfig
    geometry = False

    def __init__(
        self,
        model: PromptableModel,
        config: AugmentedStageConfig,
        seed: int,
        store: ImageStore,
        val_store: ImageStore | None = None,
    ) -> None:
        super().__init__(model, config, seed, store, val_store)
        self.augmentation: torch.nn.Module | None = None
        if self.geometry or config.appearance:
            from napari_kdsam.training.augmentation import Augmentation

            self.augmentation = Augmentation(
                geometry=self.geometry,
                appearance=config.appearance,
                strength=config.strength,
            )

    def losses(self, squares: Squares, step: int) -> dict[str, torch.Tensor]:
        """Return named losses of an augmented batch, ``loss`` being their sum."""
        raise NotImplementedError

    def losses_of(self, batch: TrainingBatch, step: int) -> dict[str, torch.Tensor]:
        return self.losses(self.squares_of(batch, step), step)

    def shown(self, squares: Squares) -> Squares:
        """Which view of the images a step starts from: by default as they are."""
        return squares

    def speed_up(self, compiled: bool) -> None:
        self.model.encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if compiled:
            self.model.encoder.compile()

    def save(self, path: Path, header: dict[str, Any]) -> None:
        save_kdsam(self.result, path, header)

    def squares_of(self, batch: TrainingBatch, step: int) -> Squares:
        """Gather and augment the images of a training batch."""
        squares = self.shown(
            self.store.batch(
                batch['places'], batch.get('numbers'), self.seed, step, self.device
            )
        )
        if self.augmentation is None:
            return squares
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            pixels, masks, sizes = self.augmentation(
                squares.pixels,
                squares.masks,
                squares.sizes,
                squares.modalities,
                squares.draws,
            )
        return replace(squares, pixels=pixels, masks=masks, sizes=sizes)
