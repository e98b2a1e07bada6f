"""Commits into a napari Labels layer, so that napari's own undo still works."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

from napari_kdsam.annotation.region import PixelChange, PixelIndices, Values
from napari_kdsam.core.errors import ImageError
from napari_kdsam.core.stack_index import FrameIndex
from napari_kdsam.widgets.shared.layer_marks import HELPER_KEY, OURS
from napari_kdsam.widgets.shared.paint_events import changes_of_paint
from napari_kdsam.widgets.shared.transforms import spatial_shape, transform_of

_CANNOT_WRITE = (
    ValueError,
    TypeError,
    IndexError,
    OSError,
    NotImplementedError,
    MemoryError,
)

if TYPE_CHECKING:
    from napari.layers import Image, Labels
    from napari.viewer import Viewer


# Layers that a commit, an undo or a redo is writing to now; all annotators share it.
_being_written: list[Any] = []
_targets: WeakSet[LabelsLayerTarget] = WeakSet()

OnPainted = Callable[['LabelsLayerTarget', tuple[PixelChange, ...]], None]


class LabelsLayerTarget:
    """Read and write the pixels of a Labels layer.

    Parameters
    ----------
    layer : napari.layers.Labels
        With the image's shape.
    on_painted : callable
        Called with this target and the changed pixels when something else has
        painted into the layer.
    empty : bool
        Whether the layer is known to hold no label, so that it need not be read.
    """

    def __init__(
        self, layer: Labels, on_painted: OnPainted, *, empty: bool = False
    ) -> None:
        self.layer = layer
        self._on_painted = on_painted
        self._highest = 0 if empty else _highest_label(layer.data)
        self._undone = False
        _targets.add(self)
        layer.events.data.connect(self._rescan)
        layer.events.paint.connect(self._on_paint)

    @property
    def highest(self) -> int:
        """The largest label so far; 0 if there is none."""
        if self._undone:
            self._rescan()
        return self._highest

    @property
    def being_written(self) -> bool:
        """Whether the layer is changing by a command now."""
        return any(layer is self.layer for layer in _being_written)

    def forget_undone(self) -> None:
        """Let labels that were undone be given again; not where reading them is slow."""
        self._undone = isinstance(self.layer.data, np.ndarray)

    def raise_highest(self, label: int) -> None:
        """Note a label that the layer has now."""
        self._highest = max(self._highest, label)

    def check_label(self, label: int) -> None:
        """Raise an ImageError if the layer's dtype cannot hold a label."""
        check_label(self.layer, label)

    def write(self, indices: PixelIndices, value: Values) -> None:
        """Set values as one step of the layer's own history.

        Raises
        ------
        ImageError
            If the layer's data cannot be written.
        """
        if indices[0].size == 0:
            return
        _being_written.append(self.layer)
        try:
            set_pixels(self.layer, indices, value)
        finally:
            _being_written.remove(self.layer)

    def frame(self, frame: FrameIndex) -> NDArray[Any]:
        """(rows, columns) labels of one frame."""
        return frame_data(self.layer.data, frame)

    def close(self) -> None:
        """Stop watching the layer."""
        _targets.discard(self)
        self.layer.events.data.disconnect(self._rescan)
        self.layer.events.paint.disconnect(self._on_paint)

    def _rescan(self, event: Any = None) -> None:
        self._undone = False
        self._highest = _highest_label(self.layer.data)

    def _on_paint(self, event: Any) -> None:
        if self.being_written:
            return
        changes = changes_of_paint(event.value, self.layer.ndim)
        for change in changes:
            self._highest = max(self._highest, int(np.max(change.after)))
        if changes:
            self._on_painted(self, changes)


def check_label(layer: Labels, label: int) -> None:
    """Raise an ImageError if the dtype of a layer cannot hold a label."""
    dtype = layer.data.dtype
    if label > np.iinfo(dtype).max:
        raise ImageError(
            f'The labels layer is full: {dtype} holds no label {label}; choose a new '
            'labels layer.'
        )


def set_pixels(layer: Labels, indices: PixelIndices, value: Values) -> None:
    """Set values as one step of the layer's own history.

    Raises
    ------
    ImageError
        If the layer's data cannot be written.
    """
    values = value if isinstance(value, int) else np.asarray(value).tolist()
    try:
        with layer.block_history():
            layer.data_setitem(indices, values)
    except _CANNOT_WRITE as error:
        raise ImageError(
            f'The labels layer cannot be written ({error}); choose a new labels layer.'
        ) from error
    for target in _targets:
        # Another annotator, or a batch, may be writing to the same layer.
        if target.layer is layer:
            target.raise_highest(int(np.max(value)))


def frame_data(data: Any, frame: FrameIndex) -> NDArray[Any]:
    """(rows, columns) of one frame of what a layer holds."""
    return np.asarray(data[frame] if frame else data)


def _highest_label(data: Any) -> int:
    if isinstance(data, np.ndarray):
        return int(data.max(initial=0))
    # Frame by frame, because a lazy stack may be larger than memory.
    frames = np.ndindex(*data.shape[:-2])
    return max((int(np.asarray(data[i]).max(initial=0)) for i in frames), default=0)


def new_labels_layer(image: Image, highest: int = 0) -> Labels:
    """Make an empty Labels layer lying exactly on an image, for labels to `highest`.

    Raises
    ------
    ImageError
        If there is no memory for it.
    """
    from napari.layers import Labels

    shape = spatial_shape(image)
    try:
        dtype = np.uint16 if highest < np.iinfo(np.uint16).max else np.uint32
        data = np.zeros(shape, dtype)
    except MemoryError as error:
        raise ImageError(
            f'There is no memory for labels of shape {shape}; make a labels layer of '
            'your own (on disk, with zarr) and choose it.'
        ) from error
    # Our writers take over the place in the body from the file named here.
    kept = {k: image.metadata[k] for k in ('source',) if k in image.metadata}
    return Labels(
        data,
        name=f'{image.name} labels',
        metadata={OURS: True, **kept},
        **transform_of(image),
    )


def labels_fitting(image: Image, viewer: Viewer) -> list[Labels]:
    """Labels layers in the viewer that can hold an image's labels, but for previews."""
    from napari.layers import Labels

    shape = spatial_shape(image)
    return [
        layer
        for layer in viewer.layers
        if isinstance(layer, Labels)
        and not layer.multiscale
        and HELPER_KEY not in layer.metadata
        and tuple(layer.data.shape) == shape
    ]
