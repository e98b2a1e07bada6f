"""The dock that compares a Labels layer with a reference."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from magicgui.widgets import ComboBox
from qtpy.QtCore import QModelIndex, QTimer
from qtpy.QtWidgets import QVBoxLayout

from napari_kdsam.core.errors import KDSAMError
from napari_kdsam.measure.comparison import check_comparable
from napari_kdsam.widgets.compare.error_layer import ErrorOverlay
from napari_kdsam.widgets.compare.panel import ComparePanel
from napari_kdsam.widgets.compare.worker import (
    CompareRequest,
    CompareWorker,
    StackComparison,
)
from napari_kdsam.widgets.shared.connections import Connections
from napari_kdsam.widgets.shared.dock import Dock
from napari_kdsam.widgets.shared.layer_choice import images_fitting, measurable_labels
from napari_kdsam.widgets.shared.layer_moves import show_position
from napari_kdsam.widgets.shared.sortable_table import ObjectPlace
from napari_kdsam.widgets.shared.transforms import pixel_size_of

if TYPE_CHECKING:
    from napari.layers import Labels
    from napari.viewer import Viewer

_DELAY_MS = 300
_TOLERANCE_PIXELS = 2
_LIST_EVENTS = ('inserted', 'removed', 'reordered', 'renamed')
_PLACE_EVENTS = ('scale', 'translate', 'rotate', 'shear', 'affine', 'units')
_NO_LABELS = 'Open or add a Labels layer to compare.'
_NO_REFERENCE = 'Choose a reference: another Labels layer, or a folder of masks.'
_READY = 'Click Compare.'
_CHANGED = 'Something has changed since; compare again.'
_STOPPED = 'Stopped, because {} while comparing; compare again.'


class CompareWidget(Dock):
    """Compare labels with a reference, and go to where they do not agree.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
        Given by napari.

    Attributes
    ----------
    panel : ComparePanel
        Everything that is seen of it.
    found : StackComparison or None
        What is listed.
    """

    def __init__(self, napari_viewer: 'Viewer') -> None:  # noqa: UP037
        super().__init__()
        self.viewer = napari_viewer
        self.panel = ComparePanel()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.panel)
        self.found: StackComparison | None = None
        self._labels: Labels | None = None
        self._reference: Labels | Path | None = None
        self._folder: Path | None = None
        self._pixels: tuple[tuple[float, float], str] | None = None
        self._asked: int | None = None
        self._outdated = False
        self._worker = CompareWorker()
        self._worker.compared.connect(self._on_compared)
        self._worker.progressed.connect(self._on_progressed)
        self._worker.failed.connect(self._on_failed)
        self._worker.written.connect(self.panel.say)
        self.overlay = ErrorOverlay(napari_viewer)
        self.overlay.failed.connect(self.panel.say)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_DELAY_MS)
        self._timer.timeout.connect(self.overlay.refresh)
        self._connect_panel()
        self._viewer_events, self._layer_events = Connections(), Connections()
        self._viewer_events.connect(
            napari_viewer.layers.events, _LIST_EVENTS, self._on_layers_changed
        )
        self.at_end(
            self._worker.close, self._viewer_events.close, self._layer_events.close
        )
        active = napari_viewer.layers.selection.active
        offered = measurable_labels(napari_viewer)
        chosen = [layer for layer in offered if layer == active] or offered
        self._choose_labels(chosen[-1] if chosen else None)

    def _connect_panel(self) -> None:
        self.panel.labels_choice.choices = lambda _: measurable_labels(self.viewer)
        self.panel.reference_choice.choices = lambda _: self._references()
        self.panel.labels_choice.changed.connect(self._choose_labels)
        self.panel.reference_choice.changed.connect(self._choose_reference)
        self.panel.matching_choice.changed.connect(self._on_changed)
        self.panel.tolerance.valueChanged.connect(self._on_changed)
        self.panel.list_choice.changed.connect(self._show_found)
        self.panel.folder_button.clicked.connect(
            lambda _: self.panel.ask_for_folder(self.use_folder)
        )
        self.panel.compare_button.clicked.connect(lambda _: self.compare())
        self.panel.cancel_button.clicked.connect(lambda _: self.cancel())
        self.panel.errors_button.toggled.connect(self.show_errors)
        self.panel.save_button.clicked.connect(
            lambda _: self.panel.ask_where_to_save(self.save)
        )
        self.panel.view.clicked.connect(self._on_clicked)

    def compare(self) -> None:
        """Compare now, in a thread; `found` and the list are filled at its end."""
        labels, reference = self._labels, self._reference
        if labels is None or reference is None:
            return
        self._clear()
        folder = isinstance(reference, Path)
        truth = reference if isinstance(reference, Path) else reference.data
        try:
            if not folder:
                check_comparable(labels.data, truth)
        except KDSAMError as error:
            self.panel.say(str(error))
            return
        pixel_size, unit = pixel_size_of(labels)
        request = CompareRequest(
            labels.data,
            truth,
            _names_of(labels, self.viewer) if folder else (),
            pixel_size,
            unit,
            self.panel.tolerance.value(),
            self.panel.matching_choice.value,
        )
        self._asked = self._worker.compare(request)
        self._enable()
        self.panel.say('Comparing…')

    def cancel(self) -> None:
        """Stop comparing."""
        if self._asked is not None:
            self._clear('Cancelled.')

    def use_folder(self, folder: str | Path) -> None:
        """Take a folder of masks as the reference.

        Parameters
        ----------
        folder : path-like
        """
        self._folder = Path(folder)
        self._choose_reference(self._folder)

    def show_errors(self, shown: bool) -> None:
        """Add or remove the layer with the pixels that do not agree."""
        found, labels = self.found, self._labels
        if shown and found is not None and labels is not None:
            self.overlay.show(labels, found.reference, found.request.matching)
        else:
            self.overlay.remove()
        self._mark_errors()

    def go_to(self, place: ObjectPlace) -> None:
        """Show an object or a frame in the middle of the canvas, and choose its label.

        Parameters
        ----------
        place : ObjectPlace
            With label 0, none is chosen.
        """
        labels = self._labels
        if labels is None:
            return
        show_position(self.viewer, labels, (*place.frame, place.row, place.column))
        if place.label:
            labels.selected_label = place.label

    def save(self, path: str | Path) -> None:
        """Write what is listed as CSV, in the order of frames and labels.

        Parameters
        ----------
        path : path-like
            What became of it is said in the dock.
        """
        if self.found is not None:
            by_frame = bool(self.panel.list_choice.value)
            self._worker.save(Path(path), self.found, by_frame=by_frame)

    def _references(self) -> list[tuple[str, Any]]:
        offered = [
            (layer.name, layer)
            for layer in measurable_labels(self.viewer)
            if layer is not self._labels
        ]
        if self._folder is not None:
            offered.append((f'Folder {self._folder.name}', self._folder))
        return offered

    def _choose_labels(self, labels: Labels | None, reason: str = '') -> None:
        self._labels = labels
        references = [value for _, value in self._references()]
        if self._reference not in references:
            fitting = [
                layer
                for layer in references
                if labels is not None
                and not isinstance(layer, Path)
                and tuple(layer.data.shape) == tuple(labels.data.shape)
            ]
            self._reference = fitting[-1] if fitting else None
        self._settle(reason)

    def _choose_reference(self, reference: Labels | Path | None) -> None:
        self._reference = reference
        self._settle()

    def _settle(self, reason: str = '') -> None:
        """Show and follow the layers that are chosen, and what can be done with them."""
        self._show_choices()
        self._watch()
        self._measure_pixels()
        # The rows of other layers must not be clicked or saved any more.
        self._clear(reason)

    def _show_choices(self) -> None:
        for choice, value in (
            (self.panel.labels_choice, self._labels),
            (self.panel.reference_choice, self._reference),
        ):
            _refill(choice, value)

    def _watch(self) -> None:
        """Follow the chosen layers, and no others."""
        self._layer_events.close()
        for layer in (self._labels, self._reference):
            if layer is not None and not isinstance(layer, Path):
                connect = self._layer_events.connect
                connect(layer.events, ('paint',), self._on_painted)
                connect(layer.events, ('data',), self._on_replaced)
        if self._labels is not None:
            self._layer_events.connect(
                self._labels.events, _PLACE_EVENTS, self._on_moved
            )

    def _measure_pixels(self) -> None:
        """Say distances in the layer's unit, with a tolerance of that order."""
        pixels = ((1.0, 1.0), 'px')
        if self._labels is not None:
            pixels = pixel_size_of(self._labels)
        if pixels != self._pixels:
            self._pixels = pixels
            sizes, unit = pixels
            self.panel.offer_tolerance(_TOLERANCE_PIXELS * max(sizes), unit)

    def _on_layers_changed(self, event: Any = None) -> None:
        # napari is still in the middle of adding or removing the layer.
        QTimer.singleShot(0, self._follow_layers)

    def _follow_layers(self) -> None:
        self.overlay.forget_deleted()
        self._mark_errors()
        offered = measurable_labels(self.viewer)
        reason = ''
        if self._asked is not None:
            reason = _STOPPED.format('a layer was removed')
        if self._labels not in offered and (offered or self._labels is not None):
            self._choose_labels(offered[-1] if offered else None, reason)
        elif self._reference is None or self._reference not in [
            value for _, value in self._references()
        ]:
            before = self._reference
            if before is not None or len(offered) > 1:
                self._choose_labels(self._labels, reason if before else '')
        else:
            self._show_choices()

    def _on_painted(self, event: Any = None) -> None:
        self._on_changed()
        self._timer.start()

    def _on_replaced(self, event: Any = None) -> None:
        running = self._asked is not None
        reason = _STOPPED.format('the labels were replaced') if running else _CHANGED
        if running or self.found is not None:
            self._clear(reason)

    def _on_moved(self, event: Any = None) -> None:
        before = self._pixels
        self._measure_pixels()
        if self._pixels != before:
            self._on_changed()
        if self._labels is not None:
            self.overlay.follow(self._labels)

    def _on_changed(self, _: Any = None) -> None:
        """What is listed, or will be, is no longer what the dock asks for."""
        if self._asked is not None:
            self._clear(_STOPPED.format('something changed'))
        elif self.found is not None:
            self._outdated = True
            self.panel.say(self._summary())

    def _on_compared(self, number: int, found: StackComparison) -> None:
        if number == self._asked and self._labels is not None:
            self._asked, self.found, self._outdated = None, found, False
            self._show_found()

    def _on_progressed(self, number: int, done: int, total: int) -> None:
        if number == self._asked:
            self.panel.say(f'Comparing: {done} of {total} frames…')

    def _on_failed(self, number: int, text: str) -> None:
        if number == self._asked:
            self._clear(text)

    def _clear(self, reason: str = '') -> None:
        """Stop comparing and empty the list, saying why if there is a reason."""
        self._worker.stop()
        self._asked = self.found = None
        self.overlay.remove()
        self._show_found()
        if reason:
            self.panel.say(reason)

    def _show_found(self, _: Any = None) -> None:
        leading = 0 if self._labels is None else self._labels.ndim - 2
        self.panel.show_comparison(self.found, leading)
        self._enable()
        self.panel.say(self._summary())

    def _enable(self) -> None:
        ready = self._labels is not None and self._reference is not None
        self.panel.compare_button.setEnabled(ready and self._asked is None)
        self.panel.cancel_button.setEnabled(self._asked is not None)
        filled = self.found is not None
        self.panel.save_button.setEnabled(filled)
        self.panel.errors_button.setEnabled(filled)
        self._mark_errors()

    def _mark_errors(self) -> None:
        self.panel.mark_errors(self.overlay.layer is not None)

    def _summary(self) -> str:
        if self._labels is None:
            return _NO_LABELS
        if self._reference is None:
            return _NO_REFERENCE
        if self.found is None:
            return _READY
        if self._outdated:
            return _CHANGED
        return self.panel.describe(self.found)

    def _on_clicked(self, index: QModelIndex) -> None:
        self.go_to(self.panel.view.contents.place(index.row()))


def _names_of(labels: Labels, viewer: Viewer) -> tuple[str, ...]:
    """What a mask of the labels may be called, the likeliest first."""
    layers: list[Any] = [labels]
    images = images_fitting(labels, viewer)
    # Of several images it is not known which one the labels are of.
    layers += images if len(images) == 1 else []
    names = []
    for layer in layers:
        names.append(layer.name)
        if layer.source.path:
            names.append(Path(layer.source.path).name)
    return tuple(names)


def _refill(choice: ComboBox, value: Any) -> None:
    with choice.changed.blocked():
        choice.reset_choices()
        choice.value = value
