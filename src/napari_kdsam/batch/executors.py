"""Do tasks in several processes of this computer, or on a Dask cluster."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from napari_kdsam.batch.jobs import Items, Job, Task
from napari_kdsam.batch.output_folder import OutputError
from napari_kdsam.batch.processes import (
    LostWorkersError,
    in_processes,
    lost,
    threads_for,
)
from napari_kdsam.batch.records import FrameResult
from napari_kdsam.batch.work import do_task, do_tasks
from napari_kdsam.core.errors import KDSAMError, MissingExtraError
from napari_kdsam.segmentation.methods import Method

_CONNECT_SECONDS = 10
_RETRIES = 3


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
    """Do tasks in new processes, as results come."""
    job = replace(job, threads=job.threads or threads_for(workers))
    parts = [task.items for task in tasks]
    # What is followed through a stack cannot be taken apart.
    apart = job.method is not Method.propagation
    yield from in_processes(
        workers,
        partial(_do_items, job),
        parts,
        apart=apart,
        known=job.output.result_of,
    )


def _do_items(job: Job, items: Items) -> list[FrameResult]:
    return do_task(job, Task(items))


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
                        yield from lost(waiting[future.key].items)
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
