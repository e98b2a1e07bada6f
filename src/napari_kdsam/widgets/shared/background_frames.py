"""Work in a thread, frame by frame, that a newer request or the user can stop."""

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


class BackgroundFrames(QObject):
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
    """

    progressed = Signal(int, int, int)
    failed = Signal(int, str)

    def __init__(self, doing: str) -> None:
        super().__init__()
        self._doing = doing
        self._latest = 0
        self._closed = False
        name = f'kdsam-{doing.lower()}'
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)

    def stop(self) -> None:
        """Let the request end after the frame it is at, without an answer."""
        self._latest += 1

    def close(self) -> None:
        """Let the thread end after the frame it is at."""
        self._closed = True
        self.stop()
        self._thread.shutdown(wait=False)

    def _ask(self, work: Callable[[int], Any], answer: Any) -> int:
        """Stop what is asked already and answer with what `work` returns.

        Parameters
        ----------
        work : callable
            Called in the thread with the number of the request.
        answer : Signal
            (request number, result).

        Returns
        -------
        int
            Number of the request.
        """
        self._latest += 1
        self._thread.submit(self._answer, self._latest, work, answer)
        return self._latest

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

    def _watched(
        self, number: int, items: Iterable[_Item], total: int
    ) -> Iterator[_Item]:
        """Pass on what is done for each frame, telling how far it is.

        Raises
        ------
        Stopped
            If the request is out of date.
        """
        told = time.monotonic()
        self._check(number)
        for done, item in enumerate(items, start=1):
            yield item
            self._check(number)
            if time.monotonic() - told > _PROGRESS_SECONDS:
                told = time.monotonic()
                self._emit(self.progressed, number, done, total)

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
