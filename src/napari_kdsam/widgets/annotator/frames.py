"""Moving through a stack: which frames are done, where to go next, what to prefetch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_kdsam.annotation.frames import neighbours, next_unfinished
from napari_kdsam.core.stack_index import FrameIndex

if TYPE_CHECKING:
    from napari_kdsam.widgets.annotator.image_record import ImageRecord


class FrameActions:
    """Frames of the image that a controller annotates.

    Parameters
    ----------
    controller : AnnotationController

    Attributes
    ----------
    prefetching : bool
        Whether neighbours of the frame in view are embedded when nothing else is to do.
    """

    def __init__(self, controller: Any) -> None:
        self._controller = controller
        self._direction = 1
        self.prefetching = True

    @property
    def count(self) -> int:
        """Frames of the stack; 0 without an image."""
        record: ImageRecord | None = self._controller.record
        return record.frames.count if record is not None else 0

    @property
    def done(self) -> frozenset[int]:
        """Places in the stack of the frames with committed objects."""
        return self._places(self._controller.session.state.done_frames)

    @property
    def open(self) -> frozenset[int]:
        """Places in the stack of the frames with prompts that are not committed."""
        return self._places(self._controller.session.state.drafts)

    @property
    def current(self) -> int:
        """Place in the stack of the frame in view."""
        record: ImageRecord | None = self._controller.record
        return (
            record.frames.flat_index(self._controller.frame)
            if record is not None
            else 0
        )

    def _places(self, frames: Any) -> frozenset[int]:
        record: ImageRecord | None = self._controller.record
        if record is None:
            return frozenset()
        return frozenset(record.frames.flat_index(frame) for frame in frames)

    def go_to(self, frame: FrameIndex) -> None:
        """Show a frame."""
        record: ImageRecord | None = self._controller.record
        if record is not None:
            record.frames.go_to(self._controller.viewer.dims, frame)

    def go_to_place(self, place: int) -> None:
        """Show the frame at a place in the stack."""
        record: ImageRecord | None = self._controller.record
        if record is not None:
            self.go_to(record.frames.index_of(place))

    def go_to_unfinished(self, step: int) -> None:
        """Show the next frame without objects, forwards or backwards."""
        if self.count == 0:
            return
        place = next_unfinished(self.count, self.done, self.current, step)
        if place is None:
            self._controller.say('Every frame has an object.')
        else:
            self.go_to_place(place)

    def note_direction(self, before: FrameIndex, after: FrameIndex) -> None:
        """Remember which way the user moves, for prefetching."""
        if before and after and before != after:
            self._direction = 1 if after > before else -1

    def prefetch(self) -> None:
        """Have the neighbours of the frame in view embedded at idle."""
        record: ImageRecord | None = self._controller.record
        if record is None or self.count < 2 or not self.prefetching:
            return
        places = neighbours(
            self.count,
            self.current,
            direction=self._direction,
            leading_shape=record.frames.leading_shape,
        )
        self._controller.flow.prefetch(
            record, [record.frames.index_of(p) for p in places]
        )
