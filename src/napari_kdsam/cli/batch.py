"""The work of ``napari-kdsam batch`` and ``napari-kdsam embed``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from napari_kdsam.cli.segment import (
    DONE,
    SOME_FAILED,
    WRONG_USAGE,
    complain,
    make_folder,
    prompts_from_options,
)
from napari_kdsam.core.errors import KDSAMError, PromptError
from napari_kdsam.core.prompts import PromptSet

if TYPE_CHECKING:
    from napari_kdsam.batch.jobs import Job
    from napari_kdsam.batch.records import FrameResult
    from napari_kdsam.batch.runner import Summary
    from napari_kdsam.core.choices import Existing, Export
    from napari_kdsam.segmentation.methods import Method

INTERRUPTED = 130


def batch_files(
    inputs: Sequence[str],
    out: Path,
    *,
    prompts: str,
    points: Sequence[str],
    negatives: Sequence[str],
    boxes: Sequence[str],
    propagate: bool,
    model: str,
    device: str,
    workers: int,
    scheduler: str,
    store: Path | None,
    existing: Existing,
    also: Sequence[Export] = (),
    second_look: bool = True,
) -> int:
    """Segment many files and say how it went.

    Parameters
    ----------
    inputs : sequence of str
        Files, folders, patterns and URLs.
    out : pathlib.Path
        Folder for the results, made if needed.
    prompts : str
        A file, ``automatic``, ``none``, or empty.
    points, negatives, boxes : sequence of str
        See `segment_files`.
    propagate : bool
        Whether prompts are on key frames, from which masks are followed.
    model, device : str
    workers : int
        Processes on this computer.
    scheduler : str
        Address of a Dask scheduler, or empty.
    store : pathlib.Path or None
        Folder of an embedding store.
    existing : Existing
        What to do with results that are there already.
    also : sequence of Export
        Further forms of the labels.
    second_look : bool
        See `Job.second_look`.

    Returns
    -------
    int
        Exit code: 0 all done or skipped, 1 some failed, 2 wrong usage, 130 interrupted.
    """
    from napari_kdsam.batch.executors import executor_for
    from napari_kdsam.batch.runner import find_sources, run_batch

    try:
        method, given = _method(prompts, points, negatives, boxes, propagate)
        make_folder(out)
        job = make_job(
            out, model, device, method, given, store, second_look=second_look
        )
        protected = [Path(prompts)] if prompts else []
        sources = find_sources(inputs, job.output, protected)
        total = sum(source.frame_count for source in sources)
        with _progress(total) as on_result:
            summary = run_batch(
                job, sources, executor_for(workers, scheduler), existing, on_result
            )
        problems = [] if summary.stopped else _export(job, summary, also)
    except KDSAMError as error:
        complain(error)
        return WRONG_USAGE
    code = _tell(summary, out)
    for problem in problems:
        complain(problem)
    return code or (SOME_FAILED if problems else DONE)


def _export(job: Job, summary: Summary, also: Sequence[Export]) -> list[str]:
    if not also:
        return []
    # COCO, NIfTI and DICOM-SEG have packages of their own.
    from napari_kdsam.batch.exports import export

    return export(job.output, summary, also)


def make_job(
    out: Path,
    model: str,
    device: str,
    method: Method,
    prompts: PromptSet,
    store: Path | None,
    *,
    second_look: bool = True,
) -> Job:
    """Describe a batch, with the fingerprint of the model it will use.

    Raises
    ------
    KDSAMError
        If the model or the store cannot be used.
    """
    from napari_kdsam.batch.jobs import Job, fingerprint_of
    from napari_kdsam.batch.output_folder import OutputFolder
    from napari_kdsam.batch.work import predictor_for

    kept = str(store.resolve()) if store else ''
    predictor = predictor_for(model, device, kept, 0)
    fingerprint = fingerprint_of(
        predictor.model_key, method, prompts, bool(kept), second_look=second_look
    )
    place = model if not Path(model).is_file() else str(Path(model).resolve())
    return Job(
        OutputFolder(out.resolve(), fingerprint),
        place,
        device,
        method,
        prompts,
        kept,
        second_look=second_look,
    )


def embed_files(
    inputs: Sequence[str], out: Path, *, model: str, device: str, workers: int
) -> int:
    """Fill an embedding store.

    Parameters
    ----------
    inputs : sequence of str
        Files, folders, patterns and URLs.
    out : pathlib.Path
        Folder of the store, made if needed.
    model, device : str
    workers : int
        Processes on this computer.

    Returns
    -------
    int
        As `batch_files`.
    """
    from napari_kdsam.batch.embed import embed_sources
    from napari_kdsam.batch.records import Status
    from napari_kdsam.batch.runner import find_sources

    try:
        sources = find_sources(inputs)
        total = sum(source.frame_count for source in sources)
        counts = dict.fromkeys(Status, 0)
        with _progress(total) as on_result:
            for result in embed_sources(sources, out, model, device, workers):
                on_result(result)
                counts[result.status] += 1
    except KDSAMError as error:
        complain(error)
        return WRONG_USAGE
    except KeyboardInterrupt:
        complain('Interrupted; run the same command again to go on.')
        return INTERRUPTED
    typer.echo(
        f'{total} frames: {counts[Status.done]} embedded, '
        f'{counts[Status.skipped]} there already, {counts[Status.failed]} failed; '
        f'the store is {out}'
    )
    return SOME_FAILED if counts[Status.failed] else DONE


def _method(
    prompts: str,
    points: Sequence[str],
    negatives: Sequence[str],
    boxes: Sequence[str],
    propagate: bool,
) -> tuple[Method, PromptSet]:
    from napari_kdsam.batch.prompt_sources import read_any_prompts
    from napari_kdsam.segmentation.methods import Method

    words = {'automatic': Method.automatic, 'none': Method.proposals}
    if prompts in words:
        if points or negatives or boxes or propagate:
            raise PromptError(
                f'--prompts {prompts} takes no further prompts; leave the others out.'
            )
        return words[prompts], PromptSet()
    method = Method.propagation if propagate else Method.prompts
    if prompts and not (points or negatives or boxes):
        return method, read_any_prompts(Path(prompts))
    file = Path(prompts) if prompts else None
    return method, prompts_from_options(points, negatives, boxes, file)


@contextmanager
def _progress(total: int) -> Iterator[Callable[[FrameResult], None]]:
    """Show how far it is on standard error, and each failure as it happens."""
    from napari_kdsam.batch.inputs import name_of
    from napari_kdsam.batch.records import Status

    console = Console(stderr=True)
    columns = (
        TextColumn('{task.description}'),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn('{task.fields[rate]}'),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task('frames', total=total, rate='')

        def on_result(result: FrameResult) -> None:
            speed = progress.tasks[0].speed
            rate = f'{speed:.1f}/s' if speed else ''
            progress.update(task, advance=1, rate=rate)
            if result.status is Status.failed:
                console.print(
                    f'{name_of(result.location)}, frame {result.frame}: {result.reason}',
                    markup=False,
                    highlight=False,
                    soft_wrap=True,
                )

        yield on_result


def _tell(summary: Summary, out: Path) -> int:
    from napari_kdsam.batch.manifest import MANIFEST
    from napari_kdsam.batch.records import Status

    counts = {status: summary.count(status) for status in Status}
    noted = sum(
        result.status is Status.done and bool(result.reason)
        for result in summary.results.values()
    )
    looked = f' ({noted} to look at)' if noted else ''
    typer.echo(
        f'{len(summary.results)} frames of {len(summary.sources)} files: '
        f'{counts[Status.done]} done{looked}, {counts[Status.failed]} failed, '
        f'{counts[Status.skipped]} skipped; see {out / MANIFEST}'
    )
    if summary.stopped:
        complain(f'{summary.stopped.rstrip(".")}; run it again with --resume to go on.')
        return INTERRUPTED if summary.stopped == 'Interrupted.' else SOME_FAILED
    return SOME_FAILED if counts[Status.failed] else DONE
