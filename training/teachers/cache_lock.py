"""One writer at a time, by a lock that the system frees when its process dies."""

from __future__ import annotations

import json
import os
import platform
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

LOCK_FILE, OWNER_FILE = 'writer.lock', 'writer.json'


class WriterLock:
    """The right to write to a folder.

    Parameters
    ----------
    folder : pathlib.Path
        Exists.
    """

    def __init__(self, folder: Path) -> None:
        self._lock = FileLock(
            folder / LOCK_FILE, is_singleton=False, thread_local=False
        )
        self._owner = folder / OWNER_FILE

    def acquire(self) -> str | None:
        """Take the lock, also over from a process that died.

        Returns
        -------
        str or None
            Who holds it, in words; None if it is ours now.
        """
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            return self._describe_owner()
        owner = {'pid': os.getpid(), 'host': platform.node()}
        # Only messages need it; a full disk must not stop the takeover.
        with suppress(OSError):
            self._owner.write_text(json.dumps(owner), encoding='utf-8')
        return None

    def _describe_owner(self) -> str:
        try:
            owner = json.loads(self._owner.read_text(encoding='utf-8'))
            return f'process {owner["pid"]} on {owner["host"]}'
        except (OSError, ValueError, KeyError, TypeError):
            return 'another process'

    def release(self) -> None:
        """Give the lock back; nothing happens if it is not held."""
        if self._lock.is_locked:
            with suppress(OSError):
                self._owner.unlink()
            self._lock.release()
