"""Do tasks in several processes of this computer, or on a Dask cluster."""

from __future__ import annotations

import logging
import os
import socket
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    CancelledError,
    Future,
    ProcessPoolExecutor,
    wait,
)
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from multiprocessing import get_context

from napari_kdsam.batch.jobs import Items, Job, Task
from napari_kdsam.batch.output_folder import OutputError
from napari_kdsam.batch.records import FrameResult, Status
from napari_kdsam.batch.work import do_task, do_tasks
from napari_kdsam.core.errors import KDSAMError, MissingExtraError
from napari_kdsam.segmentation.methods import Method

_CONNECT_SECONDS = 10
_RETRIES = 3
# So many parts in a row that end their process are not the fault of an image.
_MOST_DEATHS = 8
WORKER_DIED = (
    'the process that worked on it ended twice, as when memory runs out; run again with '
    '--resume to try it once more'
)

# Does one part of a batch; it travels to the process.
Work = Callable[[Items], list[FrameResult]]


class SchedulerError(KDSAMError):
    """A Dask scheduler that cannot be used."""


class LostWorkersError(KDSAMError):
    """Nothing is left that could do the work, so going on makes no sense."""


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
    """Do tasks in new processes, as results come."""
    job = replace(job, threads=job.threads or threads_for(workers))
    parts = [task.items for task in tasks]
    # What is followed through a stack cannot be taken apart.
    apart = job.method is not Method.propagation
    yield from in_processes(workers, partial(_do_items, job), parts, apart=apart)


def _do_items(job: Job, items: Items) -> list[FrameResult]:
    return do_task(job, Task(items))


def threads_for(workers: int) -> int:
    """CPU threads of each of several processes, so that they share the cores."""
    return max(1, (os.cpu_count() or 1) // workers)


def in_processes(
    workers: int, work: Work, parts: Sequence[Items], *, apart: bool = True
) -> Iterator[FrameResult]:
    """Do parts of a batch in new processes of this computer.

    When a process dies, the parts that were in hand are done again, one after the other
    in a process of their own, and the rest in new processes. A part whose process dies
    then too is failed.

    Parameters
    ----------
    workers : int
        How many processes.
    work : callable
        Does one part; it travels to the process.
    parts : sequence of tuple of (Source, int)
        Frames that are done together.
    apart : bool
        Whether the frames of a part may be done again one by one.

    Yields
    ------
    FrameResult
        As they come.

    Raises
    ------
    LostWorkersError
        If one process after another dies and nothing gets done.
    """
    waiting, deaths = deque(parts), 0
    while waiting:
        suspects, done = yield from _until_a_death(workers, work, waiting)
        deaths = 0 if done else deaths
        again = deque(_pieces(suspects) if apart else suspects)
        while again:
            fatal, done = yield from _until_a_death(1, work, again)
            deaths = len(fatal) if done else deaths + len(fatal)
            for part in fatal:
                yield from _lost(part)
            if deaths >= _MOST_DEATHS:
                raise LostWorkersError(
                    f'{deaths} processes in a row ended unexpectedly, as when memory '
                    'runs out; use fewer --workers.'
                )


def _pieces(parts: Sequence[Items]) -> Iterator[Items]:
    for part in parts:
        for item in part:
            yield (item,)


def _until_a_death(
    workers: int, work: Work, waiting: deque[Items]
) -> Generator[FrameResult, None, tuple[list[Items], int]]:
    """Take parts from `waiting` and do them in new processes until one of those dies.

    Gives the parts that were in hand then, and how many were done.
    """
    # A forked process would inherit PyTorch's threads in an unknown state.
    with ProcessPoolExecutor(workers, mp_context=get_context('spawn')) as pool:
        in_hand: dict[Future[list[FrameResult]], Items] = {}
        done, alive = 0, True
        try:
            while alive and (waiting or in_hand):
                # No more than are worked on, so that a death costs no others.
                while waiting and len(in_hand) < workers:
                    in_hand[pool.submit(work, waiting[0])] = waiting[0]
                    waiting.popleft()
                for future in wait(in_hand, return_when=FIRST_COMPLETED).done:
                    if isinstance(future.exception(), BrokenProcessPool):
                        alive = False
                        continue
                    in_hand.pop(future)
                    done += 1
                    yield from future.result()
        except BrokenProcessPool:
            # It died between two parts, so that none could be handed over.
            pass
        for future in wait(in_hand).done:
            if not isinstance(future.exception(), BrokenProcessPool):
                in_hand.pop(future)
                done += 1
                yield from future.result()
        return list(in_hand.values()), done


def _lost(items: Items) -> Iterator[FrameResult]:
    for source, frame in items:
        yield FrameResult(source.location, frame, Status.failed, WORKER_DIED)


def _on_cluster(address: str, job: Job, tasks: Sequence[Task]) -> Iterator[FrameResult]:
    """Do tasks on a Dask cluster.

    Workers load the model once, read the images themselves and write the label images,
    so both folders must be the same for them as here. The tasks of a worker that dies
    are given to another one.
    """
    try:
        from distributed import Client, KilledWorker
        from distributed import as_completed as as_they_come
        from distributed.comm.addressing import get_address_host_port, parse_address
    except ImportError as error:
        raise MissingExtraError('A Dask scheduler', 'batch') from error
    with _quiet('distributed', 'distributed.client', 'tornado'):
        try:
            # A client that finds no scheduler ends in a traceback of its own later.
            if parse_address(address)[0] in ('tcp', 'tls'):
                place = get_address_host_port(address)
                socket.create_connection(place, _CONNECT_SECONDS).close()
            client = Client(address, timeout=_CONNECT_SECONDS, set_as_default=False)
        except (OSError, ValueError, TimeoutError) as error:
            raise SchedulerError(
                f'There is no Dask scheduler at {address}; start one with '
                '`dask scheduler` or correct the address.'
            ) from error
        with client:
            futures = client.map(
                partial(do_task, job), tasks, pure=False, retries=_RETRIES
            )
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
            except (CancelledError, OSError) as error:
                raise LostWorkersError(
                    f'The Dask scheduler at {address} is lost.'
                ) from error


@contextmanager
def _quiet(*names: str) -> Iterator[None]:
    """Leave it to our own sentence to say what a library's threads would log."""
    loggers = [logging.getLogger(name) for name in names]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
