"""Damaged files of users: each gives a result or one of the project's own errors."""

from __future__ import annotations

import importlib.util
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from fuzz_parsers import PARSERS
from fuzz_process import FuzzProcess

# `make fuzz` gives each parser a time, and a process of its own.
_SECONDS = float(os.environ.get('KDSAM_FUZZ_SECONDS', 0))
# Where files are in memory, writing one takes a tenth of the time.
_IN_MEMORY = Path('/dev/shm')  # noqa: S108 - the folder in it has a name of its own

_FAULTY = Path(tempfile.gettempdir(), 'napari-kdsam-fuzz')


@pytest.fixture(scope='module')
def process() -> Iterator[FuzzProcess]:
    place = _IN_MEMORY if _IN_MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(dir=place, ignore_cleanup_errors=True) as folder:
        made = FuzzProcess(Path(folder), _FAULTY)
        yield made
        made.stop()


# The process is watched more closely.
@pytest.mark.timeout(0)
@pytest.mark.parametrize('name', PARSERS)
def test_a_damaged_file_gives_a_result_or_one_sentence(
    process: FuzzProcess, name: str
) -> None:
    missing = [m for m in PARSERS[name].needs if importlib.util.find_spec(m) is None]
    if missing:
        pytest.skip(f'without {", ".join(missing)}')
    if _SECONDS:
        process.start()
    found = process.run(name, PARSERS[name].inputs, _SECONDS)
    print(
        f'| {name} | {found.inputs:,} | {len(found.faults)} | {found.slowest:.2f} s '
        f'| {found.memory / 2**20:.0f} MB |'
    )
    assert not found.faults, '\n'.join(found.faults)
