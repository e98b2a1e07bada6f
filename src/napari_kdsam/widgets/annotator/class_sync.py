"""Keep the classes of the session and those named in the labels in step."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from napari_kdsam.annotation.classes import class_named
from napari_kdsam.annotation.commands import AdoptClasses
from napari_kdsam.annotation.state import AnnotationState
from napari_kdsam.widgets.annotator.class_display import show_classes_on
from napari_kdsam.widgets.annotator.workspace import Workspace
from napari_kdsam.widgets.shared.label_classes import classes_of

if TYPE_CHECKING:
    from napari.layers import Labels

    from napari_kdsam.widgets.annotator.image_record import ImageRecord


class ClassSync:
    """Name the classes of objects in the labels, and adopt those of other labels."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._layer: Labels | None = None
        self._writing = False

    def follow(self, record: ImageRecord) -> None:
        """Watch the layer that an image's commits go to, and adopt its classes."""
        layer = record.target.layer if record.target is not None else None
        if layer is self._layer:
            return
        self.close()
        self._layer = layer
        if layer is not None:
            layer.events.features.connect(self._on_features)
            self.adopt()

    def close(self) -> None:
        """Let go of the layer."""
        layer, self._layer = self._layer, None
        if layer is not None:
            layer.events.features.disconnect(self._on_features)

    def adopt(self, *, anew: bool = False) -> None:
        """Know the classes of labels that a batch, or something else, has named.

        Parameters
        ----------
        anew : bool
            Whether what was known of other labels no longer holds.
        """
        record = self._workspace.record
        if record is None or record.target is None:
            return
        state = record.session.state
        own = {item.label for item in state.objects}
        classes = state.classes
        known = {
            label: class_id
            for label, class_id in state.known_classes.items()
            if label in own or not anew
        }
        for label, name in classes_of(record.target.layer).items():
            if label not in own:
                classes, known[label] = class_named(classes, name)
        if classes != state.classes or known != state.known_classes:
            record.session.execute(AdoptClasses(classes, known))

    def show(self, record: ImageRecord, gone: Collection[int] = ()) -> None:
        """Write the classes of an image's objects into the features of its labels.

        Parameters
        ----------
        record : ImageRecord
        gone : collection of int
            Labels of objects that there were.
        """
        if record.target is None:
            return
        self._writing = True
        try:
            show_classes_on(record.target.layer, record.session.state, gone)
        finally:
            self._writing = False

    def on_changed(
        self, record: ImageRecord, before: AnnotationState, after: AnnotationState
    ) -> None:
        """Name the classes of labels anew if they have changed."""
        self.follow(record)
        if _shown(before) != _shown(after):
            # A label that was made elsewhere is that again once it is nobody's object.
            left = {item.label for item in after.objects} | set(after.known_classes)
            self.show(record, {item.label for item in before.objects} - left)

    def _on_features(self, event: Any = None) -> None:
        if not self._writing:
            self.adopt(anew=True)


def _shown(state: AnnotationState) -> tuple[object, ...]:
    return state.objects, state.classes, state.semantic
