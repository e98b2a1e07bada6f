"""Which layers of a viewer can be annotated, measured or compared."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_kdsam.widgets.shared.layer_marks import HELPER_KEY
from napari_kdsam.widgets.shared.transforms import spatial_shape

if TYPE_CHECKING:
    from napari.layers import Image, Labels
    from napari.viewer import Viewer


def image_layers(viewer: Viewer) -> list[Image]:
    """The image layers of a viewer, bottom to top."""
    from napari.layers import Image

    return [layer for layer in viewer.layers if isinstance(layer, Image)]


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
    if labels is None:
        return []
    shape = tuple(labels.data.shape)
    return [image for image in image_layers(viewer) if spatial_shape(image) == shape]
