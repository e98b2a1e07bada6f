"""What is kept of one image layer for as long as it is in the viewer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_kdsam.annotation.cleanup import CleanUp
from napari_kdsam.annotation.history import AnnotationSession
from napari_kdsam.annotation.state import Draft
from napari_kdsam.core.errors import ImageError
from napari_kdsam.core.intensity import IntensityMapping
from napari_kdsam.core.stack_index import FrameIndex, flat_index, frame_at, frame_count
from napari_kdsam.widgets.shared.labels_writer import (
    LabelsLayerTarget,
    OnPainted,
    new_labels_layer,
)
from napari_kdsam.widgets.shared.transforms import data_of, pixel_size_of, spatial_shape

if TYPE_CHECKING:
    from napari.components import Dims
    from napari.layers import Image, Labels, Layer
    from napari.viewer import Viewer

    from napari_kdsam.inference.predictor import Candidate, Prediction

# Clean-ups of a mask kept, so that turning one on and off costs nothing.
_CLEANED_KEPT = 4


@dataclass(frozen=True, eq=False)
class Shown:
    """Predictions, one for each object of the draft they answer.

    Attributes
    ----------
    draft : Draft
    predictions : tuple of Prediction
    thumbnails : tuple of numpy.ndarray
        (side, side, 3) uint8 pictures of the candidates of a single object.
    looked_again : set of int
        Candidates of which no better mask is to come.
    """

    draft: Draft
    predictions: tuple[Prediction, ...]
    thumbnails: tuple[NDArray[np.uint8], ...] = ()
    looked_again: set[int] = field(default_factory=set)
    _cleaned: dict[Any, NDArray[np.bool_]] = field(default_factory=dict)

    def candidates(self, chosen: int | None) -> tuple[Candidate, ...]:
        """The chosen candidate of each object; the best one unless it is a single one."""
        if len(self.predictions) == 1:
            return (self.predictions[0].candidate(chosen),)
        return tuple(prediction.best for prediction in self.predictions)

    def masks(
        self, chosen: int | None, cleanup: CleanUp
    ) -> tuple[NDArray[np.bool_], ...]:
        """(rows, columns) mask of each object after clean-up, kept for the next time."""
        if not cleanup.active:
            return tuple(candidate.mask for candidate in self.candidates(chosen))
        found = []
        for candidate in self.candidates(chosen):
            key = (id(candidate), cleanup)
            if key not in self._cleaned:
                if len(self._cleaned) >= _CLEANED_KEPT * len(self.predictions):
                    self._cleaned.clear()
                self._cleaned[key] = cleanup.apply(candidate.mask)
            found.append(self._cleaned[key])
        return tuple(found)


@dataclass(eq=False)
class ImageRecord:
    """One image's session, predictions in view, and where its commits go.

    Attributes
    ----------
    image : napari.layers.Image
    on_painted : callable
        Told when labels were painted by hand into the target.
    session : AnnotationSession
    shown : dict of frame index to Shown
        Only for frames with a draft.
    data_version : int
        Counts replacements of the layer's data.
    target : LabelsLayerTarget or None
        None until the first commit, unless the user chose a layer.
    """

    image: Image
    on_painted: OnPainted
    session: AnnotationSession = field(default_factory=AnnotationSession)
    shown: dict[FrameIndex, Shown] = field(default_factory=dict)
    data_version: int = 0
    target: LabelsLayerTarget | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """(..., rows, columns) of the image."""
        return spatial_shape(self.image)

    def check(self) -> None:
        """Raise an ImageError if there is nothing to annotate."""
        if min(self.shape, default=0) < 1 or len(self.shape) < 2:
            raise ImageError(
                f'its shape is {self.shape}; open an image with rows and columns.'
            )

    @property
    def plane_shape(self) -> tuple[int, int]:
        """(rows, columns) of a frame."""
        return self.shape[-2], self.shape[-1]

    def frame_at(self, point: tuple[float, ...]) -> FrameIndex:
        """Index of the frame at a world point, the nearest if it is beyond the stack."""
        shape = self.shape
        position = self.image.world_to_data(point[-len(shape) :])
        leading = zip(position[:-2], shape[:-2], strict=True)
        return tuple(int(np.clip(round(i), 0, size - 1)) for i, size in leading)

    def pixel_at(
        self, point: tuple[float, ...]
    ) -> tuple[FrameIndex, tuple[int, int]] | None:
        """Frame and (row, column) at a world point; None beside the image."""
        shape = self.shape
        position = self.image.world_to_data(point[-len(shape) :])
        *frame, row, column = (int(round(value)) for value in position[: len(shape)])
        if any(
            not 0 <= i < n for i, n in zip((*frame, row, column), shape, strict=True)
        ):
            return None
        return tuple(frame), (row, column)

    def in_plane(self, dims: Dims) -> bool:
        """Whether the view shows the image's rows and columns, in 2D."""
        last_two = {dims.ndim - 2, dims.ndim - 1}
        return dims.ndisplay == 2 and set(dims.displayed) == last_two

    def frame_reader(self) -> Callable[[FrameIndex], Any]:
        """Make a function that reads any frame of what is there now, for a thread."""
        return partial(_read, data_of(self.image))

    def reader(self, frame: FrameIndex) -> Callable[[], Any]:
        """Make a function that reads one frame, for a thread to call."""
        return partial(self.frame_reader(), frame)

    def token(self, frame: FrameIndex) -> tuple[Any, ...]:
        """Equal only for the same pixels."""
        return (id(self), self.data_version, frame)

    def mapping(self, use_contrast_limits: bool) -> IntensityMapping:
        """How the image's values shall become 8 bits."""
        if self.image.rgb or not use_contrast_limits:
            return IntensityMapping()
        low, high = self.image.contrast_limits
        return IntensityMapping(float(low), float(high))

    def point_of(self, frame: FrameIndex) -> tuple[float, ...]:
        """World point of the first pixel of a frame."""
        return tuple(self.image.data_to_world((*frame, 0, 0)))

    @property
    def frame_count(self) -> int:
        """Frames of the stack; 1 for a single image."""
        return frame_count(self.shape[:-2])

    def flat_index(self, frame: FrameIndex) -> int:
        """A frame's place in the stack, counting along the last leading axis first."""
        return flat_index(frame, self.shape[:-2])

    def frame_of(self, flat: int) -> FrameIndex:
        """The frame at a place in the stack."""
        return frame_at(flat, self.shape[:-2])

    def pixel_size(self) -> tuple[tuple[float, float], str]:
        """Extent of a pixel along rows and columns, and its unit (``px`` if unknown)."""
        return pixel_size_of(self.image)

    def forget_cleared(self) -> None:
        """Drop the predictions of frames without a draft, to save memory."""
        drafts = self.session.state.drafts
        self.shown = {f: shown for f, shown in self.shown.items() if f in drafts}

    def set_target(self, layer: Labels | None, *, empty: bool = False) -> None:
        """Commit to `layer` (known to be `empty`?), or to a new one if None."""
        target = None
        if layer is not None:
            target = LabelsLayerTarget(layer, self.on_painted, empty=empty)
        if self.target is not None:
            self.target.close()
        self.target = target

    def ensure_target(
        self, viewer: Viewer, below: Layer, highest: int = 0
    ) -> LabelsLayerTarget:
        """Where commits go; a new Labels layer under `below` if there is none.

        Raises
        ------
        ImageError
            If there is no memory for a new layer.
        """
        if (
            self.target is None
            or self.target.layer not in viewer.layers
            or tuple(self.target.layer.data.shape) != self.shape
        ):
            layer = new_labels_layer(self.image, highest)
            active = viewer.layers.selection.active
            viewer.layers.insert(viewer.layers.index(below), layer)
            viewer.layers.selection.active = active
            self.set_target(layer, empty=True)
        assert self.target is not None
        return self.target


def _read(data: Any, frame: FrameIndex) -> Any:
    return np.asarray(data[frame] if frame else data)
