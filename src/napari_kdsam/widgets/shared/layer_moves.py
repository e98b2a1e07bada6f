"""Bring a place of a layer into view."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari.layers import Layer
    from napari.viewer import Viewer


def show_position(viewer: Viewer, layer: Layer, position: Sequence[float]) -> None:
    """Bring a place of a layer into the middle of the canvas; the zoom stays.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    layer : napari.layers.Layer
    position : sequence of float
        One coordinate in pixels for each axis of the layer.
    """
    dims = viewer.dims
    # A layer with fewer dimensions has the last ones of the viewer.
    first = dims.ndim - layer.ndim
    world = dict(enumerate(layer.data_to_world(tuple(position)), start=first))
    hidden = [axis for axis in dims.not_displayed if axis in world]
    if hidden:
        dims.set_point(hidden, [world[axis] for axis in hidden])
    # Since napari 0.9 the camera is the scene's.
    camera = getattr(viewer, 'scene', viewer).camera
    center = list(camera.center)
    for place, axis in enumerate(reversed(dims.displayed), start=1):
        center[-place] = world.get(axis, center[-place])
    camera.center = tuple(center)
