"""The thread embeds and predicts for the newest request, and ahead only at idle."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from fakes import Gate

from napari_kdsam.core.intensity import IntensityMapping
from napari_kdsam.core.prompts import Prompt
from napari_kdsam.widgets.shared.requests import (
    Answer,
    EngineState,
    Prefetch,
    Request,
)
from napari_kdsam.widgets.shared.switch_interval import (
    SHORT_INTERVAL,
    short_switch_interval,
)

SHAPE = (64, 96)
BYTES_OF_ONE = 256 * 64 * 64 * 4
CLICK = Prompt([(30.0, 40.0)])
WAIT = 10.0


@dataclass
class Frames:
    """Frames that differ, and a note of each time one is read."""

    read: list[int] = field(default_factory=list)
    gates: dict[int, Gate] = field(default_factory=dict)

    def reader(self, number: int) -> Callable[[], np.ndarray]:
        def read() -> np.ndarray:
            self.read.append(number)
            if number in self.gates:
                self.gates[number].pass_through()
            return pixels(number)

        return read

    def gate(self, number: int) -> Gate:
        self.gates[number] = Gate()
        return self.gates[number]


def pixels(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 255, SHAPE, np.uint8)


class Running:
    """A thread over the fake model, and what it has reported."""

    def __init__(self, qtbot: Any, model: Any, cached_frames: int = 100) -> None:
        from napari_kdsam import Predictor
        from napari_kdsam.widgets.shared.inference_thread import InferenceThread

        self.qtbot = qtbot
        self.frames = Frames()
        self.answers: list[Answer] = []
        self.engines: list[EngineState] = []
        self.progress: list[tuple[int, str]] = []
        self.loaded: list[tuple[str, str]] = []

        def make(name: str, device: str) -> Predictor:
            self.loaded.append((name, device))
            if name == 'missing':
                raise OSError('no such file')
            return Predictor(model, cache_bytes=cached_frames * BYTES_OF_ONE)

        self.thread = InferenceThread(make)
        self.thread.answered.connect(self.answers.append)
        self.thread.engine_changed.connect(self.engines.append)
        self.thread.progressed.connect(lambda *said: self.progress.append(said))

    def ask(self, frame: int, number: int = 1, **changes: Any) -> None:
        values: dict[str, Any] = {
            'image_token': frame,
            'read_frame': self.frames.reader(frame),
            'prompts': (CLICK,),
            'mapping': IntensityMapping(),
            'model': 'fake',
            'device': 'auto',
        }
        self.thread.submit(Request(number, **(values | changes)))

    def ahead(self, frame: int, model: str = 'fake') -> Prefetch:
        reader = self.frames.reader(frame)
        return Prefetch(frame, reader, IntensityMapping(), model, 'auto')

    def answer(self, frame: int, **changes: Any) -> Answer:
        """Ask, and wait for the answer."""
        count = len(self.answers)
        self.ask(frame, **changes)
        self.until(lambda: len(self.answers) > count)
        return self.answers[-1]

    def until(self, happened: Callable[[], bool]) -> None:
        self.qtbot.waitUntil(happened, timeout=1000 * int(WAIT))

    def idle(self) -> None:
        """Wait until no frame is left to embed in advance."""
        self.until(lambda: not self.thread._slot.to_prefetch)


@pytest.fixture
def start(qtbot: Any, fake_model: Any) -> Iterator[Callable[..., Running]]:
    started = []

    def make(**options: Any) -> Running:
        started.append(Running(qtbot, fake_model, **options))
        return started[-1]

    yield make
    for running in started:
        for gate in running.frames.gates.values():
            gate.open()
        running.thread.stop(timeout=WAIT)
        assert not running.thread.alive


def test_every_object_of_a_request_is_answered_in_order_with_its_mask(start) -> None:
    running = start()
    boxes = [Prompt(box=(4.0, 4.0, 20.0, 30.0)), Prompt(box=(30.0, 50.0, 60.0, 90.0))]
    answer = running.answer(0, prompts=(boxes[0], CLICK, boxes[1]))
    assert answer.error == ''
    assert len(answer.predictions) == 3
    assert [p.mask[10, 10] for p in answer.predictions] == [True, False, False]
    assert [p.mask[50, 70] for p in answer.predictions] == [False, False, True]
    for prediction in answer.predictions:
        assert all(candidate.has_mask for candidate in prediction.candidates)


def test_only_the_newest_of_the_waiting_requests_is_answered(start) -> None:
    running = start()
    gate = running.frames.gate(0)
    running.ask(0, number=1)
    assert gate.reached.wait(WAIT)
    running.ask(1, number=2)
    running.ask(2, number=3)
    gate.open()
    running.until(lambda: len(running.answers) == 2)
    assert [answer.request.number for answer in running.answers] == [1, 3]
    assert running.frames.read == [0, 2]


def test_a_cancelled_request_is_never_begun(start) -> None:
    running = start()
    gate = running.frames.gate(0)
    running.ask(0)
    assert gate.reached.wait(WAIT)
    running.ask(1, number=2)
    running.thread.cancel_waiting()
    running.ask(2, number=3)
    gate.open()
    running.until(lambda: len(running.answers) == 2)
    assert running.frames.read == [0, 2]
    assert [answer.request.number for answer in running.answers] == [1, 3]


def test_an_error_has_a_sentence_and_no_predictions(start) -> None:
    running = start()
    beside = Prompt([(1000.0, 1000.0)])
    outside = running.answer(0, prompts=(CLICK, beside))
    assert outside.predictions == ()
    assert 'outside' in outside.error

    def read() -> np.ndarray:
        raise OSError('the disk is gone')

    unread = running.answer(1, read_frame=read)
    assert unread.predictions == ()
    assert 'the disk is gone' in unread.error
    assert running.answer(2).predictions, 'and the thread goes on'


def test_what_finish_makes_in_the_thread_comes_back_with_the_answer(start) -> None:
    running = start()
    threads = []

    def finish(frame, predictions, mapping):
        threads.append(threading.current_thread().name)
        return frame.copy(), len(predictions), mapping.automatic

    first = running.answer(3, finish=finish)
    again = running.answer(3, finish=finish)
    for answer in (first, again):
        frame, count, automatic = answer.finished
        np.testing.assert_array_equal(frame, pixels(3))
        assert (count, automatic) == (1, False)
    assert running.frames.read == [3, 3], 'read again, not kept'
    assert set(threads) == {'kdsam-inference'}


def test_a_frame_that_is_embedded_is_not_read_again_without_finish(start) -> None:
    running = start()
    running.answer(3)
    assert running.answer(3).finished is None
    assert running.frames.read == [3]


@pytest.mark.parametrize('broken', ['finish', 'read'])
def test_predictions_survive_when_finishing_fails(start, broken) -> None:
    running = start()
    running.answer(0)

    def fail(*_: Any) -> Any:
        raise RuntimeError('broken')

    changes = {'finish': fail}
    if broken == 'read':
        changes = {'read_frame': fail, 'finish': lambda *_: 'never'}
    answer = running.answer(0, **changes)
    assert answer.error == ''
    assert answer.predictions[0].mask.any()
    assert answer.finished is None


def test_frames_are_embedded_ahead_so_that_a_request_need_not_read_them(
    start, fake_model
) -> None:
    running = start()
    running.answer(0)
    running.thread.prefetch([running.ahead(1), running.ahead(2)])
    running.idle()
    assert running.frames.read == [0, 1, 2]
    told = [(1, 'Loading the model…'), (1, 'Encoding the image…')]
    assert running.progress == told, 'of the request only'
    running.progress.clear()
    assert running.answer(2, number=7).predictions
    assert (running.frames.read, fake_model.encoded) == ([0, 1, 2], 3)
    assert running.progress == [], 'nothing slow happened'


def test_new_frames_replace_those_that_still_wait(start) -> None:
    running = start()
    running.answer(0)
    gate = running.frames.gate(1)
    running.thread.prefetch([running.ahead(n) for n in (1, 2, 3)])
    assert gate.reached.wait(WAIT)
    running.thread.prefetch([running.ahead(4)])
    gate.open()
    running.idle()
    assert running.frames.read == [0, 1, 4]
    running.answer(4)
    assert running.engines[-1].frames == 2, 'frame 1 was wanted no longer'


def test_a_request_comes_before_the_frames_that_wait(start) -> None:
    running = start()
    running.answer(0)
    gate = running.frames.gate(1)
    running.thread.prefetch([running.ahead(1), running.ahead(2)])
    assert gate.reached.wait(WAIT)
    running.ask(9, number=5)
    gate.open()
    running.until(lambda: len(running.answers) == 2)
    running.idle()
    assert running.frames.read == [0, 1, 9, 1, 2], 'not even frame 1 was encoded first'
    running.until(lambda: running.engines[-1].frames == 4)


def test_a_request_for_the_frame_that_is_read_ahead_does_not_read_it_again(
    start,
) -> None:
    running = start()
    running.answer(0)
    gate = running.frames.gate(1)
    running.thread.prefetch([running.ahead(1)])
    assert gate.reached.wait(WAIT)
    running.ask(1, number=5)
    gate.open()
    running.until(lambda: len(running.answers) == 2)
    assert running.frames.read == [0, 1]


def test_frames_ahead_never_make_a_model_load(start, fake_model) -> None:
    running = start()
    running.thread.prefetch([running.ahead(1)])
    running.idle()
    running.answer(0)
    running.thread.prefetch([running.ahead(2, model='another')])
    running.idle()
    assert running.loaded == [('fake', 'auto')]
    assert (running.frames.read, fake_model.encoded) == ([0], 1)


def test_a_frame_that_fails_ahead_is_silent_and_not_tried_again(start) -> None:
    running = start()
    running.answer(0)
    tries = []

    def read() -> np.ndarray:
        tries.append(1)
        raise OSError('the disk is gone')

    broken = Prefetch('broken', read, IntensityMapping(), 'fake', 'auto')
    running.thread.prefetch([broken, running.ahead(1)])
    running.idle()
    assert running.answer(1).predictions
    assert len(tries) == 1
    assert running.frames.read == [0, 1], 'the next one was embedded all the same'
    assert not any(answer.error for answer in running.answers)


def test_frames_ahead_never_push_the_frame_in_use_out(start) -> None:
    running = start(cached_frames=4)
    running.answer(0)
    running.thread.prefetch([running.ahead(n) for n in range(1, 9)])
    running.idle()
    running.answer(0)
    assert running.frames.read.count(0) == 1


def test_prefetching_goes_on_in_stacks_longer_than_the_cache(start) -> None:
    running = start(cached_frames=4)
    for frame in range(6):
        running.answer(frame)
        running.thread.prefetch([running.ahead(frame + 1)])
        running.idle()
    assert running.engines[-1].frames == 4
    running.progress.clear()
    running.answer(6)
    assert running.progress == [], 'frame 6 was there already'


def test_stopping_ends_the_thread_without_the_frames_that_wait(start) -> None:
    running = start()
    running.answer(0)
    gate = running.frames.gate(1)
    running.thread.prefetch([running.ahead(1), running.ahead(2)])
    assert gate.reached.wait(WAIT)
    running.thread.stop()
    gate.open()
    running.thread.stop(timeout=WAIT)
    assert not running.thread.alive
    assert running.frames.read == [0, 1]


def test_the_engine_is_reported_after_loading_and_after_each_embedding(start) -> None:
    running = start()
    running.thread.preload('fake', 'auto')
    running.until(lambda: len(running.engines) == 1)
    assert running.engines[0] == EngineState('fake', 'cpu', None, 0, 0)
    running.answer(0)
    running.thread.prefetch([running.ahead(1)])
    running.idle()
    running.until(lambda: len(running.engines) == 3)
    running.answer(1)
    counts = [(state.frames, state.nbytes) for state in running.engines]
    assert counts == [(0, 0), (1, BYTES_OF_ONE), (2, 2 * BYTES_OF_ONE)]
    assert running.engines[-1].encode_ms is not None


def test_the_time_of_encoding_is_not_that_of_finding_equal_pixels(
    start, fake_model
) -> None:
    running = start()
    fake_model.encode_seconds = 0.05
    running.answer(0)
    running.answer('a copy', read_frame=lambda: pixels(0))
    assert fake_model.encoded == 1
    assert {state.encode_ms for state in running.engines[1:]} == {
        running.engines[1].encode_ms
    }


def test_a_model_that_cannot_be_loaded_ahead_is_reported_when_it_is_needed(
    start,
) -> None:
    running = start()
    running.thread.preload('missing', 'auto')
    running.until(lambda: len(running.loaded) == 1)
    answer = running.answer(0, model='missing')
    assert 'no such file' in answer.error
    assert running.answer(0).predictions


@pytest.mark.parametrize('ahead', [False, True])
def test_the_idle_thread_holds_no_image(start, ahead) -> None:
    class Stack:
        """Something a weak reference can watch."""

        def read(self) -> np.ndarray:
            return pixels(5)

    running = start()
    running.answer(0)
    stack = Stack()
    watched = weakref.ref(stack)
    if ahead:
        frame = Prefetch('s', stack.read, IntensityMapping(), 'fake', 'auto')
        running.thread.prefetch([frame])
        del frame
        running.idle()
    else:
        running.answer('s', read_frame=stack.read)
    running.answers.clear()
    del stack
    running.until(lambda: gc.collect() >= 0 and watched() is None)


def test_threads_take_short_turns_only_while_something_is_predicted(
    start, fake_model: Any
) -> None:
    usual = sys.getswitchinterval()
    running, decode, seen = start(), fake_model.decode, []

    def watched(*given: Any, **options: Any) -> Any:
        seen.append(sys.getswitchinterval())
        return decode(*given, **options)

    fake_model.decode = watched
    running.answer(0)
    assert seen == [pytest.approx(SHORT_INTERVAL)]
    assert sys.getswitchinterval() == pytest.approx(usual)
    running.answer(0, prompts=(Prompt([(1000.0, 1000.0)]),))
    assert sys.getswitchinterval() == pytest.approx(usual), 'after an error too'


def test_the_usual_turns_are_back_when_the_last_of_several_is_done() -> None:
    usual = sys.getswitchinterval()
    with short_switch_interval():
        with short_switch_interval():
            assert sys.getswitchinterval() == pytest.approx(SHORT_INTERVAL)
        assert sys.getswitchinterval() == pytest.approx(SHORT_INTERVAL)
    assert sys.getswitchinterval() == pytest.approx(usual)
