"""Which masks are things: whole, sharply bounded, not labelled, not of the frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_kdsam.core.geometry import Mask
from napari_kdsam.training.config import FindingConfig

# The black around an endoscope's or a probe's view, with JPEG's noise.
_DARK = 20
_MIN_BORDER = 0.002
_MIN_LARGEST = 0.9
_MAX_HOLE = 0.03
_MAX_OUTSIDE = 0.5
_VIEW_IOU = 0.8
_MOST_SIDES = 2


@dataclass(frozen=True, eq=False)
class Thing:
    """A mask that may be kept.

    Attributes
    ----------
    mask : numpy.ndarray
        (H, W) bool.
    score : float
        Predicted IoU.
    """

    mask: Mask
    score: float

    @property
    def pixels(self) -> int:
        """Number of pixels."""
        return int(np.count_nonzero(self.mask))


def view_of(image: NDArray[np.uint8]) -> Mask:
    """Where an image shows something: all but the black that reaches its edge.

    Parameters
    ----------
    image : numpy.ndarray
        (H, W, 3) uint8.

    Returns
    -------
    numpy.ndarray
        (H, W) bool.
    """
    dark = ndimage.uniform_filter(image.max(axis=2), 3) < _DARK
    parts, _ = ndimage.label(dark)
    edge = np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]])
    sizes = np.bincount(parts.ravel())
    outer = [n for n in np.unique(edge) if n and sizes[n] >= _MIN_BORDER * dark.size]
    view: Mask = ~np.isin(parts, outer)
    return view


def iou(one: Mask, other: Mask) -> float:
    """Intersection over union; 0 if both are empty."""
    union = np.count_nonzero(one | other)
    return np.count_nonzero(one & other) / union if union else 0.0


def tidied(mask: Mask) -> Mask | None:
    """The one part of a mask without its tiny holes; None if it has no main part.

    Parameters
    ----------
    mask : numpy.ndarray
        (H, W) bool.
    """
    parts, count = ndimage.label(mask)
    if count == 0:
        return None
    sizes = np.bincount(parts.ravel())[1:]
    if sizes.max() < _MIN_LARGEST * sizes.sum():
        return None
    largest = parts == 1 + int(sizes.argmax())
    holes, _ = ndimage.label(ndimage.binary_fill_holes(largest) & ~largest)
    tiny = np.bincount(holes.ravel()) <= _MAX_HOLE * sizes.max()
    tiny[0] = False
    whole: Mask = largest | tiny[holes]
    return whole


class Judge:
    """Decides which masks of one image can be things.

    Parameters
    ----------
    image : numpy.ndarray
        (H, W, 3) uint8.
    labelled : numpy.ndarray
        (H, W) uint8, 0 where nothing is labelled.
    settings : FindingConfig
        The limits.
    """

    def __init__(
        self,
        image: NDArray[np.uint8],
        labelled: NDArray[np.uint8],
        settings: FindingConfig,
    ) -> None:
        self.view = view_of(image)
        self.free = self.view & (labelled == 0)
        self._labelled = labelled
        self._objects = [labelled == n for n in np.unique(labelled) if n]
        self._settings = settings

    def accepts(self, mask: Mask) -> bool:
        """Whether a tidied mask can be a thing."""
        settings, pixels = self._settings, np.count_nonzero(mask)
        if not settings.min_area <= pixels / mask.size <= settings.max_area:
            return False
        if np.count_nonzero(mask & ~self.view) > _MAX_OUTSIDE * pixels:
            return False
        if iou(mask, self.view) > _VIEW_IOU or _sides(mask) > _MOST_SIDES:
            return False
        inside = np.count_nonzero(mask & (self._labelled > 0))
        if inside > settings.max_labelled_share * pixels:
            return False
        return all(
            iou(mask, labelled) < settings.max_labelled_iou
            for labelled in self._objects
        )


def _sides(mask: Mask) -> int:
    edges = (mask[0], mask[-1], mask[:, 0], mask[:, -1])
    return sum(bool(edge.any()) for edge in edges)


def without_repeats(things: Sequence[Thing], max_iou: float) -> list[Thing]:
    """Of things that are nearly the same, the one with the highest score.

    Returns
    -------
    list of Thing
        By score, the highest first.
    """
    kept: list[Thing] = []
    for thing in sorted(things, key=lambda t: -t.score):
        if all(iou(thing.mask, other.mask) <= max_iou for other in kept):
            kept.append(thing)
    return kept


def without_conflicts(things: Sequence[Thing], max_hidden: float) -> list[Thing]:
    """Things that can be drawn into one map, the smaller over the larger.

    Where the smaller ones would hide more than `max_hidden` of a larger one, the one
    with the lower score is dropped.

    Returns
    -------
    list of Thing
        By score, the highest first.
    """
    kept: list[Thing] = []
    for thing in sorted(things, key=lambda t: -t.score):
        drawn = paint([*kept, thing])
        left = np.bincount(drawn.ravel(), minlength=len(kept) + 2)[1:]
        if all(
            count >= (1 - max_hidden) * other.pixels
            for count, other in zip(left, [*kept, thing], strict=True)
        ):
            kept.append(thing)
    return kept


def paint(things: Sequence[Thing]) -> NDArray[np.uint8]:
    """Draw things into one map by number, from 1, the smaller over the larger.

    Parameters
    ----------
    things : sequence of Thing
        At least one, at most 255.

    Returns
    -------
    numpy.ndarray
        (H, W) uint8.
    """
    drawn = np.zeros(things[0].mask.shape, np.uint8)
    for number in sorted(range(len(things)), key=lambda n: -things[n].pixels):
        drawn[things[number].mask] = number + 1
    return drawn


def of_every_size(things: Sequence[Thing], most: int) -> list[Thing]:
    """At most `most` things: by size they are parted into as many, the best of each."""
    by_size = sorted(things, key=lambda t: t.pixels)
    parts = np.array_split(np.arange(len(by_size)), most)
    return [
        max((by_size[n] for n in part), key=lambda t: t.score)
        for part in parts
        if part.size
    ]
