"""Whether what was found on a frame is still the object that is followed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_kdsam.core.errors import PromptError
from napari_kdsam.core.geometry import Mask, Masks
from napari_kdsam.core.mask_prompts import logits_of_mask
from napari_kdsam.core.sizes import LOGITS_SIZE

if TYPE_CHECKING:
    from napari_kdsam.inference.predictor import ImageEmbedding

Look = NDArray[np.float32]
# In cells of the embedding, 1/64 of the longer side each: how far around an object its
# surroundings reach, and how far anything may have moved since the frame before.
_AROUND, _REACH = 3, 4


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
    continuity : float
        Smallest likeness of the object and what is around it to the frame before, -1..1:
        the mean, over places, of the cosine to the most similar place near by.
    agreement : float
        Smallest IoU of the masks that an object has on a frame when it is followed from
        two key frames, 0..1.

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
    # Whatever moves is found near by; a cut changes everything at once. Measured on cines:
    # 0.97 and more while an object is followed, 0.92 or less on a cut.
    continuity: float = 0.94
    # Measured on a heart, 29 frames between the key frames: 0.47 where what lies between is
    # still right (Dice 0.82).
    agreement: float = 0.4

    def __post_init__(self) -> None:
        if not all(0 <= n <= 1 for n in (self.overlap, self.score, self.agreement)):
            raise PromptError(
                'Limits of overlap, score and agreement must be from 0 to 1.'
            )
        if not all(-1 <= n <= 1 for n in (self.similarity, self.continuity)):
            raise PromptError(
                'Limits of similarity and continuity must be from -1 to 1.'
            )
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
        continuity: float | None = None,
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
        continuity : float, optional
            From the frame before, if it is known.

        Returns
        -------
        str
            A sentence; empty if the step is believed.
        """
        area, earlier = int(after.sum()), int(before.sum())
        if area == 0:
            return f'Object {label} was not found.'
        overlap = iou_of(before, after)
        if similarity is not None and similarity < self.similarity:
            return f'Object {label} looks different: similarity {similarity:.2f}.'
        if continuity is not None and continuity < self.continuity:
            return (
                f'Object {label} may be in another scene: continuity {continuity:.2f}.'
            )
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


def iou_of(first: Mask, second: Mask) -> float:
    """Share of what is in one of two masks that is in both; 0 if both are empty."""
    both = int(np.count_nonzero(first & second))
    return both / max(int(np.count_nonzero(first | second)), 1)


def looks_of(embedding: ImageEmbedding | None, masks: Masks) -> dict[int, Look | None]:
    """What objects look like in an embedding, by label; nothing without an embedding."""
    if embedding is None:
        return {}
    return {label: _look(embedding, mask) for label, mask in masks.items()}


def _look(embedding: ImageEmbedding, mask: Mask) -> Look | None:
    """(256,) mean of the embedding inside a mask; None if it has no direction."""
    features = _features(embedding)
    look = (features * _share(mask, features.shape[1:])).sum(axis=(1, 2))
    length = float(np.linalg.norm(look))
    return look / length if length > 0 else None


def _features(embedding: ImageEmbedding) -> NDArray[np.float32]:
    """(256, rows, columns) of an embedding."""
    found: NDArray[np.float32] = embedding.features[0].float().cpu().numpy()
    return found


def _share(mask: Mask, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """How much of each cell of an embedding is inside a mask, not to any scale."""
    rows, columns = shape
    logits = logits_of_mask(mask)
    steps = (LOGITS_SIZE // rows, LOGITS_SIZE // columns)
    share = logits.reshape(rows, steps[0], columns, steps[1]).mean(axis=(1, 3))
    return np.asarray(share - logits.min())


def similarity_to(
    key: Look | None, embedding: ImageEmbedding, mask: Mask
) -> float | None:
    """Cosine between a look and that of a mask; None if one of them has none."""
    if key is None or not mask.any():
        return None
    look = _look(embedding, mask)
    return None if look is None else float(key @ look)


def continuity_of(
    earlier: ImageEmbedding | None, embedding: ImageEmbedding, mask: Mask
) -> float | None:
    """Say how much of an object and its surroundings was near by on the frame before.

    Parameters
    ----------
    earlier, embedding : ImageEmbedding
        Of the frame before, where it is known, and of this one.
    mask : numpy.ndarray
        (rows, columns) bool, the object on this frame.

    Returns
    -------
    float or None
        See `DriftLimits`; None if there is nothing to compare.
    """
    if earlier is None or not mask.any():
        return None
    from scipy import ndimage

    now, before = _features(embedding), _features(earlier)
    rows, columns = now.shape[1:]
    share = _share(mask, (rows, columns))
    scale = max(mask.shape)
    inside = np.zeros((rows, columns), np.bool_)
    inside[
        : -(-rows * mask.shape[0] // scale), : -(-columns * mask.shape[1] // scale)
    ] = 1
    near = ndimage.binary_dilation(share > share.max() / 2, iterations=_AROUND) & inside
    near &= (now != 0).any(axis=0)
    if not near.any() or not before.any():
        return None
    at = np.nonzero(near)
    here = _unit(now[:, near])
    room = [(0, 0), (_REACH, _REACH), (_REACH, _REACH)]
    there = np.pad(_unit(before), room)
    best = np.full(at[0].size, -1.0, np.float32)
    for down, right in np.ndindex(2 * _REACH + 1, 2 * _REACH + 1):
        if (down - _REACH) ** 2 + (right - _REACH) ** 2 <= _REACH**2:
            other = there[:, at[0] + down, at[1] + right]
            best = np.maximum(best, np.einsum('cn,cn->n', here, other))
    return float(best.mean())


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Vectors along the first axis, of length 1; those without a direction stay."""
    length = np.linalg.norm(vectors, axis=0)
    return np.asarray(vectors / np.where(length > 0, length, 1), np.float32)
