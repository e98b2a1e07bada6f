"""What happens when layers of the annotator are deleted, or the image's data change."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from qtpy.QtCore import QTimer

from napari_kdsam.widgets.annotator.workspace import Workspace

if TYPE_CHECKING:
    from napari.layers import Image, Labels, Layer

    from napari_kdsam.widgets.annotator.image_record import ImageRecord

_NEW_SHAPE = (
    'The image has another shape now, so its labels begin anew; those made before stay '
    'as a layer.'
)


class LayerOwner(Protocol):
    """Takes up layers for annotation, and gives them up."""

    def set_image(self, image: Image | None) -> None:
        """Annotate another image layer, or none."""

    def set_target(self, labels: Labels | None) -> None:
        """Commit to this layer; None for a new one."""

    def lose_labels(self, labels: Labels) -> None:
        """Go on without a labels layer that was deleted."""

    def drop(self, image: Layer) -> None:
        """Keep nothing of an image any more."""

    def renew_image(self) -> None:
        """Go on with other pixels of the same image."""

    def renew_layers(self) -> None:
        """Show everything again in a prompt layer that was made anew."""


class LayerWatch:
    """Mend what a deleted layer or replaced pixels leave behind."""

    def __init__(self, workspace: Workspace, owner: LayerOwner) -> None:
        self._workspace = workspace
        self._owner = owner
        self._removed = workspace.viewer.layers.events.removed
        self._removed.connect(self._on_removed)

    def close(self) -> None:
        """Watch no more."""
        self._removed.disconnect(self._on_removed)

    def on_image_data(self, event: Any = None) -> None:
        """Predict again from new pixels; those of another shape begin anew."""
        record, layers = self._workspace.record, self._workspace.layers
        if record is None or layers is None:
            return
        record.data_version += 1
        record.shown.clear()
        record.own_shapes = {}
        if layers.fits_image():
            self._owner.renew_image()
        else:
            # napari has not told the viewer of the new extent yet.
            _soon(self._begin_anew, record)

    def _begin_anew(self, record: ImageRecord) -> None:
        if self._workspace.record is record:
            self._owner.set_image(None)
            self._owner.drop(record.image)
            self._owner.set_image(record.image)
            self._workspace.say(_NEW_SHAPE)

    def _on_removed(self, event: Any) -> None:
        layers, layer = self._workspace.layers, event.value
        # napari is still in the middle of removing it.
        if layers is not None and layer in layers.layers:
            _soon(self._restore, layer)
        elif layer in self._workspace.records:
            _soon(self._drop, layer)
        elif layer == self._workspace.target_layer:
            _soon(self._lose, layer)

    def _restore(self, removed: Layer) -> None:
        if self._workspace.layers is not None:
            self._workspace.layers.restore(removed)
            self._owner.renew_layers()

    def _lose(self, removed: Labels) -> None:
        # The image may be gone as well by now, or the layer back by an undo.
        if (
            removed not in self._workspace.viewer.layers
            and removed == self._workspace.target_layer
        ):
            self._owner.lose_labels(removed)

    def _drop(self, removed: Layer) -> None:
        if removed not in self._workspace.viewer.layers:
            if removed == self._workspace.image:
                self._owner.set_image(None)
            self._owner.drop(removed)


def _soon(act: Callable[[Any], None], value: Any) -> None:
    QTimer.singleShot(0, partial(act, value))
