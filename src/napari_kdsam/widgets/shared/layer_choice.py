"""Which layers of a viewer can be measured, compared or looked at together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_kdsam.widgets.shared.layer_marks import HELPER_KEY
from napari_kdsam.widgets.shared.transforms import spatial_shape

if TYPE_CHECKING:
    from napari.layers import Image, Labels
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
