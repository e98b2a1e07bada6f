"""Keep Python's garbage collector out of threads that Qt's objects do not belong to."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_paused: list[bool] = []


@contextmanager
def collector_paused() -> Iterator[None]:
    """Let nothing be collected, so that another thread destroys none of Qt's objects.

    A widget or a picture on the canvas that was let go in a cycle would otherwise be
    destroyed by whichever thread happens to collect, and Qt crashes.
    """
    with _lock:
        _paused.append(gc.isenabled())
        gc.disable()
    try:
        yield
    finally:
        with _lock:
            was_enabled = _paused.pop()
            if not _paused and was_enabled:
                gc.enable()
            elif _paused and was_enabled:
                # The one that paused first ends first; the last one has to know.
                _paused[0] = True
