"""Click a committed object to open it again, with its prompts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from napari_kdsam.annotation.commands import ReopenObject

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from napari_kdsam.widgets.image_record import ImageRecord

NOTHING_THERE = 'There is no object here that was committed with this tool.'
_CLICK_PIXELS = 4


class PickTool:
    """Find the object under a point and reopen it.

    Parameters
    ----------
    controller : AnnotationController
        Has ``viewer``, ``record``, ``layers``, ``use_points`` and ``say``.
    """

    def __init__(self, controller: Any) -> None:
        self._controller = controller
        self._chosen = False
        self._viewer: Viewer = controller.viewer
        self._viewer.mouse_drag_callbacks.append(self._on_mouse)

    @property
    def active(self) -> bool:
        """Whether the next click picks an object."""
        layers = self._controller.layers
        return (
            self._chosen
            and layers is not None
            and self._viewer.layers.selection.active == layers.points
            and layers.points.mode == 'pan_zoom'
        )

    def use(self) -> None:
        """Make the next click pick an object; dragging still moves the view."""
        layers = self._controller.layers
        if layers is not None:
            self._chosen = True
            self._viewer.layers.selection.active = layers.points
            layers.points.mode = 'pan_zoom'

    def leave(self) -> None:
        """Click for something else again."""
        self._chosen = False

    def reopen_at(self, point: tuple[float, ...]) -> bool:
        """Reopen the object at a world point; False, and said so, if there is none."""
        record: ImageRecord | None = self._controller.record
        place = record.pixel_at(point) if record is not None else None
        if record is None or record.target is None or place is None:
            self._controller.say(NOTHING_THERE)
            return False
        frame, (row, column) = place
        item = record.session.state.object_at(frame, row, column)
        if item is None or record.target.frame(frame)[row, column] != item.label:
            self._controller.say(NOTHING_THERE)
            return False
        record.session.execute(ReopenObject(item, record.target))
        self._controller.use_points()
        return True

    def close(self) -> None:
        """Let go of the viewer."""
        self._viewer.mouse_drag_callbacks.remove(self._on_mouse)

    def _on_mouse(self, viewer: Any, event: Any) -> Iterator[None]:
        if not self.active or event.button != 1:
            return
        start = tuple(event.pos)
        yield
        while event.type == 'mouse_move':
            yield
        # napari moves the view by dragging; only a press and release picks.
        moved = max(abs(a - b) for a, b in zip(start, tuple(event.pos), strict=True))
        if moved <= _CLICK_PIXELS:
            self.reopen_at(event.position)
