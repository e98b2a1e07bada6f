"""From a frame's pixels to its labels, for frames that need no other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

from numpy.typing import NDArray

from napari_kdsam.core.errors import PromptError
from napari_kdsam.core.geometry import PaddedSquare
from napari_kdsam.core.prompts import Prompt
from napari_kdsam.segmentation.frame_labels import (
    FrameLabels,
    NothingToDo,
    label_masks,
)

if TYPE_CHECKING:
    import numpy as np

    from napari_kdsam.inference.predictor import ImageEmbedding, Predictor

NO_PROMPTS = 'there are no prompts for it'

# Label and prompt of an object.
NumberedPrompt = tuple[int, Prompt]


class Method(StrEnum):
    """Where the objects of a frame come from.

    Attributes
    ----------
    prompts
        The prompts for the image and frame.
    propagation
        Prompts on key frames, then from mask to mask through the stack.
    automatic
        Everything a grid of points finds.
    proposals
        The boxes that the bundled proposal head finds; no prompts.
    """

    prompts = 'prompts'
    propagation = 'propagation'
    automatic = 'automatic'
    proposals = 'proposals'

    @property
    def looks_again(self) -> bool:
        """Whether a second look is of use: each object has a prompt on its own frame."""
        return self in (Method.prompts, Method.proposals)


class FrameMethod(Protocol):
    """How one frame is labelled."""

    def label(
        self, predictor: Predictor, frame: int, pixels: NDArray[Any]
    ) -> FrameLabels:
        """Label a frame.

        Parameters
        ----------
        predictor : Predictor
        frame : int
            Place in the stack, counted from 0.
        pixels : numpy.ndarray
            (rows, columns), or with 3 or 4 channels last.

        Raises
        ------
        NothingToDo
            If there is nothing to look for.
        KDSAMError
            If the pixels or prompts cannot be used.
        """
        ...


@dataclass(frozen=True, eq=False)
class Prompted:
    """Predict the objects of a frame from its prompts; earlier ones keep the pixels.

    Attributes
    ----------
    prompts_of : callable
        Gives the (label, Prompt) pairs of a frame.
    second_look : bool
        Whether small objects of large frames are looked at again.
    on_object : callable
        Called with the numbers of objects of a frame that are done and to do.
    """

    prompts_of: Callable[[int], Sequence[NumberedPrompt]]
    second_look: bool = True
    on_object: Callable[[int, int], None] = lambda done, total: None

    def label(
        self, predictor: Predictor, frame: int, pixels: NDArray[Any]
    ) -> FrameLabels:
        """See `FrameMethod`."""
        prompts = self.prompts_of(frame)
        if not prompts:
            raise NothingToDo(NO_PROMPTS)
        embedding = predictor.embed(pixels)
        area = PaddedSquare(embedding.image_shape, 1)
        for label, prompt in prompts:
            try:
                prompt.within(area)
            except PromptError as error:
                raise PromptError(f'Object {label}: {error}') from error
        return _label_prompts(
            predictor, pixels, embedding, prompts, self.second_look, self.on_object
        )


@dataclass(frozen=True)
class Automatic:
    """Find everything that stands out in a frame, the surest first.

    Attributes
    ----------
    first_label : int
        Of the first object of a frame.
    """

    first_label: int = 1

    def label(
        self, predictor: Predictor, frame: int, pixels: NDArray[Any]
    ) -> FrameLabels:
        """See `FrameMethod`."""
        from napari_kdsam.inference.automatic import segment_everything

        embedding = predictor.embed(pixels)
        found = segment_everything(predictor, embedding)
        numbered = (
            (label, item.mask, item.score)
            for label, item in enumerate(found, self.first_label)
        )
        highest = self.first_label + len(found) - 1
        return label_masks(embedding.image_shape, numbered, highest, embedding.mapping)


@dataclass(frozen=True)
class Proposed:
    """Find the objects that the proposal head was trained on, and name them.

    Attributes
    ----------
    first_label : int
        Of the first object of a frame.
    second_look : bool
        Whether small objects of large frames are looked at again.
    """

    first_label: int = 1
    second_look: bool = True

    def label(
        self, predictor: Predictor, frame: int, pixels: NDArray[Any]
    ) -> FrameLabels:
        """See `FrameMethod`."""
        from napari_kdsam.inference.proposals import bundled_head, propose_boxes

        embedding = predictor.embed(pixels)
        proposals = propose_boxes(bundled_head(predictor), embedding)
        prompts = [
            (label, Prompt(box=item.box))
            for label, item in enumerate(proposals, self.first_label)
        ]
        found = _label_prompts(predictor, pixels, embedding, prompts, self.second_look)
        objects = tuple(
            replace(item, name=proposal.name)
            for item, proposal in zip(found.objects, proposals, strict=True)
        )
        return replace(found, objects=objects)


def _label_prompts(
    predictor: Predictor,
    pixels: NDArray[Any],
    embedding: ImageEmbedding,
    prompts: Sequence[NumberedPrompt],
    second_look: bool,
    on_object: Callable[[int, int], None] = lambda done, total: None,
) -> FrameLabels:
    from napari_kdsam.inference.second_look import masks_of_prompts

    found = masks_of_prompts(
        predictor,
        pixels,
        embedding,
        [prompt for _, prompt in prompts],
        second_look=second_look,
    )

    def numbered() -> Iterator[tuple[int, NDArray[np.bool_], float]]:
        pairs = zip(prompts, found, strict=True)
        for done, ((label, _), (mask, score)) in enumerate(pairs, 1):
            yield label, mask, score
            on_object(done, len(prompts))

    highest = max((label for label, _ in prompts), default=0)
    return label_masks(embedding.image_shape, numbered(), highest, embedding.mapping)
