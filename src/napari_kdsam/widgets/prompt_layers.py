"""The helper layers: points, boxes, and the preview of the current mask."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_kdsam.annotation.state import Draft, FrameIndex, PointPrompt
from napari_kdsam.inference.geometry import Box
from napari_kdsam.widgets.label_target import HELPER_KEY
from napari_kdsam.widgets.shortcuts import KeyAction
from napari_kdsam.widgets.transforms import (
    TRANSFORM_NAMES,
    copy_transform,
    shifted_affine,
    spatial_shape,
    transform_of,
)

if TYPE_CHECKING:
    from napari.layers import Image, Labels, Layer, Points, Shapes
    from napari.viewer import Viewer

POLARITY = 'polarity'
POSITIVE, NEGATIVE = 'inside', 'outside'
# Blue and orange stay apart for every kind of colour vision; shape tells as well.
_COLORS = {POSITIVE: '#2f7fff', NEGATIVE: '#ff8c00'}
_SYMBOLS = {POSITIVE: 'disc', NEGATIVE: 'x'}
_DECIMALS = 3
_PREVIEW_COLOR = '#00e5ff'


class PromptLayers:
    """Create, fill and read the three helper layers of one image.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    image : napari.layers.Image
    on_edit : callable
        Called without arguments when the user has changed points or boxes.
    keys : mapping of str to callable
        Bound on points and boxes, also on those that replace deleted ones.
    """

    def __init__(
        self,
        viewer: Viewer,
        image: Image,
        on_edit: Callable[[], None],
        keys: Mapping[str, KeyAction],
    ) -> None:
        self._viewer = viewer
        self._image = image
        self._on_edit = on_edit
        self._keys = keys
        self._shape = spatial_shape(image)
        self._positive = True
        self.points: Points = self._new_points()
        self.boxes: Shapes = self._new_boxes()
        self.preview: Labels = self._new_preview()
        for layer in (self.preview, self.boxes, self.points):
            viewer.add_layer(layer)
        self._followed = [
            getattr(image.events, name)
            for name in TRANSFORM_NAMES
            if hasattr(image.events, name)
        ]
        for event in self._followed:
            event.connect(self._follow_image)

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Preview, boxes and points, bottom to top."""
        return self.preview, self.boxes, self.points

    @property
    def positive(self) -> bool:
        """Whether the next click is inside the object."""
        return self._positive

    @positive.setter
    def positive(self, value: bool) -> None:
        self._positive = value
        name = POSITIVE if value else NEGATIVE
        # napari applies the current colour and symbol to selected points as well.
        self.points.selected_data = set()
        self.points.feature_defaults = {POLARITY: name}
        self.points.current_face_color = _COLORS[name]
        self.points.current_symbol = _SYMBOLS[name]

    def use_points(self) -> None:
        """Make left clicks add points."""
        self._viewer.layers.selection.active = self.points
        self.points.mode = 'add'

    def use_box(self) -> None:
        """Make dragging draw a box."""
        self._viewer.layers.selection.active = self.boxes
        self.boxes.mode = 'add_rectangle'

    @property
    def drawing_boxes(self) -> bool:
        """Whether dragging on the canvas draws a box now."""
        active = self._viewer.layers.selection.active == self.boxes
        return active and self.boxes.mode == 'add_rectangle'

    def close(self) -> None:
        """Remove the layers and stop following the image."""
        for event in self._followed:
            event.disconnect(self._follow_image)
        self.points.events.data.disconnect(self._on_data)
        self.boxes.events.data.disconnect(self._on_data)
        for layer in self.layers:
            if layer in self._viewer.layers:
                self._viewer.layers.remove(layer)

    def restore(self, removed: Layer) -> None:
        """Add an equal layer in place of one the user has deleted; empty."""
        if removed == self.points:
            self.points = self._new_points()
            self._viewer.add_layer(self.points)
        elif removed == self.boxes:
            self.boxes = self._new_boxes()
            self._viewer.add_layer(self.boxes)
        else:
            self.preview = self._new_preview()
            self._viewer.add_layer(self.preview)
        self.positive = self._positive

    def read(self) -> dict[FrameIndex, Draft]:
        """What the layers hold now, by frame, in image coordinates."""
        points: dict[FrameIndex, list[PointPrompt]] = {}
        polarity = self.points.features[POLARITY].tolist()
        for position, name in zip(self.points.data, polarity, strict=True):
            frame, (row, column) = self._to_image(self.points, position)
            points.setdefault(frame, []).append(
                PointPrompt(row, column, name != NEGATIVE)
            )
        boxes: dict[FrameIndex, Box] = {}
        for corners in self.boxes.data:
            placed = [self._to_image(self.boxes, corner) for corner in corners]
            spread = np.array([position for _, position in placed])
            # A drawn edge at pixel-centre coordinate c is at c + 0.5 half-open.
            low, high = spread.min(axis=0) + 0.5, spread.max(axis=0) + 0.5
            boxes[placed[0][0]] = (
                round(float(low[0]), _DECIMALS),
                round(float(low[1]), _DECIMALS),
                round(float(high[0]), _DECIMALS),
                round(float(high[1]), _DECIMALS),
            )
        return {
            frame: Draft(tuple(points.get(frame, ())), boxes.get(frame))
            for frame in {*points, *boxes}
        }

    def show_same(self, drafts: Mapping[FrameIndex, Draft]) -> bool:
        """Whether the layers already show exactly these drafts."""
        wanted = {frame: Draft(d.points, d.box) for frame, d in drafts.items()}
        boxes = sum(draft.box is not None for draft in wanted.values())
        return len(self.boxes.data) == boxes and self.read() == wanted

    def show_drafts(self, drafts: Mapping[FrameIndex, Draft]) -> None:
        """Make points and boxes show these drafts, without reporting an edit."""
        placed = [(f, point) for f, d in drafts.items() for point in d.points]
        names = [POSITIVE if point.positive else NEGATIVE for _, point in placed]
        positions = [self._to_layer(f, p.row, p.column) for f, p in placed]
        with self.points.events.data.blocker():
            self.points.selected_data = set()
            self.points.data = np.reshape(positions, (-1, len(self._shape)))
            self.points.features = _polarity_table(names)
            if names:
                self.points.face_color = [_COLORS[name] for name in names]
                self.points.symbol = [_SYMBOLS[name] for name in names]
            self.positive = self._positive
        rectangles = []
        for frame, draft in drafts.items():
            if draft.box is not None:
                row0, col0, row1, col1 = (value - 0.5 for value in draft.box)
                corners = ((row0, col0), (row0, col1), (row1, col1), (row1, col0))
                rectangles.append([self._to_layer(frame, *c) for c in corners])
        with self.boxes.events.data.blocker():
            self.boxes.selected_data = set()
            self.boxes.data = []
            if rectangles:
                self.boxes.add_rectangles(np.asarray(rectangles))

    def show_mask(self, frame: FrameIndex, mask: NDArray[np.bool_] | None) -> None:
        """Preview a (rows, columns) mask on a frame, or nothing."""
        if mask is None:
            if self.preview.data.any():
                self.preview.data = np.zeros_like(self.preview.data)
            return
        shaped = mask.astype(np.uint8).reshape((1,) * len(frame) + mask.shape)
        self._place_preview(frame)
        self.preview.data = shaped

    def _place_preview(self, frame: FrameIndex) -> None:
        affine = shifted_affine(self._image, (*frame, 0, 0))
        if not np.allclose(self.preview.affine.affine_matrix, affine):
            self.preview.affine = affine

    def _follow_image(self, event: Any = None) -> None:
        for layer in (self.points, self.boxes):
            copy_transform(self._image, layer)
        corner = self._image.world_to_data(
            self.preview.data_to_world((0,) * self.preview.ndim)
        )
        self._place_preview(tuple(int(round(value)) for value in corner[:-2]))

    def _to_image(
        self, layer: Layer, position: Any
    ) -> tuple[FrameIndex, tuple[float, float]]:
        world = layer.data_to_world(tuple(position))
        *frame, row, column = self._image.world_to_data(world)
        # Rounded, so that a prompt shown and read back is the same prompt.
        place = round(float(row), _DECIMALS), round(float(column), _DECIMALS)
        return tuple(int(round(index)) for index in frame), place

    def _to_layer(
        self, frame: FrameIndex, row: float, column: float
    ) -> tuple[float, ...]:
        return (*(float(index) for index in frame), row, column)

    def _on_data(self, event: Any) -> None:
        from napari.layers.base import ActionType

        # napari announces each edit before and after; only the result counts.
        if event.action in (ActionType.ADDED, ActionType.REMOVED, ActionType.CHANGED):
            self._on_edit()

    def _new_points(self) -> Points:
        from napari.layers import Points

        layer = Points(
            np.empty((0, len(self._shape))),
            ndim=len(self._shape),
            name='KD SAM points',
            features=_polarity_table([]),
            feature_defaults={POLARITY: POSITIVE},
            face_color=_COLORS[POSITIVE],
            symbol=_SYMBOLS[POSITIVE],
            border_color='white',
            border_width=0.15,
            size=float(np.clip(max(self._shape[-2:]) / 60, 2, 200)),
            **transform_of(self._image),
        )
        self._attend(layer)
        return layer

    def _new_boxes(self) -> Shapes:
        from napari.layers import Shapes

        layer = Shapes(
            ndim=len(self._shape),
            name='KD SAM box',
            face_color='transparent',
            edge_color=_COLORS[POSITIVE],
            edge_width=float(np.clip(max(self._shape[-2:]) / 300, 1, 60)),
            **transform_of(self._image),
        )
        self._attend(layer)
        return layer

    def _attend(self, layer: Layer) -> None:
        layer.events.data.connect(self._on_data)
        for key, action in self._keys.items():
            layer.bind_key(key, action, overwrite=True)

    def _new_preview(self) -> Labels:
        from napari.layers import Labels
        from napari.utils.colormaps import DirectLabelColormap

        leading = len(self._shape) - 2
        colors = {None: 'transparent', 0: 'transparent', 1: _PREVIEW_COLOR}
        layer = Labels(
            np.zeros((1,) * leading + self._shape[-2:], np.uint8),
            name='KD SAM preview',
            opacity=0.5,
            colormap=DirectLabelColormap(color_dict=colors),
            metadata={HELPER_KEY: True},
            affine=shifted_affine(self._image, (0,) * len(self._shape)),
        )
        for name in ('units', 'axis_labels'):
            if hasattr(self._image, name):
                setattr(layer, name, getattr(self._image, name))
        return layer


def _polarity_table(names: list[str]) -> Any:
    import pandas as pd

    return pd.DataFrame(
        {POLARITY: pd.Categorical(names, categories=[POSITIVE, NEGATIVE])}
    )
