"""Parts of a batch in processes that die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from napari_kdsam.batch.inputs import Source
from napari_kdsam.batch.jobs import Items
from napari_kdsam.batch.processes import (
    WORKER_DIED,
    LostWorkersError,
    in_processes,
)
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


def dies_once_before_seven(items: Items) -> list[FrameResult]:
    results = []
    for item in items:
        results += dies_once_at_seven((item,))
    return results


def waits(items: Items) -> list[FrameResult]:
    """Do the first part, and never finish another."""
    folder = Path(items[0][0].location)
    (folder / f'pid{os.getpid()}').touch()
    while items[0][1]:
        time.sleep(1)
    return noted(items)


def dies(items: Items) -> list[FrameResult]:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def done_twice(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.read_text() == 'xx']


def wait_for_processes(folder: Path, count: int) -> list[int]:
    while len(found := list(folder.glob('pid*'))) < count:
        time.sleep(0.05)
    return [int(path.name.removeprefix('pid')) for path in found]


def wait_for_the_end_of(pids: Iterable[int]) -> None:
    for pid in pids:
        while Path(f'/proc/{pid}').exists():
            time.sleep(0.05)


@pytest.mark.timeout(300)
def test_a_process_that_dies_once_costs_nothing_but_what_was_in_hand(tmp_path):
    results = list(in_processes(2, dies_once_at_seven, in_parts(tmp_path, 4)))
    assert sorted(r.frame for r in results) == list(range(20))
    assert {r.status for r in results} == {Status.done}
    assert done_twice(tmp_path) == []


@pytest.mark.timeout(300)
def test_what_a_process_had_finished_before_it_died_is_not_done_again(tmp_path):
    def known(item: Source, frame: int) -> FrameResult | None:
        done = FrameResult(item.location, frame, Status.done, 'found')
        return done if (tmp_path / f'{frame}').exists() else None

    parts = in_parts(tmp_path, 10)
    results = list(in_processes(2, dies_once_before_seven, parts, known=known))
    assert sorted(r.frame for r in results) == list(range(20))
    found = sorted(r.frame for r in results if r.reason == 'found')
    assert found == list(range(7))
    assert done_twice(tmp_path) == []


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


@pytest.mark.skipif(not Path('/proc/self').exists(), reason='needs /proc')
@pytest.mark.timeout(300)
def test_processes_end_at_once_when_no_more_results_are_wanted(tmp_path):
    results = in_processes(2, waits, in_parts(tmp_path, 4))
    assert next(results).frame == 0
    pids = wait_for_processes(tmp_path, 2)
    results.close()
    wait_for_the_end_of(pids)


@pytest.mark.skipif(not Path('/proc/self').exists(), reason='needs /proc')
@pytest.mark.timeout(300)
def test_processes_end_with_the_one_that_began_them(tmp_path):
    run = subprocess.Popen([sys.executable, __file__, str(tmp_path)])
    pids = wait_for_processes(tmp_path, 2)
    run.kill()
    run.wait()
    wait_for_the_end_of(pids)


if __name__ == '__main__':
    list(in_processes(2, waits, in_parts(Path(sys.argv[1]), 4)))
