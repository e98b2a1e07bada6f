"""What the user does in the prompt layers, as commands; while dragging, as masks."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer

from napari_kdsam.annotation.prompt_diff import edit_between, within
from napari_kdsam.annotation.state import Draft
from napari_kdsam.core.errors import KDSAMError

if TYPE_CHECKING:
    from napari_kdsam.annotation.state import AnnotationState
    from napari_kdsam.core.stack_index import FrameIndex
    from napari_kdsam.widgets.annotator.image_record import ImageRecord, Shown
    from napari_kdsam.widgets.annotator.prompt_layers import PromptLayers

_DRAG_MS = 60


class PromptEdits:
    """Keep the prompt layers and the session of a controller the same.

    Parameters
    ----------
    controller : AnnotationController
    """

    def __init__(self, controller: Any) -> None:
        self._controller = controller
        self._reading = False
        self._dragged = False
        self._pressed = False
        self._ahead: tuple[ImageRecord, FrameIndex, Shown] | None = None
        # A drag reports many places a second; the mask follows as fast as it can.
        self._timer = QTimer(controller.flow.thread)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_DRAG_MS)
        self._timer.timeout.connect(self._predict_dragged)

    def on_edit(self) -> None:
        """Turn what the user did in the prompt layers into commands."""
        layers: PromptLayers | None = self._controller.layers
        record: ImageRecord | None = self._controller.record
        if layers is None or record is None:
            return
        self._timer.stop()
        before = record.session.state.drafts
        edit = edit_between(before, layers.read(), record.frames.shape)
        self._reading = True
        try:
            self._controller.execute(edit.commands)
        finally:
            self._reading = False
        dragged, self._dragged = self._dragged, False
        if dragged and not edit.commands:
            # A drag that ended where it began has left the mask of a place between.
            self._controller.refresh_preview()
        if edit.outside:
            QTimer.singleShot(0, self.show_drafts)
            self._controller.say('A prompt outside the image was ignored.')

    def on_drag(self) -> None:
        """Ask for the mask of what is being dragged, soon."""
        # Started again with each movement, it would wait for the mouse to rest.
        if not self._timer.isActive():
            self._timer.start()

    def on_press(self, position: Any) -> None:
        """Ask for the mask of a point while the button that adds it is held down."""
        controller = self._controller
        layers: PromptLayers | None = controller.layers
        record: ImageRecord | None = controller.record
        if layers is None or record is None or controller.objects.waits:
            return
        frame, point = layers.point_at(position)
        draft: Draft = controller.draft
        points = within(
            frame, Draft((*draft.points, point)), record.frames.shape
        ).points
        ahead = replace(draft, points=points, candidate=None)
        if frame != controller.frame or len(points) == len(draft.points):
            return
        self._pressed = self._request(record, frame, ahead)

    def on_release(self) -> None:
        """Show the masks of the prompts there are, if no point was added after all."""
        if self._pressed:
            # napari adds the point after this.
            QTimer.singleShot(0, self._settle)

    def keep_ahead(self, record: ImageRecord, frame: FrameIndex, shown: Shown) -> None:
        """Keep the answer to prompts that are not there, or not yet."""
        self._ahead = record, frame, shown

    def use_ahead(self) -> None:
        """Take the masks that were asked for ahead, if they are those of the prompts."""
        if self._ahead is None:
            return
        record, frame, shown = self._ahead
        if record is not self._controller.record or frame != self._controller.frame:
            self._ahead = None
        elif shown.draft.same_prompts(self._controller.draft):
            record.shown[frame] = shown
            self._ahead = None

    def _settle(self) -> None:
        self._pressed, self._ahead = False, None
        self._controller.refresh_preview()

    def follow(self, before: AnnotationState, after: AnnotationState) -> None:
        """Show the prompts of a session that has changed."""
        layers: PromptLayers | None = self._controller.layers
        if layers is None or before.drafts is after.drafts:
            return
        if layers.show_same(after.drafts):
            return
        if self._reading:
            # napari is still in the middle of its own edit of the layer.
            QTimer.singleShot(0, self.show_drafts)
        else:
            self.show_drafts()

    def show_drafts(self) -> None:
        """Make the prompt layers show the session's drafts."""
        layers: PromptLayers | None = self._controller.layers
        if layers is not None:
            layers.show_drafts(self._controller.session.state.drafts)

    def stop(self) -> None:
        """Ask for no mask of a drag any more."""
        self._timer.stop()
        self._pressed, self._ahead = False, None

    def _predict_dragged(self) -> None:
        controller = self._controller
        layers: PromptLayers | None = controller.layers
        record: ImageRecord | None = controller.record
        if layers is None or record is None:
            return
        frame, draft = controller.frame, controller.draft
        held = layers.read().get(frame)
        if held is None:
            return
        moved = replace(within(frame, held, record.frames.shape), mask=draft.mask)
        if moved.same_prompts(draft):
            return
        self._dragged = True
        self._request(record, frame, moved)

    def _request(self, record: ImageRecord, frame: FrameIndex, draft: Draft) -> bool:
        if not (
            draft.predictable and record.frames.in_plane(self._controller.viewer.dims)
        ):
            return False
        try:
            self._controller.flow.request(record, frame, draft)
        except KDSAMError:
            # Half-way through an edit prompts may make no sense; the end decides.
            return False
        return True
