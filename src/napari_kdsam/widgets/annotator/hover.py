"""The mask that a click would give, under the mouse, before there is any prompt."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QTimer

from napari_kdsam.annotation.state import Draft
from napari_kdsam.core.errors import KDSAMError
from napari_kdsam.widgets.annotator.image_record import ImageRecord, Shown
from napari_kdsam.widgets.annotator.prediction import PredictionFlow
from napari_kdsam.widgets.annotator.workspace import Workspace
from napari_kdsam.widgets.shared.connections import Connections
from napari_kdsam.widgets.shared.covering import covering

if TYPE_CHECKING:
    from napari_kdsam.core.stack_index import FrameIndex
    from napari_kdsam.widgets.shared.requests import Answer

# Ten masks a second, or none.
_INTERVAL_MS = 100
_SLOW_IN_A_ROW = 5
# Of the image's longer side: what counts as the same place for the hand.
_NEAR = 0.01
_NEAREST = 2.0

_Place = tuple[ImageRecord, 'FrameIndex', Draft]


class HoverPreview:
    """Follow the mouse with a mask that is never more than looked at.

    It is shown in the preview only while that is empty, one at a time is asked for,
    and what comes after the mouse has gone on is dropped.

    Parameters
    ----------
    workspace : Workspace
    flow : PredictionFlow

    Attributes
    ----------
    on : bool
    """

    def __init__(self, workspace: Workspace, flow: PredictionFlow) -> None:
        self.on = False
        self._workspace = workspace
        self._flow = flow
        self._asked: _Place | None = None
        self._shown: _Place | None = None
        self._encoding: tuple[object, ...] = ()
        self._slow = 0
        self._timer = QTimer(flow.thread)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_INTERVAL_MS)
        self._timer.timeout.connect(self._ask)
        flow.thread.hovered.connect(self._on_answer)
        self._viewer = Connections()
        self._viewer.connect(
            workspace.viewer.events, ('mouse_over_canvas',), self._on_canvas
        )
        self._viewer.connect(
            workspace.viewer.dims.events,
            ('current_step', 'ndisplay', 'order'),
            self.hide,
        )
        workspace.updated.connect(self._follow)
        workspace.viewer.mouse_move_callbacks.append(self._on_move)
        # Before the click is taken.
        workspace.viewer.mouse_drag_callbacks.insert(0, self._on_press)

    def turn(self, on: bool) -> None:
        """Follow the mouse, or no longer."""
        if on != self.on:
            self.on, self._slow, self._encoding = on, 0, ()
            self.hide()
            self._workspace.updated.emit()

    def toggle(self) -> None:
        """Follow the mouse if that is not done, or no longer."""
        self.turn(not self.on)
        self._workspace.say(f'The hover preview is {"on" if self.on else "off"}.')

    def hide(self, event: Any = None) -> None:
        """Show nothing under the mouse until it moves again."""
        self._timer.stop()
        if self._asked is not None:
            self._asked = None
            self._flow.thread.hover(None)
        shown, self._shown = self._shown, None
        workspace = self._workspace
        if shown is None or workspace.layers is None:
            return
        if shown[0] is workspace.record and workspace.draft.empty:
            workspace.layers.mask.show(workspace.frame, (), '')

    def close(self) -> None:
        """Let go of the viewer."""
        viewer = self._workspace.viewer
        self.hide()
        self.on = False
        self._viewer.close()
        self._workspace.updated.disconnect(self._follow)
        viewer.mouse_move_callbacks.remove(self._on_move)
        viewer.mouse_drag_callbacks.remove(self._on_press)

    def _follow(self) -> None:
        # What is in the preview belongs to prompts now, or to another image.
        shown, workspace = self._shown, self._workspace
        if shown is not None and not (
            shown[0] is workspace.record and workspace.draft.empty
        ):
            self._shown = None

    def _on_canvas(self, event: Any = None) -> None:
        if not self._workspace.viewer.mouse_over_canvas:
            self.hide()

    def _on_press(self, viewer: Any, event: Any) -> Iterator[None]:
        self.hide()
        yield

    def _on_move(self, viewer: Any, event: Any) -> None:
        if not self.on:
            return
        now = self._place()
        if self._shown is not None and not _same_place(self._shown, now):
            self.hide()
        # One that is under way is waited for: the newest place is asked for after it.
        if now is not None and self._asked is None and not self._timer.isActive():
            self._timer.start()

    def _place(self) -> _Place | None:
        """Where a click now would begin an object; None where it would not."""
        workspace = self._workspace
        record, layers, viewer = workspace.record, workspace.layers, workspace.viewer
        if (
            not self.on
            or record is None
            or layers is None
            or not layers.adding
            or not layers.positive
            or workspace.click_hindrance is not None
            or not workspace.draft.empty
            or self._flow.promised
        ):
            return None
        position = viewer.cursor.position
        found = record.frames.pixel_at(tuple(position))
        if found is None or found[0] != workspace.frame:
            return None
        if covering(viewer, record.image):
            return None
        frame, point = layers.point_at(layers.points.world_to_data(position))
        return record, frame, Draft((point,))

    def _ask(self) -> None:
        now = self._place()
        if now is None:
            self.hide()
            return
        if self._asked is not None or _is_at(self._shown, now):
            return
        try:
            request = self._flow.hover_request(*now)
        except KDSAMError:
            return
        self._asked = request.context
        self._flow.thread.hover(request)

    def _on_answer(self, answer: Answer) -> None:
        asked: _Place = answer.request.context
        if asked is not self._asked:
            return
        self._asked = None
        record, frame, draft = asked
        now = self._place()
        if not answer.predictions:
            self._encode(record, frame)
            return
        if now is None:
            return
        if not _is_at(asked, now):
            self._timer.start()
        if not _same_place(asked, now):
            return
        started = time.perf_counter()
        self._show(answer, record, frame, draft)
        self._shown = asked
        shown_ms = 1000 * (time.perf_counter() - started)
        self._note_pace(answer.milliseconds + shown_ms)

    def _show(
        self, answer: Answer, record: ImageRecord, frame: FrameIndex, draft: Draft
    ) -> None:
        workspace = self._workspace
        assert workspace.layers is not None
        within = record.own_shapes.get(frame)
        shown = Shown(draft, answer.predictions, within=within)
        masks = shown.masks(None, record.session.state.cleanup)
        workspace.layers.mask.show(frame, masks, workspace.class_color)

    def _encode(self, record: ImageRecord, frame: FrameIndex) -> None:
        """Have a frame encoded that is not yet, once the model is there."""
        wanted = (record, frame, self._flow.engine is not None)
        if self._encoding != wanted and record is self._workspace.record:
            self._encoding = wanted
            self._flow.prefetch([frame])

    def _note_pace(self, milliseconds: float) -> None:
        """Turn off where masks come too slowly to follow the hand."""
        self._slow = self._slow + 1 if milliseconds > _INTERVAL_MS else 0
        if self._slow >= _SLOW_IN_A_ROW:
            self.turn(False)
            self._workspace.say(
                f'The hover preview is off: a mask takes {milliseconds:.0f} ms here, '
                f'and more than {_INTERVAL_MS} would lag behind the mouse.'
            )


def _is_at(some: _Place | None, other: _Place) -> bool:
    """Whether both are of the very same point."""
    return some is not None and some[0] is other[0] and some[1:] == other[1:]


def _same_place(some: _Place, other: _Place | None) -> bool:
    """Whether both are of one image, and as good as the same point."""
    if other is None or some[0] is not other[0] or some[1] != other[1]:
        return False
    (one,), (another,) = some[2].points, other[2].points
    distance = np.hypot(one.row - another.row, one.column - another.column)
    return bool(distance <= max(_NEAREST, _NEAR * max(some[0].frames.plane_shape)))
