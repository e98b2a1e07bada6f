"""What the next click or drag on the canvas does."""

from __future__ import annotations

from napari_kdsam.annotation.commands import TogglePoint, as_one
from napari_kdsam.widgets.annotator.prompt_layers import BOX, LASSO, SCRIBBLE
from napari_kdsam.widgets.annotator.workspace import Workspace


class PromptTools:
    """Choose the tool on the prompt layers, and inside or outside."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def use_points(self) -> None:
        """Make left clicks add points."""
        if self._workspace.layers is not None:
            self._workspace.layers.use_points()
            self._workspace.updated.emit()

    def use_box(self) -> None:
        """Make dragging draw a box; several boxes are several objects."""
        self._use_shape(BOX)

    def use_scribble(self) -> None:
        """Make dragging draw a scribble."""
        self._use_shape(SCRIBBLE)

    def use_lasso(self) -> None:
        """Make dragging draw an outline."""
        self._use_shape(LASSO)

    def use_pick(self) -> None:
        """Make a click reopen a committed object, to change it."""
        if self._workspace.layers is not None:
            self._workspace.layers.use_pick()
        self._workspace.updated.emit()

    def use_contour(self) -> None:
        """Make a click show the contour of a committed object, to drag its corners."""
        if self._workspace.layers is not None:
            self._workspace.layers.use_pick(for_contour=True)
        self._workspace.updated.emit()

    def set_polarity(self, positive: bool) -> None:
        """Make the next click one inside or one outside the object."""
        if self._workspace.layers is not None:
            self._workspace.layers.positive = positive
            self.use_points()

    def toggle_polarity(self) -> None:
        """Switch the next prompt; in the points layer's select mode, the selected."""
        layers = self._workspace.layers
        if layers is None:
            return
        points = layers.points
        active = self._workspace.viewer.layers.selection.active == points
        if active and points.mode == 'select' and points.selected_data:
            places = layers.places_of(points.selected_data)
            commands = [TogglePoint(*place) for place in places]
            self._workspace.session.execute(as_one(commands))
        else:
            layers.positive = not layers.positive
            if layers.shape_tool is None:
                self.use_points()
            self._workspace.updated.emit()

    def _use_shape(self, tool: str) -> None:
        if self._workspace.layers is not None:
            self._workspace.layers.use_shape(tool)
            self._workspace.updated.emit()
