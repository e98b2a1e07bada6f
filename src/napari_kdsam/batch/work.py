"""Do tasks in this process: read ahead, segment, write behind."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from napari_kdsam.batch.inputs import Reader, Source, read_ahead
from napari_kdsam.batch.jobs import Job, Method, Task
from napari_kdsam.batch.methods import (
    Labelled,
    NothingToDo,
    predictor_for,
    segment_frame,
)
from napari_kdsam.batch.records import (
    FrameResult,
    Record,
    Status,
    write_frame,
)
from napari_kdsam.core.errors import ImageError, KDSAMError

if TYPE_CHECKING:
    from napari_kdsam.inference.predictor import Predictor

# Few, because each is a whole frame.
_BEHIND = 3

Pixels = NDArray[Any]


class OutputError(KDSAMError):
    """Results cannot be written, so going on makes no sense."""


def do_task(job: Job, task: Task) -> list[FrameResult]:
    """Do one task, such as on another process or machine."""
    return list(do_tasks(job, [task]))


def do_tasks(job: Job, tasks: Iterable[Task]) -> Iterator[FrameResult]:
    """Do tasks one after another, giving each frame's result once it is written.

    Parameters
    ----------
    job : Job
    tasks : iterable of Task
        Taken as they are needed.

    Yields
    ------
    FrameResult
        In order; closing the generator leaves nothing half-written.

    Raises
    ------
    OutputError
        If a result cannot be written.
    KDSAMError
        If the model cannot be loaded.
    """
    predictor = predictor_for(job.model, job.device, job.store, job.threads)
    with ExitStack() as stack:
        reader = stack.enter_context(Reader())
        writing = stack.enter_context(ThreadPoolExecutor(1, 'kdsam-write'))
        waiting: deque[Future[FrameResult]] = deque()
        for task in tasks:
            for source, frame, found in _labelled(predictor, job, task, reader):
                waiting.append(writing.submit(_written, job, source, frame, found))
                while len(waiting) > _BEHIND:
                    yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _labelled(
    predictor: Predictor, job: Job, task: Task, reader: Reader
) -> Iterator[tuple[Source, int, Labelled | KDSAMError]]:
    if job.method is Method.propagation and task.items[0][0].is_stack:
        from napari_kdsam.batch.through_stack import propagate_stack

        frames = [frame for _, frame in task.items]
        source = task.items[0][0]
        for frame, found in propagate_stack(predictor, job, source, frames, reader):
            yield source, frame, found
        return
    for source, frame, pixels in read_ahead(reader, task.items):
        yield source, frame, _one(predictor, job, source, frame, pixels)


def _one(
    predictor: Predictor, job: Job, source: Source, frame: int, pixels: Future[Pixels]
) -> Labelled | KDSAMError:
    try:
        return segment_frame(predictor, job, source, frame, pixels.result())
    except KDSAMError as error:
        return error
    except MemoryError:
        return ImageError('There is not enough memory for it; reduce the image.')


def _written(
    job: Job, source: Source, frame: int, found: Labelled | KDSAMError
) -> FrameResult:
    if isinstance(found, NothingToDo):
        return FrameResult(source.location, frame, Status.skipped, str(found))
    if isinstance(found, KDSAMError):
        return FrameResult(source.location, frame, Status.failed, str(found))
    path = job.labels_path(source, frame)
    record = Record(job.fingerprint, found.objects, found.note)
    try:
        write_frame(path, found.labels, record)
    except ImageError as error:
        raise OutputError(str(error)) from error
    return FrameResult(source.location, frame, Status.done, found.note, found.objects)
