"""Prompts: what a user says about one object, in image pixel coordinates."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_kdsam.core.errors import PromptError
from napari_kdsam.core.geometry import Box, PaddedSquare
from napari_kdsam.core.sizes import LOGITS_SIZE

Point = tuple[float, float]


@dataclass(frozen=True, eq=False)
class Prompt:
    """Points, a box and an earlier mask for one object.

    Parameters
    ----------
    points : sequence of (row, column)
        Float image coordinates, pixel centres at integers.
    labels : sequence of int, optional
        1 (inside the object) or 0 (outside) for each point; all 1 by default.
    box : (row0, col0, row1, col1), optional
        Half-open, as in ``image[row0:row1, col0:col1]``; drawn in any direction.
    logits : array-like, optional
        (256, 256) float low-resolution logits, from `Prediction.logits` or
        `logits_of_mask`, to refine.

    Raises
    ------
    PromptError
        If nothing says where the object is (no prompt at all, or only points
        outside it), or a value is of the wrong form.
    """

    points: Sequence[Point] = ()
    labels: Sequence[int] | None = None
    box: Box | None = None
    logits: ArrayLike | None = None

    def __post_init__(self) -> None:
        points = tuple(_numbers(point, 2, 'A point') for point in self.points)
        labels = (1,) * len(points) if self.labels is None else tuple(self.labels)
        if len(labels) != len(points):
            raise PromptError(
                f'There are {len(points)} points but {len(labels)} labels; give one '
                'label (1 inside, 0 outside) for each point.'
            )
        if any(label not in (0, 1) for label in labels):
            raise PromptError('Point labels must be 1 (inside) or 0 (outside).')
        object.__setattr__(self, 'points', points)
        object.__setattr__(self, 'labels', tuple(int(label) for label in labels))
        object.__setattr__(self, 'box', _ordered_box(self.box))
        object.__setattr__(self, 'logits', _checked_logits(self.logits))
        if 1 not in labels and self.box is None and self.logits is None:
            raise PromptError(
                'Say where the object is: add a point inside it or a box around it '
                '(points outside it only trim the mask).'
            )

    @property
    def ambiguous(self) -> bool:
        """Whether SAM's rule offers alternatives: exactly one point, nothing else."""
        return len(self.points) == 1 and self.box is None and self.logits is None

    @property
    def signature(self) -> tuple[int, bool, bool]:
        """Prompts with equal signatures can share one decoder call."""
        return len(self.points), self.box is not None, self.logits is not None

    def within(self, square: PaddedSquare) -> Prompt:
        """Check that the prompt is on the image, cutting the box to it.

        Parameters
        ----------
        square : PaddedSquare
            Of the image.

        Raises
        ------
        PromptError
            If a point, or all of the box, is outside the image.
        """
        rows, columns = square.image_shape
        for point in self.points:
            if not square.contains(point):
                raise PromptError(
                    f'The point {_shown(point)} is outside the image '
                    f'({rows} rows, {columns} columns).'
                )
        if self.box is None:
            return self
        box = square.clip_box(self.box)
        if box is None:
            raise PromptError(
                f'The box {_shown(self.box)} is outside the image '
                f'({rows} rows, {columns} columns).'
            )
        return Prompt(self.points, self.labels, box, self.logits)

    def to_dict(self) -> dict[str, Any]:
        """Points, labels and box as plain lists, for JSON; logits are left out."""
        result: dict[str, Any] = {}
        if self.points:
            result['points'] = [list(point) for point in self.points]
            result['labels'] = list(self.labels or ())
        if self.box is not None:
            result['box'] = list(self.box)
        return result

    @classmethod
    def from_dict(cls, value: Any) -> Prompt:
        """Read what `to_dict` wrote; unknown keys are refused.

        Raises
        ------
        PromptError
            If the value is not of that form.
        """
        if not isinstance(value, Mapping):
            raise PromptError(
                'An object must be written as {"points": ..., "box": ...}.'
            )
        unknown = sorted(set(value) - {'points', 'labels', 'box'})
        if unknown:
            raise PromptError(
                f'Unknown key {unknown[0]!r} in a prompt; use points, labels and box.'
            )
        points, labels = value.get('points') or (), value.get('labels')
        if not isinstance(points, Sequence) or not (
            labels is None or isinstance(labels, Sequence)
        ):
            raise PromptError('Points and labels must be lists.')
        return cls(points=points, labels=labels, box=value.get('box'))


@dataclass(frozen=True)
class ObjectPrompt:
    """How one object is prompted.

    Attributes
    ----------
    prompt : Prompt
        Points and box in image pixel coordinates.
    frame : int or None
        The only frame the object is in; None for every frame.
    """

    prompt: Prompt
    frame: int | None = None

    def in_frame(self, index: int) -> bool:
        """Whether the object is prompted in a frame."""
        return self.frame is None or self.frame == index

    def to_dict(self) -> dict[str, Any]:
        """Write as plain values, for JSON; `from_dict` reads them."""
        value = self.prompt.to_dict()
        return value if self.frame is None else {**value, 'frame': self.frame}

    @classmethod
    def from_dict(cls, value: Any) -> ObjectPrompt:
        """Read one object.

        Raises
        ------
        PromptError
            If it is not of the form this module describes.
        """
        if not isinstance(value, Mapping):
            return cls(Prompt.from_dict(value))
        frame = value.get('frame')
        if frame is not None and (
            not isinstance(frame, int) or isinstance(frame, bool) or frame < 0
        ):
            raise PromptError(
                f'A frame must be a whole number counted from 0, not {frame!r}.'
            )
        rest = {key: value[key] for key in value if key not in ('frame', 'result')}
        return cls(Prompt.from_dict(rest), frame)


@dataclass(frozen=True)
class PromptSet:
    """The objects of a prompts file.

    Attributes
    ----------
    shared : tuple of ObjectPrompt
        Objects of every image that is not in `images`.
    images : dict
        File name to its tuple of `ObjectPrompt`.
    source : str
        Name of the file they came from, for messages.
    """

    shared: tuple[ObjectPrompt, ...] = ()
    images: Mapping[str, tuple[ObjectPrompt, ...]] = field(default_factory=dict)
    source: str = 'the prompts'

    def for_image(self, name: str) -> tuple[ObjectPrompt, ...]:
        """Find the objects of an image.

        Parameters
        ----------
        name : str
            File name without folder.

        Returns
        -------
        tuple of ObjectPrompt
            At least one.

        Raises
        ------
        PromptError
            If the image is not listed.
        """
        objects = self.images.get(name, self.shared)
        if not objects:
            raise PromptError(
                f'{self.source} has no objects for {name}; add it under "images".'
            )
        return objects


def _shown(values: Iterable[float]) -> str:
    return '(' + ', '.join(f'{value:g}' for value in values) + ')'


def _numbers(value: Any, count: int, what: str) -> Any:
    try:
        numbers = tuple(float(item) for item in value)
    except (TypeError, ValueError):
        numbers = ()
    if len(numbers) != count or not all(math.isfinite(item) for item in numbers):
        order = '(row, column)' if count == 2 else '(row0, col0, row1, col1)'
        raise PromptError(f'{what} must be {count} numbers {order}, not {value!r}.')
    return numbers


def _ordered_box(box: Any) -> Box | None:
    if box is None:
        return None
    row0, col0, row1, col1 = _numbers(box, 4, 'A box')
    if row0 == row1 or col0 == col1:
        raise PromptError(f'The box {_shown((row0, col0, row1, col1))} has no area.')
    return min(row0, row1), min(col0, col1), max(row0, row1), max(col0, col1)


def _checked_logits(logits: ArrayLike | None) -> NDArray[np.float32] | None:
    if logits is None:
        return None
    try:
        array = np.asarray(logits, np.float32)
    except (TypeError, ValueError):
        array = np.empty(0, np.float32)
    if array.shape != (LOGITS_SIZE, LOGITS_SIZE) or not np.isfinite(array).all():
        raise PromptError(
            f'Mask logits must be finite with shape ({LOGITS_SIZE}, {LOGITS_SIZE}), '
            f'not {array.shape}; use the logits of an earlier prediction.'
        )
    return array
