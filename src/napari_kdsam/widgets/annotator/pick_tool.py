"""Click a committed object to open it again, with its prompts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari.viewer import Viewer

_CLICK_PIXELS = 4


class PickTool:
    """Reopen the object under a click.

    Parameters
    ----------
    controller : AnnotationController
        Has ``viewer``, ``layers`` and ``objects``.
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
            self._controller.objects.reopen_at(event.position)
