"""Fill an embedding store with every frame of many files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from napari_kdsam.batch.inputs import Reader, Source, read_ahead
from napari_kdsam.batch.jobs import Items
from napari_kdsam.batch.output_folder import OutputError
from napari_kdsam.batch.processes import in_processes, threads_for
from napari_kdsam.batch.records import FrameResult, Status
from napari_kdsam.batch.work import predictor_for
from napari_kdsam.core.errors import KDSAMError, NotWrittenError
from napari_kdsam.segmentation.frame_labels import attempt

if TYPE_CHECKING:
    from napari_kdsam.inference.predictor import ImageEmbedding, Predictor

_FRAMES_A_TASK = 16


def embed_sources(
    sources: Sequence[Source], out: Path, model: str, device: str, workers: int
) -> Iterator[FrameResult]:
    """Embed every frame that the store does not hold yet.

    Parameters
    ----------
    sources : sequence of Source
    out : pathlib.Path
        Folder of the store.
    model, device : str
    workers : int
        Processes on this computer.

    Yields
    ------
    FrameResult
        Done, skipped where the embedding was there, or failed.

    Raises
    ------
    OutputError
        If an embedding cannot be put into the store, so that going on makes no sense.
    LostWorkersError
        If one process after another dies.
    KDSAMError
        If the model or the store cannot be used.
    """
    items = tuple((s, frame) for s in sources for frame in range(s.frame_count))
    place = str(out.resolve())
    # Made here first, so that what is wrong with it is one sentence, and no race.
    predictor_for(model, device, place, 0, must_store=True)
    if workers < 2:
        yield from _embed(items, place, model, device, 0)
        return
    starts = range(0, len(items), _FRAMES_A_TASK)
    parts = [items[n : n + _FRAMES_A_TASK] for n in starts]
    work = partial(
        embed_items,
        store=place,
        model=model,
        device=device,
        threads=threads_for(workers),
    )
    yield from in_processes(workers, work, parts)


def embed_items(
    items: Items, store: str, model: str, device: str, threads: int
) -> list[FrameResult]:
    """Embed some frames, such as in another process."""
    return list(_embed(items, store, model, device, threads))


def _embedding(predictor: Predictor, pixels: Future[NDArray[Any]]) -> ImageEmbedding:
    return predictor.embed(pixels.result())


def _embed(
    items: Items, store: str, model: str, device: str, threads: int
) -> Iterator[FrameResult]:
    predictor = predictor_for(model, device, store, threads, must_store=True)
    assert predictor.store is not None
    with Reader() as reader:
        for source, frame, pixels in read_ahead(reader, items):
            before = predictor.store.written
            found = attempt(partial(_embedding, predictor, pixels))
            if isinstance(found, NotWrittenError):
                raise OutputError(str(found))
            if isinstance(found, KDSAMError):
                yield FrameResult(source.location, frame, Status.failed, str(found))
                continue
            if found.key not in predictor.store:
                raise OutputError('The store is gone.')
            new = predictor.store.written > before
            status = Status.done if new else Status.skipped
            yield FrameResult(source.location, frame, status)
