"""What is kept of one image layer for as long as it is in the viewer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_kdsam.annotation.cleanup import CleanUp
from napari_kdsam.annotation.history import AnnotationSession
from napari_kdsam.annotation.state import Draft
from napari_kdsam.core.intensity import IntensityMapping
from napari_kdsam.core.stack_index import FrameIndex
from napari_kdsam.widgets.shared.image_frames import ImageFrames
from napari_kdsam.widgets.shared.labels_writer import (
    LabelsLayerTarget,
    OnPainted,
    new_labels_layer,
)

if TYPE_CHECKING:
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
    within : tuple of int or None
        (rows, columns) of the frame itself where that is not the layer's; no mask goes
        beyond.
    """

    draft: Draft
    predictions: tuple[Prediction, ...]
    thumbnails: tuple[NDArray[np.uint8], ...] = ()
    looked_again: set[int] = field(default_factory=set)
    within: tuple[int, int] | None = None
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
        if not cleanup.active and self.within is None:
            return tuple(candidate.mask for candidate in self.candidates(chosen))
        found = []
        for candidate in self.candidates(chosen):
            key = (id(candidate), cleanup)
            if key not in self._cleaned:
                if len(self._cleaned) >= _CLEANED_KEPT * len(self.predictions):
                    self._cleaned.clear()
                self._cleaned[key] = self._cut(cleanup.apply(candidate.mask))
            found.append(self._cleaned[key])
        return tuple(found)

    def _cut(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        if self.within is None:
            return mask
        rows, columns = self.within
        inside = np.zeros_like(mask)
        inside[:rows, :columns] = mask[:rows, :columns]
        return inside


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
    own_shapes : dict of frame index to (rows, columns)
        Frames found to be of another size than the layer claims.
    target : LabelsLayerTarget or None
        None until the first commit, unless the user chose a layer.
    """

    image: Image
    on_painted: OnPainted
    session: AnnotationSession = field(default_factory=AnnotationSession)
    shown: dict[FrameIndex, Shown] = field(default_factory=dict)
    data_version: int = 0
    own_shapes: dict[FrameIndex, tuple[int, int]] = field(default_factory=dict)
    target: LabelsLayerTarget | None = None
    # Tokens outlive the record, whose address may become that of another.
    _identity: object = field(default_factory=object)

    @property
    def frames(self) -> ImageFrames:
        """Its frames, as they are now."""
        return ImageFrames(self.image)

    def reader(self) -> Callable[[FrameIndex], Any]:
        """Make a function that reads any frame, for a thread; see `ImageFrames.reader`."""
        return self.frames.reader(self.own_shapes)

    def token(self, frame: FrameIndex) -> tuple[Any, ...]:
        """Equal only for the same pixels."""
        return (self._identity, self.data_version, frame)

    def mapping(self, use_contrast_limits: bool) -> IntensityMapping:
        """How the image's values shall become 8 bits."""
        return mapping_of(self.image, use_contrast_limits)

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
            or tuple(self.target.layer.data.shape) != self.frames.shape
        ):
            layer = new_labels_layer(self.image, highest)
            active = viewer.layers.selection.active
            viewer.layers.insert(viewer.layers.index(below), layer)
            viewer.layers.selection.active = active
            self.set_target(layer, empty=True)
        assert self.target is not None
        return self.target


def mapping_of(image: Image, use_contrast_limits: bool) -> IntensityMapping:
    """How the values of an image shall become 8 bits."""
    if image.rgb or not use_contrast_limits:
        return IntensityMapping()
    low, high = image.contrast_limits
    return IntensityMapping(float(low), float(high))
