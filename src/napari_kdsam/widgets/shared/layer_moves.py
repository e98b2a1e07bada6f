"""Bring a place of a layer into view."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from napari.layers import Layer
    from napari.viewer import Viewer


# Of the canvas that an object fills.
_SHARE = 0.4


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


def show_box(
    viewer: Viewer,
    layer: Layer,
    frame: Sequence[int],
    box: tuple[int, int, int, int],
) -> None:
    """Bring a part of a layer into view, so that it fills two fifths of the canvas.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    layer : napari.layers.Layer
        Whose last two axes are rows and columns.
    frame : sequence of int
        Along the axes before those.
    box : tuple of int
        Half-open (row0, column0, row1, column1).
    """
    row0, column0, row1, column1 = box
    middle = ((row0 + row1 - 1) / 2, (column0 + column1 - 1) / 2)
    # What is seen whole then is the measure of what fills the canvas.
    viewer.reset_view()
    show_position(viewer, layer, (*frame, *middle))
    extent = np.ptp(layer.extent.data, axis=0)[-2:] + 1
    share = max((row1 - row0) / extent[0], (column1 - column0) / extent[1])
    camera = getattr(viewer, 'scene', viewer).camera
    camera.zoom *= max(1.0, _SHARE / share)
