"""Files that are either complete or not there at all."""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from napari_kdsam.core.errors import ImageError, NotWrittenError, excerpt
from napari_kdsam.core.names import longest_name

# What files that hold results say of themselves; a name alone says nothing.
MARK = 'napari-kdsam'
# What a process that was killed while it wrote has left behind.
PART = re.compile(r'\..+\.[0-9a-f]{8}\.part')


def part_path(path: Path) -> Path:
    """A new hidden name beside `path`, one that `PART` matches."""
    ending = f'.{secrets.token_hex(4)}.part'
    room, name = longest_name(path.parent) - len(ending) - 1, path.name
    while len(os.fsencode(name)) > room:
        name = name[:-1]
    return path.with_name(f'.{name}{ending}')


def sweep_parts(folder: Path, older_than: float = 0) -> None:
    """Remove what killed processes were writing in a folder.

    Parameters
    ----------
    folder : pathlib.Path
        One that exists.
    older_than : float
        Seconds for which nobody has written to it; where others may write at the same
        time, so long that theirs is not taken away.

    Raises
    ------
    OSError
        If the folder cannot be listed.
    """
    for item in folder.iterdir():
        if not PART.fullmatch(item.name):
            continue
        try:
            if older_than and time.time() - item.stat().st_mtime < older_than:
                continue
            if item.is_dir():
                shutil.rmtree(item, ignore_errors=True)
            else:
                item.unlink(missing_ok=True)
        except OSError:
            continue


class NameTooLongError(ImageError):
    """A result whose name would be longer than the file system takes."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path that takes the place of `path` if all goes well.

    Parameters
    ----------
    path : pathlib.Path
        The file to write; one that exists is replaced in a single step.

    Yields
    ------
    pathlib.Path
        An empty file in the same folder, removed if an exception is raised.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    part = part_path(path)
    try:
        part.open('xb').close()
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """As `replacing`, for what users name: says in a sentence what went wrong.

    Raises
    ------
    NotWrittenError
        If the file cannot be written.
    """
    path = Path(path)
    try:
        with replacing(path) as part:
            yield part
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise NameTooLongError(
                f'{path.name} could not be written (its name is too long); give the '
                'image a shorter name.'
            ) from error
        reason = error.strerror or 'the system gave no reason'
        raise NotWrittenError(
            f'{path.name} could not be written ({reason}); free some space or choose '
            'a folder you may write to.'
        ) from error


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write a value as indented UTF-8 JSON.

    Parameters
    ----------
    path : path-like
        The file.
    value : object
        Dicts, lists, strings, finite numbers, booleans and None.

    Raises
    ------
    NotWrittenError
        If the file cannot be written.
    ImageError
        If a number is not finite.
    """
    try:
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + '\n'
    except (ValueError, TypeError, RecursionError) as error:
        raise ImageError(
            f'{Path(path).name} could not be written: a value cannot be put into JSON '
            f'({excerpt(error)}).'
        ) from error
    with atomic_path(path) as part:
        # A name that is not UTF-8 holds halves of characters, which JSON can escape.
        part.write_bytes(text.encode('utf-8', 'backslashreplace'))
