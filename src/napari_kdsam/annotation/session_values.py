"""The values in a session file: each is checked before anything of it is used."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterable
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    NonNegativeInt,
    ValidationError,
)

from napari_kdsam.annotation.cleanup import CleanUp
from napari_kdsam.annotation.region import PixelRegion
from napari_kdsam.annotation.state import (
    AnnotationState,
    CommittedObject,
    Draft,
    ObjectClass,
    Outline,
    OverlapPolicy,
    PointPrompt,
    Position,
    Scribble,
)
from napari_kdsam.core.errors import excerpt
from napari_kdsam.core.stack_index import FrameIndex

# Up to what any label image can hold, signed or not.
_Label = Annotated[int, Field(ge=1, le=2**63 - 1)]
_Place = tuple[FiniteFloat, FiniteFloat]
_Line = tuple[Annotated[list[_Place], Field(min_length=1)], bool]
_Frame = tuple[NonNegativeInt, ...]
# Far above any image along one axis, and below what numpy can count with.
_Size = Annotated[int, Field(ge=1, le=2**31 - 1)]


def first_problem(error: Exception) -> str:
    """What is wrong, in a few words."""
    if not isinstance(error, ValidationError):
        return excerpt(error)
    problem = error.errors(include_input=False, include_url=False)[0]
    return excerpt(' '.join((*map(str, problem['loc']), problem['msg'])))


class _Values(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True)


class RegionValues(_Values):
    """Pixels: a box, and a bit for each of its pixels."""

    box: tuple[NonNegativeInt, NonNegativeInt, NonNegativeInt, NonNegativeInt]
    mask: str

    def region(self, frame: FrameIndex, shape: tuple[int, ...]) -> PixelRegion:
        """Unpack them, on a frame of an image of this shape."""
        row0, col0, row1, col1 = self.box
        if not (row0 < row1 <= shape[-2] and col0 < col1 <= shape[-1]):
            raise ValueError('a mask is outside the image')
        wanted = -(-(row1 - row0) * (col1 - col0) // 8)
        raw = base64.b64decode(self.mask, validate=True)
        # Never unpacks more than the mask can be, whatever the file says.
        bits = zlib.decompressobj().decompress(raw, wanted + 1)
        if len(bits) != wanted:
            raise ValueError('a mask does not fit its box')
        return PixelRegion(frame, self.box, bits)


class PromptValues(_Values):
    """The prompts of a draft."""

    points: list[tuple[FiniteFloat, FiniteFloat, bool]] = []
    boxes: list[tuple[FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat]] = []
    scribbles: list[_Line] = []
    outlines: list[_Line] = []
    mask: RegionValues | None = None
    candidate: int | None = None
    number: _Label | None = None
    label: _Label | None = None

    def draft(self, frame: FrameIndex, shape: tuple[int, ...]) -> Draft:
        """The draft, on a frame of an image of this shape."""
        return Draft(
            tuple(PointPrompt(*point) for point in self.points),
            tuple(self.boxes),
            tuple(Scribble(*line) for line in _lines(self.scribbles)),
            tuple(Outline(*line) for line in _lines(self.outlines)),
            None if self.mask is None else self.mask.region(frame, shape),
            self.candidate,
            self.number,
            self.label,
        )


class DraftValues(PromptValues):
    """A draft with its frame."""

    frame: _Frame


class ObjectValues(RegionValues):
    """A committed object."""

    number: _Label
    label: _Label
    class_id: _Label = Field(alias='class')
    semantic: bool
    frame: _Frame
    score: FiniteFloat
    draft: PromptValues

    def committed(self, shape: tuple[int, ...]) -> CommittedObject:
        """The object, in an image of this shape."""
        frame = _frame_in(self.frame, shape)
        return CommittedObject(
            self.number,
            self.label,
            frame,
            self.draft.draft(frame, shape),
            self.score,
            self.region(frame, shape),
            self.class_id,
            self.semantic,
        )


class ClassValues(_Values):
    """A class of objects."""

    id: _Label
    name: str
    color: Annotated[str, Field(pattern='^#[0-9a-fA-F]{6}$')]


class SessionHeader(_Values):
    """What a session file of any version says."""

    format: int


class SessionValues(SessionHeader):
    """A whole session file."""

    image: str
    shape: Annotated[tuple[_Size, ...], Field(min_length=2)]
    frame: _Frame
    classes: Annotated[list[ClassValues], Field(min_length=1)]
    current_class: int
    cleanup: dict[str, Any]
    # Files of earlier versions have neither.
    semantic: bool | None = None
    overlap: OverlapPolicy = 'keep'
    drafts: list[DraftValues]
    objects: list[ObjectValues]

    def state(self) -> AnnotationState:
        """What was annotated.

        Raises
        ------
        ValueError
            If values contradict each other.
        """
        for what, ids in (
            ('objects', [item.number for item in self.objects]),
            ('classes', [item.id for item in self.classes]),
        ):
            if len(set(ids)) < len(ids):
                raise ValueError(f'two {what} have the same number')
        drafts = {
            frame: item.draft(frame, self.shape)
            for item in self.drafts
            for frame in [_frame_in(item.frame, self.shape)]
        }
        semantic = self.semantic
        if semantic is None:
            semantic = bool(self.objects) and self.objects[-1].semantic
        return AnnotationState(
            MappingProxyType(drafts),
            tuple(item.committed(self.shape) for item in self.objects),
            tuple(ObjectClass(c.id, c.name, c.color) for c in self.classes),
            self.current_class,
            CleanUp.from_dict(self.cleanup),
            semantic,
            # Nothing may have been looked at yet.
            _frame_in(self.frame, self.shape) if self.frame else (),
        )


def _lines(lines: Iterable[_Line]) -> Iterable[tuple[tuple[Position, ...], bool]]:
    return ((tuple(places), positive) for places, positive in lines)


def _frame_in(frame: FrameIndex, shape: tuple[int, ...]) -> FrameIndex:
    if len(frame) != len(shape) - 2:
        raise ValueError(f'frame {frame} does not fit the shape')
    if any(index >= size for index, size in zip(frame, shape, strict=False)):
        raise ValueError(f'frame {frame} is outside the image')
    return frame
