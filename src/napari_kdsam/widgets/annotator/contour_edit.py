"""Drag the corners of a committed object's contour, and write it back to its label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QTimer

from napari_kdsam.annotation.contours import Contour, Ring, contour_of, reshaped
from napari_kdsam.annotation.label_commands import ReshapeObject
from napari_kdsam.annotation.region import PixelRegion
from napari_kdsam.annotation.state import CommittedObject, Draft
from napari_kdsam.core.errors import counted
from napari_kdsam.widgets.annotator.objects import NOTHING_TO_WRITE, ObjectActions
from napari_kdsam.widgets.annotator.prompt_layers import line_width
from napari_kdsam.widgets.annotator.prompt_tools import PromptTools
from napari_kdsam.widgets.annotator.status import OverlapQuestion
from napari_kdsam.widgets.annotator.workspace import Workspace
from napari_kdsam.widgets.shared.connections import Connections
from napari_kdsam.widgets.shared.key_bindings import KeyAction, bind
from napari_kdsam.widgets.shared.layer_marks import HELPER_KEY
from napari_kdsam.widgets.shared.prompt_geometry import place_in_image, place_in_layer
from napari_kdsam.widgets.shared.transforms import (
    TRANSFORM_NAMES,
    copy_transform,
    transform_of,
)

if TYPE_CHECKING:
    from napari.layers import Shapes

    from napari_kdsam.core.stack_index import FrameIndex
    from napari_kdsam.widgets.annotator.image_record import ImageRecord
    from napari_kdsam.widgets.shared.labels_writer import LabelsLayerTarget

_KIND = 'ring'
_OUTLINE, _HOLE = 'outline', 'hole'
_COLORS = {_OUTLINE: '#ffff00', _HOLE: '#ff8c00'}
# More lines than this nobody drags one by one.
_MOST_RINGS = 30
_ELLIPSE_CORNERS = 40
_GONE = (
    'The object is no longer there to be changed: bring it back with undo once this '
    'contour is left as it was (clear).'
)


@dataclass(eq=False)
class _Opened:
    """The object whose contour is dragged.

    Attributes
    ----------
    record : ImageRecord
    target : LabelsLayerTarget
    item : CommittedObject
        As it was.
    contour : Contour
        As it was, read from the layer.
    steps : list of tuple of Ring
        How it was before each drag.
    now : tuple of Ring
    """

    record: ImageRecord
    target: LabelsLayerTarget
    item: CommittedObject
    contour: Contour
    steps: list[tuple[Ring, ...]]
    now: tuple[Ring, ...]


class ContourEdit:
    """Show the contour of an object as polygons, and take up what was made of it.

    Each part is a polygon, and so is each hole. Polygons may also be added or deleted
    with napari's own tools.

    Parameters
    ----------
    workspace : Workspace
    objects : ObjectActions
    tools : PromptTools

    Attributes
    ----------
    keys : mapping of str to callable
        Bound on the layer of the contour.
    """

    def __init__(
        self, workspace: Workspace, objects: ObjectActions, tools: PromptTools
    ) -> None:
        self.keys: Mapping[str, KeyAction] = {}
        self._workspace = workspace
        self._objects = objects
        self._tools = tools
        self._opened: _Opened | None = None
        self._followed = Connections()

    @property
    def is_open(self) -> bool:
        """Whether a contour can be dragged now."""
        return self._opened is not None

    def open_at(self, point: tuple[float, ...]) -> bool:
        """Show the contour of the object at a world point; False, and said so, if not.

        One that is open already is taken up first.
        """
        workspace = self._workspace
        if self.is_open and not self._objects.commit():
            return False
        if workspace.hindrance is not None:
            workspace.show_status(workspace.hindrance)
            return False
        found = self._objects.object_at(point)
        record = workspace.record
        if found is None or record is None:
            return False
        item, target = found
        contour = contour_of(item.region)
        if len(contour.rings) > _MOST_RINGS:
            workspace.say(
                f'Label {item.label} has {len(contour.rings)} parts and holes, too many '
                'to drag; open it with Edit and clean it up first.'
            )
            return False
        layer = self._new_layer(record, item, contour)
        workspace.contour = layer
        rings = self._read(record)
        self._opened = _Opened(
            record, target, item, replace(contour, rings=rings), [], rings
        )
        self._objects.instead = self._accept
        layer.events.data.connect(self._on_data)
        self._followed.connect(record.image.events, TRANSFORM_NAMES, self._follow)
        self._followed.connect(
            workspace.viewer.layers.events, ('removed',), self._on_removed
        )
        corners = sum(len(ring.places) for ring in rings)
        workspace.say(
            f'Label {item.label}: drag any of its {counted(corners, "corner")}, then '
            'Commit; Clear leaves it as it was.'
        )
        return True

    def cancel(self) -> None:
        """Leave the object as it was."""
        if self._opened is not None:
            self._close(f'Label {self._opened.item.label} stays as it was.')

    def finish(self) -> None:
        """Take up a contour that was changed, without a question, before it has to go."""
        if self._opened is None:
            return
        self._workspace.question = None
        if not self._accept(self._objects.overlap == 'overwrite', unseen=True):
            self.cancel()

    def step_back(self) -> bool:
        """Undo the last drag, or leave the object as it was; False without a contour."""
        opened = self._opened
        if opened is None or self._workspace.contour is None:
            return False
        if not opened.steps:
            self.cancel()
            return True
        opened.now = opened.steps.pop()
        layer = self._workspace.contour
        with layer.events.data.blocker():
            _show(layer, opened.item.frame, opened.now)
        return True

    def _accept(self, overwrite: bool | None, *, unseen: bool = False) -> bool:
        """Write the object as it is drawn now; whether there is nothing left to do."""
        workspace, opened = self._workspace, self._opened
        assert opened is not None
        if workspace.hindrance is not None and not unseen:
            workspace.show_status(workspace.hindrance)
            return False
        rings = self._read(opened.record)
        if rings == opened.contour.rings:
            self.cancel()
            return True
        item = self._item_now(opened)
        if item is None:
            workspace.fail(_GONE)
            return False
        frames = opened.record.frames
        shape = opened.record.own_shapes.get(item.frame, frames.plane_shape)
        region = reshaped(item.region, opened.contour, rings, shape)
        under = self._under(opened, item, region)
        if overwrite is None and self._objects.overlap == 'ask':
            workspace.question = OverlapQuestion.about(under)
            if workspace.question is not None:
                workspace.say('Keep the other labels, or overwrite them?')
                return False
        if overwrite is None:
            overwrite = self._objects.overlap == 'overwrite'
        if region is not None and under.any() and not overwrite:
            region = self._without_others(opened, item, region)
            under = np.zeros(0, np.int64)
        if region is None:
            workspace.fail(NOTHING_TO_WRITE)
            return False
        by = replace(item, region=region, draft=Draft())
        before = under if under.any() else 0
        if region != item.region and not self._objects.execute(
            ReshapeObject(opened.target, item, by, before)
        ):
            return False
        self._close(
            f'Label {item.label} has the contour that you drew; undo takes it back.'
        )
        return True

    def _item_now(self, opened: _Opened) -> CommittedObject | None:
        """The object as it is now, if it is still there."""
        state, item = opened.record.session.state, opened.item
        if opened.record.target is not opened.target:
            return None
        for known in state.objects:
            if (known.frame, known.number) == (item.frame, item.number):
                return known
        labels = opened.target.frame(item.frame)
        region = PixelRegion.of_mask(item.frame, labels == item.label)
        return None if region is None else state.foreign_object(item.label, region)

    @staticmethod
    def _under(
        opened: _Opened, item: CommittedObject, region: PixelRegion | None
    ) -> NDArray[Any]:
        """What the labels hold where the object comes to lie anew."""
        added = None if region is None else region.minus(item.region)
        if added is None:
            return np.zeros(0, np.int64)
        return opened.target.frame(item.frame)[added.slices][added.mask()]

    @staticmethod
    def _without_others(
        opened: _Opened, item: CommittedObject, region: PixelRegion
    ) -> PixelRegion | None:
        own = item.region.mask_in(region.box)
        free = opened.target.frame(item.frame)[region.slices] == 0
        mask = region.mask() & (free | own)
        return PixelRegion.of_mask(item.frame, mask, region.box[:2])

    def _close(self, text: str) -> None:
        layer, self._workspace.contour = self._workspace.contour, None
        self._opened = self._objects.instead = None
        self._followed.close()
        if layer is not None:
            layer.events.data.disconnect(self._on_data)
            if layer in self._workspace.viewer.layers:
                self._workspace.viewer.layers.remove(layer)
        self._tools.use_points()
        self._workspace.say(text)

    def _new_layer(
        self, record: ImageRecord, item: CommittedObject, contour: Contour
    ) -> Shapes:
        from napari.layers import Shapes

        layer = Shapes(
            ndim=len(record.frames.shape),
            name='KD SAM contour',
            features=_kinds([]),
            feature_defaults={_KIND: _OUTLINE},
            face_color='transparent',
            edge_color=_COLORS[_OUTLINE],
            edge_width=line_width(record.frames.shape) / 2,
            metadata={HELPER_KEY: True},
            **transform_of(record.image),
        )
        _show(layer, item.frame, contour.rings)
        bind(layer, self.keys)
        viewer = self._workspace.viewer
        viewer.add_layer(layer)
        viewer.layers.selection.active = layer
        layer.mode = 'direct'
        layer.selected_data = set(range(len(contour.rings)))
        return layer

    def _read(self, record: ImageRecord) -> tuple[Ring, ...]:
        """The rings in image coordinates, as the layer shows them now."""
        layer = self._workspace.contour
        assert layer is not None
        return tuple(
            Ring(
                tuple(
                    place_in_image(record.image, layer, corner)[1]
                    for corner in _corners(vertices, shape)
                ),
                kind == _HOLE,
            )
            for vertices, shape, kind in zip(
                layer.data, layer.shape_type, layer.features[_KIND], strict=True
            )
        )

    def _on_data(self, event: Any) -> None:
        from napari.layers.base import ActionType

        opened = self._opened
        ended = (ActionType.ADDED, ActionType.REMOVED, ActionType.CHANGED)
        if opened is None or event.action not in ended:
            return
        rings = self._read(opened.record)
        if rings != opened.now:
            opened.steps.append(opened.now)
            opened.now = rings

    def _follow(self, event: Any = None) -> None:
        if self._workspace.contour is not None and self._opened is not None:
            copy_transform(self._opened.record.image, self._workspace.contour)

    def _on_removed(self, event: Any) -> None:
        if event.value == self._workspace.contour:
            # napari is still in the middle of removing it.
            QTimer.singleShot(0, self.cancel)


def _kinds(names: Sequence[str]) -> Any:
    import pandas as pd

    return pd.DataFrame({_KIND: pd.Categorical(names, categories=[_OUTLINE, _HOLE])})


def _show(layer: Shapes, frame: FrameIndex, rings: Sequence[Ring]) -> None:
    kinds = [_HOLE if ring.hole else _OUTLINE for ring in rings]
    layer.selected_data = set()
    layer.data = []
    layer.add_polygons(
        [
            np.array([place_in_layer(frame, place) for place in ring.places])
            for ring in rings
        ],
        edge_color=[_COLORS[kind] for kind in kinds],
    )
    layer.features = _kinds(kinds)
    layer.selected_data = set(range(len(rings)))


def _corners(vertices: NDArray[Any], shape: str) -> NDArray[Any]:
    """The corners of a shape of napari's, an ellipse as a polygon."""
    if str(shape) != 'ellipse':
        return vertices
    # Its corners are those of the rectangle around it.
    middle = vertices.mean(axis=0)
    one, other = (vertices[1] - vertices[0]) / 2, (vertices[3] - vertices[0]) / 2
    angles = np.linspace(0, 2 * np.pi, _ELLIPSE_CORNERS, endpoint=False)[:, None]
    return np.asarray(middle + np.cos(angles) * one + np.sin(angles) * other)
