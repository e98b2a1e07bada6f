"""What is seen is what is labelled: which image layers hide or cover another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QTimer

from napari_kdsam.widgets.annotator.workspace import Workspace
from napari_kdsam.widgets.shared.connections import Connections
from napari_kdsam.widgets.shared.layer_choice import image_layers

if TYPE_CHECKING:
    from napari.components import Dims
    from napari.layers import Image, Layer
    from napari.viewer import Viewer

# More of such a layer is seen than of what lies under it.
_MOSTLY_OPAQUE = 0.5
_COVERING_BLENDS = ('opaque', 'translucent', 'translucent_no_depth')
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
        self._viewer.connect(_grid_of(viewer).events, ('enabled',), self._look_soon)
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
            if other.visible and _in_view(other, viewer.dims)
        ]
        if seen:
            self._follow(seen[-1])


def covering(viewer: Viewer, image: Image) -> list[Image]:
    """Image layers that are seen in place of `image`, or of a part of it.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    image : napari.layers.Image
        One of its layers.

    Returns
    -------
    list of napari.layers.Image
        Visible and mostly opaque ones above it in the same place, bottom to top; none
        in grid mode, which shows layers side by side.
    """
    if _grid_of(viewer).enabled:
        return []
    images = image_layers(viewer)
    above = images[images.index(image) + 1 :]
    return [
        layer
        for layer in above
        if layer.visible
        and layer.opacity > _MOSTLY_OPAQUE
        and str(layer.blending) in _COVERING_BLENDS
        and _in_view(layer, viewer.dims)
        and _overlap(layer, image)
    ]


def _grid_of(viewer: Viewer) -> Any:
    # napari 0.9 has moved it to the canvas.
    return getattr(viewer, 'canvas', viewer).grid


def _in_view(layer: Layer, dims: Dims) -> bool:
    """Whether the slice that the viewer shows goes through a layer."""
    low, high = layer.extent.world
    point = np.asarray(dims.point)[-layer.ndim :]
    leading = slice(0, max(0, layer.ndim - dims.ndisplay))
    half = np.abs(layer.extent.step) / 2
    inside = (point >= low - half) & (point <= high + half)
    return bool(np.all(inside[leading]))


def _overlap(layer: Layer, other: Layer) -> bool:
    """Whether rows and columns of two layers have a place in common."""
    low, high = layer.extent.world[:, -2:]
    other_low, other_high = other.extent.world[:, -2:]
    return bool(np.all((low < other_high) & (other_low < high)))
