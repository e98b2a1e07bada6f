"""Measure batches: throughput beside the bare model, processes, memory over many frames.

Run it on an idle machine. Throughput counts from the first results on, so that loading the
model is nobody's. Memory over many frames is measured with a stand-in for the model, which
answers at once: a batch's own memory does not depend on how long the encoder takes, and ten
thousand frames take minutes instead of an hour.

Usage: python benchmarks/batch.py [--frames 60] [--many 10000]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_kdsam import Predictor, Prompt, load_model
from napari_kdsam.batch import work
from napari_kdsam.batch.executors import executor_for
from napari_kdsam.batch.jobs import Job, Task
from napari_kdsam.batch.output_folder import OutputFolder
from napari_kdsam.batch.records import FrameResult, Status
from napari_kdsam.batch.runner import find_sources, run_batch
from napari_kdsam.batch.work import do_tasks
from napari_kdsam.core.prompts import ObjectPrompt, PromptSet
from napari_kdsam.phantoms import ultrasound_phantom

BOX = (60.0, 60.0, 200.0, 240.0)
PROMPTS = PromptSet((ObjectPrompt(Prompt(box=BOX)),))
WARM = 8


def write_stack(path: Path, count: int) -> None:
    """Write phantoms, no two frames equal, without holding them in memory."""
    frame = ultrasound_phantom(0).image
    stack = np.lib.format.open_memmap(path, 'w+', frame.dtype, (count, *frame.shape))
    for number in range(count):
        stack[number] = np.roll(frame, number % frame.shape[1], 1)
        stack[number, 0, :4] = np.frombuffer(np.int32(number).tobytes(), np.uint8)
    stack.flush()


class StandIn:
    """Answers every prompt at once, with a box of ones."""

    def __init__(self, model: Any) -> None:
        self.identity, self.input_size = model.identity, model.input_size
        self.compute_dtype, self.device = torch.float32, torch.device('cpu')
        self._features = torch.zeros(1, 256, 64, 64)
        self._logits = torch.full((1, 1, 256, 256), -1.0)
        self._logits[:, :, 50:150, 50:150] = 1.0

    def encode(self, pixels: Any) -> Any:
        return self._features

    def decode(self, *_: Any, multimask_output: bool, **__: Any) -> tuple[Any, Any]:
        return self._logits, torch.ones(1, 1)


def memory_mb() -> float:
    """Memory of this process alone, without the pages of files mapped into it."""
    text = Path('/proc/self/status').read_text(encoding='ascii')
    return float(text.split('RssAnon:')[1].split()[0]) / 1024


def rate(seconds: Sequence[float]) -> float:
    """Frames a second, without the first ones; frames may come several together."""
    start = seconds[WARM] + 0.02
    return sum(second > start for second in seconds) / (seconds[-1] - seconds[WARM])


def each(act: Callable[[int], Any], count: int) -> list[float]:
    """When each call ended."""
    ends = []
    for number in range(count):
        act(number)
        ends.append(time.perf_counter())
    return ends


def batch_rate(job: Job, stack: Path, executor: Any) -> float:
    """Frames a second of a batch."""
    ends: list[float] = []
    with tempfile.TemporaryDirectory() as out:
        run_batch(
            replace(job, output=OutputFolder(Path(out))),
            find_sources([str(stack)]),
            executor,
            on_result=lambda result: ends.append(time.perf_counter()),
        )
    # Processes hand back a task's frames together.
    return rate(ends)


def bare_rates(frames: int, stack: Path) -> tuple[float, float]:
    """Frames a second of the encoder alone, and with one prompt decoded."""
    predictor = Predictor(load_model('kdsam', 'cpu'), cache_bytes=0)
    images = np.load(stack, mmap_mode='r')
    prompt = PROMPTS.shared[0].prompt

    def both(number: int) -> None:
        _ = predictor.predict(predictor.embed(images[number]), prompt).mask

    alone = rate(each(lambda n: predictor.embed(images[n]), frames))
    return alone, rate(each(both, frames))


def cluster_rate(job: Job, stack: Path, workers: int) -> float:
    """Frames a second on a Dask cluster of single-threaded workers."""
    from distributed import LocalCluster

    job = replace(job, threads=1)
    with LocalCluster(
        n_workers=workers, threads_per_worker=1, dashboard_address=None
    ) as cluster:
        return batch_rate(job, stack, executor_for(1, cluster.scheduler_address))


def memory_over(many: int, folder: Path) -> tuple[list[tuple[int, float]], int]:
    """Memory grown since the first frames, and how many frames are accounted for."""
    predictor: Any = Predictor(StandIn(load_model('kdsam', 'cpu')), cache_bytes=0)  # type: ignore[arg-type]
    work.predictor_for = lambda *_: predictor  # type: ignore[assignment]
    stack = folder / 'many.npy'
    write_stack(stack, many)
    seen: list[tuple[int, float]] = []
    marks = [count for count in (10, 100, 1000, 10_000) if count <= many]

    def watched(job: Job, tasks: Sequence[Task]) -> Iterator[FrameResult]:
        for number, result in enumerate(do_tasks(job, tasks), 1):
            if number in marks:
                seen.append((number, memory_mb()))
            yield result

    out = folder / 'many'
    out.mkdir()
    summary = run_batch(
        Job(OutputFolder(out), prompts=PROMPTS),
        find_sources([str(stack)]),
        watched,
    )
    return seen, summary.count(Status.done)


def main() -> None:
    """Run everything and print Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--frames', type=int, default=60)
    parser.add_argument('--many', type=int, default=10_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        stack = folder / 'stack.npy'
        write_stack(stack, arguments.frames)
        alone, both = bare_rates(arguments.frames, stack)
        job = Job(OutputFolder(folder), prompts=PROMPTS)
        rates = {
            'encoder alone': alone,
            'encoder, one box decoded, mask made': both,
            'batch, one process': batch_rate(job, stack, do_tasks),
            'batch, two processes': batch_rate(job, stack, executor_for(2, '')),
            'Dask, one worker of one thread': cluster_rate(job, stack, 1),
            'Dask, two workers of one thread': cluster_rate(job, stack, 2),
        }
        print('| measured | frames/s | of the encoder alone |\n|---|--:|--:|')
        for name, value in rates.items():
            print(f'| {name} | {value:.2f} | {value / alone:.0%} |')
        seen, done = memory_over(arguments.many, folder)
        print(f'\n{done} of {arguments.many} frames of the long stack done.\n')
        print('| frames | memory, MB | grown, MB |\n|--:|--:|--:|')
        for count, value in seen:
            print(f'| {count} | {value:.0f} | {value - seen[0][1]:+.0f} |')


if __name__ == '__main__':
    main()
