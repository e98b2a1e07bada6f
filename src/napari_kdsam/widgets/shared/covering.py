"""Which image layers are seen in place of another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_kdsam.widgets.shared.layer_choice import image_layers

if TYPE_CHECKING:
    from napari.components import Dims
    from napari.layers import Image, Layer
    from napari.viewer import Viewer

# More of such a layer is seen than of what lies under it.
_MOSTLY_OPAQUE = 0.5
_COVERING_BLENDS = ('opaque', 'translucent', 'translucent_no_depth')


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
    if grid_of(viewer).enabled:
        return []
    images = image_layers(viewer)
    above = images[images.index(image) + 1 :]
    return [
        layer
        for layer in above
        if layer.visible
        and layer.opacity > _MOSTLY_OPAQUE
        and str(layer.blending) in _COVERING_BLENDS
        and is_displayed(layer, viewer.dims)
        and _overlap(layer, image)
    ]


def grid_of(viewer: Viewer) -> Any:
    """The grid mode of a viewer."""
    # napari 0.9 has moved it to the canvas.
    return getattr(viewer, 'canvas', viewer).grid


def is_displayed(layer: Layer, dims: Dims) -> bool:
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
