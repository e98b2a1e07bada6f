"""Prompts for a batch, read from any Points and Shapes layers of the viewer."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from napari_kdsam.annotation.state import Draft
from napari_kdsam.core.stack_index import FrameIndex
from napari_kdsam.widgets.shared.layer_choice import image_layers
from napari_kdsam.widgets.shared.prompt_geometry import read_drafts
from napari_kdsam.widgets.shared.transforms import spatial_shape

if TYPE_CHECKING:
    from napari.layers import Image, Points, Shapes
    from napari.viewer import Viewer


def point_layers(viewer: Viewer) -> list[Points]:
    """The points layers that can hold prompts."""
    from napari.layers import Points

    return [layer for layer in viewer.layers if isinstance(layer, Points)]


def shape_layers(viewer: Viewer) -> list[Shapes]:
    """The shapes layers that can hold prompts."""
    from napari.layers import Shapes

    return [layer for layer in viewer.layers if isinstance(layer, Shapes)]


def segmentable_images(viewer: Viewer) -> list[Image]:
    """The image layers that have rows and columns with pixels."""
    return [
        image
        for image in image_layers(viewer)
        if len(spatial_shape(image)) >= 2 and min(spatial_shape(image)) > 0
    ]


def prompts_by_frame(
    image: Image, points: Points | None, shapes: Shapes | None
) -> dict[FrameIndex, Draft]:
    """The prompts of every frame, in coordinates of the image's pixels."""
    return read_drafts(image, points, shapes)


def prompts_on_frame(
    image: Image, points: Points | None, shapes: Shapes | None, frame: FrameIndex
) -> Draft:
    """The prompts on one frame; those of a layer without that axis are on all."""
    parts = [Draft()]
    for layer, drafts in (
        (points, read_drafts(image, points, None)),
        (shapes, read_drafts(image, None, shapes)),
    ):
        if layer is not None:
            flat = layer.ndim < len(spatial_shape(image))
            here = drafts.values() if flat else [drafts.get(frame, Draft())]
            parts += here
    merged: Any = {
        kind: tuple(mark for part in parts for mark in getattr(part, kind))
        for kind in ('points', 'boxes', 'scribbles', 'outlines')
    }
    return replace(Draft(), **merged)
