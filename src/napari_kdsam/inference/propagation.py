"""Follow objects through a stack: each frame's mask changes as the answers to it do."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_kdsam.core.errors import KDSAMError, PromptError
from napari_kdsam.core.geometry import Box, Mask, Masks, box_of_mask
from napari_kdsam.core.label_image import without_overlaps
from napari_kdsam.core.prompts import Point, Prompt
from napari_kdsam.inference.drift import (
    DriftLimits,
    continuity_of,
    iou_of,
    looks_of,
    similarity_to,
)
from napari_kdsam.inference.outlines import changed_alike, excess_of, mask_between

if TYPE_CHECKING:
    from napari_kdsam.inference.predictor import ImageEmbedding, Predictor

# Of the box's sides, on each side: room for the object to move and to grow.
_BOX_GROWTH = 0.05


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

    Between two key frames from both of them, see `follow_between`; then forward from the
    last, and backward from the first. A key frame's masks are taken as they are. Outside
    the key frames, a frame that looks like drift is still yielded, as the last one that
    way.

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
    known = [(index, _present(key_frames[index])) for index in sorted(key_frames)]
    if not any(masks for _, masks in known):
        raise PromptError('There is no object to follow; label one on a frame first.')
    walk = _Walk(predictor, embed_frame, limits or DriftLimits())
    wanted = sorted(set(frames))
    for place, key in enumerate(known):
        if place:
            before = known[place - 1]
            inside = [i for i in wanted if before[0] < i < key[0]]
            for done in walk.follow_between(before, key, inside, inside):
                if done is not None:
                    yield done
        if key[0] in wanted:
            yield PropagatedFrame(*key)
    first, last = known[0], known[-1]
    yield from walk.follow(last, last, [i for i in wanted if i > last[0]])
    back = [i for i in reversed(wanted) if i < first[0]]
    yield from walk.follow(first, first, back)


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


def follow_between(
    predictor: Predictor,
    embed_frame: Callable[[int], ImageEmbedding],
    first: tuple[int, Masks],
    second: tuple[int, Masks],
    frames: Sequence[int],
    wanted: Sequence[int],
    limits: DriftLimits | None = None,
) -> Iterator[PropagatedFrame | None]:
    """Follow the objects of two key frames through the frames between them.

    Backward from the second, then forward from the first: the nearer a key frame, the
    more its outline counts. An object that is on one of them only is followed from that
    one. What looks like drift one way is taken from the other way, and where both ways
    have broken off there are no masks. It depends on nothing but the two key frames and
    the frames between, so that it can be done again from the start.

    Parameters
    ----------
    predictor, embed_frame, limits
        As for `propagate`.
    first, second : tuple of (int, mapping of int to numpy.ndarray)
        The key frames and their masks.
    frames : sequence of int
        All between them through which objects are followed, in order.
    wanted : sequence of int
        Those of them that are to do, in order.

    Yields
    ------
    PropagatedFrame or None
        Each of `wanted` that is reached, in order; `drift` does not end anything here.
        None after each frame of the way back.
    """
    walk = _Walk(predictor, embed_frame, limits or DriftLimits())
    known = [(frame, _present(masks)) for frame, masks in (first, second)]
    return walk.follow_between(known[0], known[1], frames, wanted)


def _present(masks: Masks) -> Masks:
    found = {label: np.asarray(mask, np.bool_) for label, mask in masks.items()}
    return {label: mask for label, mask in found.items() if mask.any()}


@dataclass(frozen=True, eq=False)
class _Packed:
    """A frame in a few kilobytes, so that a long way back takes no memory to speak of."""

    found: PropagatedFrame
    shape: tuple[int, int]
    masks: Mapping[int, bytes]

    @classmethod
    def of(cls, found: PropagatedFrame) -> _Packed:
        shapes = [mask.shape for mask in found.masks.values()]
        rows, columns = shapes[0] if shapes else (0, 0)
        packed = {
            label: zlib.compress(np.packbits(mask).tobytes(), 1)
            for label, mask in found.masks.items()
        }
        return cls(replace(found, masks={}), (rows, columns), packed)

    def unpacked(self) -> PropagatedFrame:
        count = self.shape[0] * self.shape[1]
        masks = {}
        for label, packed in self.masks.items():
            bits = np.frombuffer(zlib.decompress(packed), np.uint8)
            whole = np.unpackbits(bits, count=count).astype(np.bool_)
            masks[label] = whole.reshape(self.shape)
        return replace(self.found, masks=masks)


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
        looks = looks_of(key_embedding, key[1])
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
                    similarity_to(looks.get(label), embedding, mask),
                    key[1].get(label),
                    continuity_of(earlier, embedding, mask),
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

    def follow_between(
        self,
        first: tuple[int, Masks],
        second: tuple[int, Masks],
        frames: Sequence[int],
        wanted: Sequence[int],
    ) -> Iterator[PropagatedFrame | None]:
        if not wanted:
            return
        back: dict[int, _Packed] = {}
        returning = [i for i in reversed(frames) if i >= wanted[0]]
        for done in self.follow(second, second, returning):
            back[done.index] = _Packed.of(done)
            yield None
        forward = self.follow(first, first, [i for i in frames if i <= wanted[-1]])
        ahead = next(forward, None)
        for index in frames:
            here, there = None, back.pop(index, None)
            if ahead is not None and ahead.index == index:
                here, ahead = ahead, next(forward, None)
            if index in wanted and (here or there):
                share = (index - first[0]) / (second[0] - first[0])
                way_back = None if there is None else there.unpacked()
                yield self._merged(share, (first, here), (second, way_back))

    def _merged(
        self,
        share: float,
        ahead: tuple[tuple[int, Masks], PropagatedFrame | None],
        back: tuple[tuple[int, Masks], PropagatedFrame | None],
    ) -> PropagatedFrame:
        """One frame of what was found both ways, `share` of the way to the second."""
        ways = [(key, found) for key, found in (ahead, back) if found is not None]
        index = ways[0][1].index
        read = [(key, found) for key, found in ways if not found.error]
        if not read:
            return ways[0][1]
        if share > 0.5:
            # What is taken from one of them is taken from the nearer.
            read.reverse()
            share = 1 - share
        masks: dict[int, Mask] = {}
        scores: dict[int, float] = {}
        notes = []
        for (_, known), found in sorted(read, key=lambda way: bool(way[1].drift)):
            new = set(found.masks) - set(masks)
            if found.drift and set(known) - set(masks):
                notes.append(found.drift)
            masks |= {label: found.masks[label] for label in new}
            scores |= {label: found.scores[label] for label in new}
        if len(read) == 2 and not any(found.drift for _, found in read):
            (near, found), (far, other) = read
            for label in sorted(found.masks.keys() & other.masks.keys()):
                overlap = iou_of(found.masks[label], other.masks[label])
                if overlap < self.limits.agreement:
                    notes.append(
                        f'Object {label} is uncertain: followed from frame {near[0]} '
                        f'and from frame {far[0]}, its masks overlap by {overlap:.2f}.'
                    )
                    continue
                masks[label] = mask_between(
                    found.masks[label], other.masks[label], share
                )
                scores[label] += share * (other.scores[label] - scores[label])
        return PropagatedFrame(index, without_overlaps(masks), scores, ' '.join(notes))

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
