"""A memory-bounded store of embeddings, least recently used out first."""

from __future__ import annotations

import threading
from operator import attrgetter
from typing import Generic, Protocol, TypeVar

from cachetools import LRUCache


class Sized(Protocol):
    """Anything that knows its memory."""

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        ...


Value = TypeVar('Value', bound=Sized)


class LeastRecentlyUsed(Generic[Value]):
    """cachetools' cache, safe to use from several threads, counted in bytes.

    Parameters
    ----------
    max_bytes : int
        Budget; a value larger than it is simply not kept.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._values: LRUCache[str, Value] = LRUCache(
            max_bytes, getsizeof=attrgetter('nbytes')
        )
        self._lock = threading.Lock()

    @property
    def nbytes(self) -> int:
        """Bytes held now."""
        return int(self._values.currsize)

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def get(self, key: str) -> Value | None:
        """Return the value of `key` and mark it as used, or None."""
        with self._lock:
            return self._values.get(key)

    def put(self, key: str, value: Value) -> None:
        """Keep `value`, dropping the least recently used ones beyond the budget."""
        with self._lock:
            self._values.pop(key, None)
            if value.nbytes <= self.max_bytes:
                self._values[key] = value

    def clear(self) -> None:
        """Drop everything."""
        with self._lock:
            self._values.clear()
