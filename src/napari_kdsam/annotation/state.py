"""What is being annotated: immutable values, so that undo is keeping the old one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from napari_kdsam.annotation.cleanup import CleanUp
from napari_kdsam.core.geometry import Box
from napari_kdsam.core.stack_index import FrameIndex

if TYPE_CHECKING:
    from napari_kdsam.annotation.region import PixelRegion

Position = tuple[float, float]
OverlapPolicy = Literal['keep', 'overwrite', 'ask']


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
class Scribble:
    """A drawn line.

    Attributes
    ----------
    places : tuple of (row, column)
        Its vertices, in image pixel coordinates.
    positive : bool
        Whether it is inside the object.
    """

    places: tuple[Position, ...]
    positive: bool = True


@dataclass(frozen=True)
class Outline:
    """A drawn closed line, such as a lasso: a rough mask to start from.

    Attributes
    ----------
    places : tuple of (row, column)
        Its vertices, in image pixel coordinates.
    positive : bool
        Whether its inside belongs to the object, or is cut out of it.
    """

    places: tuple[Position, ...]
    positive: bool = True


@dataclass(frozen=True)
class Draft:
    """The prompts on one frame of what is not committed yet.

    Several boxes are several objects; each other prompt belongs to the box it lies
    in. With one box or none, everything together describes one object.

    Attributes
    ----------
    points : tuple of PointPrompt
        In the order they were given.
    boxes : tuple of tuple of float
        Half-open (row0, col0, row1, col1).
    scribbles : tuple of Scribble
    outlines : tuple of Outline
    mask : PixelRegion or None
        A mask to start from, such as an existing label.
    candidate : int or None
        The candidate mask the user chose; None for the best scored.
    number : int or None
        Of the object that was reopened; None for a new object.
    label : int or None
        The label that it gets back where that is not its number, because it was made
        elsewhere.
    """

    points: tuple[PointPrompt, ...] = ()
    boxes: tuple[Box, ...] = ()
    scribbles: tuple[Scribble, ...] = ()
    outlines: tuple[Outline, ...] = ()
    mask: PixelRegion | None = None
    candidate: int | None = None
    number: int | None = None
    label: int | None = None

    @property
    def empty(self) -> bool:
        """Whether there is no prompt at all."""
        return self.drawn.same_prompts(Draft()) and self.mask is None

    @property
    def predictable(self) -> bool:
        """Whether the prompts say where the object is."""
        marks: tuple[PointPrompt | Scribble | Outline, ...] = (
            *self.points,
            *self.scribbles,
            *self.outlines,
        )
        placed = bool(self.boxes) or self.mask is not None
        return placed or any(mark.positive for mark in marks)

    @property
    def drawn(self) -> Draft:
        """What the prompt layers show of it: points, boxes, scribbles and outlines."""
        return Draft(self.points, self.boxes, self.scribbles, self.outlines)

    def same_prompts(self, other: Draft) -> bool:
        """Whether both would give the same prediction, whatever candidate is chosen."""
        mine, theirs = (
            replace(draft, candidate=None, number=None, label=None)
            for draft in (self, other)
        )
        return mine == theirs


@dataclass(frozen=True)
class ObjectClass:
    """A kind of object, such as "polyp".

    Attributes
    ----------
    id : int
        At least 1; the label value of its objects in semantic output.
    name : str
    color : str
        ``#rrggbb``.
    """

    id: int
    name: str
    color: str


FIRST_CLASS = ObjectClass(1, 'object', '#00e5ff')


@dataclass(frozen=True)
class CommittedObject:
    """An object already in the labels.

    Attributes
    ----------
    number : int
        Its own, whatever the output.
    label : int
        Its value in the label array: `number` in instance output, `class_id` in
        semantic output.
    frame : tuple of int
        Index along the leading axes; empty for a single image.
    draft : Draft
        The prompts it was made with; empty for one painted by hand.
    score : float
        Predicted IoU of the committed mask.
    region : PixelRegion
        Its pixels now; no pixel belongs to two objects.
    class_id : int
    semantic : bool
        Whether `label` is the class's, whatever the number.
    """

    number: int
    label: int
    frame: FrameIndex
    draft: Draft
    score: float
    region: PixelRegion
    class_id: int = FIRST_CLASS.id
    semantic: bool = False

    def labelled(self, semantic: bool) -> CommittedObject:
        """The object with the label of its class, or one of its own."""
        label = self.class_id if semantic else self.number
        return replace(self, label=label, semantic=semantic)


@dataclass(frozen=True)
class AnnotationState:
    """Everything annotated on one image or stack.

    Attributes
    ----------
    drafts : mapping of frame index to Draft
        Only frames with prompts.
    objects : tuple of CommittedObject
        In the order of commits.
    classes : tuple of ObjectClass
        Never empty.
    current_class : int
        Class of the next object.
    cleanup : CleanUp
        What is done to each mask before it is shown and committed.
    semantic : bool
        Whether the next object gets the label of its class, or one of its own.
    frame : tuple of int
        The frame that was in view.
    known_classes : mapping of int to int
        Label to the class of what was labelled at an earlier time, or elsewhere.
    """

    drafts: Mapping[FrameIndex, Draft] = field(
        default_factory=lambda: MappingProxyType({})
    )
    objects: tuple[CommittedObject, ...] = ()
    classes: tuple[ObjectClass, ...] = (FIRST_CLASS,)
    current_class: int = FIRST_CLASS.id
    cleanup: CleanUp = CleanUp()
    semantic: bool = False
    frame: FrameIndex = ()
    known_classes: Mapping[int, int] = field(
        default_factory=lambda: MappingProxyType({})
    )

    def draft(self, frame: FrameIndex) -> Draft:
        """Return the draft of a frame, empty if there is none."""
        return self.drafts.get(frame, Draft())

    def object_at(
        self, frame: FrameIndex, row: int, column: int
    ) -> CommittedObject | None:
        """Return the object that a pixel belongs to, or None."""
        for item in reversed(self.objects):
            if item.frame == frame and item.region.contains(row, column):
                return item
        return None

    def foreign_object(self, label: int, region: PixelRegion) -> CommittedObject:
        """Describe an object that a batch, or something else, has labelled.

        Parameters
        ----------
        label : int
        region : PixelRegion
            All pixels of that label on its frame; those of known objects are left out.
        """
        for item in self.objects:
            if item.frame == region.frame and item.label == label:
                region = region.minus(item.region) or region
        number = self.highest_number + 1 if label in self.numbers else label
        known = {item.id for item in self.classes}
        of_class = self.semantic and label in known
        class_id = label if of_class else self.known_classes.get(label, 0)
        return CommittedObject(
            number,
            label,
            region.frame,
            Draft(),
            1.0,
            region,
            class_id if class_id in known else self.current_class,
            of_class,
        )

    def class_named(self, class_id: int) -> str:
        """The name of a class; its number if it is not known."""
        for known in self.classes:
            if known.id == class_id:
                return known.name
        return str(class_id)

    @property
    def done_frames(self) -> frozenset[FrameIndex]:
        """Frames with at least one object."""
        return frozenset(item.frame for item in self.objects)

    @property
    def numbers(self) -> frozenset[int]:
        """The numbers of all objects, also of reopened ones."""
        open_ones = {draft.number for draft in self.drafts.values() if draft.number}
        return frozenset(item.number for item in self.objects) | open_ones

    @property
    def highest_number(self) -> int:
        """The largest number of any object, also a reopened one; 0 if there is none."""
        return max(self.numbers, default=0)

    def with_draft(self, frame: FrameIndex, draft: Draft) -> AnnotationState:
        """Return this state with another draft on one frame."""
        drafts = {key: value for key, value in self.drafts.items() if key != frame}
        if not draft.empty:
            drafts[frame] = draft
        return replace(self, drafts=MappingProxyType(drafts))

    def without_pixels(self, region: PixelRegion) -> AnnotationState:
        """Return this state with pixels taken from whichever objects have them."""
        kept = []
        for item in self.objects:
            if not item.region.overlaps(region):
                kept.append(item)
                continue
            left = item.region.minus(region)
            if left is not None:
                kept.append(replace(item, region=left))
        return replace(self, objects=tuple(kept))
