"""What the user does in the prompt layers, as commands; while dragging, as masks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from qtpy.QtCore import QTimer

from napari_kdsam.annotation.commands import as_one
from napari_kdsam.annotation.prompt_diff import edit_between, within
from napari_kdsam.annotation.state import AnnotationState, Draft
from napari_kdsam.widgets.annotator.prediction import PredictionFlow
from napari_kdsam.widgets.annotator.prompt_layers import PromptListener
from napari_kdsam.widgets.annotator.status import UNSEEN_IMAGE
from napari_kdsam.widgets.annotator.workspace import Workspace

_DRAG_MS = 60


class PromptSync(PromptListener):
    """Keep the prompt layers and the session the same.

    Parameters
    ----------
    workspace : Workspace
    flow : PredictionFlow
        Is asked for masks before an edit is finished.
    """

    def __init__(self, workspace: Workspace, flow: PredictionFlow) -> None:
        self._workspace = workspace
        self._flow = flow
        self._reading = False
        self._dragged = False
        self._pressed = False
        # Whether the button was pressed before the image was seen.
        self._unseen = False
        # A drag reports many places a second; the mask follows as fast as it can.
        self._timer = QTimer(flow.thread)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_DRAG_MS)
        self._timer.timeout.connect(self._predict_dragged)

    def on_edit(self) -> None:
        """Turn what the user did in the prompt layers into commands."""
        layers, record = self._workspace.layers, self._workspace.record
        if layers is None or record is None:
            return
        self._timer.stop()
        hindrance = UNSEEN_IMAGE if self._unseen else self._workspace.click_hindrance
        if hindrance is not None:
            # What was not seen where it was put would be predicted later, unasked.
            QTimer.singleShot(0, self.show_drafts)
            self._workspace.show_status(hindrance)
            return
        drafts = record.session.state.drafts
        edit = edit_between(drafts, layers.read(), record.frames.shape)
        dragged, self._dragged = self._dragged, False
        if edit.commands:
            self._reading = True
            try:
                record.session.execute(as_one(edit.commands))
            finally:
                self._reading = False
        elif dragged:
            # A drag that ended where it began has left the mask of a place between.
            self._flow.refresh()
        if edit.outside:
            QTimer.singleShot(0, self.show_drafts)
            self._workspace.say('A prompt outside the image was ignored.')

    def on_drag(self) -> None:
        """Ask for the mask of what is being dragged, soon."""
        # Started again with each movement, it would wait for the mouse to rest.
        if not self._timer.isActive():
            self._timer.start()

    def on_press(self, position: Any) -> None:
        """Ask for the mask of a point while the button that adds it is held down."""
        layers, record = self._workspace.layers, self._workspace.record
        self._unseen = self._workspace.unseen
        if self._unseen or layers is None or record is None or self._flow.promised:
            return
        frame, point = layers.point_at(position)
        draft = self._workspace.draft
        drawn = Draft((*draft.points, point))
        points = within(frame, drawn, record.frames.shape).points
        if frame == self._workspace.frame and len(points) > len(draft.points):
            ahead = replace(draft, points=points, candidate=None)
            self._pressed = self._flow.predict_ahead(frame, ahead)

    def on_release(self) -> None:
        """Show the masks of the prompts there are, if no point was added after all."""
        if self._pressed or self._unseen:
            # napari adds the point after this.
            QTimer.singleShot(0, self._settle)

    def follow(self, before: AnnotationState, after: AnnotationState) -> None:
        """Show the prompts of a session that has changed."""
        layers = self._workspace.layers
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
        if self._workspace.layers is not None:
            self._workspace.layers.show_drafts(self._workspace.session.state.drafts)

    def stop(self) -> None:
        """Ask for no mask of a drag any more."""
        self._timer.stop()
        self._pressed = False
        self._flow.forget_ahead()

    def _settle(self) -> None:
        unseen, self._unseen = self._unseen, False
        if self._pressed:
            self._pressed = False
            self._flow.forget_ahead()
            self._flow.refresh()
        elif unseen:
            self._workspace.show_status(UNSEEN_IMAGE)

    def _predict_dragged(self) -> None:
        layers, record = self._workspace.layers, self._workspace.record
        if layers is None or record is None:
            return
        frame, draft = self._workspace.frame, self._workspace.draft
        held = layers.read().get(frame)
        if held is None:
            return
        moved = replace(within(frame, held, record.frames.shape), mask=draft.mask)
        if not moved.same_prompts(draft):
            self._dragged = True
            self._flow.predict_ahead(frame, moved)
