"""Prompts: what a user says about one object, in image pixel coordinates."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_kdsam.core.errors import PromptError, excerpt, first_of, quoted
from napari_kdsam.core.geometry import Box, PaddedSquare
from napari_kdsam.core.image_names import match_names, name_parts
from napari_kdsam.core.sizes import LOGITS_SIZE

Point = tuple[float, float]
# Of any stack.
_LAST_FRAME = 2**31 - 1


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
    image_shape : (rows, columns), optional
        Of the image that points and box were drawn on, where that is known.

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
    image_shape: tuple[int, int] | None = None

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
            If the prompt was drawn on an image of another size, or a point, or all of
            the box, is outside the image.
        """
        rows, columns = square.image_shape
        if self.image_shape not in (None, (rows, columns)):
            raise PromptError(_of_another_size(self.image_shape, (rows, columns)))
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
                f'Unknown key {quoted(unknown[0])} in a prompt; use points, labels and '
                'box.'
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

    Raises
    ------
    PromptError
        If the frame is no whole number from 0.
    """

    prompt: Prompt
    frame: int | None = None

    def __post_init__(self) -> None:
        frame = self.frame
        if frame is not None and (
            not isinstance(frame, int)
            or isinstance(frame, bool)
            or not 0 <= frame <= _LAST_FRAME
        ):
            raise PromptError(
                f'A frame must be a whole number counted from 0, not {quoted(frame)}.'
            )

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
        rest = {key: value[key] for key in value if key not in ('frame', 'result')}
        return cls(Prompt.from_dict(rest), value.get('frame'))


@dataclass(frozen=True)
class PromptSet:
    """The objects of a prompts file.

    Attributes
    ----------
    shared : tuple of ObjectPrompt
        Objects of every image that is not in `images`.
    images : dict
        File name, or path, to its tuple of `ObjectPrompt`; `match_names` says which
        image is meant.
    source : str
        Name of the file they came from, for messages.
    """

    shared: tuple[ObjectPrompt, ...] = ()
    images: Mapping[str, tuple[ObjectPrompt, ...]] = field(default_factory=dict)
    source: str = 'the prompts'

    def for_image(self, location: str) -> tuple[ObjectPrompt, ...]:
        """Find the objects of an image.

        Parameters
        ----------
        location : str
            Its file name, path or URL.

        Returns
        -------
        tuple of ObjectPrompt
            At least one.

        Raises
        ------
        PromptError
            If the image is not listed.
        """
        return self.assigned([location]).for_image(location)

    def assigned(self, locations: Sequence[str]) -> AssignedPrompts:
        """Find out which objects belong to which image.

        Parameters
        ----------
        locations : sequence of str
            Paths or URLs of all images there are.

        Raises
        ------
        PromptError
            If a name means several images.
        """
        matches = match_names(self.images, locations, self.source)
        images = {
            location: self.images[name] for location, name in matches.name_of.items()
        }
        notes = [
            f'{self.source} has prompts for {excerpt(name)}, which were taken for '
            f'{excerpt(location)}: the file name is the same, the folder is another.'
            for name, location in matches.elsewhere
        ]
        if matches.unfound:
            notes.append(
                f'{self.source} has prompts for {first_of(matches.unfound)}, but no '
                'such image was given.'
            )
        return AssignedPrompts(
            self.shared, images, self.source, matches.unfound, tuple(notes)
        )


@dataclass(frozen=True)
class AssignedPrompts(PromptSet):
    """The objects of a prompts file, with the locations of images in place of names.

    Attributes
    ----------
    unfound : tuple of str
        Names for which there are prompts, but no image.
    notes : tuple of str
        Sentences on what should be looked at.
    """

    unfound: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def for_image(self, location: str) -> tuple[ObjectPrompt, ...]:
        objects = self.images.get(location, self.shared)
        if not objects:
            name = ''.join(name_parts(location)[-1:])
            raise PromptError(
                f'{self.source} has no objects for {name}; add it under "images".'
            )
        return objects


def _of_another_size(drawn: Any, found: tuple[int, int]) -> str:
    turned = ', as if it lay on its side' if drawn == found[::-1] else ''
    return (
        f'The prompts were drawn on an image of {drawn[0]} rows and {drawn[1]} columns, '
        f'but this one has {found[0]} rows and {found[1]} columns{turned}; export them '
        'for the image as it is shown.'
    )


def _shown(values: Iterable[float]) -> str:
    return '(' + ', '.join(f'{value:g}' for value in values) + ')'


def _numbers(value: Any, count: int, what: str) -> Any:
    try:
        numbers = tuple(float(item) for item in value)
    except (TypeError, ValueError, OverflowError):
        numbers = ()
    if len(numbers) != count or not all(math.isfinite(item) for item in numbers):
        order = '(row, column)' if count == 2 else '(row0, col0, row1, col1)'
        raise PromptError(
            f'{what} must be {count} numbers {order}, not {quoted(value)}.'
        )
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
