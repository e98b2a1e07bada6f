"""Follow objects through a stack: each frame's mask changes as the answers to it do."""

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
# How far an outline is drawn to the answer itself on each frame. Measured on cines: none
# loses a polyp that comes near (Dice 0.64 instead of 0.84), more lets a heart grow.
_PULL = 0.15
# From the outline to the centres of the outermost pixels.
_RIM = 0.5


@dataclass(frozen=True)
class DriftLimits:
    """When a mask is no longer believed to be the object of the frame before.

    Attributes
    ----------
    overlap : float
        Smallest IoU with the object's mask on the frame before, 0..1.
    area_ratio : float
        Largest factor by which the area may grow or shrink in one step, above 1.
    key_area_ratio : float
        Largest factor by which the area may differ from that on the key frame, above 1.
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
    key_area_ratio: float = 2.0
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
        if not self.area_ratio > 1 or not self.key_area_ratio > 1:
            raise PromptError('Limits of the change of area must be above 1.')

    def warning(
        self,
        label: int,
        before: Mask,
        after: Mask,
        score: float,
        similarity: float | None = None,
        key: Mask | None = None,
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
        key : numpy.ndarray, optional
            (rows, columns) bool, the object on the key frame, if it is known.

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
        if key is not None and area > self.key_area_ratio * key.sum():
            return (
                f'Object {label} has grown to {area / key.sum():.1f} times its area on '
                'the key frame.'
            )
        if key is not None and key.sum() > self.key_area_ratio * area:
            return (
                f'Object {label} has shrunk to {area / key.sum():.0%} of its area on '
                'the key frame.'
            )
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
        yield from walk.follow((key, known[key]), (key, known[key]), onward)
    back = [i for i in reversed(wanted) if i < keys[0]]
    yield from walk.follow((keys[0], known[keys[0]]), (keys[0], known[keys[0]]), back)


def follow(
    predictor: Predictor,
    embed_frame: Callable[[int], ImageEmbedding],
    key: tuple[int, Masks],
    last: tuple[int, Masks],
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
    last : tuple of (int, mapping of int to numpy.ndarray)
        The last frame that is done, which may be the key frame, and its masks.
    frames : sequence of int
        What is still to do, one way, in order.

    Yields
    ------
    PropagatedFrame
        The same as if it had never been stopped.
    """
    walk = _Walk(predictor, embed_frame, limits or DriftLimits())
    known, done = (key[0], _present(key[1])), (last[0], _present(last[1]))
    return walk.follow(known, done, frames)


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
        key: tuple[int, Masks],
        last: tuple[int, Masks],
        frames: Sequence[int],
    ) -> Iterator[PropagatedFrame]:
        masks = last[1]
        if not masks or not frames:
            return
        key_embedding = self._known_embedding(key[0])
        looks = _looks(key_embedding, key[1])
        excess = self._excess(key_embedding, key[1])
        earlier = key_embedding if last[0] == key[0] else self._known_embedding(last[0])
        for index in frames:
            try:
                embedding = self.embed_frame(index)
                found = self._found(masks, earlier, embedding, excess)
            except KDSAMError as error:
                yield PropagatedFrame(index, error=str(error))
                continue
            warnings = [
                self.limits.warning(
                    label,
                    masks[label],
                    mask,
                    score,
                    _similarity(looks.get(label), embedding, mask),
                    key[1].get(label),
                )
                for label, (mask, score) in found.items()
            ]
            done = PropagatedFrame(
                index,
                without_overlaps({label: mask for label, (mask, _) in found.items()}),
                {label: score for label, (_, score) in found.items()},
                ' '.join(warning for warning in warnings if warning),
            )
            yield done
            if done.drift:
                return
            masks, earlier = done.masks, embedding

    def _found(
        self,
        masks: Masks,
        earlier: ImageEmbedding | None,
        embedding: ImageEmbedding,
        excess: Mapping[int, float],
    ) -> dict[int, tuple[Mask, float]]:
        """Mask and predicted IoU by label on the next frame."""
        prompts = [prompt_of_mask(mask) for mask in masks.values()]
        answers = self.predictor.predict_many(embedding, prompts)
        now = {
            label: (answer.mask, float(answer.score))
            for label, answer in zip(masks, answers, strict=True)
        }
        if earlier is None:
            return now
        # What the network makes of a prompt differs a little from the mask it came
        # from, always the same way: taken as it is, it would add up frame by frame.
        before = self.predictor.predict_many(earlier, prompts)
        return {
            label: (
                changed_alike(masks[label], answer.mask, mask, excess.get(label)),
                score,
            )
            for (label, (mask, score)), answer in zip(now.items(), before, strict=True)
        }

    def _excess(
        self, embedding: ImageEmbedding | None, masks: Masks
    ) -> dict[int, float]:
        """How far the answers on the key frame reach beyond its masks, see `excess_of`."""
        if embedding is None:
            return {}
        prompts = [prompt_of_mask(mask) for mask in masks.values()]
        try:
            answers = self.predictor.predict_many(embedding, prompts)
        except KDSAMError:
            return {}
        pairs = zip(masks.items(), answers, strict=True)
        return {label: excess_of(answer.mask, mask) for (label, mask), answer in pairs}

    def _known_embedding(self, frame: int) -> ImageEmbedding | None:
        """Embedding of a frame whose masks are known; None without its pixels."""
        try:
            return self.embed_frame(frame)
        except KDSAMError:
            return None


def _looks(embedding: ImageEmbedding | None, masks: Masks) -> dict[int, Look | None]:
    if embedding is None:
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


def changed_alike(
    mask: Mask, before: Mask, after: Mask, excess: float | None = None
) -> Mask:
    """Move the outline of a mask as that of the answers to it has moved.

    Parameters
    ----------
    mask : numpy.ndarray
        (rows, columns) bool.
    before, after : numpy.ndarray
        (rows, columns) bool, the answers to the mask's prompt on its own frame and on
        the next one.
    excess : float, optional
        How far answers reach beyond the object, from `excess_of`. If it is given, the
        outline is drawn a little to where `after` says that it is.

    Returns
    -------
    numpy.ndarray
        (rows, columns) bool: where the signed distance to the outline of `mask`, plus
        what that of the answer has gained, is positive. `after` itself if there is
        nothing to compare.
    """
    if not (mask.any() and before.any() and after.any()):
        return after
    part = _part_around(mask | before | after)
    depth = _depth(after[part])
    moved = _depth(mask[part]) + depth - _depth(before[part])
    if excess is not None:
        depth -= excess * np.sqrt(mask.sum())
        moved += _PULL * (depth - moved)
    result = np.zeros_like(after)
    result[part] = moved > 0
    return result


def excess_of(answer: Mask, mask: Mask) -> float:
    """Say how far an answer reaches beyond the object that it is for.

    Parameters
    ----------
    answer, mask : numpy.ndarray
        (rows, columns) bool.

    Returns
    -------
    float
        Median distance of the answer's outline from that of the mask, as a share of
        the square root of the mask's area; negative where it falls short. 0 if one of
        them is empty.
    """
    if not (mask.any() and answer.any()):
        return 0.0
    part = _part_around(mask | answer)
    rim = _depth(mask[part]) == _RIM
    beyond = np.median(_depth(answer[part])[rim]) - _RIM
    return float(beyond / np.sqrt(mask.sum()))


def _part_around(mask: Mask) -> tuple[slice, slice]:
    """The rows and columns of a mask that is not empty."""
    around = box_of_mask(mask)
    assert around is not None
    return slice(around[0], around[2]), slice(around[1], around[3])


def _depth(mask: Mask) -> NDArray[np.float64]:
    """Distance to the outline in pixels, negative outside."""
    from scipy import ndimage

    # A border of background: a mask that fills the picture has an outline, too.
    padded = np.pad(mask, 1)
    inside = ndimage.distance_transform_edt(padded)
    outside = ndimage.distance_transform_edt(~padded)
    # The outline runs between pixels, as far from the centres on both sides.
    depth = np.where(padded, inside - _RIM, _RIM - outside)
    return np.asarray(depth)[1:-1, 1:-1]


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
