"""The layer that shows masks before they are committed."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_kdsam.annotation.state import FIRST_CLASS
from napari_kdsam.core.stack_index import FrameIndex
from napari_kdsam.widgets.annotator.class_display import colormap_of
from napari_kdsam.widgets.shared.layer_marks import HELPER_KEY
from napari_kdsam.widgets.shared.transforms import shifted_affine, spatial_shape

if TYPE_CHECKING:
    from napari.layers import Image, Labels

_OPACITY = 0.5
_HIGH_CONTRAST = '#ffff00'


def _same(some: Sequence[Any], others: Sequence[Any]) -> bool:
    return len(some) == len(others) and all(map(operator.is_, some, others))


class PreviewLayer:
    """One frame of labels, lying on the frame in view, so that stacks cost no memory.

    Attributes
    ----------
    layer : napari.layers.Labels
        Of shape (1, ..., rows, columns).
    """

    def __init__(self, image: Image) -> None:
        self._image = image
        self._shape = spatial_shape(image)
        self._color = FIRST_CLASS.color
        self._high_contrast = False
        self._painted: tuple[NDArray[np.bool_], ...] = ()
        self.layer: Labels = self._new_layer()

    def renew(self) -> Labels:
        """Make an equal empty layer in place of a deleted one."""
        self.layer = self._new_layer()
        self._painted, self._high_contrast = (), False
        return self.layer

    def move_to(self, image: Image) -> None:
        """Lie on another image of as many axes, empty."""
        self._image, self._shape = image, spatial_shape(image)
        self._painted = ()
        self.layer.data = self._empty()
        self._place((0,) * (len(self._shape) - 2))
        self._take_units()

    def show(
        self, frame: FrameIndex, masks: Sequence[NDArray[np.bool_]], color: str
    ) -> None:
        """Show (rows, columns) masks on a frame, the first one uppermost."""
        drawn = self.layer.data.reshape(self._shape[-2:])
        if masks:
            self._use_color(color)
            self._place(frame)
        # Painting is slow, and masks that were asked for ahead are shown twice.
        if not _same(masks, self._painted):
            self._painted = tuple(masks)
            drawn[:] = 0
            for number in reversed(range(len(masks))):
                drawn[masks[number]] = number % 255 + 1
            self._repaint()

    def _repaint(self) -> None:
        # Replacing the data would cost three times as much: thumbnail, extent, events.
        self.layer.refresh(thumbnail=False, highlight=False, extent=False)

    def use_high_contrast(self, high: bool) -> None:
        """Show outlines in bright yellow instead of tinted areas."""
        if high == self._high_contrast:
            return
        self._high_contrast = high
        self.layer.contour = 2 if high else 0
        self.layer.opacity = 1.0 if high else _OPACITY
        self.layer.colormap = colormap_of({}, _HIGH_CONTRAST if high else self._color)

    def follow_image(self) -> None:
        """Lie on the image again after it was moved."""
        corner = self._image.world_to_data(
            self.layer.data_to_world((0,) * self.layer.ndim)
        )
        self._place(tuple(int(round(value)) for value in corner[:-2]))

    def _use_color(self, color: str) -> None:
        if color != self._color:
            self._color = color
            if not self._high_contrast:
                self.layer.colormap = colormap_of({}, color)

    def _place(self, frame: FrameIndex) -> None:
        affine = shifted_affine(self._image, (*frame, 0, 0))
        if not np.allclose(self.layer.affine.affine_matrix, affine):
            self.layer.affine = affine

    def _new_layer(self) -> Labels:
        from napari.layers import Labels

        layer = Labels(
            self._empty(),
            name='KD SAM preview',
            opacity=_OPACITY,
            colormap=colormap_of({}, self._color),
            metadata={HELPER_KEY: True},
            affine=shifted_affine(self._image, (0,) * len(self._shape)),
        )
        self._take_units(layer)
        return layer

    def _empty(self) -> NDArray[np.uint8]:
        return np.zeros((1,) * (len(self._shape) - 2) + self._shape[-2:], np.uint8)

    def _take_units(self, layer: Labels | None = None) -> None:
        layer = self.layer if layer is None else layer
        for name in ('units', 'axis_labels'):
            wanted = getattr(self._image, name, None)
            if wanted is not None and getattr(layer, name) != wanted:
                setattr(layer, name, wanted)
