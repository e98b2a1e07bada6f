"""Do tasks in several processes of this computer, or on a Dask cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from functools import partial
from multiprocessing import get_context

from napari_kdsam.batch.jobs import Items, Job, Task
from napari_kdsam.batch.output_folder import OutputError
from napari_kdsam.batch.records import FrameResult, Status
from napari_kdsam.batch.work import do_task, do_tasks
from napari_kdsam.core.errors import KDSAMError, MissingExtraError

_CONNECT_SECONDS = 10
_RETRIES = 3
_WORKER_DIED = 'the process that worked on it ended unexpectedly'


class SchedulerError(KDSAMError):
    """A Dask scheduler that cannot be used."""


def executor_for(
    workers: int, scheduler: str
) -> Callable[[Job, Sequence[Task]], Iterator[FrameResult]]:
    """Choose where tasks are done.

    Parameters
    ----------
    workers : int
        Processes on this computer; one is this process.
    scheduler : str
        Address of a Dask scheduler, such as ``tcp://host:8786``; empty for none.

    Returns
    -------
    callable
        For `run_batch`.
    """
    if scheduler:
        return partial(_on_cluster, scheduler)
    if workers > 1:
        return partial(_in_processes, workers)
    return do_tasks


def _in_processes(
    workers: int, job: Job, tasks: Sequence[Task]
) -> Iterator[FrameResult]:
    """Do tasks in new processes, as results come; a dead process costs its tasks."""
    job = replace(job, threads=job.threads or threads_for(workers))
    parts = [task.items for task in tasks]
    yield from in_processes(workers, partial(_do_items, job), parts)


def _do_items(job: Job, items: Items) -> list[FrameResult]:
    return do_task(job, Task(items))


def threads_for(workers: int) -> int:
    """CPU threads of each of several processes, so that they share the cores."""
    return max(1, (os.cpu_count() or 1) // workers)


def in_processes(
    workers: int,
    work: Callable[[Items], list[FrameResult]],
    parts: Sequence[Items],
) -> Iterator[FrameResult]:
    """Do parts of a batch in new processes of this computer.

    Parameters
    ----------
    workers : int
        How many processes.
    work : callable
        Does one part; it travels to the process.
    parts : sequence of tuple of (Source, int)
        Frames that are done together.

    Yields
    ------
    FrameResult
        As they come; failed ones for the parts of a process that died.
    """
    # A forked process would inherit PyTorch's threads in an unknown state.
    with ProcessPoolExecutor(workers, mp_context=get_context('spawn')) as pool:
        waiting = {pool.submit(work, part): part for part in parts}
        try:
            for future in as_completed(waiting):
                try:
                    yield from future.result()
                except BrokenProcessPool:
                    yield from _lost(waiting[future])
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _lost(items: Items) -> Iterator[FrameResult]:
    for source, frame in items:
        yield FrameResult(source.location, frame, Status.failed, _WORKER_DIED)


def _on_cluster(address: str, job: Job, tasks: Sequence[Task]) -> Iterator[FrameResult]:
    """Do tasks on a Dask cluster.

    Workers load the model once, read the images themselves and write the label images,
    so both folders must be the same for them as here. The tasks of a worker that dies
    are given to another one.
    """
    try:
        from distributed import Client, KilledWorker
        from distributed import as_completed as as_they_come
    except ImportError as error:
        raise MissingExtraError('A Dask scheduler', 'batch') from error
    try:
        client = Client(address, timeout=_CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise SchedulerError(
            f'There is no Dask scheduler at {address}; start one with `dask scheduler` '
            'or correct the address.'
        ) from error
    with client:
        futures = client.map(partial(do_task, job), tasks, pure=False, retries=_RETRIES)
        waiting = dict(zip((f.key for f in futures), tasks, strict=True))
        try:
            for future in as_they_come(futures, loop=client.loop):
                try:
                    yield from future.result()
                except KilledWorker:
                    yield from _lost(waiting[future.key].items)
                future.release()
        except OutputError:
            client.cancel(futures)
            raise
