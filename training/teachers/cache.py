"""Teacher embeddings on disk, so that a teacher runs once over the data.

A cache is a folder:

- ``cache.json``: format version, the teacher's key and name.
- ``embeddings.zarr``: zarr v3 array (N, 256, 64, 64) float16, chunks of one
  embedding, shards of 64. A shard is written whole, once, and never changed, so an
  interruption can only hurt embeddings that the index does not list.
- ``index.jsonl``: one line for each finished embedding (key, slot, checksum), appended
  after its shard is on disk; of several lines for a key the last counts, and a last
  line without its line break was interrupted and does not.
- ``writer.lock`` and ``writer.json``: the one process that writes, if any.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import zarr
from numpy.typing import ArrayLike, NDArray
from zarr.errors import BaseZarrError

from napari_kdsam.core.errors import ImageError, KDSAMError
from napari_kdsam.core.files import write_json
from napari_kdsam.core.sizes import EMBEDDING_SHAPE
from napari_kdsam.training.teachers.cache_index import CacheIndex, Entry
from napari_kdsam.training.teachers.cache_keys import (
    checksum,
    content_hash,
    with_view,
)
from napari_kdsam.training.teachers.cache_lock import WriterLock
from napari_kdsam.training.teachers.views import check_view

CACHE_FORMAT = 1
SHARD_IMAGES = 64
_HEADER, _INDEX, _ARRAY = 'cache.json', 'index.jsonl', 'embeddings.zarr'
_FULL = (errno.ENOSPC, errno.EDQUOT)
# System files that file managers leave in any folder they show.
_OURS = {_INDEX, _ARRAY, 'writer.lock', 'writer.json', '.DS_Store', 'Thumbs.db'}

Embedding = NDArray[np.float16]


class EmbeddingCacheError(KDSAMError, RuntimeError):
    """An embedding cache that cannot be used, or an entry of it."""


class CorruptEmbeddingError(EmbeddingCacheError):
    """An entry whose bytes on disk are not those that were written."""


class DiskFullError(EmbeddingCacheError):
    """There is no space left for the cache; what was finished stays valid."""


class EmbeddingCache:
    """Embeddings of one teacher, by image content and view.

    Any number of processes may read while one writes; a reader sees what was
    finished when it opened the cache. Instances can be pickled, for data loader
    workers; the copy only reads.

    Parameters
    ----------
    folder : path-like
        Made if missing and `writable`.
    teacher_key : str
        `Teacher.key`.
    teacher_name : str
        For messages.
    writable : bool
        Whether `put` is allowed; one process at a time.

    Raises
    ------
    EmbeddingCacheError
        If the folder is no cache, was made by another teacher, is damaged, or another
        process is writing to it.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        teacher_key: str,
        teacher_name: str = '',
        writable: bool = False,
    ) -> None:
        self.folder = Path(folder)
        self.teacher_key = teacher_key
        self.teacher_name = teacher_name
        self.writable = writable
        self._pending: dict[str, Embedding] = {}
        self._lock: WriterLock | None = None
        if writable:
            with self._reported():
                self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = WriterLock(self.folder)
            holder = self._lock.acquire()
            if holder is not None:
                raise EmbeddingCacheError(
                    f'{self.folder} is being written by {holder}; wait for it to '
                    'finish or choose another cache folder.'
                )
        try:
            self._check_header()
            self._index = CacheIndex(self.folder / _INDEX, repair=writable)
            self._array = self._open_array()
            self._shard_images = int(self._array.shards[0])
        except BaseException:
            self.close()
            raise

    def __reduce__(self) -> tuple[Any, ...]:
        return EmbeddingCache, (self.folder, self.teacher_key, self.teacher_name)

    def _check_header(self) -> None:
        path = self.folder / _HEADER
        if not path.is_file():
            self._make_header(path)
        try:
            header = json.loads(path.read_text(encoding='utf-8'))
            version, key = int(header['format']), str(header['teacher_key'])
            name = str(header['teacher_name'])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise EmbeddingCacheError(
                f'{path} is damaged ({error}); delete the folder and fill it again.'
            ) from error
        if version != CACHE_FORMAT:
            raise EmbeddingCacheError(
                f'{self.folder} has cache format {version}, this version reads '
                f'{CACHE_FORMAT}; choose another cache folder.'
            )
        if key != self.teacher_key:
            raise EmbeddingCacheError(
                f'{self.folder} holds embeddings of the teacher {_shown(name, key)}, '
                f'not of {_shown(self.teacher_name, self.teacher_key)}; choose another '
                'cache folder or that teacher.'
            )
        self.teacher_name = self.teacher_name or name

    def _make_header(self, path: Path) -> None:
        if not self.writable:
            raise EmbeddingCacheError(
                f'There is no embedding cache in {self.folder}; fill one first.'
            )
        others = [
            item.name
            for item in self.folder.iterdir()
            if item.name not in _OURS and not item.name.endswith('.part')
        ]
        if others or (self.folder / _INDEX).exists():
            raise EmbeddingCacheError(
                f'{self.folder} holds other files and no {_HEADER}; choose an empty '
                'folder for the cache.'
            )
        header = {
            'format': CACHE_FORMAT,
            'teacher_key': self.teacher_key,
            'teacher_name': self.teacher_name,
        }
        with self._reported():
            write_json(path, header)

    def _open_array(self) -> Any:
        path = self.folder / _ARRAY
        try:
            if self.writable:
                # Shards that a killed writer left half-written, under other names.
                for part in path.rglob('*.partial'):
                    part.unlink()
            if self.writable and not (path / 'zarr.json').is_file():
                with self._reported():
                    return zarr.create_array(
                        store=path,
                        shape=(0, *EMBEDDING_SHAPE),
                        chunks=(1, *EMBEDDING_SHAPE),
                        shards=(SHARD_IMAGES, *EMBEDDING_SHAPE),
                        dtype='float16',
                        # Zstandard saves 15 % but adds half to the time of a read.
                        compressors=None,
                        fill_value=0,
                    )
            array = zarr.open_array(path, mode='r+' if self.writable else 'r')
            sharded = array.shards is not None and array.shards[1:] == EMBEDDING_SHAPE
            if not sharded or array.dtype != np.float16:
                raise ValueError(f'shape {array.shape}, dtype {array.dtype}')
        except (OSError, ValueError, KeyError, BaseZarrError) as error:
            raise EmbeddingCacheError(
                f'{path} is damaged ({error}); delete {self.folder} and fill it again.'
            ) from error
        return array

    @staticmethod
    def content_key(image: NDArray[np.uint8], view: str = 'identity') -> str:
        """Name an image by its pixels, not by its file.

        Parameters
        ----------
        image : numpy.ndarray
            (H, W, 3) uint8 RGB, before the view is applied.
        view : str
            One of `napari_kdsam.training.teachers.views.VIEWS`.

        Returns
        -------
        str
            Hash of pixels and shape, then the view.

        Raises
        ------
        ValueError
            If there is no such view.
        """
        check_view(view)
        return with_view(content_hash(image), view)

    def __contains__(self, key: object) -> bool:
        return key in self._pending or key in self._index

    def __len__(self) -> int:
        return len(self._index)

    def missing(self, keys: Iterable[str]) -> list[str]:
        """Keys that have no embedding yet, each once, in their order."""
        return [key for key in dict.fromkeys(keys) if key not in self]

    def put(self, keys: Sequence[str], embeddings: ArrayLike) -> None:
        """Add embeddings; they reach the disk 64 at a time, or with `flush`.

        Parameters
        ----------
        keys : sequence of str
            B keys from `content_key`; one already there is replaced.
        embeddings : array-like
            (B, 256, 64, 64) float; stored as float16.

        Raises
        ------
        EmbeddingCacheError
            If the cache is read-only, or a value is not finite in float16; nothing
            of this call is kept then.
        DiskFullError
            If there is no space left.
        """
        self._require_writable()
        # Values beyond float16 become infinite, which is checked below.
        with np.errstate(over='ignore'):
            halves = np.asarray(embeddings).astype(np.float16)
        if halves.shape != (len(keys), *EMBEDDING_SHAPE):
            raise EmbeddingCacheError(
                f'{len(keys)} keys need embeddings of shape '
                f'{(len(keys), *EMBEDDING_SHAPE)}, not {halves.shape}.'
            )
        for key, half in zip(keys, halves, strict=True):
            if not np.isfinite(half).all():
                raise EmbeddingCacheError(
                    f'The embedding of {key} is not finite in 16 bits; check the '
                    "teacher's weights and precision."
                )
        for key, half in zip(keys, halves, strict=True):
            self._pending[key] = half
            if len(self._pending) == self._shard_images:
                self.flush()

    def flush(self) -> None:
        """Write what `put` still holds, as a shard of its own if there are less than 64.

        Raises
        ------
        DiskFullError
            If there is no space left; what was flushed before stays valid.
        """
        self._require_writable()
        if not self._pending:
            return
        size = self._shard_images
        start = -(-self._index.next_slot // size) * size
        # A whole shard, so that zarr never reads what a killed writer left there.
        shard = np.zeros((size, *EMBEDDING_SHAPE), np.float16)
        entries = {}
        for offset, (key, embedding) in enumerate(self._pending.items()):
            shard[offset] = embedding
            entries[key] = Entry(start + offset, checksum(embedding))
        with self._reported():
            if self._array.shape[0] < start + size:
                self._array.resize((start + size, *EMBEDDING_SHAPE))
            self._array[start : start + size] = shard
            self._index.append(entries)
        self._pending.clear()

    def get(self, key: str) -> Embedding:
        """Read an embedding and check it.

        Parameters
        ----------
        key : str
            From `content_key`.

        Returns
        -------
        numpy.ndarray
            (256, 64, 64) float16.

        Raises
        ------
        KeyError
            If there is none.
        CorruptEmbeddingError
            If the disk does not hold what was written; the key counts as missing from
            then on, so filling the cache again computes it anew.
        """
        if key in self._pending:
            return self._pending[key].copy()
        entry = self._index[key]
        try:
            embedding = np.asarray(self._array[entry.slot])
            intact = checksum(embedding) == entry.checksum
        except (OSError, ValueError, IndexError, KeyError, BaseZarrError):
            intact = False
        if not intact:
            self._index.drop(key)
            raise CorruptEmbeddingError(
                f'The embedding {key} in {self.folder} is damaged; fill the cache '
                'again to replace it.'
            )
        return embedding

    def close(self) -> None:
        """Let another process write; what was not flushed is lost."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None
        self.writable = False
        self._pending.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if self.writable and kind is None:
                self.flush()
            elif self.writable:
                # The first error is the one to tell.
                with suppress(EmbeddingCacheError):
                    self.flush()
        finally:
            self.close()

    def _require_writable(self) -> None:
        if not self.writable:
            raise EmbeddingCacheError(
                f'{self.folder} was opened for reading only, or is closed.'
            )

    @contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ImageError) as error:
            cause = error if isinstance(error, OSError) else error.__cause__
            number = cause.errno if isinstance(cause, OSError) else None
            finished = len(self._index) if hasattr(self, '_index') else 0
            if number in _FULL:
                raise DiskFullError(
                    f'The disk of {self.folder} is full: {finished} embeddings are '
                    'stored and stay valid; free some space and start again.'
                ) from error
            reason = getattr(cause, 'strerror', None) or str(cause)
            raise EmbeddingCacheError(
                f'{self.folder} cannot be written ({reason}); choose a folder you may '
                'write to.'
            ) from error


def _shown(name: str, key: str) -> str:
    return f'{name} ({key})' if name else key
