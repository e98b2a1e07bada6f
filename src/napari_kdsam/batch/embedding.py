"""Fill an embedding store with every frame of many files."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures import as_completed as as_they_come
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from napari_kdsam.batch.methods import predictor_for
from napari_kdsam.batch.records import FrameResult, Status
from napari_kdsam.batch.sources import Reader, Source
from napari_kdsam.errors import KDSAMError
from napari_kdsam.inference.intensity import check_image

_AHEAD, _FRAMES_A_TASK = 3, 16
Items = Sequence[tuple[Source, int]]


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
    KDSAMError
        If the model or the store cannot be used.
    """
    items = [(s, frame) for s in sources for frame in range(s.frame_count)]
    place = str(out.resolve())
    # Made here first, so that what is wrong with it is one sentence, and no race.
    predictor_for(model, device, place, 0)
    if workers < 2:
        yield from _embed(items, place, model, device, 0)
        return
    threads = max(1, (os.cpu_count() or 1) // workers)
    parts = [
        items[n : n + _FRAMES_A_TASK] for n in range(0, len(items), _FRAMES_A_TASK)
    ]
    with ProcessPoolExecutor(workers, mp_context=get_context('spawn')) as pool:
        waiting = [
            pool.submit(embed_items, part, place, model, device, threads)
            for part in parts
        ]
        try:
            for future in as_they_come(waiting):
                yield from future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def embed_items(
    items: Items, store: str, model: str, device: str, threads: int
) -> list[FrameResult]:
    """Embed some frames, such as in another process."""
    return list(_embed(items, store, model, device, threads))


def _embed(
    items: Items, store: str, model: str, device: str, threads: int
) -> Iterator[FrameResult]:
    predictor = predictor_for(model, device, store, threads)
    assert predictor.store is not None
    with Reader() as reader, ThreadPoolExecutor(1, 'kdsam-read') as reading:
        ahead: deque[Future[NDArray[Any]]] = deque()
        upcoming = iter(items)
        for source, frame in items:
            while len(ahead) < _AHEAD and (item := next(upcoming, None)) is not None:
                ahead.append(reading.submit(reader.read, *item))
            before = predictor.store.written
            try:
                predictor.embed(check_image(ahead.popleft().result()))
            except KDSAMError as error:
                yield FrameResult(source.location, frame, Status.failed, str(error))
                continue
            new = predictor.store.written > before
            status = Status.done if new else Status.skipped
            yield FrameResult(source.location, frame, status)
