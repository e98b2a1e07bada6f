"""Follow objects through a stack: the mask of one frame is the prompt of the next."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_kdsam.core.errors import KDSAMError, PromptError
from napari_kdsam.core.geometry import Box, Mask, Masks, box_of_mask
from napari_kdsam.core.label_image import without_overlaps
from napari_kdsam.core.mask_prompts import logits_of_mask
from napari_kdsam.core.prompts import Point, Prompt
from napari_kdsam.core.sizes import LOGITS_SIZE

if TYPE_CHECKING:
    from napari_kdsam.inference.predictor import ImageEmbedding, Predictor

Look = NDArray[np.float32]

# Of the box's sides, on each side: room for the object to move and to grow.
_BOX_GROWTH = 0.05


@dataclass(frozen=True)
class DriftLimits:
    """When a mask is no longer believed to be the object of the frame before.

    Attributes
    ----------
    overlap : float
        Smallest IoU with the object's mask on the frame before, 0..1.
    area_ratio : float
        Largest factor by which the area may grow or shrink in one step, above 1.
    score : float
        Smallest predicted IoU, 0..1.
    similarity : float
        Smallest similarity to the object on the key frame, -1..1: the cosine between the
        means of the embedding inside the two masks.

    Raises
    ------
    PromptError
        If a limit is out of its range.
    """

    overlap: float = 0.4
    area_ratio: float = 1.5
    score: float = 0.6
    # A box is answered by a mask of its size even where there is no object, so that
    # only this tells: measured on cines, 0.91 and more for the object that was
    # followed, and 0.86 or less for whatever else was in its box.
    similarity: float = 0.88

    def __post_init__(self) -> None:
        if not 0 <= self.overlap <= 1 or not 0 <= self.score <= 1:
            raise PromptError('Limits of overlap and score must be from 0 to 1.')
        if not -1 <= self.similarity <= 1:
            raise PromptError('The limit of similarity must be from -1 to 1.')
        if not self.area_ratio > 1:
            raise PromptError('The limit of the change of area must be above 1.')

    def warning(
        self,
        label: int,
        before: Mask,
        after: Mask,
        score: float,
        similarity: float | None = None,
    ) -> str:
        """Say what looks wrong with a step, or nothing.

        Parameters
        ----------
        label : int
            The object's, for the sentence.
        before, after : numpy.ndarray
            (rows, columns) bool, the object on this frame and on the one before.
        score : float
            Predicted IoU of `after`.
        similarity : float, optional
            To the object on the key frame, if it is known.

        Returns
        -------
        str
            A sentence; empty if the step is believed.
        """
        area, earlier = int(after.sum()), int(before.sum())
        if area == 0:
            return f'Object {label} was not found.'
        shared = int((before & after).sum())
        overlap = shared / (area + earlier - shared)
        if similarity is not None and similarity < self.similarity:
            return f'Object {label} looks different: similarity {similarity:.2f}.'
        if area > self.area_ratio * earlier:
            return f'Object {label} grew to {area / earlier:.1f} times its area.'
        if earlier > self.area_ratio * area:
            return f'Object {label} shrank to {area / earlier:.0%} of its area.'
        if overlap < self.overlap:
            return (
                f'Object {label} jumped: it overlaps the last frame by {overlap:.2f}.'
            )
        if score < self.score:
            return f'Object {label} is uncertain: its predicted overlap is {score:.2f}.'
        return ''


@dataclass(frozen=True, eq=False)
class PropagatedFrame:
    """What became of one frame.

    Attributes
    ----------
    index : int
        Of the frame.
    masks : mapping of int to numpy.ndarray
        (rows, columns) bool by label, without overlaps: the lower label keeps a pixel.
        An object that was not found is left out.
    scores : mapping of int to float
        Predicted IoU by label; empty for a key frame.
    drift : str
        Why this looks like drift, and nothing further this way was done; empty if it
        does not.
    error : str
        Why there are no masks; empty if there are. The next frame is prompted by the
        last masks there were.
    """

    index: int
    masks: Masks = field(default_factory=dict)
    scores: Mapping[int, float] = field(default_factory=dict)
    drift: str = ''
    error: str = ''


def propagate(
    predictor: Predictor,
    embed_frame: Callable[[int], ImageEmbedding],
    key_frames: Mapping[int, Masks],
    frames: Sequence[int],
    limits: DriftLimits | None = None,
) -> Iterator[PropagatedFrame]:
    """Follow the objects of key frames through a stack, a frame for each step.

    Forward from each key frame to the one before the next key frame, then backward
    from the first key frame. A key frame's masks are taken as they are, and replace
    what was followed so far. A frame that looks like drift is still yielded, as the
    last one this way.

    Parameters
    ----------
    predictor : Predictor
    embed_frame : callable
        Makes the embedding of a frame by `predictor`. A `KDSAMError` that it raises
        becomes the frame's `error`.
    key_frames : mapping of int to mapping of int to numpy.ndarray
        Masks (rows, columns) by label, by frame; they need not be among `frames`.
    frames : sequence of int
        What to do, in any order. Frames in between that are left out are passed over.
    limits : DriftLimits, optional

    Yields
    ------
    PropagatedFrame
        In the order in which the frames are done.

    Raises
    ------
    PromptError
        If no key frame has an object.
    """
    known = {index: _present(masks) for index, masks in key_frames.items()}
    if not any(known.values()):
        raise PromptError('There is no object to follow; label one on a frame first.')
    walk = _Walk(predictor, embed_frame, limits or DriftLimits())
    wanted = sorted(set(frames))
    keys = sorted(known)
    for place, key in enumerate(keys):
        end = keys[place + 1] if place + 1 < len(keys) else None
        if key in wanted:
            yield PropagatedFrame(key, known[key])
        onward = [i for i in wanted if i > key and (end is None or i < end)]
        yield from walk.follow(key, known[key], onward)
    back = [i for i in reversed(wanted) if i < keys[0]]
    yield from walk.follow(keys[0], known[keys[0]], back)


def follow(
    predictor: Predictor,
    embed_frame: Callable[[int], ImageEmbedding],
    key: tuple[int, Masks],
    last: Masks,
    frames: Sequence[int],
    limits: DriftLimits | None = None,
) -> Iterator[PropagatedFrame]:
    """Go on with a propagation that was stopped.

    Parameters
    ----------
    predictor, embed_frame, limits
        As for `propagate`.
    key : tuple of (int, mapping of int to numpy.ndarray)
        The key frame and its masks, which objects must go on looking like.
    last : mapping of int to numpy.ndarray
        Masks (rows, columns) by label of the last frame that is done.
    frames : sequence of int
        What is still to do, one way, in order.

    Yields
    ------
    PropagatedFrame
        The same as if it had never been stopped.
    """
    walk = _Walk(predictor, embed_frame, limits or DriftLimits())
    return walk.follow(key[0], _present(key[1]), frames, _present(last))


def _present(masks: Masks) -> Masks:
    found = {label: np.asarray(mask, np.bool_) for label, mask in masks.items()}
    return {label: mask for label, mask in found.items() if mask.any()}


@dataclass(frozen=True, eq=False)
class _Walk:
    predictor: Predictor
    embed_frame: Callable[[int], ImageEmbedding]
    limits: DriftLimits

    def follow(
        self,
        key: int,
        key_masks: Masks,
        frames: Sequence[int],
        last: Masks | None = None,
    ) -> Iterator[PropagatedFrame]:
        masks = key_masks if last is None else last
        if not masks or not frames:
            return
        looks = self._looks_of_key(key, key_masks)
        for index in frames:
            try:
                embedding = self.embed_frame(index)
                prompts = [prompt_of_mask(mask) for mask in masks.values()]
                predictions = self.predictor.predict_many(embedding, prompts)
            except KDSAMError as error:
                yield PropagatedFrame(index, error=str(error))
                continue
            found = dict(zip(masks, predictions, strict=True))
            warnings = [
                self.limits.warning(
                    label,
                    masks[label],
                    prediction.mask,
                    prediction.score,
                    _similarity(looks.get(label), embedding, prediction.mask),
                )
                for label, prediction in found.items()
            ]
            done = PropagatedFrame(
                index,
                without_overlaps({label: p.mask for label, p in found.items()}),
                {label: p.score for label, p in found.items()},
                ' '.join(warning for warning in warnings if warning),
            )
            yield done
            if done.drift:
                return
            masks = done.masks

    def _looks_of_key(self, key: int, masks: Masks) -> dict[int, Look | None]:
        try:
            embedding = self.embed_frame(key)
        except KDSAMError:
            # Its masks are known without its pixels; only the similarity is not.
            return {}
        return {label: _look(embedding, mask) for label, mask in masks.items()}


def _look(embedding: ImageEmbedding, mask: Mask) -> Look | None:
    """(256,) mean of the embedding inside a mask; None if it has no direction."""
    features = embedding.features[0].float().cpu().numpy()
    rows, columns = features.shape[1:]
    logits = logits_of_mask(mask)
    steps = (LOGITS_SIZE // rows, LOGITS_SIZE // columns)
    share = logits.reshape(rows, steps[0], columns, steps[1]).mean(axis=(1, 3))
    inside = share - logits.min()
    look = (features * inside).sum(axis=(1, 2))
    length = float(np.linalg.norm(look))
    return look / length if length > 0 else None


def _similarity(
    key: Look | None, embedding: ImageEmbedding, mask: Mask
) -> float | None:
    if key is None or not mask.any():
        return None
    look = _look(embedding, mask)
    return None if look is None else float(key @ look)


def prompt_of_mask(mask: NDArray[Any]) -> Prompt:
    """Prompt for the object of a mask on a frame that differs a little.

    Parameters
    ----------
    mask : numpy.ndarray
        (rows, columns) bool, not empty.

    Returns
    -------
    Prompt
        The box around the mask, a little larger, and its most interior point.

    Raises
    ------
    PromptError
        If the mask is empty.
    """
    around = box_of_mask(np.asarray(mask, bool))
    if around is None:
        raise PromptError('An empty mask says nothing about where the object is.')
    row0, col0, row1, col1 = around
    rows, columns = _BOX_GROWTH * (row1 - row0), _BOX_GROWTH * (col1 - col0)
    box: Box = (row0 - rows, col0 - columns, row1 + rows, col1 + columns)
    return Prompt(points=[_most_interior(mask[row0:row1, col0:col1], around)], box=box)


def _most_interior(inside: NDArray[Any], around: tuple[int, int, int, int]) -> Point:
    from scipy import ndimage

    # A border of background, so that a mask cut by the image's edge is not deep there.
    depth = np.asarray(ndimage.distance_transform_edt(np.pad(inside, 1)))[1:-1, 1:-1]
    row, column = np.unravel_index(int(np.argmax(depth)), depth.shape)
    return float(row) + around[0], float(column) + around[1]
