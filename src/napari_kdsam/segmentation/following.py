"""Follow objects from key frames through a stack, so that it can go on after a stop."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import takewhile
from typing import TYPE_CHECKING

from napari_kdsam.core.errors import KDSAMError, PromptError
from napari_kdsam.core.geometry import Masks
from napari_kdsam.core.label_image import masks_of_labels
from napari_kdsam.inference.cache import LeastRecentlyUsed
from napari_kdsam.inference.drift import DriftLimits
from napari_kdsam.inference.propagation import (
    PropagatedFrame,
    follow,
    follow_between,
)
from napari_kdsam.segmentation.frame_labels import (
    FrameLabels,
    NothingToDo,
    Outcome,
    attempt,
    label_masks,
)
from napari_kdsam.segmentation.frames import Frames

if TYPE_CHECKING:
    from napari_kdsam.inference.predictor import ImageEmbedding, Predictor

# Gives the labels of a key frame, predicted or read.
KeyFrame = Callable[[], FrameLabels]
# None where nothing is done yet, as on the way back from a key frame.
Step = tuple[int, Outcome] | None

# About 30 embeddings: what two key frames enclose is seen on the way back and on the way
# forward, and is to be embedded once where they are near.
_KEPT_BYTES = 128 * 1024**2
_NO_MORE = PropagatedFrame(-1)


class Following:
    """Objects that are followed through a stack.

    Between two key frames from both of them, then forward from the last and backward from
    the first. Outside the key frames a frame that looks like drift is the last one that
    way; between them the other way goes on. What is not reached is left out. Begun anew
    from the labels as they were left, it makes the same ones.

    Parameters
    ----------
    predictor : Predictor
    frames : Frames
    keys : mapping of int to callable
        By place in the stack: gives a key frame's labels.
    known : callable
        Gives the labels that a frame has already; None if there are none.
    limits : DriftLimits, optional
    """

    def __init__(
        self,
        predictor: Predictor,
        frames: Frames,
        keys: Mapping[int, KeyFrame],
        known: Callable[[int], FrameLabels | None],
        limits: DriftLimits | None = None,
    ) -> None:
        self._predictor = predictor
        self._frames = frames
        self._keys = keys
        self._known = known
        self._limits = limits or DriftLimits()
        self._embeddings: LeastRecentlyUsed[ImageEmbedding] = LeastRecentlyUsed(
            _KEPT_BYTES
        )
        self._key: tuple[int, Masks] = (0, {})
        self._last: tuple[int, Masks] = (0, {})
        self._stopped = ''

    def label(self, frames: Sequence[int], wanted: Sequence[int]) -> Iterator[Step]:
        """Label frames.

        Parameters
        ----------
        frames : sequence of int
            All through which objects are followed; key frames need not be among them.
        wanted : sequence of int
            Those that have no labels yet.

        Yields
        ------
        tuple of (int, FrameLabels or KDSAMError), or None
            Each of `wanted`, in the order in which they are done. None is an occasion to
            stop: a frame was looked at that is done later.

        Raises
        ------
        PromptError
            If there is no key frame.
        """
        if not self._keys:
            raise PromptError(
                'There is no object to follow; label one on a frame first.'
            )
        left, onward = set(wanted), sorted(frames)
        starts: list[tuple[int, FrameLabels]] = []
        for key in sorted(self._keys):
            if key in left:
                left.remove(key)
                found = attempt(self._keys[key])
                yield key, found
            else:
                found = attempt(partial(self._given, key))
            # Where a key frame fails, the ones beside it are all there is to follow from.
            if isinstance(found, FrameLabels):
                if starts:
                    yield from self._between(starts[-1], (key, found), onward, left)
                starts = [*starts[:1], (key, found)]
        if not starts:
            reason = f'there is no object to follow from frame {min(self._keys)}'
            yield from ((n, NothingToDo(reason)) for n in onward if n in left)
            return
        (first, _), (last, _) = starts[0], starts[-1]
        self._begin(*starts[-1])
        yield from self._follow([n for n in onward if n > last], left)
        self._begin(*starts[0])
        yield from self._follow([n for n in reversed(onward) if n < first], left)

    def _given(self, key: int) -> FrameLabels:
        return self._known(key) or self._keys[key]()

    def _begin(self, key: int, found: FrameLabels) -> None:
        self._go_on_from(key, found)
        self._key = self._last

    def _between(
        self,
        first: tuple[int, FrameLabels],
        second: tuple[int, FrameLabels],
        frames: Sequence[int],
        left: set[int],
    ) -> Iterator[Step]:
        inside = [n for n in frames if first[0] < n < second[0]]
        waiting = [n for n in inside if n in left]
        known = [(key, masks_of_labels(found.labels)) for key, found in (first, second)]
        stopped = f'no object was followed to it from frame {first[0]} or {second[0]}'
        steps = follow_between(
            self._predictor,
            self._embed,
            known[0],
            known[1],
            inside,
            waiting,
            self._limits,
        )
        shape = first[1].labels.shape
        highest = max([*known[0][1], *known[1][1]], default=0)
        while waiting:
            done = attempt(partial(next, steps, _NO_MORE))
            if done is None:
                yield None
                continue
            if isinstance(done, KDSAMError):
                yield from ((frame, done) for frame in waiting)
                return
            while waiting and waiting[0] != done.index:
                yield waiting.pop(0), NothingToDo(stopped)
            if waiting:
                made = partial(_labels_of, done, shape, highest)
                yield waiting.pop(0), attempt(made)
            if done.drift:
                stopped = f'stopped at frame {done.index}: {done.drift}'

    def _follow(
        self, onward: Sequence[int], left: set[int]
    ) -> Iterator[tuple[int, Outcome]]:
        steps: Iterator[PropagatedFrame] | None = None
        passed: list[int] = []
        for place, frame in enumerate(onward):
            if frame not in left:
                passed.append(frame)
                steps = None
                continue
            self._go_on_from_last(passed)
            passed = []
            if self._stopped:
                yield frame, NothingToDo(self._stopped)
                continue
            if not self._last[1]:
                reason = f'there is no object to follow from frame {self._key[0]}'
                yield frame, NothingToDo(reason)
                continue
            if steps is None:
                ahead = list(takewhile(left.__contains__, onward[place:]))
                steps = follow(
                    self._predictor,
                    self._embed,
                    self._key,
                    self._last,
                    ahead,
                    self._limits,
                )
            found = attempt(partial(self._next_labels, steps))
            if isinstance(found, FrameLabels):
                self._go_on_from(frame, found)
            else:
                steps = None
            yield frame, found

    def _go_on_from(self, frame: int, found: FrameLabels) -> None:
        self._last = frame, masks_of_labels(found.labels)
        self._stopped = f'stopped at frame {frame}: {found.note}' if found.note else ''

    def _go_on_from_last(self, passed: Sequence[int]) -> None:
        for frame in reversed(passed):
            found = self._known(frame)
            if found is not None:
                self._go_on_from(frame, found)
                return

    def _next_labels(self, steps: Iterator[PropagatedFrame]) -> FrameLabels:
        shape = next(iter(self._last[1].values())).shape
        return _labels_of(next(steps), shape, max(self._last[1]))

    def _embed(self, frame: int) -> ImageEmbedding:
        found = self._embeddings.get(str(frame))
        if found is None:
            found = self._predictor.embed(self._frames.pixels(frame))
            self._embeddings.put(str(frame), found)
        return found


def _labels_of(
    found: PropagatedFrame, shape: tuple[int, ...], highest: int
) -> FrameLabels:
    if found.error:
        raise KDSAMError(found.error)
    numbered = (
        (label, mask, float(found.scores[label]))
        for label, mask in sorted(found.masks.items())
    )
    rows, columns = shape
    return label_masks((rows, columns), numbered, highest, note=found.drift)
