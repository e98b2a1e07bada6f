"""Teacher embeddings of all training images, in memory, filled once at the start."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from napari_kdsam.core.errors import KDSAMError
from napari_kdsam.core.sizes import EMBEDDING_SHAPE
from napari_kdsam.training.data.samples import Sample
from napari_kdsam.training.squares import SquareStore, mirror_squares
from napari_kdsam.training.teachers.cache import (
    EmbeddingCache,
    EmbeddingCacheError,
)
from napari_kdsam.training.teachers.cache_keys import (
    content_hash,
    with_view,
)
from napari_kdsam.training.teachers.teacher import Teacher

MIRRORED = 'flip_columns'
VIEWS = ('identity', MIRRORED)
# Device memory left to the student's training, in bytes.
RESERVE = 16 * 2**30
_GIB = 2**30


class TeacherMemoryError(KDSAMError, RuntimeError):
    """Embeddings that cannot be held, computed or read back."""


class TeacherMemory:
    """Embeddings of N images and of their views.

    Parameters
    ----------
    embeddings : torch.Tensor
        (N, V, 256, 64, 64) bfloat16, from `allocate`.
    device : torch.device
        Where `get` returns embeddings.
    teacher_key : str
        `Teacher.key` of the embeddings.
    views : sequence of str
        V of `VIEWS`.

    Raises
    ------
    ValueError
        If there is no such view.
    """

    def __init__(
        self,
        embeddings: torch.Tensor,
        device: torch.device,
        teacher_key: str,
        views: Sequence[str] = VIEWS,
    ) -> None:
        self.embeddings = embeddings
        self.device = device
        self.teacher_key = teacher_key
        self.views = check_views(views)

    def __len__(self) -> int:
        return len(self.embeddings)

    @property
    def on_device(self) -> bool:
        """Whether the embeddings lie where `get` returns them."""
        return self.embeddings.device.type == self.device.type

    def get(self, indices: torch.Tensor, views: torch.Tensor) -> torch.Tensor:
        """Give the embeddings of a batch.

        Parameters
        ----------
        indices : torch.Tensor
            (B,) int64 numbers of images. On the CPU they are quickest where the
            embeddings are on the CPU, too: nothing waits for the device then.
        views : torch.Tensor
            (B,) int64 positions in the attribute `views`.

        Returns
        -------
        torch.Tensor
            (B, 256, 64, 64) bfloat16 on `device`.
        """
        place = self.embeddings.device
        indices, views = indices.to(place), views.to(place)
        if self.on_device:
            return self.embeddings[indices, views]
        picked = torch.empty(
            (len(indices), *EMBEDDING_SHAPE),
            dtype=self.embeddings.dtype,
            pin_memory=self.device.type == 'cuda',
        )
        rows = self.embeddings.flatten(0, 1)
        torch.index_select(rows, 0, indices * len(self.views) + views, out=picked)
        return picked.to(self.device, non_blocking=True)


def fill_memory(
    teacher: Teacher,
    store: SquareStore,
    views: Sequence[str] = VIEWS,
    batch_size: int = 8,
    reserve: int = RESERVE,
    describe: Callable[[int], str] = 'image {}'.format,
    progress: Callable[[int, int], None] | None = None,
) -> TeacherMemory:
    """Embed every view of every image of a store.

    Parameters
    ----------
    teacher : Teacher
        Makes the embeddings, on the device where they will be wanted.
    store : SquareStore
        The images.
    views : sequence of str
        Some of `VIEWS`.
    batch_size : int
        Images that the teacher takes at once.
    reserve : int
        Bytes of device memory to leave free; see `allocate`.
    describe : callable
        Names an image by its number, for messages.
    progress : callable, optional
        Called with the number of embeddings made and the number in all.

    Raises
    ------
    TeacherMemoryError
        If the memory does not suffice, or an embedding is not finite.
    ValueError
        If there is no such view.
    """
    views = check_views(views)
    count = len(store)
    embeddings = allocate(count, len(views), teacher.device, reserve)
    for start in range(0, count, batch_size):
        indices = torch.arange(start, min(start + batch_size, count))
        pixels, sizes = store.squares(indices)
        for position, view in enumerate(views):
            seen = pixels
            if view == MIRRORED:
                all_of_them = torch.ones(len(pixels), dtype=torch.bool)
                seen = mirror_squares(pixels, sizes, all_of_them)
            found = _embed(teacher, seen, sizes).to(embeddings.dtype)
            finite = found.isfinite().flatten(1).all(dim=1)
            if not bool(finite.all()):
                odd = describe(start + int(finite.logical_not().nonzero()[0]))
                raise TeacherMemoryError(
                    f"The teacher's embedding of {odd} is not finite; check its "
                    'weights and precision.'
                )
            embeddings[start : start + len(found), position] = found
        if progress is not None:
            progress((start + len(indices)) * len(views), count * len(views))
    return TeacherMemory(embeddings, teacher.device, teacher.key, views)


def memory_of_cache(
    cache: EmbeddingCache,
    samples: Sequence[Sample],
    views: Sequence[str],
    device: torch.device,
    reserve: int = RESERVE,
) -> TeacherMemory:
    """Load the embeddings of images from a cache on disk.

    Parameters
    ----------
    cache : EmbeddingCache
        Filled by `fill_cache`.
    samples : sequence of Sample
        N images.
    views : sequence of str
        Some of `VIEWS`.
    device : torch.device
        Where embeddings will be wanted.
    reserve : int
        Bytes of device memory to leave free; see `allocate`.

    Raises
    ------
    TeacherMemoryError
        If an embedding is missing or damaged, or the memory does not suffice.
    ValueError
        If there is no such view.
    """
    views = check_views(views)
    embeddings = allocate(len(samples), len(views), device, reserve)
    for place, sample in enumerate(samples):
        content = content_hash(sample.load_objects()[0])
        for position, view in enumerate(views):
            try:
                found = cache.get(with_view(content, view))
            except (EmbeddingCacheError, KeyError) as error:
                raise TeacherMemoryError(
                    f'{sample.name} has no usable teacher embedding ({error}); run '
                    '`napari-kdsam train cache-teacher` again.'
                ) from error
            embeddings[place, position] = torch.from_numpy(found).to(embeddings.device)
    return TeacherMemory(embeddings, device, cache.teacher_key, views)


def _embed(teacher: Teacher, pixels: torch.Tensor, sizes: torch.Tensor) -> torch.Tensor:
    try:
        return teacher.embed_squares(pixels, sizes)
    except torch.OutOfMemoryError as error:
        raise TeacherMemoryError(
            f'The teacher {teacher.name} runs out of memory on {teacher.device} with '
            f'{len(pixels)} images at once; choose a smaller batch.'
        ) from error


def allocate(
    count: int, views: int, device: torch.device, reserve: int = RESERVE
) -> torch.Tensor:
    """Make room for embeddings: on the device if they fit, else on the CPU.

    Parameters
    ----------
    count, views : int
        Numbers of images and of views.
    device : torch.device
        Where the embeddings will be wanted.
    reserve : int
        Bytes that must stay free on a CUDA device, for training.

    Returns
    -------
    torch.Tensor
        (count, views, 256, 64, 64) bfloat16, not initialised.

    Raises
    ------
    TeacherMemoryError
        If there is not enough memory on the CPU either.
    """
    shape = (count, views, *EMBEDDING_SHAPE)
    size = torch.bfloat16.itemsize * torch.Size(shape).numel()
    place = device
    if device.type == 'cuda' and size > torch.cuda.mem_get_info(device)[0] - reserve:
        place = torch.device('cpu')
    try:
        return torch.empty(shape, dtype=torch.bfloat16, device=place)
    except RuntimeError as error:  # torch has no narrower class for the CPU
        raise TeacherMemoryError(
            f'Teacher embeddings of {count} images in {views} views take '
            f'{size / _GIB:.1f} GiB, more memory than there is; use fewer images or '
            'views.'
        ) from error


def check_views(views: Sequence[str]) -> tuple[str, ...]:
    """Return the views as a tuple, or raise ValueError unless each is one of `VIEWS`."""
    odd = [view for view in views if view not in VIEWS]
    if odd or not views:
        raise ValueError(f'Views must be some of {", ".join(VIEWS)}, not {odd}.')
    return tuple(views)
