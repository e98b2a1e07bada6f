"""What is being annotated: immutable values, so that undo is keeping the old one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from napari_kdsam.inference.geometry import Box
from napari_kdsam.inference.prompts import Prompt

if TYPE_CHECKING:
    from napari_kdsam.annotation.region import PixelRegion

FrameIndex = tuple[int, ...]


@dataclass(frozen=True)
class PointPrompt:
    """A click.

    Attributes
    ----------
    row, column : float
        Image pixel coordinates, pixel centres at integers.
    positive : bool
        Whether it is inside the object.
    """

    row: float
    column: float
    positive: bool = True


@dataclass(frozen=True)
class Draft:
    """The prompts of the object being drawn on one frame.

    Attributes
    ----------
    points : tuple of PointPrompt
        In the order they were given.
    box : tuple of float or None
        Half-open (row0, col0, row1, col1).
    candidate : int or None
        The candidate mask the user chose; None for the best scored.
    label : int or None
        Of the object that was reopened; None for a new object.
    """

    points: tuple[PointPrompt, ...] = ()
    box: Box | None = None
    candidate: int | None = None
    label: int | None = None

    @property
    def empty(self) -> bool:
        """Whether there is no prompt at all."""
        return not self.points and self.box is None

    @property
    def predictable(self) -> bool:
        """Whether the prompts say where the object is."""
        return self.box is not None or any(point.positive for point in self.points)

    def to_prompt(self) -> Prompt:
        """Make the prompt for the predictor.

        Raises
        ------
        PromptError
            If nothing says where the object is.
        """
        return Prompt(
            points=[(point.row, point.column) for point in self.points],
            labels=[int(point.positive) for point in self.points],
            box=self.box,
        )

    def same_prompts(self, other: Draft) -> bool:
        """Whether both would give the same prediction, whatever candidate is chosen."""
        return self.points == other.points and self.box == other.box


@dataclass(frozen=True)
class CommittedObject:
    """An object already in the labels.

    Attributes
    ----------
    label : int
        Its value in the label array.
    frame : tuple of int
        Index along the leading axes; empty for a single image.
    draft : Draft
        The prompts it was made with.
    score : float
        Predicted IoU of the committed mask.
    region : PixelRegion
        Its pixels as committed.
    """

    label: int
    frame: FrameIndex
    draft: Draft
    score: float
    region: PixelRegion


@dataclass(frozen=True)
class AnnotationState:
    """Everything annotated on one image or stack.

    Attributes
    ----------
    drafts : mapping of frame index to Draft
        Only frames with prompts.
    objects : tuple of CommittedObject
        In the order of commits.
    """

    drafts: Mapping[FrameIndex, Draft] = field(
        default_factory=lambda: MappingProxyType({})
    )
    objects: tuple[CommittedObject, ...] = ()

    def draft(self, frame: FrameIndex) -> Draft:
        """Return the draft of a frame, empty if there is none."""
        return self.drafts.get(frame, Draft())

    def object_at(
        self, frame: FrameIndex, row: int, column: int
    ) -> CommittedObject | None:
        """Return the last object committed over a pixel, or None."""
        for item in reversed(self.objects):
            row0, col0, row1, col1 = item.region.box
            near = row0 <= row < row1 and col0 <= column < col1
            if (
                near
                and item.frame == frame
                and item.region.mask()[row - row0, column - col0]
            ):
                return item
        return None

    @property
    def reserved_label(self) -> int:
        """The largest label that a reopened object will get back; 0 if there is none."""
        return max((draft.label or 0 for draft in self.drafts.values()), default=0)

    def with_draft(self, frame: FrameIndex, draft: Draft) -> AnnotationState:
        """Return this state with another draft on one frame."""
        drafts = {key: value for key, value in self.drafts.items() if key != frame}
        if not draft.empty:
            drafts[frame] = draft
        return replace(self, drafts=MappingProxyType(drafts))
