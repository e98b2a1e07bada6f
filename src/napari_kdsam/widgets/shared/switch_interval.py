"""Let a prediction take the interpreter lock back soon, by a short switch interval."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# A decoder is hundreds of short operations, each of which lets go of the lock (GIL). With
# the usual 5 ms it would wait that long after each while the window paints.
SHORT_INTERVAL = 0.0001

_lock = threading.Lock()
_usual: list[float] = []


@contextmanager
def short_switch_interval() -> Iterator[None]:
    """Shorten the GIL switch interval; the usual one is back afterwards.

    The interval belongs to the whole process, so it is shortened only for as long as a
    prediction takes; several at once share one change.
    """
    with _lock:
        _usual.append(_usual[-1] if _usual else sys.getswitchinterval())
        sys.setswitchinterval(min(SHORT_INTERVAL, _usual[-1]))
    try:
        yield
    finally:
        with _lock:
            before = _usual.pop()
            if not _usual:
                sys.setswitchinterval(before)
