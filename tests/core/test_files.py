"""Files that are complete or not there, and what killed processes leave of them."""

from __future__ import annotations

import os
import time
from pathlib import Path

from napari_kdsam.core.files import part_path, sweep_parts


def left_behind(path: Path, age: float = 0) -> Path:
    part = part_path(path)
    part.write_bytes(b'half')
    then = time.time() - age
    os.utime(part, (then, then))
    return part


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    half = left_behind(tmp_path / 'a.json')
    folder = part_path(tmp_path / 'b.zarr')
    (folder / 'c').mkdir(parents=True)
    others = [tmp_path / name for name in ('a.json', '.a.part', 'a.12345678.part')]
    for path in others:
        path.write_bytes(b'whole')
    sweep_parts(tmp_path)
    assert not half.exists()
    assert not folder.exists()
    assert sorted(tmp_path.iterdir()) == sorted(others)


def test_what_may_still_be_written_is_left_alone(tmp_path: Path) -> None:
    old = left_behind(tmp_path / 'a.json', age=7200)
    new = left_behind(tmp_path / 'a.json')
    sweep_parts(tmp_path, older_than=3600)
    assert not old.exists()
    assert new.exists()
