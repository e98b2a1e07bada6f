"""What the measurement table needs to know and do about napari's layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from napari_kdsam.widgets.shared.labels_writer import HELPER_KEY
from napari_kdsam.widgets.shared.transforms import spatial_shape

if TYPE_CHECKING:
    from napari.layers import Image, Labels, Layer
    from napari.viewer import Viewer


def measurable_labels(viewer: Viewer) -> list[Labels]:
    """Labels layers whose objects can be measured: of one resolution, and no helpers."""
    from napari.layers import Labels

    return [
        layer
        for layer in viewer.layers
        if isinstance(layer, Labels)
        and not layer.multiscale
        and HELPER_KEY not in layer.metadata
        and layer.ndim >= 2
    ]


def images_fitting(labels: Labels | None, viewer: Viewer) -> list[Image]:
    """Image layers with a pixel for each one of the labels."""
    from napari.layers import Image

    if labels is None:
        return []
    shape = tuple(labels.data.shape)
    return [
        layer
        for layer in viewer.layers
        if isinstance(layer, Image) and spatial_shape(layer) == shape
    ]


def classes_of(labels: Labels | None) -> dict[int, str]:
    """Class names by label, from the columns ``index`` and ``class`` of the features."""
    features: Any = getattr(labels, 'features', None)
    if features is None or not {'index', 'class'} <= set(features.columns):
        return {}
    known = features[features['class'].notna() & features['index'].notna()]
    return dict(zip(known['index'], known['class'].astype(str), strict=True))


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
