"""What a batch is to do, what became of each frame, and how it can go on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import copy
from enum import Enum
from typing import NamedTuple


class Item(NamedTuple):
    """A frame of an image layer.

    Attributes
    ----------
    image : int
        Place among the image layers of the batch.
    frame : int
        Place in the stack; 0 for a single image.
    """

    image: int
    frame: int


class State(Enum):
    """What became of a frame."""

    WAITING = 'waiting'
    DONE = 'done'
    FAILED = 'failed'
    SKIPPED = 'skipped'


class Counts(NamedTuple):
    """How many frames of each kind; together they are all."""

    done: int
    failed: int
    skipped: int
    waiting: int

    @property
    def total(self) -> int:
        """All frames."""
        return sum(self)

    def describe(self) -> str:
        """Say it, without those that wait."""
        return (
            f'{self.done} done, {self.failed} failed, {self.skipped} skipped of '
            f'{self.total} frame{"s" * (self.total != 1)}'
        )


class BatchPlan:
    """The frames of a batch and what became of each.

    Parameters
    ----------
    items : iterable of Item
        In the order in which they are listed.

    Attributes
    ----------
    reasons : dict of Item to str
        What the user should look at, and why.
    """

    def __init__(self, items: Iterable[Item]) -> None:
        self._states = dict.fromkeys(items, State.WAITING)
        self.reasons: dict[Item, str] = {}

    def state(self, item: Item) -> State:
        """What became of a frame; skipped for one that is not in the plan."""
        return self._states.get(item, State.SKIPPED)

    @property
    def results(self) -> list[Item]:
        """Frames that have labels, or that someone should look at; in their order."""
        return sorted(
            item
            for item, state in self._states.items()
            if state is State.DONE or item in self.reasons
        )

    @property
    def waiting(self) -> tuple[Item, ...]:
        """Frames that are still to be done."""
        return tuple(i for i, state in self._states.items() if state is State.WAITING)

    @property
    def counts(self) -> Counts:
        """How many frames of each kind."""
        states = list(self._states.values())
        return Counts(
            states.count(State.DONE),
            states.count(State.FAILED),
            states.count(State.SKIPPED),
            states.count(State.WAITING),
        )

    def done(self, item: Item, note: str = '') -> None:
        """Note that a frame has its labels, and why someone should look at it."""
        self._mark([item], State.DONE)
        if note:
            self.reasons[item] = note

    def failed(self, item: Item, reason: str) -> None:
        """Note why a frame has no labels."""
        self._mark([item], State.FAILED)
        self.reasons[item] = reason

    def accept(self, item: Item, labelled: bool = True) -> None:
        """Note that a frame was looked at and is right as it is.

        Parameters
        ----------
        item : Item
        labelled : bool
            Whether there are labels on it.
        """
        self._mark([item], State.DONE)

    def copy(self) -> BatchPlan:
        """The plan as it is now, which later changes leave alone."""
        found = copy(self)
        found._states, found.reasons = dict(self._states), dict(self.reasons)
        return found

    def restore(self, earlier: BatchPlan) -> None:
        """Be as a copy was."""
        self._states, self.reasons = dict(earlier._states), dict(earlier.reasons)

    def skip(self, items: Iterable[Item]) -> None:
        """Note that nothing comes for these frames."""
        self._mark(items, State.SKIPPED)

    def kept(self, item: Item, reason: str) -> None:
        """Note that a frame stays as it is, and why."""
        self.skip([item])
        self.reasons[item] = reason

    def skip_waiting(self) -> None:
        """Note that nothing more comes for the frames that wait."""
        self.skip(self.waiting)

    def _mark(self, items: Iterable[Item], state: State) -> None:
        for item in items:
            self._states[item] = state
            self.reasons.pop(item, None)


class FollowPlan(BatchPlan):
    """Frames of one stack through which objects are followed from key frames.

    Parameters
    ----------
    frames : iterable of int
        Places in the stack.
    keys : iterable of int
        The key frames, as far as they are known already.

    Attributes
    ----------
    keys : set of int
        Frames whose labels are given.
    own_keys : set of int
        Those of them that the user has corrected in the output.
    """

    def __init__(self, frames: Iterable[int], keys: Iterable[int] = ()) -> None:
        super().__init__(Item(0, frame) for frame in sorted(frames))
        self.keys = set(keys)
        self.own_keys: set[int] = set()

    def done(self, item: Item, note: str = '') -> None:
        """Note that a frame has its labels.

        Nothing is followed beyond a doubtful one, but for what two key frames enclose.
        """
        super().done(item, note)
        enclosed = bool(self.keys) and min(self.keys) < item.frame < max(self.keys)
        if note and not enclosed:
            self._mark(self._beyond(item.frame), State.SKIPPED)

    def accept(self, item: Item, labelled: bool = True) -> None:
        """Note that a frame is right; with labels, it is a key frame from now on."""
        super().accept(item, labelled)
        if labelled:
            self.keys.add(item.frame)
            self.own_keys.add(item.frame)

    def copy(self) -> FollowPlan:
        """See `BatchPlan.copy`."""
        found = super().copy()
        assert isinstance(found, FollowPlan)
        found.keys, found.own_keys = set(self.keys), set(self.own_keys)
        return found

    def restore(self, earlier: BatchPlan) -> None:
        """See `BatchPlan.restore`."""
        super().restore(earlier)
        assert isinstance(earlier, FollowPlan)
        self.keys, self.own_keys = set(earlier.keys), set(earlier.own_keys)

    def breaks_off(self, frame: int) -> bool:
        """Whether frames were left out beyond a frame."""
        beyond = self._beyond(frame)
        return any(
            self.state(item) is State.SKIPPED and item not in self.reasons
            for item in beyond
        )

    def can_continue_from(self, frame: int) -> bool:
        """Whether a frame may become a key frame with frames to follow to."""
        return bool(self.keys) and bool(self._beyond(frame))

    def continue_from(self, frame: int) -> None:
        """Make a frame a key frame, and let the frames beyond it wait again.

        These are the ones away from the first key frame, to the next key frame.
        """
        beyond = self._beyond(frame)
        self.keys.add(frame)
        self.own_keys.add(frame)
        self._mark([Item(0, frame)], State.DONE)
        self._mark(beyond, State.WAITING)

    def starts(self) -> frozenset[int]:
        """Frames that the waiting ones are followed from, besides those that wait.

        Key frames, and the last frame done of each stretch that was broken off.
        """
        found = {key for key in self.keys if not self._waits(key)}
        if not self.keys:
            return frozenset()
        first = min(self.keys)
        for item in self.waiting:
            back = -1 if item.frame > first else 1
            before = item.frame + back
            while before not in self.keys and self._has(before):
                if self.state(Item(0, before)) is State.DONE:
                    found.add(before)
                    break
                before += back
        return frozenset(found)

    def _has(self, frame: int) -> bool:
        return Item(0, frame) in self._states

    def _waits(self, frame: int) -> bool:
        return self.state(Item(0, frame)) is State.WAITING

    def _beyond(self, frame: int) -> list[Item]:
        if not self.keys:
            return []
        items = list(self._states)
        if frame < min(self.keys):
            return [item for item in items if item.frame < frame]
        later = [key for key in self.keys if key > frame]
        end = min(later, default=None)
        return [
            item
            for item in items
            if item.frame > frame and (end is None or item.frame < end)
        ]


class Pace:
    """How fast frames are done, without pauses and the loading of the model.

    Parameters
    ----------
    now : callable
        A clock in seconds.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._since: float | None = None
        self._seconds = 0.0
        self._frames = 0

    def go(self) -> None:
        """Let the clock run."""
        if self._since is None:
            self._since = self._now()

    def stop(self) -> None:
        """Let the clock stand."""
        if self._since is not None:
            self._seconds += self._now() - self._since
            self._since = None

    def count(self) -> None:
        """Count a frame."""
        self._frames += 1

    def describe(self, left: int) -> str:
        """Say the rate and the time that `left` frames will take; empty at first."""
        running = 0.0 if self._since is None else self._now() - self._since
        seconds = self._seconds + running
        if not self._frames or seconds <= 0:
            return ''
        rate = self._frames / seconds
        shown = f'{rate:.1f} frames/s' if rate >= 1 else f'{1 / rate:.1f} s a frame'
        return f'{shown}, {_duration(left / rate)} left'


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f'{seconds:.0f} s'
    minutes = round(seconds / 60)
    if minutes < 60:
        return f'{minutes} min'
    return f'{minutes // 60} h {minutes % 60} min'
