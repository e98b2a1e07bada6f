"""A whole batch: what is there already, what is to do, and what became of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path

from napari_kdsam.batch.inputs import (
    Found,
    Source,
    describe,
    expand,
    name_of,
    stem_for,
)
from napari_kdsam.batch.jobs import Job, Task
from napari_kdsam.batch.manifest import MANIFEST
from napari_kdsam.batch.output_folder import (
    BATCH_ENDINGS,
    COCO_NAME,
    NOT_REACHED,
    OutputError,
    OutputFolder,
)
from napari_kdsam.batch.processes import WORKER_DIED, LostWorkersError
from napari_kdsam.batch.records import FrameResult, Status
from napari_kdsam.core.choices import Existing, Export
from napari_kdsam.core.errors import ImageError, NotWrittenError, first_of
from napari_kdsam.core.prompts import AssignedPrompts
from napari_kdsam.inference.embedding_store import holds_embeddings
from napari_kdsam.io.results import is_result
from napari_kdsam.segmentation.methods import Method

_FRAMES_A_TASK = 8

Executor = Callable[[Job, Sequence[Task]], Iterator[FrameResult]]


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
    left_out : list of Source
        What was given, or found in a folder, and is no image of the batch.
    notes : tuple of str
        Sentences on prompts that should be looked at.
    """

    sources: list[Source]
    results: dict[tuple[str, int], FrameResult] = field(default_factory=dict)
    stopped: str = ''
    left_out: list[Source] = field(default_factory=list)
    notes: tuple[str, ...] = ()

    def places(self) -> Iterator[tuple[str, int]]:
        """Every frame of every source, in order."""
        for source in self.sources:
            for frame in range(source.frame_count):
                yield source.location, frame

    def take(self, result: FrameResult) -> None:
        """Note what became of a frame."""
        self.results[result.location, result.frame] = result

    def of(self, source: Source) -> list[FrameResult]:
        """Results of the frames of a source, in order."""
        frames = range(source.frame_count)
        return [self.results[source.location, n] for n in frames]

    def ordered(self) -> list[FrameResult]:
        """Results in the order of the sources and frames."""
        return [self.results[place] for place in self.places()]

    def count(self, status: Status) -> int:
        """How many frames ended in a certain way."""
        return sum(result.status is status for result in self.results.values())


def find_sources(
    inputs: Sequence[str],
    output: OutputFolder | None = None,
    protected: Iterable[Path] = (),
    on_step: Callable[[int, int], None] = lambda looked_at, found: None,
) -> list[Source]:
    """Find the files of a batch, with a stem of its own for each.

    What is no image is among them with the reason, but for the results in the folder
    that the batch writes to.

    Parameters
    ----------
    inputs : sequence of str
        As for `expand`.
    output : OutputFolder, optional
        Where results go; no stem is chosen whose results would replace an input.
    protected : iterable of pathlib.Path
        Further files that must stay as they are.
    on_step : callable
        Called with the numbers of files looked at and found so far; all are found
        before the first is looked at.

    Raises
    ------
    ImageError
        If one of the inputs stands for no file, or none is an image.
    """
    numbers = count(1)
    given = expand(inputs, lambda: on_step(0, next(numbers)))
    found: list[Found] = []
    described: dict[str, Source] = {}
    for number, one in enumerate(given, 1):
        item = _without_results(one)
        found.append(item)
        if not item.left_out:
            described[item.location] = _described(item)
        on_step(number, len(given))
    images = [item for item in found if not item.left_out]
    if all(source.left_out for source in described.values()):
        names = first_of([name_of(one.location) for one in given if not one.left_out])
        raise ImageError(
            f'What was given ({names}) is labels or results of earlier runs and no '
            'image; give the images that they were made of.'
        )
    kept = [item.path for item in images if item.path is not None]
    folder = output or OutputFolder(Path())
    stems = folder.stems(
        [stem_for(item.location) for item in images],
        [*kept, *protected] if output is not None else [],
        BATCH_ENDINGS,
        folder.stems_before(item.location for item in images) if output else (),
    )
    sources = [
        replace(source, stem=stem)
        for source, stem in zip(described.values(), stems, strict=True)
    ]
    left_out = [
        Source(item.location, '', left_out=item.left_out)
        for item in found
        if item.left_out and not (output and item.path and output.wrote(item.path))
    ]
    return [*sources, *left_out]


def _described(item: Found) -> Source:
    if item.problem:
        return Source(item.location, '', problem=item.problem)
    return describe(item.location, '')


def _without_results(item: Found) -> Found:
    path = item.path
    if path is None or item.left_out or item.problem:
        return item
    if is_result(path):
        return replace(item, left_out='left out: a result of an earlier run')
    if holds_embeddings(path):
        return replace(item, left_out='left out: an embedding store')
    return item


def run_batch(
    job: Job,
    sources: Sequence[Source],
    executor: Executor,
    existing: Existing = Existing.fail,
    on_result: Callable[[FrameResult], None] = lambda result: None,
    also: Sequence[Export] = (),
    finish: Callable[[Summary], None] = lambda summary: None,
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
    also : sequence of Export
        Further forms that `finish` will write the labels in.
    finish : callable
        Called in the end, while other runs are still kept out of the folder.

    Returns
    -------
    Summary
        With `Summary.stopped` if it was interrupted or results could not be written;
        everything done until then is kept.

    Raises
    ------
    BatchError
        If there are files already and `existing` does not allow for them, or they are
        no results of a run; nothing is written then.
    PromptError
        If prompts by name may be for several images.
    ImageError
        If the manifest cannot be written, or a stack's frames are damaged.
    """
    output = job.output
    prompts = job.prompts.assigned([source.location for source in sources])
    job = replace(job, prompts=prompts)
    with output.owned():
        images = [
            replace(source, problem=output.check_names(output.targets(source, also)))
            if not source.problem
            else source
            for source in sources
            if not source.left_out
        ]
        _guard(output, images, existing, also)
        if existing is Existing.resume:
            output.sweep()
        left_out = [source for source in sources if source.left_out]
        summary = Summary(images, left_out=left_out, notes=prompts.notes)
        for source in images:
            for result in output.known(source, existing):
                summary.take(result)
                on_result(result)
        _do(job, executor, summary, on_result)
        # A worker that died has left what it was writing; its task was done again.
        output.sweep()
        _look_for_the_rest(output, summary)
        for source in images:
            if source.is_stack and not source.problem:
                try:
                    output.assemble(source, summary.of(source))
                except NotWrittenError as error:
                    # Its frames are there one by one, and the manifest is still due.
                    summary.stopped = summary.stopped or str(error)
        others = [
            FrameResult(source.location, 0, Status.skipped, source.left_out)
            for source in left_out
        ]
        others += _without_image(prompts)
        output.write_manifest(images, [*summary.ordered(), *others])
        finish(summary)
    return summary


def _without_image(prompts: AssignedPrompts) -> Iterator[FrameResult]:
    reason = f'{prompts.source} has prompts for it, but no such image was given'
    for name in prompts.unfound:
        yield FrameResult(name, 0, Status.skipped, reason)


def _guard(
    output: OutputFolder,
    images: Sequence[Source],
    existing: Existing,
    also: Sequence[Export],
) -> None:
    """Refuse a batch that would replace what it may not, before it does anything."""
    own = [path for source in images for path in output.targets(source, also)]
    common = [output.path / MANIFEST]
    if Export.coco in also:
        common.append(output.path / COCO_NAME)
    if existing is Existing.skip:
        # What is there of an image, whoever made it, is left alone with the image.
        own = []
    output.guard([*own, *common], existing, goes_on=True)


def _look_for_the_rest(output: OutputFolder, summary: Summary) -> None:
    """Take what was written and not reported any more; the rest was not reached."""
    for source in summary.sources:
        for frame in range(source.frame_count):
            known = summary.results.get((source.location, frame))
            if known is not None and known.reason != WORKER_DIED:
                continue
            missing = FrameResult(source.location, frame, Status.skipped, NOT_REACHED)
            summary.take(output.result_of(source, frame) or known or missing)


def _do(
    job: Job,
    executor: Executor,
    summary: Summary,
    on_result: Callable[[FrameResult], None],
) -> None:
    results = executor(job, _tasks(job, summary.sources, summary))
    try:
        for result in results:
            summary.take(result)
            on_result(result)
    except (OutputError, LostWorkersError) as error:
        summary.stopped = str(error)
    except KeyboardInterrupt:
        summary.stopped = 'Interrupted.'
    finally:
        close = getattr(results, 'close', None)
        if close is not None:
            close()


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
