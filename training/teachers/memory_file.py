"""Teacher embeddings kept in a run's folder, so that a killed run need not embed again.

One safetensors file: ``embeddings``, (N, V, 256, 64, 64) bfloat16, and in the header
the teacher, the images and the views they belong to.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from pydantic import BaseModel

from napari_kdsam.io.writers import atomic_path
from napari_kdsam.model.checkpoint import check_format, opened, read_header
from napari_kdsam.training.teachers.memory import (
    EMBEDDING_SHAPE,
    RESERVE,
    VIEWS,
    TeacherMemory,
    TeacherMemoryError,
    allocate,
    check_views,
    fill_memory,
)
from napari_kdsam.training.teachers.squares import SquareStore
from napari_kdsam.training.teachers.teacher import Teacher

MEMORY_FORMAT = 1
_HEADER, _TENSOR = 'teacher_memory', 'embeddings'
# Images moved at once between file and device: 256 MiB in two views.
_CHUNK = 64


class _Header(BaseModel):
    format: int
    teacher_key: str
    store_digest: str
    views: tuple[str, ...]


def save_memory(
    memory: TeacherMemory, path: str | os.PathLike[str], store_digest: str
) -> None:
    """Write a safetensors file, complete or not at all.

    Parameters
    ----------
    memory : TeacherMemory
        What to write.
    path : path-like
        A file there is replaced.
    store_digest : str
        Equal for two stores only if they hold the same images in the same order.

    Raises
    ------
    ImageError
        If the file cannot be written.
    """
    embeddings = memory.embeddings
    own = _Header(
        format=MEMORY_FORMAT,
        teacher_key=memory.teacher_key,
        store_digest=store_digest,
        views=memory.views,
    )
    header = {
        '__metadata__': {_HEADER: own.model_dump_json()},
        _TENSOR: {
            'dtype': 'BF16',
            'shape': list(embeddings.shape),
            'data_offsets': [0, embeddings.numel() * embeddings.itemsize],
        },
    }
    text = json.dumps(header).encode()
    text += b' ' * (-len(text) % 8)
    # The library's own writer would first copy all of it to the host, twice.
    with atomic_path(path) as part, part.open('wb') as file:
        file.write(len(text).to_bytes(8, 'little') + text)
        for chunk in embeddings.split(_CHUNK):
            file.write(chunk.cpu().view(torch.uint8).numpy().data)


def load_memory(
    path: str | os.PathLike[str],
    teacher: Teacher,
    store: SquareStore,
    store_digest: str,
    views: Sequence[str] = VIEWS,
    reserve: int = RESERVE,
) -> TeacherMemory:
    """Read what `save_memory` wrote.

    Parameters
    ----------
    path : path-like
        The file.
    teacher, store, store_digest, views
        What the embeddings must belong to.
    reserve : int
        Bytes of device memory to leave free; see `allocate`.

    Returns
    -------
    TeacherMemory

    Raises
    ------
    CheckpointError
        If the file is missing, or is not such a file.
    TeacherMemoryError
        If it is of another teacher, other images or other views, if it is damaged, or
        if the memory does not suffice.
    """
    path, views = Path(path), check_views(views)
    header = read_header(path, _Header, _HEADER, 'one of teacher embeddings')
    check_format(path, header.format, MEMORY_FORMAT)
    if header.teacher_key != teacher.key:
        raise TeacherMemoryError(
            f'{path} holds embeddings of the teacher {header.teacher_key}, not of '
            f'{teacher.name} ({teacher.key}); delete it or choose that teacher.'
        )
    if header.store_digest != store_digest or header.views != views:
        raise TeacherMemoryError(
            f'{path} holds embeddings of other images or views than those of this '
            'run; delete it or choose another folder for the run.'
        )
    shape = (len(store), len(views), *EMBEDDING_SHAPE)
    with opened(path) as file:
        stored = file.get_slice(_TENSOR) if _TENSOR in file.keys() else None  # noqa: SIM118
        if stored is None or (tuple(stored.get_shape()), stored.get_dtype()) != (
            shape,
            'BF16',
        ):
            raise _damaged(path)
        embeddings = allocate(len(store), len(views), teacher.device, reserve)
        for start in range(0, len(store), _CHUNK):
            chunk = embeddings[start : start + _CHUNK]
            chunk.copy_(stored[start : start + len(chunk)])
            if not bool(chunk.isfinite().all()):
                raise _damaged(path)
    return TeacherMemory(embeddings, teacher.device, teacher.key, views)


def _damaged(path: Path) -> TeacherMemoryError:
    return TeacherMemoryError(f'{path} is damaged; delete it and start again.')


def open_memory(
    path: str | os.PathLike[str],
    teacher: Teacher,
    store: SquareStore,
    store_digest: str,
    views: Sequence[str] = VIEWS,
    batch_size: int = 8,
    reserve: int = RESERVE,
    describe: Callable[[int], str] = 'image {}'.format,
    progress: Callable[[int, int], None] | None = None,
) -> TeacherMemory:
    """Read the embeddings if they are there, else make and keep them.

    Parameters
    ----------
    path : path-like
        The file.
    teacher, store, views, batch_size, reserve, describe, progress
        As for `fill_memory`.
    store_digest : str
        As for `save_memory`.

    Returns
    -------
    TeacherMemory

    Raises
    ------
    CheckpointError, TeacherMemoryError
        As `load_memory` and `fill_memory` do.
    ImageError
        If the file cannot be written.
    """
    if Path(path).exists():
        return load_memory(path, teacher, store, store_digest, views, reserve)
    memory = fill_memory(teacher, store, views, batch_size, reserve, describe, progress)
    save_memory(memory, path, store_digest)
    return memory
