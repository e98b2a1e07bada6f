"""Run a stage under Lightning: resumable, on one process or many."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import torch
from lightning.pytorch.callbacks import Callback, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch.utils.data import DataLoader

from napari_kdsam.model.device import preferred_dtype
from napari_kdsam.training.config import LoopConfig, TrainingConfig
from napari_kdsam.training.data.order import (
    Places,
    StepSampler,
    collate_places,
    whole_batches,
)
from napari_kdsam.training.device import training_device
from napari_kdsam.training.finetuning.overlays import SampleOverlays
from napari_kdsam.training.run_header import describe_run
from napari_kdsam.training.stage import TrainingError, TrainingStage

LAST = 'last.ckpt'


class Keeper(Callback):
    """Write checkpoint and weights every so many steps, each in one replacement.

    Parameters
    ----------
    folder : pathlib.Path
        Gets ``last.ckpt``, from which a run resumes.
    weights : pathlib.Path
        What `TrainingStage.save` writes, to keep up to date.
    every : int
        Optimiser steps between two writes.
    header : dict
        The checkpoint's, from `describe_run`; the steps done are put into it.
    """

    def __init__(
        self,
        folder: Path,
        weights: Path,
        every: int,
        header: dict[str, Any],
    ) -> None:
        self.folder = folder
        self.weights = weights
        self.every = every
        self.header = header
        self._kept = -1

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, *args: Any, **kwargs: Any
    ) -> None:
        done = trainer.global_step
        if done % trainer.log_every_n_steps == 0:
            pl_module.check_finite()
        if done != self._kept and done % self.every == 0 and done > 0:
            self.keep(trainer, pl_module)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        if trainer.global_step != self._kept:
            self.keep(trainer, pl_module)

    def keep(self, trainer: Any, stage: TrainingStage[Any]) -> None:
        """Write both files now.

        Raises
        ------
        TrainingError
            If a loss was not finite; nothing is written then.
        """
        stage.check_finite()
        stage.average_in()
        self._kept = trainer.global_step
        part = self.folder / f'.{LAST}.part'
        trainer.save_checkpoint(part)
        if trainer.is_global_zero:
            os.replace(part, self.folder / LAST)
            self.header['history'][-1]['steps'] = self._kept
            stage.save(self.weights, self.header)
        trainer.strategy.barrier()


def steps_done(checkpoint: Path) -> int:
    """Optimiser steps that a run's ``last.ckpt`` has behind it; 0 if there is none.

    Raises
    ------
    TrainingError
        If the file cannot be read.
    """
    if not checkpoint.is_file():
        return 0
    try:
        state = torch.load(checkpoint, map_location='cpu', weights_only=True, mmap=True)
        return int(state['global_step'])
    except Exception as error:  # torch has no common base class for damaged files
        raise TrainingError(
            f'{checkpoint} cannot be resumed from ({error}); delete it to start this '
            'stage anew.'
        ) from error


def fit(
    stage: TrainingStage[Any],
    config: TrainingConfig,
    name: str,
    earlier: dict[str, Any],
) -> Path:
    """Train one stage, resuming where an earlier run of it stopped.

    Parameters
    ----------
    stage : TrainingStage
        What to train.
    config : TrainingConfig
        The whole run.
    name : str
        ``encoder``, ``decoder`` or ``proposals``: the files' name within the run's
        folder.
    earlier : dict
        Header of the checkpoint that the stage starts from.

    Returns
    -------
    pathlib.Path
        What the stage saved.

    Raises
    ------
    TrainingError
        If the loss stops being finite, memory runs out or the checkpoint to resume
        from is damaged.
    """
    loop, settings = config.loop, stage.config
    folder = config.folder / name
    folder.mkdir(parents=True, exist_ok=True)
    weights = config.folder / f'{name}.safetensors'
    last = folder / LAST
    done = steps_done(last)
    # A list is a data set to torch, though not to its types.
    val: Any = (
        whole_batches(stage.val_store.numbers, settings.batch_size)
        if stage.val_store
        else []
    )
    keeper = Keeper(
        folder,
        weights,
        loop.checkpoint_every,
        describe_run(config, name, stage.store.samples, earlier),
    )
    trainer = lightning.Trainer(
        accelerator=loop.accelerator,
        devices=loop.devices,
        num_nodes=loop.nodes,
        strategy=_strategy(loop.strategy, loop.accelerator),
        precision=_precision(loop),
        max_steps=settings.steps,
        max_epochs=-1,
        accumulate_grad_batches=settings.accumulate,
        gradient_clip_val=settings.clip,
        val_check_interval=loop.validate_every * settings.accumulate,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        limit_val_batches=None if val else 0,
        use_distributed_sampler=False,
        enable_checkpointing=False,
        deterministic=loop.deterministic,
        log_every_n_steps=loop.log_every,
        # A logger starts its files anew, so each start of the run has its own.
        logger=[
            CSVLogger(folder, 'logs', f'csv-from-{done}', flush_logs_every_n_steps=20),
            TensorBoardLogger(folder, 'logs', f'tensorboard-from-{done}'),
        ],
        callbacks=[
            keeper,
            SampleOverlays(folder / 'overlays'),
            TQDMProgressBar(refresh_rate=loop.log_every),
        ],
        enable_model_summary=False,
    )
    sampler = StepSampler(
        [s.data_set for s in stage.store.samples],
        settings.batch_size,
        loop.seed,
        config.data.balance,
        trainer.global_rank,
        trainer.world_size,
        done * settings.accumulate,
        config.data.most_repeats,
        config.data.shares,
    )
    stage.speed_up(loop.compile)
    try:
        trainer.fit(
            stage,
            DataLoader(Places(), batch_sampler=sampler, collate_fn=collate_places),
            DataLoader(val, batch_size=None) if val else None,
            ckpt_path=last if done else None,
            weights_only=True,
        )
    except torch.OutOfMemoryError as error:
        raise TrainingError(
            f'Out of memory at batch size {settings.batch_size}: lower '
            f'{name}.batch_size and raise {name}.accumulate by as much.'
        ) from error
    if trainer.global_step < settings.steps:
        raise TrainingError(
            f'Training stopped after {trainer.global_step} of {settings.steps} steps; '
            'the same command goes on from the last checkpoint.'
        )
    return weights


def _precision(loop: LoopConfig) -> Any:
    if loop.precision != 'auto':
        return loop.precision
    device = training_device(loop)
    if device.type == 'cuda':
        # Emulated bfloat16 would count as supported, and be slower than float32.
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = preferred_dtype(device) == torch.bfloat16
    return 'bf16-mixed' if native else '32-true'


def _strategy(name: str, accelerator: str) -> Any:
    if name == 'fsdp':
        from lightning.pytorch.strategies import FSDPStrategy

        # Whole weights, so that a checkpoint works with any number of devices.
        return FSDPStrategy(state_dict_type='full', use_orig_params=True)
    if name == 'ddp' and accelerator == 'cpu':
        from lightning.pytorch.strategies import DDPStrategy

        return DDPStrategy(process_group_backend='gloo')
    return name
