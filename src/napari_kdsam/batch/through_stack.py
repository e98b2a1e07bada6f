"""Follow prompted objects through the frames of one stack, restartably."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_kdsam.batch.inputs import Reader, Source
from napari_kdsam.batch.jobs import Job
from napari_kdsam.batch.methods import (
    NO_PROMPTS,
    Labelled,
    NothingToDo,
    label_masks,
    label_prompts,
)
from napari_kdsam.batch.records import read_labels, read_record
from napari_kdsam.core.errors import KDSAMError, PromptError
from napari_kdsam.core.intensity import check_image

if TYPE_CHECKING:
    from napari_kdsam.core.prompts import Prompt
    from napari_kdsam.inference.predictor import ImageEmbedding, Predictor
    from napari_kdsam.inference.propagation import PropagatedFrame

Masks = dict[int, NDArray[np.bool_]]
Found = Labelled | KDSAMError


def propagate_stack(
    predictor: Predictor,
    job: Job,
    source: Source,
    frames: Sequence[int],
    reader: Reader,
) -> Iterator[tuple[int, Found]]:
    """Segment the key frames of a stack by their prompts, and the others from those.

    A batch that goes on after an interruption begins from the label images as they were
    written, and makes the same labels.

    Parameters
    ----------
    predictor : Predictor
    job : Job
        Prompts without a frame are for the first frame.
    source : Source
        A stack.
    frames : sequence of int
        All of its frames.
    reader : Reader

    Yields
    ------
    tuple of (int, Labelled or KDSAMError)
        Frame, and its labels or why there are none. Frames whose labels are there
        already are not yielded.
    """
    try:
        key_frames = _key_frames(job, source)
    except KDSAMError as error:
        yield from ((frame, error) for frame in frames)
        return
    walk = _Walk(predictor, job, source, reader, key_frames)
    first = min(key_frames)
    for onward in ([f for f in frames if f >= first], [*reversed(range(first))]):
        walk.begin(onward)
        for frame in onward:
            found = walk.step(frame)
            if found is not None:
                yield frame, found


def _key_frames(job: Job, source: Source) -> dict[int, list[tuple[int, Prompt]]]:
    found: dict[int, list[tuple[int, Prompt]]] = {}
    for item in job.objects_of(source):
        frame = item.frame or 0
        if frame >= source.frame_count:
            raise PromptError(
                f'There is a prompt for frame {frame}, but the frames are 0 to '
                f'{source.frame_count - 1}.'
            )
        # The same place in each key frame's list is the same object.
        here = found.setdefault(frame, [])
        here.append((len(here) + 1, item.prompt))
    if not found:
        raise NothingToDo(NO_PROMPTS)
    return found


class _Walk:
    """Where the propagation of a stack is, and the masks it goes on from."""

    def __init__(
        self,
        predictor: Predictor,
        job: Job,
        source: Source,
        reader: Reader,
        key_frames: dict[int, list[tuple[int, Prompt]]],
    ) -> None:
        self._predictor, self._job, self._source = predictor, job, source
        self._reader, self._key_frames = reader, key_frames
        self._highest = max(len(prompts) for prompts in key_frames.values())
        self._key: tuple[int, Masks] = (0, {})
        self._first: tuple[int, Masks] | None = None
        self._masks: Masks = {}
        self._stopped = ''
        self._onward: Sequence[int] = ()
        self._steps: Iterator[PropagatedFrame] | None = None

    def begin(self, onward: Sequence[int]) -> None:
        """Go on from the first key frame through these frames."""
        self._onward, self._stopped, self._steps = onward, '', None
        if self._first is not None:
            self._key = self._first
            self._masks = self._first[1]

    def step(self, frame: int) -> Found | None:
        """Do one frame; None if its labels are there already."""
        path = self._job.labels_path(self._source, frame)
        record = read_record(path)
        if record is not None and record.fingerprint == self._job.fingerprint:
            self._steps = None
            self._go_on_from(frame, read_labels(path), record.reason)
            return None
        if self._stopped and frame not in self._key_frames:
            return NothingToDo(self._stopped)
        try:
            found = self._segment(frame)
        except KDSAMError as error:
            return error
        self._go_on_from(frame, found.labels, found.note)
        return found

    def _go_on_from(self, frame: int, labels: NDArray[Any], doubt: str) -> None:
        self._masks = {int(n): labels == n for n in np.unique(labels) if n}
        self._stopped = f'stopped at frame {frame}: {doubt}' if doubt else ''
        if frame in self._key_frames:
            self._key, self._steps = (frame, self._masks), None
            self._first = self._first or self._key

    def _segment(self, frame: int) -> Labelled:
        if frame in self._key_frames:
            image = self._image(frame)
            return label_prompts(
                self._job,
                self._predictor,
                image,
                self._predictor.embed(image),
                self._key_frames[frame],
                self._highest,
            )
        if not self._masks:
            raise NothingToDo(f'there is no object to follow from frame {self._key[0]}')
        return self._follow(frame)

    def _follow(self, frame: int) -> Labelled:
        from napari_kdsam.inference.propagation import follow

        if self._steps is None:
            left = self._onward[self._onward.index(frame) :]
            self._steps = follow(
                self._predictor, self._embed, self._key, self._masks, left
            )
        found = next(self._steps)
        if found.error:
            raise KDSAMError(found.error)
        shape = next(iter(self._masks.values())).shape
        masks = (
            (label, mask, float(found.scores[label]))
            for label, mask in sorted(found.masks.items())
        )
        labelled = label_masks((shape[0], shape[1]), masks, self._highest)
        return Labelled(labelled.labels, labelled.objects, found.doubt)

    def _image(self, frame: int) -> NDArray[Any]:
        return check_image(self._reader.read(self._source, frame))

    def _embed(self, frame: int) -> ImageEmbedding:
        return self._predictor.embed(self._image(frame))
