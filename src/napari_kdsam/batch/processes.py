"""Parts of a batch in processes of this computer, any of which may die."""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from threading import Thread

from napari_kdsam.batch.inputs import Source
from napari_kdsam.batch.jobs import Items
from napari_kdsam.batch.records import FrameResult, Status
from napari_kdsam.core.errors import KDSAMError

# So many deaths in a row are not the fault of an image.
_MOST_DEATHS = 8
WORKER_DIED = (
    'the process that worked on it ended twice, as when memory runs out; run again with '
    '--resume to try it once more'
)

# Does one part of a batch; it travels to the process.
Work = Callable[[Items], list[FrameResult]]
# What a frame has come to already; None if it is still to do.
Known = Callable[[Source, int], FrameResult | None]


class LostWorkersError(KDSAMError):
    """Nothing is left that could do the work, so going on makes no sense."""


def threads_for(workers: int) -> int:
    """CPU threads of each of several processes, so that they share the cores."""
    return max(1, (os.cpu_count() or 1) // workers)


@dataclass(frozen=True)
class _InHand:
    """A part, the process that has it, and whether an earlier one died of it."""

    process: _Process
    part: Items
    again: bool


def in_processes(
    workers: int,
    work: Work,
    parts: Sequence[Items],
    *,
    apart: bool = True,
    known: Known = lambda source, frame: None,
) -> Iterator[FrameResult]:
    """Do parts of a batch in new processes of this computer.

    A process that dies costs only the part in its hands. What it has not finished of
    that is done again frame by frame, with no other process at work, since memory may
    have been short for both. A frame whose process dies then too is failed.

    Parameters
    ----------
    workers : int
        How many processes.
    work : callable
        Does one part; it travels to the process.
    parts : sequence of tuple of (Source, int)
        Frames that are done together.
    apart : bool
        Whether the frames of a part may be done again one by one.
    known : callable
        Finds what a process had finished of a part before it died.

    Yields
    ------
    FrameResult
        As they come.

    Raises
    ------
    LostWorkersError
        If one process after another dies and nothing gets done.
    """
    waiting, suspects, deaths = deque(parts), deque[Items](), 0
    in_hand: dict[Future[list[FrameResult]], _InHand] = {}
    with ExitStack() as processes:
        idle = [processes.enter_context(_Process()) for _ in range(workers)]
        while waiting or suspects or in_hand:
            alone = bool(suspects) or any(held.again for held in in_hand.values())
            while len(in_hand) < (1 if alone else workers) and (suspects or waiting):
                part = (suspects if alone else waiting).popleft()
                held = _InHand(idle.pop(), part, alone)
                in_hand[held.process.begin(work, part)] = held
            for future in wait(in_hand, return_when=FIRST_COMPLETED).done:
                held = in_hand.pop(future)
                idle.append(held.process)
                if not isinstance(future.exception(), BrokenProcessPool):
                    deaths = 0
                    yield from future.result()
                    continue
                deaths += 1
                held.process.end()
                if held.again:
                    yield from lost(held.part)
                elif not apart:
                    suspects.append(held.part)
                else:
                    for source, frame in held.part:
                        if (result := known(source, frame)) is not None:
                            yield result
                        else:
                            suspects.append(((source, frame),))
                if deaths >= _MOST_DEATHS:
                    raise LostWorkersError(
                        f'{deaths} processes in a row ended unexpectedly, as when '
                        'memory runs out; use fewer --workers.'
                    )


def lost(items: Items) -> Iterator[FrameResult]:
    """Results of frames that have cost two processes."""
    for source, frame in items:
        yield FrameResult(source.location, frame, Status.failed, WORKER_DIED)


class _Process:
    """A process for one part at a time; when it has died, the next part begins another.

    It ends with this object, and with the process that this object is in.
    """

    def __init__(self) -> None:
        self._open = ExitStack()
        self._pool: ProcessPoolExecutor | None = None

    def begin(self, work: Work, part: Items) -> Future[list[FrameResult]]:
        """Hand over a part."""
        if self._pool is not None:
            try:
                return self._pool.submit(work, part)
            except BrokenProcessPool:
                # It died between two parts, so none is the reason.
                self.end()
        # A forked process would inherit PyTorch's threads in an unknown state.
        context = get_context('spawn')
        theirs, ours = context.Pipe(duplex=False)
        # A pool of several would end them all when one dies.
        self._pool = self._open.enter_context(
            ProcessPoolExecutor(
                1, mp_context=context, initializer=_end_with, initargs=(theirs,)
            )
        )
        # Closed before the pool waits for its process.
        self._open.enter_context(ours)
        self._open.callback(theirs.close)
        return self._pool.submit(work, part)

    def end(self) -> None:
        """End the process, whatever it is at."""
        self._pool = None
        self._open.close()

    def __enter__(self) -> _Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


def _end_with(line: Connection) -> None:
    """End this process as soon as nobody is left at the other end of a line."""

    def wait_for_the_end() -> None:
        try:
            line.recv()
        except (EOFError, OSError):
            os._exit(1)

    # Ctrl+C reaches all processes; the one that began them says what becomes of it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=wait_for_the_end, daemon=True).start()
