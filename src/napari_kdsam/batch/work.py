"""Do tasks in this process: read ahead, segment, write behind."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from napari_kdsam.batch.inputs import Reader, Source, read_ahead
from napari_kdsam.batch.jobs import Job, Task, fingerprint_of
from napari_kdsam.batch.output_folder import OutputFolder
from napari_kdsam.batch.records import FrameResult
from napari_kdsam.core.errors import KDSAMError, PromptError
from napari_kdsam.core.prompts import PromptSet
from napari_kdsam.segmentation.frame_labels import (
    FrameLabels,
    NothingToDo,
    Outcome,
    attempt,
)
from napari_kdsam.segmentation.methods import (
    NO_PROMPTS,
    Automatic,
    FrameMethod,
    Method,
    NumberedPrompt,
    Prompted,
    Proposed,
)

if TYPE_CHECKING:
    from napari_kdsam.inference.predictor import Predictor

# Few, because each is a whole frame.
_BEHIND = 3


@cache
def predictor_for(
    model: str, device: str, store: str, threads: int, *, must_store: bool = False
) -> Predictor:
    """Load a model once in each process; for `must_store` see `Predictor`.

    Raises
    ------
    KDSAMError
        If it cannot be loaded, or the store cannot be used.
    """
    import torch

    from napari_kdsam.inference.embedding_store import EmbeddingStore
    from napari_kdsam.inference.predictor import Predictor
    from napari_kdsam.model.loading import load_model

    if threads:
        torch.set_num_threads(threads)
    loaded = load_model(model, device)
    kept = EmbeddingStore(store) if store else None
    # Each frame is embedded once, so there is nothing to keep in memory.
    return Predictor(loaded, cache_bytes=0, store=kept, must_store=must_store)


def job_for(
    out: Path,
    model: str,
    device: str,
    method: Method,
    prompts: PromptSet,
    store: Path | None,
    *,
    second_look: bool,
) -> Job:
    """Describe a batch, with the fingerprint of the model it will use.

    Raises
    ------
    KDSAMError
        If the model cannot be loaded, or the store cannot be used.
    """
    from napari_kdsam.model.weights_file import earlier_weights_key

    kept = str(store.resolve()) if store else ''
    predictor = predictor_for(model, device, kept, 0)
    identity = predictor.model.identity
    fingerprint, earlier = (
        fingerprint_of(
            f'{key}|{predictor.model.compute_dtype}',
            method,
            prompts,
            bool(kept),
            second_look=second_look,
        )
        for key in (identity.key, earlier_weights_key(identity))
    )
    place = model if not Path(model).is_file() else str(Path(model).resolve())
    return Job(
        OutputFolder(out.resolve(), fingerprint, (earlier,)),
        place,
        device,
        method,
        prompts,
        kept,
        second_look=second_look,
    )


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
            for source, frame, outcome in _outcomes(predictor, job, task, reader):
                waiting.append(writing.submit(job.output.keep, source, frame, outcome))
                while len(waiting) > _BEHIND:
                    yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _outcomes(
    predictor: Predictor, job: Job, task: Task, reader: Reader
) -> Iterator[tuple[Source, int, Outcome]]:
    source = task.items[0][0]
    if job.method is Method.propagation and source.is_stack:
        frames = [frame for _, frame in task.items]
        for frame, outcome in _followed(predictor, job, source, frames, reader):
            yield source, frame, outcome
        return
    for source, frame, pixels in read_ahead(reader, task.items):
        work = partial(_label, _method(job, source), predictor, frame, pixels.result)
        yield source, frame, attempt(work)


def _label(
    method: FrameMethod,
    predictor: Predictor,
    frame: int,
    pixels: Callable[[], NDArray[Any]],
) -> FrameLabels:
    return method.label(predictor, frame, pixels())


def _method(job: Job, source: Source) -> FrameMethod:
    if job.method is Method.automatic:
        return Automatic()
    if job.method is Method.proposals:
        return Proposed(second_look=job.second_look)
    objects = job.objects_of(source)

    def prompts_of(frame: int) -> list[NumberedPrompt]:
        numbered = enumerate(objects, 1)
        return [(n, item.prompt) for n, item in numbered if item.in_frame(frame)]

    second_look = job.second_look and job.method.looks_again
    return Prompted(prompts_of, second_look)


@dataclass(frozen=True)
class _SourceFrames:
    """The frames of a file, for the engine."""

    source: Source
    reader: Reader

    def pixels(self, frame: int) -> NDArray[Any]:
        return self.reader.read(self.source, frame)


def _followed(
    predictor: Predictor,
    job: Job,
    source: Source,
    frames: Sequence[int],
    reader: Reader,
) -> Iterator[tuple[int, Outcome]]:
    """Segment the key frames of a stack by their prompts, and the others from those."""
    from napari_kdsam.segmentation.following import Following

    try:
        prompts = _key_prompts(job, source)
    except KDSAMError as error:
        yield from ((frame, error) for frame in frames)
        return
    method = Prompted(prompts.__getitem__, second_look=False)
    stack = _SourceFrames(source, reader)
    keys = {
        frame: partial(_label, method, predictor, frame, partial(stack.pixels, frame))
        for frame in prompts
    }
    following = Following(predictor, stack, keys, partial(job.output.labels_of, source))
    wanted = [frame for frame in frames if not job.output.is_done(source, frame)]
    yield from (step for step in following.label(frames, wanted) if step is not None)


def _key_prompts(job: Job, source: Source) -> dict[int, list[NumberedPrompt]]:
    """The prompts of each key frame; those without a frame are for the first."""
    found: dict[int, list[NumberedPrompt]] = {}
    for item in job.objects_of(source):
        frame = item.frame or 0
        if frame >= source.frame_count:
            raise PromptError(
                f'There is a prompt for frame {frame}, but the frames are 0 to '
                f'{source.frame_count - 1}.'
            )
        # The same place in each key frame's list is the same object.
        here = found.setdefault(frame, [])
        here.append((len(here) + 1, item.prompt))
    if not found:
        raise NothingToDo(NO_PROMPTS)
    return found
