"""Work in a thread: the latest request wins, and nothing that must be done is lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from qtpy.QtCore import Signal

from napari_kdsam.core.errors import ImageError
from napari_kdsam.widgets.shared.background import BackgroundWorker


class Counting(BackgroundWorker):
    """Counts frames, held up before the second one."""

    counted = Signal(int, object)

    def __init__(self) -> None:
        super().__init__('Counting')
        self.go, self.waiting = threading.Event(), threading.Event()

    def count(self) -> int:
        return self.request(
            lambda number: list(self.watched(number, self.frames(), 3)), self.counted
        )

    def frames(self) -> Iterator[int]:
        yield 0
        self.waiting.set()
        assert self.go.wait(30)
        yield from (1, 2)


@pytest.fixture
def worker(qtbot: Any) -> Iterator[Counting]:
    made = Counting()
    yield made
    made.go.set()
    made.close()

    def ended() -> bool:
        names = [thread.name for thread in threading.enumerate()]
        return not any(name.startswith('kdsam-counting') for name in names)

    qtbot.waitUntil(ended, timeout=30_000)


def test_only_the_latest_request_is_answered(worker, qtbot):
    answers = []
    worker.counted.connect(lambda *answer: answers.append(answer))
    worker.count()
    assert worker.waiting.wait(30)
    latest = worker.count()
    worker.go.set()
    qtbot.waitUntil(lambda: bool(answers), timeout=30_000)
    assert answers == [(latest, [0, 1, 2])]


def test_a_stopped_request_has_no_answer_and_the_next_one_has(worker, qtbot):
    answers = []
    worker.counted.connect(lambda *answer: answers.append(answer))
    worker.failed.connect(lambda *answer: answers.append(answer))
    worker.count()
    assert worker.waiting.wait(30)
    worker.stop()
    worker.go.set()
    latest = worker.count()
    qtbot.waitUntil(lambda: bool(answers), timeout=30_000)
    assert answers == [(latest, [0, 1, 2])]


@pytest.mark.parametrize(
    ('error', 'said'),
    [
        (ImageError('It is broken; mend it.'), 'It is broken; mend it.'),
        (MemoryError(), 'Counting needs more memory; close other programs.'),
        (OSError('the disk is gone'), 'Counting failed: the disk is gone'),
    ],
)
def test_what_goes_wrong_is_said_in_one_sentence(worker, qtbot, error, said):
    def fail(number: int) -> None:
        raise error

    with qtbot.waitSignal(worker.failed, timeout=30_000) as caught:
        number = worker.request(fail, worker.counted)
    assert caught.args == [number, said]


def test_what_nothing_stops_is_done_although_the_worker_is_closed(worker, qtbot):
    done = threading.Event()
    worker.count()
    assert worker.waiting.wait(30)
    worker.do(done.set)
    worker.close()
    worker.go.set()
    assert done.wait(30)


def test_a_file_is_reported_once_it_is_there_or_cannot_be(worker, qtbot):
    with qtbot.waitSignal(worker.written, timeout=30_000) as caught:
        worker.write(lambda: None, 'Saved.')
    assert caught.args == ['Saved.']

    def fail() -> None:
        raise ValueError('no such name')

    with qtbot.waitSignal(worker.written, timeout=30_000) as caught:
        worker.write(fail, 'Saved.')
    assert caught.args == ['no such name']
