"""What a batch does in its thread: hands the frames of layers to the engine."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_kdsam.core.errors import ImageError, KDSAMError
from napari_kdsam.core.stack_index import FrameIndex, frame_at
from napari_kdsam.segmentation.frame_labels import FrameLabels, Outcome, attempt
from napari_kdsam.segmentation.methods import FrameMethod
from napari_kdsam.widgets.batch.progress import Item

if TYPE_CHECKING:
    from napari_kdsam.inference.drift import DriftLimits
    from napari_kdsam.inference.predictor import Predictor
    from napari_kdsam.widgets.shared.inference_thread import PredictorFactory

_logger = logging.getLogger(__name__)
FrameReader = Callable[[FrameIndex], Any]


@dataclass(frozen=True, eq=False)
class LayerFrames:
    """The frames of an image layer as it was when the batch began, for the engine.

    Attributes
    ----------
    read : callable
        Reads a frame by its index.
    leading_shape : tuple of int
        Sizes of the axes before rows and columns; empty for a single image.
    plane_shape : tuple of int
        (rows, columns).
    """

    read: FrameReader
    leading_shape: tuple[int, ...]
    plane_shape: tuple[int, int]

    def index(self, frame: int) -> FrameIndex:
        """Index along the leading axes of a place in the stack."""
        return frame_at(frame, self.leading_shape)

    def pixels(self, frame: int) -> NDArray[Any]:
        """Read a frame; see `Frames`."""
        try:
            return np.asarray(self.read(self.index(frame)))
        except KDSAMError:
            raise
        except Exception as error:
            # A lazy array's reader may raise anything.
            raise ImageError(f'The frame could not be read: {error}.') from error


@dataclass(frozen=True)
class Note:
    """A sentence for the user, or nothing but an occasion to stop."""

    text: str = ''


@dataclass(frozen=True)
class Ready:
    """The model is loaded."""


@dataclass(frozen=True)
class KeysFound:
    """The key frames, once they are known."""

    frames: frozenset[int]


@dataclass(frozen=True, eq=False)
class FrameEnded:
    """What a frame came to."""

    item: Item
    outcome: Outcome


@dataclass(frozen=True)
class Finished:
    """The end: all frames were tried, or the run failed as a whole."""

    error: str = ''


Step = FrameEnded | Note | Ready | KeysFound | Finished


class LayerJob(Protocol):
    """What is to do, of plain values that a thread may use."""

    def steps(self, predictor: Predictor) -> Iterator[Step]:
        """Yield what happens, a step for each frame."""
        ...


@dataclass(frozen=True, eq=False)
class FrameByFrame:
    """Frames that need no other.

    Attributes
    ----------
    stacks : sequence of LayerFrames
    methods : sequence of FrameMethod
        One for each stack.
    items : sequence of Item
    """

    stacks: Sequence[LayerFrames]
    methods: Sequence[FrameMethod]
    items: Sequence[Item]

    def steps(self, predictor: Predictor) -> Iterator[Step]:
        """Yield a result for each frame."""
        for item in self.items:
            yield FrameEnded(item, attempt(partial(self._label, predictor, item)))

    def _label(self, predictor: Predictor, item: Item) -> FrameLabels:
        pixels = self.stacks[item.image].pixels(item.frame)
        return self.methods[item.image].label(predictor, item.frame, pixels)


@dataclass(frozen=True, eq=False)
class GivenLabels:
    """Labels of frames that are there already.

    Attributes
    ----------
    read : callable
        Reads the (rows, columns) labels of a frame by its index.
    labels : frozenset of int or None
        Which of them; None for all.
    """

    read: FrameReader
    labels: frozenset[int] | None = None

    def of(self, frame: FrameIndex) -> FrameLabels:
        """Read the labels of a frame."""
        labels = np.asarray(self.read(frame))
        if self.labels is not None:
            labels = np.where(np.isin(labels, list(self.labels)), labels, 0)
        return FrameLabels(labels)


@dataclass(frozen=True, eq=False)
class Followed:
    """Objects that are followed from key frames through a stack.

    Attributes
    ----------
    stack : LayerFrames
    frames : sequence of int
        All through which they are followed.
    wanted : sequence of int
        Those of them that are to do.
    limits : DriftLimits
    keys : mapping of int to GivenLabels
        Key frames whose labels are given, by place in the stack.
    known : mapping of int to GivenLabels
        Frames that were done before.
    search : GivenLabels or None
        Where to look for key frames among `frames`.
    method : FrameMethod or None
        Labels the frame `prompted`, which is a key frame then.
    prompted : int or None
    """

    stack: LayerFrames
    frames: Sequence[int]
    wanted: Sequence[int]
    limits: DriftLimits
    keys: Mapping[int, GivenLabels] = field(default_factory=dict)
    known: Mapping[int, GivenLabels] = field(default_factory=dict)
    search: GivenLabels | None = None
    method: FrameMethod | None = None
    prompted: int | None = None

    def steps(self, predictor: Predictor) -> Iterator[Step]:
        """Yield the key frames, then a result for each frame until it drifts."""
        from napari_kdsam.segmentation.following import Following

        keys = {
            frame: partial(given.of, self.stack.index(frame))
            for frame, given in self.keys.items()
        }
        if self.search is not None:
            for frame in self.frames:
                yield Note()
                index = self.stack.index(frame)
                if self.search.of(index).labels.any():
                    keys[frame] = partial(self.search.of, index)
        if self.method is not None and self.prompted is not None:
            keys[self.prompted] = partial(self._prompted, predictor, self.method)
        yield KeysFound(frozenset(keys))
        following = Following(predictor, self.stack, keys, self._known, self.limits)
        for step in following.label(self.frames, self.wanted):
            yield Note() if step is None else FrameEnded(Item(0, step[0]), step[1])

    def _prompted(self, predictor: Predictor, method: FrameMethod) -> FrameLabels:
        assert self.prompted is not None
        pixels = self.stack.pixels(self.prompted)
        return method.label(predictor, self.prompted, pixels)

    def _known(self, frame: int) -> FrameLabels | None:
        given = self.known.get(frame)
        return None if given is None else given.of(self.stack.index(frame))


class PredictorKeeper:
    """Keeps the predictor of the model that was used last; for one thread at a time.

    Parameters
    ----------
    factory : callable
        Makes a predictor from a model's and a device's name.
    """

    def __init__(self, factory: PredictorFactory) -> None:
        self._factory = factory
        self._name: tuple[str, str] | None = None
        self._predictor: Predictor | None = None

    def predictor(self, model: str, device: str) -> Predictor:
        """The predictor of a model, loaded if it is another one than before."""
        if self._predictor is None or self._name != (model, device):
            # The old model is let go first: two large ones might not fit in memory.
            self._predictor = None
            self._predictor = self._factory(model, device)
            self._name = (model, device)
        return self._predictor


def run_job(
    job: LayerJob, keeper: PredictorKeeper, model: str, device: str
) -> Generator[Step, None, None]:
    """Do a job step by step; never raises, and always ends with `Finished`."""
    try:
        yield Note('Loading the model…')
        predictor = keeper.predictor(model, device)
        yield Ready()
        yield from job.steps(predictor)
    except Exception as error:  # noqa: BLE001
        yield Finished(_reason(error))
    else:
        yield Finished()


def _reason(error: Exception) -> str:
    if isinstance(error, KDSAMError):
        return str(error)
    if isinstance(error, MemoryError):
        return 'There is not enough memory; close other programs or use smaller images.'
    _logger.exception('A batch failed', exc_info=error)
    return f'Segmenting failed: {error}'
