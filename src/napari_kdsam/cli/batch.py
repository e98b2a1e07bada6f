"""``napari-kdsam batch``: many images and stacks to label images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_kdsam.cli.console import (
    DONE,
    INTERRUPTED,
    SOME_FAILED,
    WRONG_USAGE,
    batch_progress,
    complain,
    exit_on,
    looking_progress,
    make_folder,
    note,
    say,
)
from napari_kdsam.cli.options import (
    Boxes,
    Device,
    ManyInputs,
    ModelName,
    Negatives,
    OutFolder,
    Points,
    PromptsFile,
    SecondLook,
    Workers,
    prompts_from_options,
)
from napari_kdsam.core.choices import Existing, Export, ExportOptions
from napari_kdsam.core.errors import KDSAMError, PromptError, counted

if TYPE_CHECKING:
    from napari_kdsam.batch.jobs import Job
    from napari_kdsam.batch.runner import Summary
    from napari_kdsam.core.prompts import PromptSet
    from napari_kdsam.segmentation.methods import Method

# What --prompts took before there was --method.
_METHOD_WORDS = {'automatic': 'automatic', 'none': 'proposals'}


def batch(
    inputs: ManyInputs,
    out: OutFolder,
    method: Annotated[
        str,
        typer.Option(
            metavar='prompts|propagation|automatic|proposals',
            help='Where objects come from: the prompts given; the prompts on some '
            'frames, followed through the stack; everything there is; or the targets '
            'that the model proposes itself.',
        ),
    ] = 'prompts',
    prompts_file: PromptsFile = None,
    points: Points = None,
    negatives: Negatives = None,
    boxes: Boxes = None,
    propagate: Annotated[bool, typer.Option('--propagate', hidden=True)] = False,
    model: ModelName = 'kdsam',
    device: Device = 'auto',
    workers: Workers = 1,
    scheduler: Annotated[
        str,
        typer.Option(
            metavar='tcp://HOST:PORT', help='A Dask scheduler.', show_default=False
        ),
    ] = '',
    embeddings: Annotated[
        Path | None,
        typer.Option(
            metavar='DIR',
            help='Look for embeddings in this store, and keep new ones there.',
            show_default=False,
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option('--resume', help='Go on with a batch that ended early.'),
    ] = False,
    existing: Annotated[
        Existing,
        typer.Option(
            help='What to do where a result is already: refuse the batch, leave it '
            'alone, replace it, or go on as --resume does. Files that no run wrote are '
            'never replaced.'
        ),
    ] = Existing.fail,
    also: Annotated[
        list[Export] | None,
        typer.Option(
            help='Also write NIfTI for NIfTI images, DICOM-SEG for DICOM images, or one '
            'COCO file (repeatable).'
        ),
    ] = None,
    export_incomplete: Annotated[
        bool,
        typer.Option(
            '--export-incomplete',
            help='Also write stacks with failed frames in these forms, under names with '
            '"incomplete".',
        ),
    ] = False,
    without_patient: Annotated[
        bool,
        typer.Option(
            '--without-patient',
            help='Leave out of DICOM-SEG who the patient is and when the study was.',
        ),
    ] = False,
    second_look: SecondLook = True,
) -> None:
    """Segment many images and stacks, in parallel and restartable.

    Every image gives STEM_labels.png, every stack (TIFF, NPY, DICOM, NIfTI, video or
    zarr) STEM_labels.tif. manifest.csv lists what became of each frame: done, failed
    or skipped, with the reason. A frame that fails is named and the others go on.

    A CSV of prompts has the columns image, frame, object, row, column and label for
    points, or row0, column0, row1 and column1 for boxes; image, frame and object may
    be left out. Of a COCO file the box of each annotation is an object.

    Exit code: 0 all done or skipped, 1 some failed, 2 wrong usage, 130 interrupted.
    """
    with exit_on(KDSAMError, WRONG_USAGE):
        from napari_kdsam.batch.executors import executor_for
        from napari_kdsam.batch.runner import find_sources, run_batch
        from napari_kdsam.batch.work import job_for

        if str(prompts_file) in _METHOD_WORDS:
            method, prompts_file = _METHOD_WORDS[str(prompts_file)], None
        chosen = _method(method, propagate)
        if chosen in ('automatic', 'proposals'):
            prompts = _no_prompts(chosen, prompts_file, points, negatives, boxes)
        else:
            prompts = prompts_from_options(points, negatives, boxes, prompts_file)
        make_folder(out)
        job = job_for(
            out, model, device, chosen, prompts, embeddings, second_look=second_look
        )
        protected = [prompts_file] if prompts_file else []
        with looking_progress() as on_step:
            sources = find_sources(inputs, job.output, protected, on_step)
        total = sum(s.frame_count for s in sources if not s.left_out)
        existing = Existing.resume if resume else existing
        problems: list[str] = []

        options = ExportOptions(existing, export_incomplete, not without_patient)

        def finish(summary: Summary) -> None:
            if not summary.stopped:
                problems.extend(_export(job, summary, also or (), options))

        with batch_progress(total) as on_result:
            summary = run_batch(
                job,
                sources,
                executor_for(workers, scheduler),
                existing,
                on_result,
                also or (),
                finish,
            )
    code = _tell(summary, out)
    for problem in problems:
        complain(problem)
    raise typer.Exit(code or (SOME_FAILED if problems else DONE))


def _method(name: str, propagate: bool) -> Method:
    from napari_kdsam.segmentation.methods import Method

    if name not in list(Method):
        raise PromptError(
            f'There is no method {name!r}; --method is one of {", ".join(Method)}.'
        )
    if propagate and name not in ('prompts', 'propagation'):
        raise PromptError(
            f'--method {name} follows nothing through stacks; leave --propagate out.'
        )
    return Method.propagation if propagate else Method(name)


def _no_prompts(
    method: Method, file: Path | None, *others: Sequence[str] | None
) -> PromptSet:
    from napari_kdsam.core.prompts import PromptSet

    if file is not None or any(others):
        raise PromptError(f'--method {method} takes no prompts; leave them out.')
    return PromptSet()


def _export(
    job: Job, summary: Summary, also: Sequence[Export], options: ExportOptions
) -> list[str]:
    if not also:
        return []
    # COCO, NIfTI and DICOM-SEG have packages of their own.
    from napari_kdsam.batch.exports import export

    return export(job.output, summary, also, options)


def _tell(summary: Summary, out: Path) -> int:
    from napari_kdsam.batch.manifest import MANIFEST
    from napari_kdsam.batch.records import Status

    counts = {status: summary.count(status) for status in Status}
    noted = sum(
        result.status is Status.done and bool(result.reason)
        for result in summary.results.values()
    )
    looked = f' ({noted} to look at)' if noted else ''
    left = len(summary.left_out)
    others = f', {counted(left, "file")} left out' if left else ''
    say(
        f'{counted(len(summary.results), "frame")} of '
        f'{counted(len(summary.sources), "file")}: '
        f'{counts[Status.done]} done{looked}, {counts[Status.failed]} failed, '
        f'{counts[Status.skipped]} skipped{others}; see {out / MANIFEST}'
    )
    for text in summary.notes:
        note(text)
    if summary.stopped:
        complain(f'{summary.stopped.rstrip(".")}; run it again with --resume to go on.')
        return INTERRUPTED if summary.stopped == 'Interrupted.' else SOME_FAILED
    return SOME_FAILED if counts[Status.failed] else DONE
