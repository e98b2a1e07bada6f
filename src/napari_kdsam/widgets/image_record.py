"""What is kept of one image layer for as long as it is in the viewer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_kdsam.annotation.commands import CommitObject
from napari_kdsam.annotation.region import PixelRegion
from napari_kdsam.annotation.session import AnnotationSession
from napari_kdsam.annotation.state import Draft, FrameIndex
from napari_kdsam.inference.intensity import IntensityMapping
from napari_kdsam.widgets.label_target import LabelsLayerTarget, new_labels_layer
from napari_kdsam.widgets.transforms import data_of, spatial_shape

if TYPE_CHECKING:
    from napari.components import Dims
    from napari.layers import Image, Labels, Layer
    from napari.viewer import Viewer

    from napari_kdsam.inference.predictor import Candidate, Prediction


@dataclass(frozen=True)
class Shown:
    """A prediction and the draft it answers."""

    draft: Draft
    prediction: Prediction


@dataclass(eq=False)
class ImageRecord:
    """One image's session, predictions in view, and where its commits go.

    Attributes
    ----------
    image : napari.layers.Image
    session : AnnotationSession
    shown : dict of frame index to Shown
        Only for frames with a draft.
    data_version : int
        Counts replacements of the layer's data.
    target : LabelsLayerTarget or None
        None until the first commit, unless the user chose a layer.
    """

    image: Image
    session: AnnotationSession = field(default_factory=AnnotationSession)
    shown: dict[FrameIndex, Shown] = field(default_factory=dict)
    data_version: int = 0
    target: LabelsLayerTarget | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """(..., rows, columns) of the image."""
        return spatial_shape(self.image)

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

    def forget_cleared(self) -> None:
        """Drop the predictions of frames without a draft, to save memory."""
        drafts = self.session.state.drafts
        self.shown = {f: shown for f, shown in self.shown.items() if f in drafts}

    def set_target(self, layer: Labels | None, *, empty: bool = False) -> None:
        """Commit to `layer` (known to be `empty`?), or to a new one if None."""
        if self.target is not None:
            self.target.close()
        self.target = None if layer is None else LabelsLayerTarget(layer, empty=empty)

    def ensure_target(
        self, viewer: Viewer, below: Layer, highest: int = 0
    ) -> LabelsLayerTarget:
        """Where commits go; a new Labels layer under `below` if there is none.

        Raises
        ------
        ImageError
            If there is no memory for a new layer.
        """
        if self.target is None or self.target.layer not in viewer.layers:
            layer = new_labels_layer(self.image, highest)
            active = viewer.layers.selection.active
            viewer.layers.insert(viewer.layers.index(below), layer)
            viewer.layers.selection.active = active
            self.set_target(layer, empty=True)
        assert self.target is not None
        return self.target

    def commit_command(
        self, viewer: Viewer, below: Layer, frame: FrameIndex, candidate: Candidate
    ) -> CommitObject | None:
        """Make the command that commits a mask to the labels' background.

        A new Labels layer is added to the viewer under `below` if there is none.

        Returns
        -------
        CommitObject or None
            None if the mask is empty or lies on other labels only.

        Raises
        ------
        ImageError
            If the labels cannot hold another object.
        """
        if not candidate.mask.any():
            return None
        target = self.ensure_target(viewer, below)
        free = candidate.mask & (target.frame(frame) == 0)
        region = PixelRegion.of_mask(frame, free)
        if region is None:
            return None
        state = self.session.state
        # A reopened object gets its own label back, so no other may take it.
        label = state.draft(frame).label
        if label is None:
            label = max(target.next_label(), state.reserved_label + 1)
            target.check_label(label)
        return CommitObject(label, region, target, candidate.score)


def _read(data: Any, frame: FrameIndex) -> Any:
    return np.asarray(data[frame] if frame else data)
