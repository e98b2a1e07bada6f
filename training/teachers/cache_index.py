"""The list of finished embeddings: lines of JSON that are only ever appended."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple


class Entry(NamedTuple):
    """Where an embedding is, and what its bytes should be."""

    slot: int
    checksum: str


class CacheIndex:
    """Read, and append to, the index of an embedding cache.

    Parameters
    ----------
    path : pathlib.Path
        The file; absent is empty.
    repair : bool
        Whether to cut off what an interrupted writer left after the last line break.
        Only for the one writer.
    """

    def __init__(self, path: Path, *, repair: bool) -> None:
        self._path = path
        self._entries: dict[str, Entry] = {}
        self.next_slot = 0
        content = path.read_bytes() if path.is_file() else b''
        whole = content.rfind(b'\n') + 1
        for line in content[:whole].splitlines():
            self._read(line)
        if repair and whole < len(content):
            os.truncate(path, whole)

    def _read(self, line: bytes) -> None:
        try:
            value = json.loads(line)
            key, slot, checksum = value['key'], value['slot'], value['checksum']
        except (ValueError, KeyError, TypeError):
            # What a crashed disk garbled is not finished; it will be computed again.
            return
        if isinstance(key, str) and type(slot) is int and slot >= 0:
            self._entries[key] = Entry(slot, str(checksum))
            self.next_slot = max(self.next_slot, slot + 1)

    def __contains__(self, key: object) -> bool:
        return key in self._entries

    def __getitem__(self, key: str) -> Entry:
        return self._entries[key]

    def __len__(self) -> int:
        return len(self._entries)

    def drop(self, key: str) -> None:
        """Forget an entry, until a later line gives it again."""
        self._entries.pop(key, None)

    def append(self, entries: Mapping[str, Entry]) -> None:
        """Add finished entries, all or none.

        Raises
        ------
        OSError
            If the disk refuses; the file is as it was before.
        """
        lines = ''.join(
            json.dumps({'key': key, **entry._asdict()}) + '\n'
            for key, entry in entries.items()
        ).encode()
        with self._path.open('ab', buffering=0) as file:
            before = file.tell()
            try:
                rest = memoryview(lines)
                while rest:
                    rest = rest[file.write(rest) :]
                os.fsync(file.fileno())
            except OSError:
                os.truncate(self._path, before)
                raise
        self._entries.update(entries)
        highest = max(entry.slot for entry in entries.values())
        self.next_slot = max(self.next_slot, highest + 1)
