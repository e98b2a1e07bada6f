"""Click a committed object to open it again, or to show its contour."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from napari_kdsam.widgets.annotator.contour_edit import ContourEdit
from napari_kdsam.widgets.annotator.objects import ObjectActions
from napari_kdsam.widgets.annotator.workspace import Workspace

_CLICK_PIXELS = 4


class PickTool:
    """Pick the object under a click, while the prompt layers are set to that."""

    def __init__(
        self, workspace: Workspace, objects: ObjectActions, contour: ContourEdit
    ) -> None:
        self._workspace = workspace
        self._objects = objects
        self._contour = contour
        workspace.viewer.mouse_drag_callbacks.append(self._on_mouse)

    def close(self) -> None:
        """Let go of the viewer."""
        self._workspace.viewer.mouse_drag_callbacks.remove(self._on_mouse)

    def _on_mouse(self, viewer: Any, event: Any) -> Iterator[None]:
        layers = self._workspace.layers
        if layers is None or not layers.picking or event.button != 1:
            return
        start = tuple(event.pos)
        yield
        while event.type == 'mouse_move':
            yield
        # napari moves the view by dragging; only a press and release picks.
        moved = max(abs(a - b) for a, b in zip(start, tuple(event.pos), strict=True))
        if moved > _CLICK_PIXELS:
            return
        if layers.for_contour:
            self._contour.open_at(event.position)
        else:
            self._objects.reopen_at(event.position)
