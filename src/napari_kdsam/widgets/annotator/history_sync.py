"""Keep our history and napari's own of a Labels layer in step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QTimer

from napari_kdsam.annotation.commands import Command, CompositeCommand
from napari_kdsam.annotation.label_commands import LabelTarget, PixelCommand
from napari_kdsam.annotation.region import PixelRegion, Values
from napari_kdsam.widgets.annotator.workspace import Workspace
from napari_kdsam.widgets.shared.key_bindings import KeyAction, bind, unbind

if TYPE_CHECKING:
    from napari.layers import Labels

    from napari_kdsam.widgets.annotator.image_record import ImageRecord


class HistorySync:
    """Bind napari's undo keys on the labels to ours, and notice undo by other ways.

    Attributes
    ----------
    undo_keys : mapping of str to callable
        Bound on the labels.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self.undo_keys: Mapping[str, KeyAction] = {}
        self._layer: Labels | None = None

    def follow(self, record: ImageRecord) -> None:
        """Watch the layer that an image's commits go to."""
        layer = record.target.layer if record.target is not None else None
        if layer is self._layer:
            return
        self.close()
        self._layer = layer
        if layer is None:
            return
        layer.events.set_data.connect(self._on_refreshed)
        bind(layer, self.undo_keys)

    def close(self) -> None:
        """Let go of the layer; its keys are napari's again."""
        layer, self._layer = self._layer, None
        if layer is not None:
            layer.events.set_data.disconnect(self._on_refreshed)
            unbind(layer, self.undo_keys)

    def _on_refreshed(self, event: Any = None) -> None:
        record = self._workspace.record
        if record is None or record.target is None or record.target.being_written:
            return
        # napari announces its own undo by no event but this one, after each change.
        QTimer.singleShot(0, self._compare)

    def _compare(self) -> None:
        record = self._workspace.record
        if record is None or record.target is None or self._layer is None:
            return
        if record.target.layer is not self._layer:
            return
        session = record.session
        if _stands(session.last_done, forwards=False):
            session.undo(revert=False)
        elif _stands(session.last_undone, forwards=True):
            session.redo(apply=False)


def _stands(command: Command | None, *, forwards: bool) -> bool:
    """Whether the labels hold what a command writes, or what it takes back."""
    parts = command.commands if isinstance(command, CompositeCommand) else (command,)
    changes = [
        (part.target, change)
        for part in parts
        if isinstance(part, PixelCommand)
        for change in part.changes()
    ]
    if not changes or not all(isinstance(part, PixelCommand) for part in parts):
        return False
    return all(
        _holds(target, change.region, change.after if forwards else change.before)
        for target, change in changes
    )


def _holds(target: LabelTarget, region: PixelRegion, value: Values) -> bool:
    now = np.asarray(target.frame(region.frame)[region.slices])[region.mask()]
    return bool((now == value).all())
