"""Run a teacher over images and store what it says."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from napari_kdsam.core.errors import ImageError
from napari_kdsam.training.data.samples import Sample
from napari_kdsam.training.teachers.cache import (
    CorruptEmbeddingError,
    EmbeddingCache,
    EmbeddingCacheError,
)
from napari_kdsam.training.teachers.cache_keys import (
    content_hash,
    with_view,
)
from napari_kdsam.training.teachers.teacher import Teacher
from napari_kdsam.training.teachers.views import apply_view

# At most this much of a slow teacher's work is lost when the process is killed.
_FLUSH_SECONDS = 300.0
# Images read ahead, in batches, to find some of the same shape.
_BATCHES_AHEAD = 4


@dataclass
class CacheReport:
    """What `fill_cache` did.

    Attributes
    ----------
    done : int
        Embeddings computed and stored.
    already : int
        Embeddings that were there and intact.
    repaired : int
        Those of `done` that replaced damaged ones.
    failed : dict of str to str
        The reason for each sample that has not all its embeddings, by name.
    """

    done: int = 0
    already: int = 0
    repaired: int = 0
    failed: dict[str, str] = field(default_factory=dict)

    def describe(self) -> str:
        """One sentence for a log."""
        text = f'{self.done} embeddings computed, {self.already} were there'
        if self.repaired:
            text += f', {self.repaired} damaged ones replaced'
        if self.failed:
            text += f', {len(self.failed)} images failed'
        return text + '.'


@dataclass(frozen=True, eq=False)
class _Task:
    name: str
    key: str
    image: NDArray[np.uint8]
    shape: tuple[int, int]


def fill_cache(
    cache: EmbeddingCache,
    teacher: Teacher,
    samples: Sequence[Sample],
    views: Sequence[str] = ('identity',),
    batch_size: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> CacheReport:
    """Embed every view of every sample that the cache does not hold intact.

    Embeddings that are there are read and checked, so a damaged one is replaced.
    Interrupted at any point, also by force, it goes on where it stopped.

    Parameters
    ----------
    cache : EmbeddingCache
        Writable, of this teacher.
    teacher : Teacher
        Makes the embeddings.
    samples : sequence of Sample
        Those that cannot be read, and those whose embedding is not finite, are
        reported and left out.
    views : sequence of str
        From `napari_kdsam.training.teachers.views.VIEWS`.
    batch_size : int
        Images the teacher takes at once.
    progress : callable, optional
        Called with the number of embeddings settled and the number in all.

    Raises
    ------
    EmbeddingCacheError
        If the cache is another teacher's or is not writable.
    DiskFullError
        If there is no space left; what was finished stays valid.
    """
    if cache.teacher_key != teacher.key:
        raise EmbeddingCacheError(
            f'{cache.folder} holds embeddings of the teacher {cache.teacher_name} '
            f'({cache.teacher_key}), not of {teacher.name} ({teacher.key}).'
        )
    filling = _Filling(cache, teacher, batch_size, progress)
    filling.total = len(samples) * len(views)
    report = filling.report
    for sample in samples:
        try:
            image, _ = sample.load()
        except ImageError as error:
            report.failed[sample.name] = str(error)
            filling.settle(len(views))
        else:
            filling.add(sample.name, image, views)
    filling.finish()
    return report


class _Filling:
    def __init__(
        self,
        cache: EmbeddingCache,
        teacher: Teacher,
        batch_size: int,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self.cache = cache
        self.teacher = teacher
        self.batch_size = batch_size
        self.report = CacheReport()
        self.waiting: dict[str, _Task] = {}
        self.total = 0
        self._progress = progress
        self._settled = 0
        self._damaged: set[str] = set()
        self._flushed = time.monotonic()

    def add(self, name: str, image: NDArray[np.uint8], views: Sequence[str]) -> None:
        content = content_hash(image)
        for view in views:
            key = with_view(content, view)
            if key in self.waiting or self._is_there(key):
                self.report.already += 1
                self.settle(1)
                continue
            pixels = apply_view(image, view)
            shape = self.teacher.scaled_shape(pixels)
            self.waiting[key] = _Task(name, key, pixels, shape)
        while len(self.waiting) >= _BATCHES_AHEAD * self.batch_size:
            self._run_batch()

    def settle(self, count: int) -> None:
        self._settled += count
        if self._progress is not None and count:
            self._progress(self._settled, self.total)

    def finish(self) -> None:
        while self.waiting:
            self._run_batch()
        self.cache.flush()

    def _is_there(self, key: str) -> bool:
        if key not in self.cache:
            return False
        try:
            self.cache.get(key)
        except CorruptEmbeddingError:
            self._damaged.add(key)
            return False
        return True

    def _run_batch(self) -> None:
        groups: dict[tuple[int, int], list[_Task]] = {}
        for task in self.waiting.values():
            groups.setdefault(task.shape, []).append(task)
        batch = max(groups.values(), key=len)[: self.batch_size]
        embeddings = self.teacher.embed([task.image for task in batch]).cpu().numpy()
        for task, embedding in zip(batch, embeddings, strict=True):
            del self.waiting[task.key]
            largest = np.abs(embedding).max()
            # NaN compares as false with everything, so it is refused here too.
            if not largest <= np.finfo(np.float16).max:
                self.report.failed[task.name] = (
                    f"{task.name}: the teacher's embedding is not finite in 16 bits; "
                    'check its weights and precision.'
                )
                continue
            self.cache.put([task.key], embedding[None])
            self.report.done += 1
            self.report.repaired += task.key in self._damaged
        self.settle(len(batch))
        if time.monotonic() - self._flushed > _FLUSH_SECONDS:
            self.cache.flush()
            self._flushed = time.monotonic()
