"""Between drafts and the data of the prompt layers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_kdsam.annotation.state import (
    Draft,
    Outline,
    PointPrompt,
    Position,
    Scribble,
)
from napari_kdsam.core.geometry import Box
from napari_kdsam.core.stack_index import FrameIndex

if TYPE_CHECKING:
    from napari.layers import Image, Layer, Points, Shapes

POLARITY = 'polarity'
POSITIVE, NEGATIVE = 'inside', 'outside'
# Blue and orange stay apart for every kind of colour vision; shape tells as well.
COLORS = {POSITIVE: '#2f7fff', NEGATIVE: '#ff8c00'}
SYMBOLS = {POSITIVE: 'disc', NEGATIVE: 'x'}
_DECIMALS = 3
_BOXES, _OUTLINES = ('rectangle', 'ellipse'), ('polygon',)


def polarity_table(names: list[str]) -> Any:
    """The features of a prompt layer: one polarity for each point or shape."""
    import pandas as pd

    return pd.DataFrame(
        {POLARITY: pd.Categorical(names, categories=[POSITIVE, NEGATIVE])}
    )


def sign_name(positive: bool) -> str:
    """The polarity's name in the layers' features."""
    return POSITIVE if positive else NEGATIVE


def read_drafts(
    image: Image, points: Points | None, shapes: Shapes | None
) -> dict[FrameIndex, Draft]:
    """What the layers hold, by frame, in image coordinates.

    In a layer without polarity everything is inside.
    """
    clicks: dict[FrameIndex, list[PointPrompt]] = {}
    boxes: dict[FrameIndex, list[Box]] = {}
    scribbles: dict[FrameIndex, list[Scribble]] = {}
    outlines: dict[FrameIndex, list[Outline]] = {}
    if points is not None:
        for position, name in zip(points.data, _polarity(points), strict=True):
            frame, (row, column) = place_in_image(image, points, position)
            point = PointPrompt(row, column, name != NEGATIVE)
            clicks.setdefault(frame, []).append(point)
    if shapes is not None:
        for vertices, kind, name in zip(
            shapes.data, shapes.shape_type, _polarity(shapes), strict=True
        ):
            placed = [place_in_image(image, shapes, vertex) for vertex in vertices]
            frame, places = placed[0][0], tuple(place for _, place in placed)
            if kind in _BOXES:
                boxes.setdefault(frame, []).append(_box_around(places))
            elif kind in _OUTLINES:
                outline = Outline(places, name != NEGATIVE)
                outlines.setdefault(frame, []).append(outline)
            else:
                scribble = Scribble(places, name != NEGATIVE)
                scribbles.setdefault(frame, []).append(scribble)
    return {
        frame: Draft(
            tuple(clicks.get(frame, ())),
            tuple(boxes.get(frame, ())),
            tuple(scribbles.get(frame, ())),
            tuple(outlines.get(frame, ())),
        )
        for frame in {*clicks, *boxes, *scribbles, *outlines}
    }


def _polarity(layer: Points | Shapes) -> list[str]:
    if POLARITY in layer.features:
        return list(layer.features[POLARITY])
    return [POSITIVE] * len(layer.data)


def _box_around(corners: Iterable[Position]) -> Box:
    spread = np.array(list(corners))
    # A drawn edge at pixel-centre coordinate c is at c + 0.5 half-open.
    low, high = spread.min(axis=0) + 0.5, spread.max(axis=0) + 0.5
    return (
        round(float(low[0]), _DECIMALS),
        round(float(low[1]), _DECIMALS),
        round(float(high[0]), _DECIMALS),
        round(float(high[1]), _DECIMALS),
    )


def place_in_image(
    image: Image, layer: Layer, position: Any
) -> tuple[FrameIndex, Position]:
    """Frame, and (row, column) in image pixels, of a position in another layer."""
    world = layer.data_to_world(tuple(position))
    *frame, row, column = image.world_to_data(world)
    # Rounded, so that a prompt shown and read back is the same prompt.
    place = round(float(row), _DECIMALS), round(float(column), _DECIMALS)
    return tuple(int(round(index)) for index in frame), place


def point_at(
    image: Image, points: Points, position: Any, positive: bool
) -> tuple[FrameIndex, PointPrompt]:
    """What a point added to the layer at a position would be read as."""
    frame, (row, column) = place_in_image(image, points, position)
    return frame, PointPrompt(row, column, positive)


def frame_of(image: Image, layer: Layer, position: Any) -> FrameIndex:
    """The frame of the image that a position in a prompt layer is on."""
    return place_in_image(image, layer, position)[0]


def place_in_layer(frame: FrameIndex, place: Position) -> tuple[float, ...]:
    """Position of a place of the image in a layer that lies on it."""
    return (*(float(index) for index in frame), *place)


def show_points(points: Points, drafts: Mapping[FrameIndex, Draft], ndim: int) -> None:
    """Make the points layer show the points of these drafts."""
    placed = [(f, point) for f, d in drafts.items() for point in d.points]
    names = [sign_name(point.positive) for _, point in placed]
    positions = [place_in_layer(f, (p.row, p.column)) for f, p in placed]
    points.selected_data = set()
    points.data = np.reshape(positions, (-1, ndim))
    points.features = polarity_table(names)
    if names:
        points.face_color = [COLORS[name] for name in names]
        points.symbol = [SYMBOLS[name] for name in names]


def show_shapes(shapes: Shapes, drafts: Mapping[FrameIndex, Draft]) -> None:
    """Make the shapes layer show boxes, scribbles and outlines of these drafts."""
    drawn: list[tuple[NDArray[Any], str]] = []
    names: list[str] = []

    def add(
        frame: FrameIndex, places: Iterable[Position], kind: str, name: str
    ) -> None:
        drawn.append(
            (np.array([place_in_layer(frame, place) for place in places]), kind)
        )
        names.append(name)

    for frame, draft in drafts.items():
        for box in draft.boxes:
            row0, col0, row1, col1 = (value - 0.5 for value in box)
            corners = ((row0, col0), (row0, col1), (row1, col1), (row1, col0))
            add(frame, corners, 'rectangle', POSITIVE)
        for scribble in draft.scribbles:
            # napari needs two vertices for a path, and a dot has one.
            places = scribble.places * (2 if len(scribble.places) == 1 else 1)
            add(frame, places, 'path', sign_name(scribble.positive))
        for outline in draft.outlines:
            add(frame, outline.places, 'polygon', sign_name(outline.positive))
    shapes.selected_data = set()
    shapes.data = []
    if drawn:
        shapes.add(
            [vertices for vertices, _ in drawn],
            shape_type=[kind for _, kind in drawn],
            edge_color=[COLORS[name] for name in names],
        )
    shapes.features = polarity_table(names)
