"""A process that gives damaged files to a parser, and is watched while it does.

The changes are our own and not Hypothesis's, which takes 2 ms to think of one, a hundred
times as long, knows no time limit, and changes the beginning of a file five times as
often as its end.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from fuzz_parsers import PARSERS, Parser

from napari_kdsam.core.errors import KDSAMError

MOST_SECONDS = 10
MOST_BYTES = 2 * 2**30
LONGEST_MESSAGE = 1000
MOST_FAULTS = 10
# Other processes may be at work on the same cores, and imports take their time.
_SILENCE_SECONDS = 6 * MOST_SECONDS
_START_SECONDS = 300
_ODD = (
    b'null', b'NaN', b'1e999', b'-1', b'9' * 5000, b'[' * 2000, b'{}', b'"x"', b'true',
    b'\xff', b'\x00', b'"\\ud800"', b'0.5', b',', b'\n', b'[]', b'\x00\x00', b'\xff\xff',
    b'\xff\xff\xff\x7f', b'\x7f\xff\xff\xff', b'\xff\xff\xff\xff', b'\x00\x00\x00\x80',
    b'\x00\x00\x01\x00', b'\x00\x40\x00\x00',
)  # fmt: skip


@dataclass
class Outcome:
    """What became of the inputs of one parser.

    Attributes
    ----------
    inputs : int
    slowest : float
        Seconds of computing of one input.
    memory : int
        Most bytes that the process held; 0 where the system does not say.
    faults : list of str
        What was neither a result nor one of the project's own errors.
    """

    inputs: int = 0
    slowest: float = 0.0
    memory: int = 0
    faults: list[str] = field(default_factory=list)

    def add(self, seconds: float, held: int, problem: str) -> None:
        """Count one input."""
        self.inputs += 1
        self.slowest, self.memory = max(self.slowest, seconds), max(self.memory, held)
        if not problem and seconds > MOST_SECONDS:
            problem = f'{seconds:.0f} s of computing'
        if not problem and held > MOST_BYTES:
            problem = f'{held / 2**30:.1f} GB of memory'
        if problem:
            self.faults.append(problem)


def damaged(content: bytes, chance: random.Random) -> bytes:
    """A file with a few bytes changed, cut, doubled or replaced by something odd."""
    made = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        start = chance.randrange(len(made) + 1)
        end = min(len(made), start + chance.choice((0, 1, 1, 2, 4, 5, 40)))
        kind = chance.randrange(5)
        if kind == 0:
            made[start:end] = chance.choice(_ODD)
        elif kind == 1:
            made[start:end] = chance.randbytes(end - start)
        elif kind == 2:
            made[start:start] = made[start:end]
        elif kind == 3:
            # Sizes stay in their places.
            odd = chance.choice(_ODD)[: len(made) - start]
            made[start : start + len(odd)] = odd
        else:
            del made[start : end if chance.random() < 0.9 else len(made)]
    return bytes(made)


def _made_file(seed: bytes, parser: Parser, chance: random.Random) -> bytes:
    if chance.random() < 0.2:
        return damaged(parser.packed(seed), chance)
    return parser.packed(damaged(seed, chance))


def _held_bytes() -> int:
    try:
        status = Path('/proc/self/status').read_text(encoding='ascii')
    except OSError:
        return 0
    return 1024 * int(status.split('VmHWM:')[1].split()[0])


def _limit_memory() -> None:
    """Let no input take the memory of the whole computer before it is noticed."""
    if not Path('/proc/self/statm').exists():
        return
    import resource

    pages = int(Path('/proc/self/statm').read_text(encoding='ascii').split()[0])
    most = pages * resource.getpagesize() + 2 * MOST_BYTES
    _, hardest = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (most, hardest))


def _only_asked(error: MemoryError) -> bool:
    """Whether a library asked for what a length in the file says, to use what there is."""
    *_, last = traceback.extract_tb(error.__traceback__)
    libraries = {'av', 'torch', 'pydicom', 'PngImagePlugin.py'}
    return bool(libraries & set(Path(last.filename).parts))


def _problem_with(parse: Callable[[Path], Any], path: Path) -> str:
    """What is wrong with how a parser takes a file; nothing if it is as it should be."""
    try:
        parse(path)
    except KDSAMError as error:
        if isinstance(error.__cause__, MemoryError) and not _only_asked(
            error.__cause__
        ):
            return ''.join(traceback.format_exception(error))
        message = str(error)
        if len(message) > LONGEST_MESSAGE or '\n' in message:
            return f'a message of {len(message)} characters: {message[:2000]!r}'
    except BaseException:  # noqa: BLE001 - whatever it is, it is what is looked for
        return traceback.format_exc()
    return ''


def _give_files(work: Connection) -> None:
    """Take what is to be tried until there is nothing, and say what became of it."""
    warnings.simplefilter('ignore')
    while (task := work.recv()) is not None:
        name, kept, start, most, seconds = task
        parser, chance = PARSERS[name], random.Random(f'{name} {start}')
        folder = Path(tempfile.mkdtemp(dir=kept))
        try:
            seeds = _valid_files(parser, folder)
        except BaseException:  # noqa: BLE001 - a test that cannot begin has failed
            work.send(AssertionError(traceback.format_exc()))
            return
        _limit_memory()
        # Decoders say there what they think of damaged files.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        paths, outcome = list(seeds), Outcome()
        work.send(outcome)
        end, told = time.monotonic() + seconds, time.monotonic()
        while outcome.inputs < most or time.monotonic() < end:
            path = chance.choice(paths)
            given = folder / path.relative_to(folder).parts[0]
            path.write_bytes(_made_file(seeds[path], parser, chance))
            # Of files that are written quickly, the file system gives many one time.
            now = time.time_ns()
            os.utime(path, ns=(now, now))
            before = time.process_time()
            problem = _problem_with(parser.parse, given)
            outcome.add(time.process_time() - before, _held_bytes(), problem)
            if outcome.faults:
                # The folder stays as it is.
                work.send(outcome)
                return
            if given.is_dir():
                path.write_bytes(parser.packed(seeds[path]))
            # Rarely, because the two take turns on a busy core.
            if time.monotonic() > told + 1:
                work.send(outcome)
                most, told, outcome = most - outcome.inputs, time.monotonic(), Outcome()
        work.send(outcome)
        work.send(None)


def _valid_files(parser: Parser, folder: Path) -> dict[Path, bytes]:
    """Write and try what is to be damaged; what it is before it is packed."""
    parser.seeds(folder)
    paths = sorted(path for path in folder.rglob('*') if path.is_file())
    seeds = {path: path.read_bytes() for path in paths}
    for path, seed in seeds.items():
        path.write_bytes(parser.packed(seed))
    for path in sorted(folder.iterdir()):
        parser.parse(path)
    return seeds


class FuzzProcess:
    """Runs parsers in a process, and another one after each fault.

    Parameters
    ----------
    folder : pathlib.Path
        For the files that are given.
    faulty : pathlib.Path
        Where files that led to a fault are kept.
    """

    def __init__(self, folder: Path, faulty: Path) -> None:
        self._folder, self._faulty = folder, faulty
        self._process: Any = None

    def start(self) -> None:
        """Begin anew, with nothing in memory."""
        self.stop()
        context = multiprocessing.get_context('spawn')
        self._work, theirs = context.Pipe()
        self._process = context.Process(target=_give_files, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            with suppress(OSError):
                self._work.send(None)
            self._process.join(1)
            self._process.kill()
            self._process.join()
            self._work.close()
            self._process = None

    def run(self, name: str, inputs: int, seconds: float = 0.0) -> Outcome:
        """Give a parser a number of inputs, or more in a time."""
        outcome, end, rounds = Outcome(), time.monotonic() + seconds, 0
        while True:
            if self._process is None:
                self.start()
            left = max(0.0, end - time.monotonic())
            if not self._round(name, outcome, rounds, inputs, left):
                return outcome
            self.stop()
            rounds += 1
            finished = outcome.inputs >= inputs and time.monotonic() >= end
            if finished or len(outcome.faults) == MOST_FAULTS:
                return outcome

    def _round(
        self, name: str, outcome: Outcome, start: int, inputs: int, seconds: float
    ) -> bool:
        """Go on until there is a fault; whether there was one."""
        most = max(0, inputs - outcome.inputs)
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        self._work.send((name, str(folder), start, most, seconds))
        for answer in self._answers():
            if isinstance(answer, AssertionError):
                raise answer
            if answer is None:
                shutil.rmtree(folder)
                return False
            outcome.inputs += answer.inputs
            outcome.slowest = max(outcome.slowest, answer.slowest)
            outcome.memory = max(outcome.memory, answer.memory)
            if answer.faults:
                problem = answer.faults[0]
                break
        else:
            ended = f'the process ended with {self._process.exitcode}'
            is_alive = self._process.is_alive()
            problem = f'no end in {_SILENCE_SECONDS} s' if is_alive else ended
            outcome.inputs += 1
        outcome.faults.append(f'{self._kept(name, folder)}: {problem}')
        return True

    def _answers(self) -> Iterator[Any]:
        seconds = _START_SECONDS
        try:
            while self._work.poll(seconds):
                yield self._work.recv()
                seconds = _SILENCE_SECONDS
        except (EOFError, ConnectionError):
            self._process.join(MOST_SECONDS)

    def _kept(self, name: str, folder: Path) -> Path:
        """Keep what was given last."""
        files = [path for path in folder.rglob('*') if path.is_file()]
        last = max(files, key=lambda path: path.stat().st_mtime_ns)
        given = folder.joinpath(*last.relative_to(folder).parts[:2])
        number = len(list(self._faulty.iterdir())) if self._faulty.is_dir() else 0
        stem = ''.join(c if c.isalnum() else '_' for c in name)
        kept = self._faulty / f'{stem}_{number}' / given.name
        kept.parent.mkdir(parents=True)
        copy = shutil.copytree if given.is_dir() else shutil.copy
        copy(given, kept)
        return kept
