"""What happens when layers of the annotator are deleted, or the image's data change."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer

if TYPE_CHECKING:
    from napari_kdsam.widgets.annotator.image_record import ImageRecord

_NEW_SHAPE = (
    'The image has another shape now, so its labels begin anew; those made before stay '
    'as a layer.'
)


class LayerWatch:
    """Mend what a deleted layer or replaced pixels leave behind.

    Parameters
    ----------
    controller : AnnotationController
    """

    def __init__(self, controller: Any) -> None:
        self._controller = controller
        self._removed = controller.viewer.layers.events.removed
        self._removed.connect(self._on_removed)

    def close(self) -> None:
        """Watch no more."""
        self._removed.disconnect(self._on_removed)

    def on_image_data(self, event: Any = None) -> None:
        """Predict again from new pixels; those of another shape begin anew."""
        controller = self._controller
        record: ImageRecord | None = controller.record
        if record is None:
            return
        record.data_version += 1
        record.shown.clear()
        if controller.layers.fits_image():
            controller.keeper.watch(record)
            controller.refresh_preview()
        else:
            # napari has not told the viewer of the new extent yet.
            QTimer.singleShot(0, partial(self._begin_anew, record))

    def _begin_anew(self, record: ImageRecord) -> None:
        controller = self._controller
        if controller.record is record:
            controller.set_image(None)
            controller.drop(record.image)
            controller.set_image(record.image)
            controller.say(_NEW_SHAPE)

    def _on_removed(self, event: Any) -> None:
        controller, layer = self._controller, event.value
        # napari is still in the middle of removing it.
        if controller.layers is not None and layer in controller.layers.layers:
            QTimer.singleShot(0, partial(self._restore, layer))
        elif controller.knows(layer):
            QTimer.singleShot(0, partial(self._drop, layer))
        elif layer == controller.target_layer:
            controller.set_target(None)

    def _restore(self, removed: Any) -> None:
        controller = self._controller
        if controller.layers is not None:
            controller.layers.restore(removed)
            controller.show_contrast()
            controller.edits.show_drafts()
            controller.refresh_preview()
            controller.use_points()

    def _drop(self, removed: Any) -> None:
        controller = self._controller
        if removed not in controller.viewer.layers:
            if removed == controller.image:
                controller.set_image(None)
            controller.drop(removed)
