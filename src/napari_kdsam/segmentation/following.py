"""Follow objects from key frames through a stack, so that it can go on after a stop."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import takewhile
from typing import TYPE_CHECKING

from napari_kdsam.core.errors import KDSAMError, PromptError
from napari_kdsam.core.geometry import Masks
from napari_kdsam.core.label_image import masks_of_labels
from napari_kdsam.inference.propagation import DriftLimits, PropagatedFrame, follow
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


class Following:
    """Objects that are followed through a stack.

    Forward from each key frame to the one before the next, then backward from the
    first. A frame that looks like drift is the last one that way; what lies beyond it
    is left out. Begun anew from the labels as they were left, it makes the same ones.

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
        self._key: tuple[int, Masks] = (0, {})
        self._last: tuple[int, Masks] = (0, {})
        self._stopped = ''

    def label(
        self, frames: Sequence[int], wanted: Sequence[int]
    ) -> Iterator[tuple[int, Outcome]]:
        """Label frames.

        Parameters
        ----------
        frames : sequence of int
            All through which objects are followed; key frames need not be among them.
        wanted : sequence of int
            Those that have no labels yet.

        Yields
        ------
        tuple of (int, FrameLabels or KDSAMError)
            Each of `wanted`, in the order in which they are done.

        Raises
        ------
        PromptError
            If there is no key frame.
        """
        if not self._keys:
            raise PromptError(
                'There is no object to follow; label one on a frame first.'
            )
        left, keys = set(wanted), sorted(self._keys)
        starts = []
        for place, key in enumerate(keys):
            end = keys[place + 1] if place + 1 < len(keys) else None
            yield from self._begin(key, left)
            starts.append((self._key, self._last, self._stopped))
            onward = [n for n in frames if n > key and (end is None or n < end)]
            yield from self._follow(sorted(onward), left)
        self._key, self._last, self._stopped = starts[0]
        backward = [n for n in frames if n < keys[0]]
        yield from self._follow(sorted(backward, reverse=True), left)

    def _begin(self, key: int, left: set[int]) -> Iterator[tuple[int, Outcome]]:
        if key in left:
            found = attempt(self._keys[key])
            yield key, found
        else:
            found = attempt(lambda: self._known(key) or self._keys[key]())
        # Where a key frame fails, what was followed so far is followed on.
        if isinstance(found, FrameLabels):
            self._go_on_from(key, found)
            self._key = self._last

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
            found = attempt(partial(self._labels_of, steps))
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

    def _labels_of(self, steps: Iterator[PropagatedFrame]) -> FrameLabels:
        found = next(steps)
        if found.error:
            raise KDSAMError(found.error)
        rows, columns = next(iter(self._last[1].values())).shape
        numbered = (
            (label, mask, float(found.scores[label]))
            for label, mask in sorted(found.masks.items())
        )
        return label_masks(
            (rows, columns), numbered, max(self._last[1]), note=found.drift
        )

    def _embed(self, frame: int) -> ImageEmbedding:
        return self._predictor.embed(self._frames.pixels(frame))
