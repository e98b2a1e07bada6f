"""What a batch does in its thread: reads frames, asks the model, packs the masks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_kdsam.annotation.draft_prompts import objects_of, prompts_of
from napari_kdsam.annotation.region import PixelRegion
from napari_kdsam.annotation.state import Draft
from napari_kdsam.core.errors import ImageError, KDSAMError, PromptError
from napari_kdsam.core.stack_index import FrameIndex, frame_at
from napari_kdsam.widgets.batch.progress import FrameResult, Item

if TYPE_CHECKING:
    from napari_kdsam.core.prompts import Prompt
    from napari_kdsam.inference.predictor import ImageEmbedding, Predictor
    from napari_kdsam.inference.propagation import DriftLimits
    from napari_kdsam.widgets.shared.inference_thread import PredictorFactory

_logger = logging.getLogger(__name__)
Mask = NDArray[np.bool_]
FrameReader = Callable[[FrameIndex], Any]
Finder = Callable[[NDArray[Any]], Sequence[Mask]]


@dataclass(frozen=True, eq=False)
class Stack:
    """An image layer as it was when the batch began.

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
        """Read a frame.

        Raises
        ------
        ImageError
            If it cannot be read.
        """
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


@dataclass(frozen=True)
class Finished:
    """The end: all frames were tried, or the run failed as a whole."""

    error: str = ''


Step = FrameResult | Note | Ready | KeysFound | Finished


@dataclass(frozen=True, eq=False)
class PromptedJob:
    """Predict the objects of each frame from its own prompts.

    Attributes
    ----------
    stacks : sequence of Stack
    drafts : mapping of Item to tuple of Draft
        One draft for each object.
    first_label : int
        Of the first object of a frame.
    second_look : bool
        Whether small objects of large frames are looked at again.
    """

    stacks: Sequence[Stack]
    drafts: Mapping[Item, tuple[Draft, ...]]
    first_label: int = 1
    second_look: bool = True

    def steps(self, predictor: Predictor) -> Iterator[Step]:
        """Yield a result for each frame."""
        for item, drafts in self.drafts.items():
            stack = self.stacks[item.image]

            def find(
                pixels: NDArray[Any],
                stack: Stack = stack,
                drafts: tuple[Draft, ...] = drafts,
            ) -> list[Mask]:
                return _masks(
                    predictor,
                    pixels,
                    _prompts(stack, drafts),
                    second_look=self.second_look,
                )

            yield _tried(stack, item, find, self.first_label)


@dataclass(frozen=True, eq=False)
class UnpromptedJob:
    """Find the objects of each frame without prompts.

    Attributes
    ----------
    stacks : sequence of Stack
    items : sequence of Item
    finder : callable
        Makes of a predictor what finds (rows, columns) masks in a frame's pixels.
    first_label : int
        Of the first object of a frame.
    """

    stacks: Sequence[Stack]
    items: Sequence[Item]
    finder: Callable[[Predictor], Finder]
    first_label: int = 1

    def steps(self, predictor: Predictor) -> Iterator[Step]:
        """Yield a result for each frame."""
        find = self.finder(predictor)
        for item in self.items:
            yield _tried(self.stacks[item.image], item, find, self.first_label)


@dataclass(frozen=True, eq=False)
class Start:
    """Where the masks of a frame that others are followed from come from.

    Attributes
    ----------
    read : callable
        Reads the (rows, columns) labels of a frame by its index.
    labels : frozenset of int or None
        Which of them; None for all.
    """

    read: FrameReader
    labels: frozenset[int] | None = None


@dataclass(frozen=True, eq=False)
class FollowJob:
    """Follow objects from key frames through a stack.

    Attributes
    ----------
    stack : Stack
    frames : sequence of int
        What is to do.
    limits : DriftLimits
    starts : mapping of int to Start
        Key frames, by place in the stack.
    search : Start or None
        Where to look for key frames among `frames`.
    drafts : tuple of Draft
        Prompts of objects on the frame `prompted`, which is a key frame then.
    prompted : int or None
    first_label : int
        Of the first prompted object.
    """

    stack: Stack
    frames: Sequence[int]
    limits: DriftLimits
    starts: Mapping[int, Start] = field(default_factory=dict)
    search: Start | None = None
    drafts: tuple[Draft, ...] = ()
    prompted: int | None = None
    first_label: int = 1

    def steps(self, predictor: Predictor) -> Iterator[Step]:
        """Yield the key frames, then a result for each frame until it drifts."""
        from napari_kdsam.inference.propagation import propagate

        keys: dict[int, dict[int, Mask]] = {}
        for frame, start in self.starts.items():
            keys[frame] = self._labelled(frame, start)
        if self.search is not None:
            for frame in self.frames:
                yield Note()
                found = self._labelled(frame, self.search)
                if found:
                    keys[frame] = found
        if self.prompted is not None:
            pixels = self.stack.pixels(self.prompted)
            prompts = _prompts(self.stack, self.drafts)
            masks = _masks(predictor, pixels, prompts, second_look=False)
            keys[self.prompted] = _numbered(masks, self.first_label)
        yield KeysFound(frozenset(keys))
        for done in propagate(
            predictor,
            lambda frame: self._embed(predictor, frame),
            keys,
            self.frames,
            self.limits,
        ):
            yield FrameResult(
                Item(0, done.index),
                _packed(self.stack.index(done.index), done.masks),
                done.doubt,
                done.error,
            )

    def _embed(self, predictor: Predictor, frame: int) -> ImageEmbedding:
        return predictor.embed(self.stack.pixels(frame))

    def _labelled(self, frame: int, start: Start) -> dict[int, Mask]:
        labels = np.asarray(start.read(self.stack.index(frame)))
        present = (int(value) for value in np.unique(labels) if value > 0)
        return {
            value: labels == value
            for value in present
            if start.labels is None or value in start.labels
        }


Job = PromptedJob | UnpromptedJob | FollowJob


class Engine:
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
    job: Job, engine: Engine, model: str, device: str
) -> Generator[Step, None, None]:
    """Do a job step by step; never raises, and always ends with `Finished`."""
    try:
        yield Note('Loading the model…')
        predictor = engine.predictor(model, device)
        yield Ready()
        yield from job.steps(predictor)
    except Exception as error:  # noqa: BLE001
        yield Finished(_reason(error))
    else:
        yield Finished()


def everything(predictor: Predictor) -> Finder:
    """Make what finds all that stands out in a frame, the best first."""
    from napari_kdsam.inference.automatic import segment_everything

    def find(pixels: NDArray[Any]) -> list[Mask]:
        found = segment_everything(predictor, predictor.embed(pixels))
        return [item.mask for item in found]

    return find


def likely_objects(predictor: Predictor, *, second_look: bool = True) -> Finder:
    """Make what finds the objects that the proposal head was trained on."""
    from napari_kdsam.core.prompts import Prompt
    from napari_kdsam.inference.proposals import load_proposal_head, propose_boxes

    head = load_proposal_head(predictor)

    def find(pixels: NDArray[Any]) -> list[Mask]:
        embedding = predictor.embed(pixels)
        boxes = [proposal.box for proposal in propose_boxes(head, embedding)]
        prompts = [Prompt(box=box) for box in boxes]
        return _masks(predictor, pixels, prompts, embedding, second_look=second_look)

    return find


def separate(draft: Draft, each_point: bool) -> tuple[Draft, ...]:
    """Split a draft into its objects.

    Parameters
    ----------
    draft : Draft
    each_point : bool
        Whether each point inside is an object of its own, where no box is drawn;
        points outside count for all of them.
    """
    inside = [point for point in draft.points if point.positive]
    if not each_point or draft.boxes or len(inside) < 2:
        return objects_of(draft)
    outside = tuple(point for point in draft.points if not point.positive)
    return tuple(Draft(points=(point, *outside)) for point in inside)


def _prompts(stack: Stack, drafts: Iterable[Draft]) -> list[Prompt]:
    prompts = [prompts_of(draft, stack.plane_shape)[0] for draft in drafts]
    if not prompts:
        raise PromptError('There are no prompts on this frame; add a point or a box.')
    return prompts


def _masks(
    predictor: Predictor,
    pixels: NDArray[Any],
    prompts: Sequence[Prompt],
    embedding: ImageEmbedding | None = None,
    *,
    second_look: bool,
) -> list[Mask]:
    from napari_kdsam.inference.second_look import masks_of_prompts

    embedding = embedding or predictor.embed(pixels)
    found = masks_of_prompts(
        predictor, pixels, embedding, prompts, second_look=second_look
    )
    return [mask for mask, _ in found]


def _tried(
    stack: Stack,
    item: Item,
    find: Finder,
    first_label: int,
) -> FrameResult:
    try:
        masks = find(stack.pixels(item.frame))
    except Exception as error:  # noqa: BLE001
        # The other frames go on, whatever is wrong with this one.
        return FrameResult(item, error=_reason(error))
    doubt = '' if any(mask.any() for mask in masks) else 'Nothing was found.'
    regions = _packed(stack.index(item.frame), _numbered(masks, first_label))
    return FrameResult(item, regions, doubt)


def _reason(error: Exception) -> str:
    if isinstance(error, KDSAMError):
        return str(error)
    if isinstance(error, MemoryError):
        return 'There is not enough memory; close other programs or use smaller images.'
    _logger.exception('A batch failed', exc_info=error)
    return f'Segmenting failed: {error}'


def _numbered(masks: Iterable[Mask], first_label: int) -> dict[int, Mask]:
    return dict(enumerate(masks, start=first_label))


def _packed(frame: FrameIndex, masks: Mapping[int, Mask]) -> dict[int, PixelRegion]:
    regions = {label: PixelRegion.of_mask(frame, mask) for label, mask in masks.items()}
    return {label: region for label, region in regions.items() if region is not None}
