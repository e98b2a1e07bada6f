"""Time the steps of a training stage under Lightning: whole, and part by part."""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import lightning.pytorch as lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from torch import nn

GATHER, AUGMENT = 'gather', 'augmentation'
PROMPTS, ANCHOR = 'targets and prompts', 'anchor'
ENCODER, DECODER = 'encoder forward', 'decoder forward'
LOSSES, BACKWARD, OPTIMISER = 'losses and rest', 'backward', 'optimiser'
PARTS = (
    GATHER,
    AUGMENT,
    PROMPTS,
    ENCODER,
    DECODER,
    ANCHOR,
    LOSSES,
    BACKWARD,
    OPTIMISER,
)
# Functions that a stage's module calls by these names.
_CALLED = {
    'mask_targets': PROMPTS,
    'simulated_boxes': PROMPTS,
    'simulated_first_clicks': PROMPTS,
    'simulated_corrections': PROMPTS,
    'decode_batch': DECODER,
}
# About the mean of what training draws; the same in every step, to compare steps.
_CLICKS = 3
_SPLIT_WARM_UP = 2
_PROFILED = 5


def wait_for(device: torch.device) -> None:
    """Wait until a GPU has done what it was told to do."""
    if device.type == 'cuda':
        torch.cuda.synchronize(device)


class WholeClock(Callback):
    """Times steps as training runs them, then their launches, then the GPU.

    Parameters
    ----------
    device : torch.device
        Where the stage is trained.
    warm_up : int
        Steps that do not count.
    steps : int
        Steps to time without waiting for the device in between, and then as many
        whose launch is timed, each beginning with an idle device.
    """

    def __init__(self, device: torch.device, warm_up: int, steps: int) -> None:
        self.device = device
        self.timed = warm_up
        self.launched = warm_up + steps
        self.profiled = self.launched + steps
        on_gpu = device.type == 'cuda'
        self.total = self.profiled + (_PROFILED if on_gpu else 0)
        self.whole = 0.0
        self.launches: list[float] = []
        self.busy: float | None = None
        self._began = self._launch = 0.0
        self._profiler: Any = None

    def on_train_batch_start(self, *_: Any) -> None:
        self._launch = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Any, stage: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        ended, done = time.perf_counter(), batch_idx + 1
        if self.launched < done <= self.profiled:
            self.launches.append(ended - self._launch)
        if done < self.timed or self.timed < done < self.launched:
            return
        wait_for(self.device)
        now = time.perf_counter()
        if done == self.timed:
            self._began = now
        elif done == self.launched:
            self.whole = (now - self._began) / (self.launched - self.timed)
        if done == self.profiled < self.total:
            activities = [torch.profiler.ProfilerActivity.CUDA]
            self._profiler = torch.profiler.profile(activities=activities)
            self._profiler.start()
        elif self._profiler is not None and done == self.total:
            self._profiler.stop()
            self.busy = busy_seconds(self._profiler) / _PROFILED

    @property
    def found(self) -> dict[str, float | None]:
        """Seconds a step: in all, of its launch, and of the GPU at work."""
        launch = float(np.median(self.launches))
        return {'whole': self.whole, 'launch': launch, 'busy': self.busy}


def busy_seconds(profiler: Any) -> float:
    """Seconds in which a GPU did anything at all, in a stopped profiler."""
    spans = sorted(
        (event.time_range.start, event.time_range.end)
        for event in profiler.events()
        if event.device_type.name == 'CUDA' and not event.is_user_annotation
    )
    total, reached = 0.0, float('-inf')
    for start, end in spans:
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total / 1e6


class SplitClock(Callback):
    """Times the parts of each step, waiting for the device wherever a part ends.

    Parts may contain each other: time counts for the innermost.

    Parameters
    ----------
    device : torch.device
        Where the stage is trained.
    steps : int
        How many count, after a short warm-up.
    """

    def __init__(self, device: torch.device, steps: int) -> None:
        self.device = device
        self.total = _SPLIT_WARM_UP + steps
        self.steps: list[dict[str, float]] = []
        self._step: dict[str, float] = defaultdict(float)
        # Before a step begins, its images are waited for.
        self._running = [GATHER]
        self._changed = time.perf_counter()

    def _count(self) -> None:
        wait_for(self.device)
        now = time.perf_counter()
        self._step[self._running[-1]] += now - self._changed
        self._changed = now

    def _become(self, part: str) -> None:
        self._count()
        self._running = [part]

    def timing(self, call: Callable[..., Any], part: str) -> Callable[..., Any]:
        """A function whose time counts for a part."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            self._count()
            self._running.append(part)
            try:
                return call(*args, **kwargs)
            finally:
                self._count()
                self._running.pop()

        return timed

    def watch(self, stage: Any) -> None:
        """Time what a stage calls, from now on."""
        stage.model.encoder = _Timed(stage.model.encoder, self, ENCODER)
        if stage.augmentation is not None:
            stage.augmentation = _Timed(stage.augmentation, self, AUGMENT)
        module = sys.modules[type(stage).__module__]
        places: list[tuple[Any, str, str]] = [
            (module, name, part) for name, part in _CALLED.items()
        ]
        places += [(stage, 'squares_of', GATHER)]
        places += [(stage, 'on_before_zero_grad', OPTIMISER)]
        places += [(getattr(stage, 'embeddings', None), 'get', GATHER)]
        # A stage keeps its anchor in a tuple.
        places += [(getattr(stage, '_anchor', (None,))[0], 'loss', ANCHOR)]
        for owner, name, part in places:
            if hasattr(owner, name):
                setattr(owner, name, self.timing(getattr(owner, name), part))

    def on_train_batch_start(self, *_: Any) -> None:
        self._become(LOSSES)

    def on_before_backward(self, *_: Any) -> None:
        self._become(BACKWARD)

    def on_after_backward(self, *_: Any) -> None:
        self._become(OPTIMISER)

    def on_train_batch_end(self, *_: Any) -> None:
        self._become(GATHER)
        self.steps.append(dict(self._step))
        self._step.clear()

    @property
    def found(self) -> dict[str, float]:
        """Median seconds of each part in a step."""
        counted = self.steps[_SPLIT_WARM_UP:]
        return {
            part: float(np.median([step.get(part, 0.0) for step in counted]))
            for part in PARTS
        }


class _Timed(nn.Module):
    def __init__(self, inner: nn.Module, clock: SplitClock, part: str) -> None:
        super().__init__()
        self.inner = inner
        self._call = clock.timing(inner, part)

    def forward(self, *args: Any) -> Any:
        return self._call(*args)


def time_stage(
    stage: Any,
    feed: Callable[[], Iterable[Any]],
    *,
    device: torch.device,
    precision: str,
    warm_up: int,
    steps: int,
) -> dict[str, Any]:
    """Train a stage for a few steps, whole and then part by part.

    Parameters
    ----------
    stage : TrainingStage
        Of this or an earlier version of the package.
    feed : callable
        Makes the data loader.
    device : torch.device
        Where to train.
    precision : str
        As Lightning calls it.
    warm_up, steps : int
        See `WholeClock`.

    Returns
    -------
    dict
        Seconds a step: ``whole``, ``launch``, ``busy`` (None without a GPU) and
        ``parts``; ``memory``, the most bytes of the GPU in use, or None.
    """
    module = sys.modules[type(stage).__module__]
    if hasattr(module, 'number_of_clicks'):
        vars(module)['number_of_clicks'] = lambda _generator: _CLICKS

    def run(clock: WholeClock | SplitClock) -> None:
        trainer = lightning.Trainer(
            accelerator='gpu' if device.type == 'cuda' else device.type,
            devices=1,
            precision=precision,  # type: ignore[arg-type]
            max_steps=clock.total,
            max_epochs=-1,
            gradient_clip_val=1.0,
            limit_val_batches=0,
            use_distributed_sampler=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            logger=False,
            callbacks=[clock],
        )
        trainer.fit(stage, feed())

    whole = WholeClock(device, warm_up, steps)
    run(whole)
    memory = None
    if device.type == 'cuda':
        memory = torch.cuda.max_memory_allocated(device)
    # The second run counts its steps anew.
    stage._averaged = 0
    split = SplitClock(device, steps)
    split.watch(stage)
    run(split)
    return {**whole.found, 'parts': split.found, 'memory': memory}
