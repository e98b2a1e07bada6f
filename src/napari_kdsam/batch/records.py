"""What became of each frame, in the form in which it is kept with the labels."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer
from pydantic import ValidationError as Invalid

from napari_kdsam.batch.inputs import Source
from napari_kdsam.segmentation.frame_labels import LabelledObject

# How the reason ends why an image was skipped that has labels.
THERE_ALREADY = 'was there already'
# What follows where the labels may not be those of the image as it is now.
OF_ANOTHER_IMAGE = ', of another image or before a change'
_OBJECT_FIELDS = ('label', 'score', 'pixels', 'name')


class Status(StrEnum):
    """How a frame ended."""

    done = 'done'
    failed = 'failed'
    skipped = 'skipped'


@dataclass(frozen=True)
class FrameResult:
    """What became of one frame.

    Attributes
    ----------
    location : str
        Of its `Source`.
    frame : int
        Counted from 0.
    status : Status
    reason : str
        Why it failed or was skipped; for a frame that is done, what to look at.
    objects : tuple of LabelledObject
    """

    location: str
    frame: int
    status: Status
    reason: str = ''
    objects: tuple[LabelledObject, ...] = ()

    @property
    def score(self) -> float | None:
        """Lowest predicted IoU of its objects; None without any."""
        return min((item.score for item in self.objects), default=None)

    @property
    def pixels(self) -> int:
        """Labelled pixels."""
        return sum(item.pixels for item in self.objects)


def _named(values: Any) -> Any:
    if isinstance(values, list) and 3 <= len(values) <= len(_OBJECT_FIELDS):
        return dict(zip(_OBJECT_FIELDS, values, strict=False))
    return values


# Kept as a list, because there are many of them.
_Object = Annotated[
    LabelledObject, BeforeValidator(_named), PlainSerializer(LabelledObject.to_list)
]


class _Kept(BaseModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    def to_json(self) -> str:
        """Write as one line of ASCII."""
        return json.dumps(self.model_dump(mode='json'))

    @classmethod
    def from_json(cls, text: str | bytes) -> Self | None:
        """Read what `to_json` wrote; None for anything else."""
        try:
            return cls.model_validate_json(text)
        except Invalid:
            return None


class Record(_Kept):
    """What a finished label image says of itself.

    Attributes
    ----------
    fingerprint : str
        Of the model, prompts and settings that made it.
    image : str
        `image_key` of the image; empty where it was not told.
    objects : tuple of LabelledObject
    reason : str
        See `FrameResult`.
    """

    fingerprint: str
    image: str = ''
    objects: tuple[_Object, ...] = ()
    reason: str = ''


class StackFrame(BaseModel):
    """What became of one frame of a finished stack; see `FrameResult`."""

    status: Status
    reason: str
    objects: tuple[_Object, ...]


class StackRecord(_Kept):
    """What a finished stack says of its frames.

    Attributes
    ----------
    fingerprint, image : str
        See `Record`.
    frames : tuple of StackFrame
    """

    fingerprint: str
    image: str = ''
    frames: tuple[StackFrame, ...]

    def results(self, source: Source) -> Iterator[FrameResult]:
        """What became of each frame."""
        for number, frame in enumerate(self.frames[: source.frame_count]):
            yield FrameResult(
                source.location, number, frame.status, frame.reason, frame.objects
            )
