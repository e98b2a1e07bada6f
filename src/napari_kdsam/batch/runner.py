"""A whole batch: what is there already, what is to do, and what became of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from napari_kdsam.batch.inputs import Source, describe, expand, stem_for
from napari_kdsam.batch.jobs import Job, Method, Task
from napari_kdsam.batch.records import (
    MANIFEST,
    FrameResult,
    Status,
    read_record,
    write_manifest,
)
from napari_kdsam.batch.stacks import StackRecord, assemble, read_stack_record
from napari_kdsam.batch.work import OutputError
from napari_kdsam.core.choices import Existing
from napari_kdsam.core.errors import KDSAMError
from napari_kdsam.core.files import PART

_NOT_REACHED = 'not reached; run again with --resume'
_FRAMES_A_TASK = 8

Executor = Callable[[Job, Sequence[Task]], Iterator[FrameResult]]
Place = tuple[str, int]


class BatchError(KDSAMError):
    """A batch that cannot begin."""


@dataclass
class Summary:
    """What became of a batch.

    Attributes
    ----------
    sources : list of Source
    results : dict of (location, frame) to FrameResult
        One for each frame of each source, whatever happened.
    stopped : str
        Why the batch ended early; empty if it did not.
    """

    sources: list[Source]
    results: dict[Place, FrameResult] = field(default_factory=dict)
    stopped: str = ''

    def places(self) -> Iterator[Place]:
        """Every frame of every source, in order."""
        for source in self.sources:
            for frame in range(source.frame_count):
                yield source.location, frame

    def ordered(self) -> list[FrameResult]:
        """Results in the order of the sources and frames."""
        return [self.results[place] for place in self.places()]

    def count(self, status: Status) -> int:
        """How many frames ended in a certain way."""
        return sum(result.status is status for result in self.results.values())


def find_sources(inputs: Sequence[str]) -> list[Source]:
    """Find the files of a batch, with a stem of its own for each.

    Parameters
    ----------
    inputs : sequence of str
        As for `expand`.

    Returns
    -------
    list of Source

    Raises
    ------
    ImageError
        If one of the inputs stands for no file.
    """
    taken: dict[str, int] = {}
    found = []
    for location in expand(inputs):
        own = stem_for(location)
        # Some file systems do not tell A.png from a.png.
        number = taken.get(own.casefold(), 0) + 1
        stem = own if number == 1 else f'{own}_{number}'
        while stem.casefold() in taken:
            number += 1
            stem = f'{own}_{number}'
        taken[own.casefold()] = number
        taken.setdefault(stem.casefold(), 1)
        found.append(describe(location, stem))
    return found


def run_batch(
    job: Job,
    sources: Sequence[Source],
    executor: Executor,
    existing: Existing = Existing.fail,
    on_result: Callable[[FrameResult], None] = lambda result: None,
) -> Summary:
    """Segment every frame of every source.

    Label images are written as they are made: ``STEM_labels.png`` for an image, and
    for a stack one PNG a frame in a folder that becomes ``STEM_labels.tif`` once every
    frame has its end. A frame that fails is named and the others go on. In the end
    ``manifest.csv`` says what became of each frame.

    Parameters
    ----------
    job : Job
        With its fingerprint.
    sources : sequence of Source
        From `find_sources`.
    executor : callable
        Does tasks and gives the results as they come, such as `do_tasks`.
    existing : Existing
        What to do with results that are in the folder already. ``resume`` takes over
        those of the same model, prompts and settings, and does the rest.
    on_result : callable
        Called with each result, also with those taken over.

    Returns
    -------
    Summary
        With `Summary.stopped` if it was interrupted or results could not be written;
        everything done until then is kept.

    Raises
    ------
    BatchError
        If there are results already and `existing` does not allow for them.
    ImageError
        If the manifest or a stack cannot be written.
    """
    out = Path(job.out)
    if existing is Existing.resume:
        _sweep(out)
    summary = Summary(list(sources))
    for source in sources:
        for result in _known(job, source, existing):
            summary.results[result.location, result.frame] = result
            on_result(result)
    results = executor(job, _tasks(job, sources, summary))
    try:
        for result in results:
            summary.results[result.location, result.frame] = result
            on_result(result)
    except OutputError as error:
        summary.stopped = str(error)
    except KeyboardInterrupt:
        summary.stopped = 'Interrupted.'
    finally:
        close = getattr(results, 'close', None)
        if close is not None:
            close()
    # A worker that died has left what it was writing; its task was done again.
    _sweep(out)
    reached = set(summary.results)
    for location, frame in summary.places():
        if (location, frame) not in reached:
            unreached = FrameResult(location, frame, Status.skipped, _NOT_REACHED)
            summary.results[location, frame] = unreached
    for source in sources:
        if source.is_stack and not source.problem:
            assemble(job, source, _of(summary, source), _NOT_REACHED)
    names = {source.location: job.result_name(source) for source in sources}
    write_manifest(out / MANIFEST, summary.ordered(), names)
    return summary


def _of(summary: Summary, source: Source) -> list[FrameResult]:
    return [summary.results[source.location, n] for n in range(source.frame_count)]


def _sweep(out: Path) -> None:
    for folder in (out, *(item for item in out.glob('*_labels_frames'))):
        for item in folder.iterdir():
            if PART.fullmatch(item.name) and item.is_dir():
                shutil.rmtree(item, ignore_errors=True)
            elif PART.fullmatch(item.name):
                item.unlink(missing_ok=True)


def _known(job: Job, source: Source, existing: Existing) -> Iterator[FrameResult]:
    """Results that are there already, as far as `existing` lets them be."""
    stack = (
        read_stack_record(job.stack_record_path(source)) if source.is_stack else None
    )
    if stack is not None and not job.frames_folder(source).exists():
        yield from _known_stack(job, source, stack, existing)
        return
    for frame in range(source.frame_count):
        path = job.labels_path(source, frame)
        if not path.exists():
            continue
        record = read_record(path)
        if existing is Existing.resume and record is not None:
            _check_same(path.name, record.fingerprint, job)
            yield FrameResult(
                source.location, frame, Status.done, record.reason, record.objects
            )
        elif (left := _left_alone(path, existing)) is not None:
            yield FrameResult(source.location, frame, Status.skipped, left)


def _known_stack(
    job: Job, source: Source, stack: StackRecord, existing: Existing
) -> Iterator[FrameResult]:
    path = job.stack_path(source)
    if existing is Existing.resume:
        _check_same(path.name, stack.fingerprint, job)
        yield from stack.results(source)
    elif (left := _left_alone(path, existing)) is not None:
        for frame in range(source.frame_count):
            yield FrameResult(source.location, frame, Status.skipped, left)


def _left_alone(path: Path, existing: Existing) -> str | None:
    if existing is Existing.overwrite:
        return None
    if existing is Existing.skip:
        return f'{path.name} was there already'
    if existing is Existing.resume:
        raise BatchError(
            f'{path.name} in {path.parent} was not made by a batch, so it cannot be '
            'taken over; choose another folder, or --existing skip or overwrite.'
        )
    raise BatchError(
        f'{path.name} is in {path.parent} already; add --resume to go on with it, or '
        '--existing skip or overwrite.'
    )


def _check_same(name: str, fingerprint: str, job: Job) -> None:
    if fingerprint != job.fingerprint:
        raise BatchError(
            f'{name} was made with another model, other prompts or other settings, so '
            'it cannot be taken over; choose another folder, or --existing overwrite.'
        )


def _tasks(job: Job, sources: Sequence[Source], summary: Summary) -> list[Task]:
    tasks: list[Task] = []
    singles: list[tuple[Source, int]] = []
    for source in sources:
        frames = range(source.frame_count)
        left = [n for n in frames if (source.location, n) not in summary.results]
        if not left:
            continue
        if not source.is_stack:
            singles.append((source, 0))
        elif job.method is Method.propagation:
            # Each frame follows from another, so one process does them all.
            tasks.append(Task(tuple((source, n) for n in frames)))
        else:
            tasks += _cut([(source, n) for n in left])
    return [*_cut(singles), *tasks]


def _cut(items: Iterable[tuple[Source, int]]) -> list[Task]:
    whole = list(items)
    starts = range(0, len(whole), _FRAMES_A_TASK)
    return [Task(tuple(whole[n : n + _FRAMES_A_TASK])) for n in starts]
