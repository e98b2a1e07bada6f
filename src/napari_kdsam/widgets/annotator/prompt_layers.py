"""The helper layers: points, shapes, and the preview of the current masks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from napari_kdsam.annotation.state import Draft, PointPrompt
from napari_kdsam.core.stack_index import FrameIndex
from napari_kdsam.widgets.annotator.preview import PreviewLayer
from napari_kdsam.widgets.shared.connections import Connections
from napari_kdsam.widgets.shared.key_bindings import KeyAction, bind
from napari_kdsam.widgets.shared.prompt_geometry import (
    COLORS,
    NEGATIVE,
    POLARITY,
    POSITIVE,
    SYMBOLS,
    frame_of,
    point_at,
    polarity_table,
    read_drafts,
    show_points,
    show_shapes,
    sign_name,
)
from napari_kdsam.widgets.shared.transforms import (
    TRANSFORM_NAMES,
    copy_transform,
    spatial_shape,
    transform_of,
)

if TYPE_CHECKING:
    from napari.layers import Image, Labels, Layer, Points, Shapes
    from napari.viewer import Viewer

__all__ = ['NEGATIVE', 'POLARITY', 'POSITIVE', 'PromptLayers']

BOX, SCRIBBLE, LASSO = 'add_rectangle', 'add_path', 'add_polygon_lasso'
_MOVING = ('select', 'direct')
_PICKING = 'pan_zoom'


class PromptListener(Protocol):
    """Is told what the user does in the prompt layers."""

    def on_edit(self) -> None:
        """Points or shapes have changed."""

    def on_drag(self) -> None:
        """A point or a shape is being dragged; its layer's data follow the mouse."""

    def on_press(self, position: Any) -> None:
        """The button that adds a point at this position of the layer is held down."""

    def on_release(self) -> None:
        """That button was let go; napari decides after this whether to add the point."""


class PromptLayers:
    """Create, fill and read the three helper layers of one image.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    image : napari.layers.Image
    listener : PromptListener
    keys : mapping of str to callable
        Bound on points and shapes, also on those that replace deleted ones.
    """

    def __init__(
        self,
        viewer: Viewer,
        image: Image,
        listener: PromptListener,
        keys: Mapping[str, KeyAction],
    ) -> None:
        self._viewer = viewer
        self._image = image
        self._listener = listener
        self._keys = keys
        self._shape = spatial_shape(image)
        self._positive = True
        self._picking = False
        # Whether what is picked shall show its contour, or be opened again.
        self.for_contour = False
        self.mask = PreviewLayer(image)
        self.points: Points = self._new_points()
        self.shapes: Shapes = self._new_shapes()
        self._follow(image)

    def _follow(self, image: Image) -> None:
        self._followed = Connections()
        self._followed.connect(image.events, TRANSFORM_NAMES, self._follow_image)

    def let_go(self) -> None:
        """Follow the image no longer, until these layers move to another."""
        self._followed.close()

    def move_to(self, image: Image) -> bool:
        """Lie on another image, empty; adding and removing layers takes far longer.

        Parameters
        ----------
        image : napari.layers.Image

        Returns
        -------
        bool
            Whether they can: not below it, with other axes, nor without a layer that
            was deleted.
        """
        shape, layers = spatial_shape(image), self._viewer.layers
        if len(shape) != len(self._shape) or not all(x in layers for x in self.layers):
            return False
        if min(map(layers.index, self.layers)) < layers.index(image):
            return False
        self.let_go()
        self.show_drafts({})
        self._image, self._shape = image, shape
        self.mask.move_to(image)
        self._follow_image()
        self.points.current_size = _point_size(shape)
        self.shapes.current_edge_width = line_width(shape)
        if not self.positive:
            self.positive = True
        self._follow(image)
        return True

    def show(self) -> Iterator[None]:
        """Add each layer to the viewer that is not there, and pause after it."""
        for layer in self.layers:
            if layer not in self._viewer.layers:
                self._viewer.add_layer(layer)
                yield

    @property
    def preview(self) -> Labels:
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
        name = sign_name(self._positive)
        # napari applies the current colour and symbol to what is selected as well.
        self.points.selected_data = set()
        self.points.feature_defaults = {POLARITY: name}
        self.points.current_face_color = COLORS[name]
        self.points.current_symbol = SYMBOLS[name]

    def _style_shapes(self) -> None:
        name = sign_name(self._positive)
        self.shapes.selected_data = set()
        self.shapes.feature_defaults = {POLARITY: name}
        self.shapes.current_edge_color = COLORS[name]

    def use_points(self) -> None:
        """Make left clicks add points."""
        self._picking = False
        self._viewer.layers.selection.active = self.points
        self.points.mode = 'add'

    def use_shape(self, tool: str) -> None:
        """Make dragging draw with one of the tools BOX, SCRIBBLE and LASSO."""
        self._picking = False
        self._viewer.layers.selection.active = self.shapes
        self.shapes.mode = tool

    def use_pick(self, *, for_contour: bool = False) -> None:
        """Make a click pick an object; dragging still moves the view."""
        self._picking, self.for_contour = True, for_contour
        self._viewer.layers.selection.active = self.points
        self.points.mode = _PICKING

    @property
    def picking(self) -> bool:
        """Whether the next click picks an object."""
        return (
            self._picking
            and self._viewer.layers.selection.active == self.points
            and self.points.mode == _PICKING
        )

    @property
    def adding(self) -> bool:
        """Whether the next click adds a point."""
        active = self._viewer.layers.selection.active
        return bool(active == self.points and self.points.mode == 'add')

    @property
    def in_hand(self) -> bool:
        """Whether clicks on the canvas reach one of these layers."""
        return self._viewer.layers.selection.active in (self.points, self.shapes)

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
            self._listener.on_edit()

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
            size=_point_size(self._shape),
            **transform_of(self._image),
        )
        self._attend(layer)
        # Before napari adds the point.
        layer.mouse_drag_callbacks.insert(0, self._watch_press)
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
            edge_width=line_width(self._shape),
            **transform_of(self._image),
        )
        self._attend(layer)
        return layer

    def _attend(self, layer: Layer) -> None:
        layer.events.data.connect(self._on_data)
        layer.mouse_drag_callbacks.append(self._watch_drag)
        bind(layer, self._keys)

    def _watch_press(self, points: Any, event: Any) -> Iterator[None]:
        # napari adds a point when the button is let go, a tenth of a second later,
        # unless the mouse was moved away.
        if str(points.mode) != 'add':
            return
        self._listener.on_press(points.world_to_data(event.position))
        yield
        while event.type == 'mouse_move':
            yield
        self._listener.on_release()

    def _watch_drag(self, layer: Any, event: Any) -> Iterator[None]:
        # napari reports a dragged prompt only once it is let go.
        if str(layer.mode) not in _MOVING:
            return
        yield
        while event.type == 'mouse_move':
            self._listener.on_drag()
            yield


def _point_size(shape: tuple[int, ...]) -> float:
    return float(np.clip(max(shape[-2:]) / 60, 2, 200))


def line_width(shape: tuple[int, ...]) -> float:
    """Width in pixels of lines that are well seen on an image of a shape."""
    return float(np.clip(max(shape[-2:]) / 300, 1, 60))
