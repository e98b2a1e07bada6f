"""A cursor that keys move, so that prompts can be given without a mouse."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_kdsam.annotation.commands import AddPoint
from napari_kdsam.annotation.state import PointPrompt
from napari_kdsam.widgets.annotator.workspace import Workspace
from napari_kdsam.widgets.shared.layer_marks import HELPER_KEY
from napari_kdsam.widgets.shared.transforms import copy_transform, transform_of

if TYPE_CHECKING:
    from napari.layers import Image, Points

    from napari_kdsam.widgets.annotator.image_record import ImageRecord

# So many key presses cross the image's longer side.
_STEPS = 50


class KeyboardCursor:
    """A cross on the image, shown once a key has moved it."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._image: Image | None = None
        self._place: tuple[float, float] = (0.0, 0.0)
        self._layer: Points | None = None

    @property
    def shown(self) -> bool:
        """Whether the cross is on the image being annotated."""
        return (
            self._layer is not None
            and self._layer in self._workspace.viewer.layers
            and self._image is self._workspace.image
        )

    @property
    def position(self) -> tuple[float, ...]:
        """World point of the cross, or else of the mouse."""
        record = self._workspace.record
        if record is None or not self.shown:
            return tuple(self._workspace.viewer.cursor.position)
        frame = self._workspace.frame
        return tuple(record.image.data_to_world((*frame, *self._place)))

    def move(self, down: int, right: int) -> None:
        """Move the cross by a fiftieth of the image."""
        record = self._workspace.record
        if record is None or self._workspace.layers is None:
            return
        rows, columns = record.frames.shape[-2:]
        if not self.shown:
            self._image = record.image
            self._place = ((rows - 1) / 2, (columns - 1) / 2)
        step = max(1.0, max(rows, columns) / _STEPS)
        self._place = (
            float(np.clip(self._place[0] + down * step, 0, rows - 1)),
            float(np.clip(self._place[1] + right * step, 0, columns - 1)),
        )
        self._draw(record)

    def place_point(self) -> None:
        """Add a point of the present polarity at the cross, or at the mouse."""
        record = self._workspace.record
        layers = self._workspace.layers
        place = record.frames.pixel_at(self.position) if record is not None else None
        if record is None or layers is None:
            return
        hindrance = self._workspace.click_hindrance
        if hindrance is not None:
            self._workspace.show_status(hindrance)
            return
        if place is None:
            self._workspace.say('The cursor is beside the image.')
            return
        frame, (row, column) = place
        point = PointPrompt(float(row), float(column), layers.positive)
        record.session.execute(AddPoint(frame, point))

    def close(self) -> None:
        """Take the cross away."""
        layer, self._layer = self._layer, None
        if layer is not None and layer in self._workspace.viewer.layers:
            self._workspace.viewer.layers.remove(layer)

    def follow_frame(self) -> None:
        """Show the cross on the frame in view."""
        if self._workspace.record is not None and self.shown:
            self._draw(self._workspace.record)

    def _draw(self, record: ImageRecord) -> None:
        from napari.layers import Points

        data = np.array([(*self._workspace.frame, *self._place)], float)
        if self.shown and self._layer is not None:
            self._layer.data = data
            copy_transform(record.image, self._layer)
            return
        self.close()
        self._layer = Points(
            data,
            name='KD SAM cursor',
            symbol='cross',
            size=float(np.clip(max(record.frames.shape[-2:]) / 30, 4, 400)),
            face_color='#ffff00',
            border_color='black',
            metadata={HELPER_KEY: True},
            **transform_of(record.image),
        )
        viewer = self._workspace.viewer
        active = viewer.layers.selection.active
        viewer.add_layer(self._layer)
        viewer.layers.selection.active = active
