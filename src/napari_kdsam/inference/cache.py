"""A memory-bounded store of embeddings, least recently used out first."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Generic, Protocol, TypeVar


class Sized(Protocol):
    """Anything that knows its memory."""

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        ...


Value = TypeVar('Value', bound=Sized)


class LeastRecentlyUsed(Generic[Value]):
    """Keep the most recently used values within a budget of bytes.

    Safe to use from several threads.

    Parameters
    ----------
    max_bytes : int
        Budget; a value larger than it is simply not kept.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._values: OrderedDict[str, Value] = OrderedDict()
        self._nbytes = 0
        self._lock = threading.Lock()

    @property
    def nbytes(self) -> int:
        """Bytes held now."""
        return self._nbytes

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def get(self, key: str) -> Value | None:
        """Return the value of `key` and mark it as used, or None."""
        with self._lock:
            value = self._values.get(key)
            if value is not None:
                self._values.move_to_end(key)
            return value

    def put(self, key: str, value: Value) -> None:
        """Keep `value`, dropping the least recently used ones beyond the budget."""
        with self._lock:
            old = self._values.pop(key, None)
            if old is not None:
                self._nbytes -= old.nbytes
            if value.nbytes > self.max_bytes:
                return
            self._values[key] = value
            self._nbytes += value.nbytes
            while self._nbytes > self.max_bytes:
                _, dropped = self._values.popitem(last=False)
                self._nbytes -= dropped.nbytes

    def clear(self) -> None:
        """Drop everything."""
        with self._lock:
            self._values.clear()
            self._nbytes = 0
