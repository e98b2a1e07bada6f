"""Work in a thread that a newer request, the user or the end of a dock can stop."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from qtpy.QtCore import QObject, Signal  # type: ignore[attr-defined]

from napari_kdsam.core.errors import KDSAMError

_logger = logging.getLogger(__name__)
_PROGRESS_SECONDS = 0.2
_Item = TypeVar('_Item')


class Stopped(Exception):
    """A newer request came, or the user or the window put an end to this one."""


class BackgroundWorker(QObject):
    """Do one piece of work after the other in a thread of its own.

    Signals reach the main thread through Qt's event queue.

    Parameters
    ----------
    doing : str
        What is done, as the start of a sentence ("Comparing").

    Attributes
    ----------
    progressed : Signal
        (request number, frames done, frames in all), several times a second.
    failed : Signal
        (request number, sentence).
    written : Signal
        (sentence,) after a file was written, or why it was not.
    """

    progressed = Signal(int, int, int)
    failed = Signal(int, str)
    written = Signal(str)

    def __init__(self, doing: str) -> None:
        super().__init__()
        self._doing = doing
        self._latest = 0
        self._closed = False
        name = f'kdsam-{doing.lower()}'
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)

    def request(self, work: Callable[[int], Any], answer: Any) -> int:
        """Stop the request before, and answer with what `work` returns.

        Parameters
        ----------
        work : callable
            Called in the thread with the number of the request, also if it is out of
            date by then; it ends by `Stopped`, as `watched` raises it.
        answer : Signal
            (request number, result).

        Returns
        -------
        int
            Number of the request; answers to lower ones are out of date.
        """
        self._latest += 1
        self._thread.submit(self._answer, self._latest, work, answer)
        return self._latest

    def watched(
        self, number: int, items: Iterable[_Item], total: int, done: int = 0
    ) -> Iterator[_Item]:
        """Pass on what is made for each frame, telling how far it is.

        Parameters
        ----------
        number : int
            Of the request.
        items : iterable
            Makes one item a frame.
        total, done : int
            Frames in all, and those that were done before.

        Raises
        ------
        Stopped
            If the request is out of date.
        """
        told = time.monotonic()
        self._check(number)
        for count, item in enumerate(items, start=done + 1):
            yield item
            self._check(number)
            if time.monotonic() - told > _PROGRESS_SECONDS:
                told = time.monotonic()
                self._emit(self.progressed, number, count, total)

    def do(self, act: Callable[..., Any], *values: Any, **named: Any) -> None:
        """Do something that nothing stops, even if it is closed meanwhile."""
        try:
            self._thread.submit(act, *values, **named)
        except RuntimeError:
            # Python is ending and starts no more work in threads; nothing may be lost.
            act(*values, **named)

    def write(self, act: Callable[[], None], text: str) -> None:
        """Write a file, and say `text` once it is there."""
        self.do(self._write, act, text)

    def stop(self) -> None:
        """Let the request end after the frame it is at, without an answer."""
        self._latest += 1

    def close(self) -> None:
        """Let the thread end after the frame it is at and what nothing stops."""
        self._closed = True
        self.stop()
        self._thread.shutdown(wait=False)

    def _answer(self, number: int, work: Callable[[int], Any], answer: Any) -> None:
        try:
            result = work(number)
        except Stopped:
            return
        except KDSAMError as error:
            self._emit(self.failed, number, str(error))
        except MemoryError:
            text = f'{self._doing} needs more memory; close other programs.'
            self._emit(self.failed, number, text)
        except Exception as error:
            # A defect, or what a lazy array's reader raises, must show as a message.
            _logger.exception('%s failed', self._doing)
            self._emit(self.failed, number, f'{self._doing} failed: {error}')
        else:
            self._emit(answer, number, result)

    def _write(self, act: Callable[[], None], text: str) -> None:
        try:
            act()
        except (KDSAMError, ValueError) as error:
            # The second for names that no file can hold.
            text = str(error)
        self._emit(self.written, text)

    def _check(self, number: int) -> None:
        if number != self._latest:
            raise Stopped

    def _emit(self, signal: Any, *values: Any) -> None:
        if self._closed:
            return
        try:
            signal.emit(*values)
        except RuntimeError:
            # The window was closed, and Qt has deleted this object, in between.
            self._closed = True
