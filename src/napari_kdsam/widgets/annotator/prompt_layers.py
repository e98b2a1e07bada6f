"""The helper layers: points, shapes, and the preview of the current masks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_kdsam.annotation.state import Draft, PointPrompt
from napari_kdsam.core.stack_index import FrameIndex
from napari_kdsam.widgets.annotator.drag_watch import watch_drags, watch_presses
from napari_kdsam.widgets.annotator.preview import PreviewLayer
from napari_kdsam.widgets.annotator.shortcuts import KeyAction
from napari_kdsam.widgets.shared.connections import Connections
from napari_kdsam.widgets.shared.prompt_geometry import (
    COLORS,
    NEGATIVE,
    POLARITY,
    POSITIVE,
    SYMBOLS,
    frame_of,
    name_of,
    point_at,
    polarity_table,
    read_drafts,
    show_points,
    show_shapes,
)
from napari_kdsam.widgets.shared.transforms import (
    TRANSFORM_NAMES,
    copy_transform,
    spatial_shape,
    transform_of,
)

if TYPE_CHECKING:
    from napari.layers import Image, Layer, Points, Shapes
    from napari.viewer import Viewer

__all__ = ['NEGATIVE', 'POLARITY', 'POSITIVE', 'PromptLayers']

BOX, SCRIBBLE, LASSO = 'add_rectangle', 'add_path', 'add_polygon_lasso'


class PromptLayers:
    """Create, fill and read the three helper layers of one image.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    image : napari.layers.Image
    on_edit : callable
        Called without arguments when the user has changed points or shapes.
    on_drag : callable
        Called without arguments while the user drags a point or a shape.
    on_press, on_release : callable
        See `watch_presses`.
    keys : mapping of str to callable
        Bound on points and shapes, also on those that replace deleted ones.
    """

    def __init__(
        self,
        viewer: Viewer,
        image: Image,
        on_edit: Callable[[], None],
        on_drag: Callable[[], None],
        on_press: Callable[[Any], None],
        on_release: Callable[[], None],
        keys: Mapping[str, KeyAction],
    ) -> None:
        self._viewer = viewer
        self._image = image
        self._on_edit = on_edit
        self._on_drag = on_drag
        self._on_press = on_press
        self._on_release = on_release
        self._keys = keys
        self._shape = spatial_shape(image)
        self._positive = True
        self.mask = PreviewLayer(image)
        self.points: Points = self._new_points()
        self.shapes: Shapes = self._new_shapes()
        for layer in self.layers:
            viewer.add_layer(layer)
        self._followed = Connections()
        self._followed.connect(image.events, TRANSFORM_NAMES, self._follow_image)

    @property
    def preview(self) -> Any:
        """The Labels layer of the preview."""
        return self.mask.layer

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Preview, shapes and points, bottom to top."""
        return self.preview, self.shapes, self.points

    @property
    def positive(self) -> bool:
        """Whether the next prompt is inside the object."""
        return self._positive

    @positive.setter
    def positive(self, value: bool) -> None:
        self._positive = value
        self._style_points()
        self._style_shapes()

    def _style_points(self) -> None:
        name = name_of(self._positive)
        # napari applies the current colour and symbol to what is selected as well.
        self.points.selected_data = set()
        self.points.feature_defaults = {POLARITY: name}
        self.points.current_face_color = COLORS[name]
        self.points.current_symbol = SYMBOLS[name]

    def _style_shapes(self) -> None:
        name = name_of(self._positive)
        self.shapes.selected_data = set()
        self.shapes.feature_defaults = {POLARITY: name}
        self.shapes.current_edge_color = COLORS[name]

    def use_points(self) -> None:
        """Make left clicks add points."""
        self._viewer.layers.selection.active = self.points
        self.points.mode = 'add'

    def use_shape(self, tool: str) -> None:
        """Make dragging draw with one of the tools BOX, SCRIBBLE and LASSO."""
        self._viewer.layers.selection.active = self.shapes
        self.shapes.mode = tool

    @property
    def shape_tool(self) -> str | None:
        """The tool that dragging on the canvas draws with now."""
        if self._viewer.layers.selection.active != self.shapes:
            return None
        mode = str(self.shapes.mode)
        return mode if mode in (BOX, SCRIBBLE, LASSO) else None

    def close(self) -> None:
        """Remove the layers and stop following the image."""
        self._followed.close()
        self.points.events.data.disconnect(self._on_data)
        self.shapes.events.data.disconnect(self._on_data)
        for layer in self.layers:
            if layer in self._viewer.layers:
                self._viewer.layers.remove(layer)

    def restore(self, removed: Layer) -> None:
        """Add an equal layer in place of one the user has deleted; empty."""
        if removed == self.points:
            self.points = self._new_points()
            self._viewer.add_layer(self.points)
        elif removed == self.shapes:
            self.shapes = self._new_shapes()
            self._viewer.add_layer(self.shapes)
        else:
            self._viewer.add_layer(self.mask.renew())
        self.positive = self._positive

    def point_at(self, position: Any) -> tuple[FrameIndex, PointPrompt]:
        """Frame and prompt of a point that would be added at a position now."""
        return point_at(self._image, self.points, position, self._positive)

    def read(self) -> dict[FrameIndex, Draft]:
        """What the layers hold now, by frame, in image coordinates."""
        return read_drafts(self._image, self.points, self.shapes)

    def show_same(self, drafts: Mapping[FrameIndex, Draft]) -> bool:
        """Whether the layers already show exactly these drafts."""
        drawn = {frame: draft.drawn for frame, draft in drafts.items()}
        wanted = {frame: draft for frame, draft in drawn.items() if not draft.empty}
        return self.read() == wanted

    def show_drafts(self, drafts: Mapping[FrameIndex, Draft]) -> None:
        """Make points and shapes show these drafts, without reporting an edit.

        A layer that shows them already is left alone, because napari takes long.
        """
        held = self.read()
        frames = {*held, *drafts}
        nothing = Draft()
        pairs = [(held.get(f, nothing), drafts.get(f, nothing)) for f in frames]
        if any(old.points != new.points for old, new in pairs):
            with self.points.events.data.blocker():
                show_points(self.points, drafts, len(self._shape))
            self._style_points()
        if any(
            replace(old.drawn, points=()) != replace(new.drawn, points=())
            for old, new in pairs
        ):
            with self.shapes.events.data.blocker():
                show_shapes(self.shapes, drafts)
            self._style_shapes()

    def fits_image(self) -> bool:
        """Whether the image still has the shape these layers were made for."""
        return spatial_shape(self._image) == self._shape

    def places_of(self, numbers: Iterable[int]) -> list[tuple[FrameIndex, int]]:
        """Frame of each of these points, and its place among those of that frame."""
        frames = [frame_of(self._image, self.points, p) for p in self.points.data]
        return [
            (frames[number], frames[:number].count(frames[number]))
            for number in sorted(numbers)
        ]

    def _follow_image(self, event: Any = None) -> None:
        for layer in (self.points, self.shapes):
            copy_transform(self._image, layer)
        self.mask.follow_image()

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
            features=polarity_table([]),
            feature_defaults={POLARITY: POSITIVE},
            face_color=COLORS[POSITIVE],
            symbol=SYMBOLS[POSITIVE],
            border_color='white',
            border_width=0.15,
            size=float(np.clip(max(self._shape[-2:]) / 60, 2, 200)),
            **transform_of(self._image),
        )
        self._attend(layer)
        watch_presses(layer, self._on_press, self._on_release)
        return layer

    def _new_shapes(self) -> Shapes:
        from napari.layers import Shapes

        layer = Shapes(
            ndim=len(self._shape),
            name='KD SAM shapes',
            features=polarity_table([]),
            feature_defaults={POLARITY: POSITIVE},
            face_color='transparent',
            edge_color=COLORS[POSITIVE],
            edge_width=float(np.clip(max(self._shape[-2:]) / 300, 1, 60)),
            **transform_of(self._image),
        )
        self._attend(layer)
        return layer

    def _attend(self, layer: Layer) -> None:
        layer.events.data.connect(self._on_data)
        watch_drags(layer, self._on_drag)
        for key, action in self._keys.items():
            layer.bind_key(key, action, overwrite=True)
