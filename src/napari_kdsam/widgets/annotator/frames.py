"""Moving through a stack: which frames are done, where to go next, what to prefetch."""

from __future__ import annotations

from collections.abc import Iterable

from napari_kdsam.annotation.frames import neighbours, next_unfinished
from napari_kdsam.core.stack_index import FrameIndex
from napari_kdsam.widgets.annotator.prediction import PredictionFlow
from napari_kdsam.widgets.annotator.workspace import Workspace


class FrameActions:
    """Frames of the image being annotated.

    Parameters
    ----------
    workspace : Workspace
    flow : PredictionFlow
        Embeds the neighbours of the frame in view when it has answered.

    Attributes
    ----------
    prefetching : bool
        Whether neighbours of the frame in view are embedded when nothing else is to do.
    """

    def __init__(self, workspace: Workspace, flow: PredictionFlow) -> None:
        self._workspace = workspace
        self._flow = flow
        self._direction = 1
        self.prefetching = True
        flow.answered.connect(self.prefetch)

    @property
    def count(self) -> int:
        """Frames of the stack; 0 without an image."""
        record = self._workspace.record
        return record.frames.count if record is not None else 0

    @property
    def done(self) -> frozenset[int]:
        """Places in the stack of the frames with committed objects."""
        return self._places(self._workspace.session.state.done_frames)

    @property
    def open(self) -> frozenset[int]:
        """Places in the stack of the frames with prompts that are not committed."""
        return self._places(self._workspace.session.state.drafts)

    @property
    def current(self) -> int:
        """Place in the stack of the frame in view."""
        record, frame = self._workspace.record, self._workspace.frame
        return record.frames.flat_index(frame) if record is not None else 0

    def _places(self, frames: Iterable[FrameIndex]) -> frozenset[int]:
        record = self._workspace.record
        if record is None:
            return frozenset()
        return frozenset(record.frames.flat_index(frame) for frame in frames)

    def go_to(self, frame: FrameIndex) -> None:
        """Show a frame."""
        record = self._workspace.record
        if record is not None:
            record.frames.go_to(self._workspace.viewer.dims, frame)

    def go_to_place(self, place: int) -> None:
        """Show the frame at a place in the stack."""
        record = self._workspace.record
        if record is not None:
            self.go_to(record.frames.index_of(place))

    def go_to_unfinished(self, step: int) -> None:
        """Show the next frame without objects, forwards or backwards."""
        if self.count == 0:
            return
        place = next_unfinished(self.count, self.done, self.current, step)
        if place is None:
            self._workspace.say('Every frame has an object.')
        else:
            self.go_to_place(place)

    def note_direction(self, before: FrameIndex, after: FrameIndex) -> None:
        """Remember which way the user moves, for prefetching."""
        if before and after and before != after:
            self._direction = 1 if after > before else -1

    def prefetch(self) -> None:
        """Have the neighbours of the frame in view embedded at idle."""
        record = self._workspace.record
        if record is None or self.count < 2 or not self.prefetching:
            return
        places = neighbours(
            self.count,
            self.current,
            direction=self._direction,
            leading_shape=record.frames.leading_shape,
        )
        self._flow.prefetch([record.frames.index_of(place) for place in places])
