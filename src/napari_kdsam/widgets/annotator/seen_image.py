"""What is seen is what is labelled: which image layers hide or cover another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer

from napari_kdsam.widgets.annotator.workspace import Workspace
from napari_kdsam.widgets.shared.connections import Connections
from napari_kdsam.widgets.shared.covering import covering, grid_of, is_displayed
from napari_kdsam.widgets.shared.layer_choice import image_layers

if TYPE_CHECKING:
    from napari.layers import Image, Layer

_LAYER_EVENTS = ('visible', 'opacity', 'blending', 'extent')


class SeenImage:
    """Annotate another image when the one annotated is no longer what is seen.

    Parameters
    ----------
    workspace : Workspace
    follow : callable
        Called with the image layer that is seen instead.
    """

    def __init__(self, workspace: Workspace, follow: Callable[[Image], object]) -> None:
        self._workspace = workspace
        self._follow = follow
        self._waiting = False
        self._layers: Connections | None = None
        self._viewer = Connections()
        viewer = workspace.viewer
        self._viewer.connect(
            viewer.layers.events, ('inserted', 'removed'), self._on_layers
        )
        self._viewer.connect(viewer.layers.events, ('reordered',), self._look_soon)
        self._viewer.connect(viewer.dims.events, ('current_step',), self._look_soon)
        self._viewer.connect(grid_of(viewer).events, ('enabled',), self._look_soon)
        # Before napari hands the click to the layer that is active then.
        viewer.mouse_drag_callbacks.insert(0, self._on_mouse)
        self._watch_layers()

    def close(self) -> None:
        """Watch no more."""
        self._workspace.viewer.mouse_drag_callbacks.remove(self._on_mouse)
        self._viewer.close()
        if self._layers is not None:
            self._layers.close()

    def show(self, image: Image) -> None:
        """Make an image the one that is seen, and its labels those over it.

        Images that cover it are hidden, and so are the labels of other images.
        """
        image.visible = True
        for cover in covering(self._workspace.viewer, image):
            cover.visible = False
        self.show_labels_of(image)

    def show_labels_of(self, image: Image) -> None:
        """Show the labels that go with an image, and hide those of hidden images."""
        for other, record in self._workspace.records.items():
            if record.target is None:
                continue
            if other is image:
                record.target.layer.visible = True
            elif not other.visible and record.target.layer not in self._others(other):
                record.target.layer.visible = False

    def _others(self, image: Layer) -> Iterator[Layer]:
        """Labels layers that another image which is seen is committed to as well."""
        for other, record in self._workspace.records.items():
            if other is not image and other.visible and record.target is not None:
                yield record.target.layer

    def _on_layers(self, event: Any) -> None:
        from napari.layers import Image

        # Helper layers come and go whenever another image is annotated.
        if isinstance(event.value, Image):
            self._watch_layers()
            self._look_soon()

    def _watch_layers(self) -> None:
        if self._layers is not None:
            self._layers.close()
        self._layers = Connections()
        for image in image_layers(self._workspace.viewer):
            self._layers.connect(image.events, _LAYER_EVENTS, self._look_soon)

    def _on_mouse(self, viewer: Any, event: Any) -> None:
        # A click may come before what was put off until napari is done.
        if self._waiting:
            self._look()

    def _look_soon(self, event: Any = None) -> None:
        # Several files opened at once come as several events.
        if not self._waiting:
            self._waiting = True
            QTimer.singleShot(0, self._look)

    def _look(self) -> None:
        self._waiting = False
        image, viewer = self._workspace.image, self._workspace.viewer
        if image is None or image not in viewer.layers:
            return
        covers = covering(viewer, image)
        if image.visible and not covers:
            return
        seen = covers or [
            other
            for other in image_layers(viewer)
            if other.visible and is_displayed(other, viewer.dims)
        ]
        if seen:
            self._follow(seen[-1])
