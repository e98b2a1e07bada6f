"""Parts of a batch in processes that die."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from napari_kdsam.batch.executors import (
    WORKER_DIED,
    LostWorkersError,
    in_processes,
)
from napari_kdsam.batch.inputs import Source
from napari_kdsam.batch.jobs import Items
from napari_kdsam.batch.records import FrameResult, Status


def source(folder: Path) -> Source:
    return Source(str(folder), 'stack', 20)


def in_parts(folder: Path, size: int) -> list[Items]:
    items = tuple((source(folder), frame) for frame in range(20))
    return [items[n : n + size] for n in range(0, 20, size)]


def noted(items: Items) -> list[FrameResult]:
    """Do a part; each frame leaves a line, so that what was done twice shows."""
    for item, frame in items:
        with (Path(item.location) / f'{frame}').open('a') as file:
            file.write('x')
    return [FrameResult(s.location, frame, Status.done) for s, frame in items]


def dies_once_at_seven(items: Items) -> list[FrameResult]:
    folder = Path(items[0][0].location)
    if any(frame == 7 for _, frame in items) and not (folder / 'died').exists():
        (folder / 'died').touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return noted(items)


def dies_at_seven(items: Items) -> list[FrameResult]:
    if any(frame == 7 for _, frame in items):
        os.kill(os.getpid(), signal.SIGKILL)
    return noted(items)


def dies(items: Items) -> list[FrameResult]:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


@pytest.mark.timeout(300)
def test_a_process_that_dies_once_costs_nothing_but_what_was_in_hand(tmp_path):
    results = list(in_processes(2, dies_once_at_seven, in_parts(tmp_path, 4)))
    assert sorted(r.frame for r in results) == list(range(20))
    assert {r.status for r in results} == {Status.done}
    twice = [p.name for p in tmp_path.iterdir() if p.read_text() == 'xx']
    assert len(twice) <= 4, 'only the other part in hand may have been done again'


@pytest.mark.timeout(300)
def test_a_frame_that_ends_its_process_twice_is_failed_and_the_rest_is_done(tmp_path):
    results = list(in_processes(2, dies_at_seven, in_parts(tmp_path, 4)))
    assert sorted(r.frame for r in results) == list(range(20))
    failed = [r for r in results if r.status is Status.failed]
    assert [(r.frame, r.reason) for r in failed] == [(7, WORKER_DIED)]


@pytest.mark.timeout(300)
def test_frames_that_belong_together_are_done_again_together(tmp_path):
    parts = in_parts(tmp_path, 4)
    results = list(in_processes(2, dies_at_seven, parts, apart=False))
    failed = sorted(r.frame for r in results if r.status is Status.failed)
    assert failed == [4, 5, 6, 7]


@pytest.mark.timeout(300)
def test_processes_that_die_one_after_the_other_end_the_run(tmp_path):
    results: list[FrameResult] = []
    with pytest.raises(LostWorkersError, match='in a row'):
        results.extend(in_processes(2, dies, in_parts(tmp_path, 4)))
    assert 0 < len(results) < 20
    assert {r.status for r in results} == {Status.failed}
