"""The dock that lists every object of a Labels layer with its measurements."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from magicgui.widgets import ComboBox
from qtpy.QtCore import QModelIndex, Qt, QTimer
from qtpy.QtWidgets import (
    QApplication,
    QCheckBox,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QVBoxLayout,
)

from napari_kdsam.core.errors import counted
from napari_kdsam.widgets.measure.pixel_size import PixelSizeRow
from napari_kdsam.widgets.measure.table import MeasurementTable
from napari_kdsam.widgets.measure.worker import MeasureRequest, MeasureWorker
from napari_kdsam.widgets.shared.connections import Connections
from napari_kdsam.widgets.shared.dock import Dock
from napari_kdsam.widgets.shared.label_classes import classes_of
from napari_kdsam.widgets.shared.layer_choice import images_fitting, measurable_labels
from napari_kdsam.widgets.shared.layer_moves import show_position
from napari_kdsam.widgets.shared.paint_events import frames_of_paint
from napari_kdsam.widgets.shared.qt_parts import form_of, plain_button
from napari_kdsam.widgets.shared.sortable_table import ObjectPlace
from napari_kdsam.widgets.shared.transforms import (
    data_of,
    pixel_size_of,
    set_pixel_size,
    unit_in_millimetres,
)

if TYPE_CHECKING:
    import pandas as pd
    from napari.layers import Image, Labels
    from napari.viewer import Viewer

    from napari_kdsam.core.stack_index import FrameIndex

_DELAY_MS = 300
_NO_LABELS = 'Open or add a Labels layer to measure its objects.'
_NO_OBJECTS = 'No objects yet: paint or commit a label.'
_LIST_EVENTS = ('inserted', 'removed', 'reordered', 'renamed')
_SIZE_EVENTS = ('data', 'scale', 'affine', 'units')


class MeasureWidget(Dock):
    """List the objects of a Labels layer in the layer's unit of length.

    The table follows the layer by itself, but for changes that napari announces by no
    event, such as its own undo; for these there is Refresh.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
        Given by napari.
    """

    def __init__(self, napari_viewer: 'Viewer') -> None:  # noqa: UP037
        super().__init__()
        self.viewer = napari_viewer
        self.table: pd.DataFrame | None = None
        self.unit = self._unit_asked = 'px'
        self._labels: Labels | None = None
        self._image: Image | None = None
        self._without_image = False
        self._changed: set[FrameIndex] | None = None
        self._asked = 0
        self._went_to: tuple[FrameIndex, int] | None = None
        self._worker = MeasureWorker()
        self._worker.measured.connect(self._on_measured)
        self._worker.progressed.connect(self._on_progressed)
        self._worker.failed.connect(self._on_failed)
        self._worker.written.connect(self._say)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_DELAY_MS)
        self._timer.timeout.connect(self._measure)
        self._build()
        self._viewer_events, self._layer_events = Connections(), Connections()
        self._viewer_events.connect(
            napari_viewer.layers.events, _LIST_EVENTS, self._on_layers_changed
        )
        self.at_end(
            self._worker.close,
            self._viewer_events.close,
            self._layer_events.close,
            self.pixel_size.line.drop,
        )
        active = napari_viewer.layers.selection.active
        offered = measurable_labels(self.viewer)
        chosen = [layer for layer in offered if layer == active] or offered
        self._choose_labels(chosen[-1] if chosen else None)

    def _build(self) -> None:
        self.labels_choice = ComboBox(
            choices=lambda _: measurable_labels(self.viewer), nullable=True
        )
        self.image_choice = ComboBox(
            choices=lambda _: images_fitting(self._labels, self.viewer), nullable=True
        )
        self.labels_choice.changed.connect(self._choose_labels)
        self.image_choice.changed.connect(self._on_image_chosen)
        choices = form_of(
            (
                ('Labels', self.labels_choice, 'The labels layer to measure'),
                ('Image', self.image_choice, 'Where mean grey values are taken from'),
            )
        )
        self.pixel_size = PixelSizeRow(self.viewer)
        self.pixel_size.chosen.connect(self._set_pixel_size)
        self.heads = QCheckBox('As fetal heads')
        self.heads.setToolTip(
            'Add diameters, head circumference and gestational age, by the ellipse '
            'that fits each object'
        )
        self.heads.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.heads.toggled.connect(lambda _: self.refresh())
        self.view = MeasurementTable()
        self.model = self.view.contents
        self.view.clicked.connect(self._on_clicked)
        self.status = QLabel()
        self.status.setWordWrap(True)
        self.refresh_button = plain_button(
            'Refresh', 'Measure all again, such as after undo of painting'
        )
        self.copy_button = plain_button(
            'Copy', 'Copy the table to the clipboard, for a spreadsheet'
        )
        self.save_button = plain_button('Save CSV…', 'Write the table to a file')
        self.refresh_button.clicked.connect(lambda _: self.refresh())
        self.copy_button.clicked.connect(lambda _: self.copy())
        self.save_button.clicked.connect(lambda _: self._ask_where_to_save())
        buttons = QHBoxLayout()
        buttons.setSpacing(4)
        for button in (self.refresh_button, self.copy_button, self.save_button):
            buttons.addWidget(button)
        column = QVBoxLayout(self)
        column.setContentsMargins(4, 4, 4, 4)
        column.setSpacing(6)
        column.addLayout(choices)
        column.addWidget(self.pixel_size)
        column.addWidget(self.heads)
        column.addWidget(self.view, stretch=1)
        column.addWidget(self.status)
        column.addLayout(buttons)
        self.setMinimumWidth(300)

    def refresh(self) -> None:
        """Measure every frame again, now."""
        self._changed = None
        self._measure()

    def copy(self) -> None:
        """Put the table on the clipboard, tab separated, in the order of the view."""
        clipboard = QApplication.clipboard()
        assert clipboard is not None
        clipboard.setText(self.view.as_text())
        self._say(f'Copied {counted(self.model.rowCount(), "object")}.')

    def save(self, path: str | Path) -> None:
        """Write the table as CSV, in the order of frames and labels.

        Parameters
        ----------
        path : path-like
            What became of it is said in the dock.
        """
        if self.table is None:
            return
        table = self.table.copy()
        if self.view.has_classes:
            classes = classes_of(self._labels)
            names = [classes.get(label, '') for label in table['label'].tolist()]
            table.insert(table.columns.get_loc('label') + 1, 'class', names)
        if self._image is not None:
            table.insert(0, 'image', _file_name(self._image))
        self._worker.save(Path(path), table, self.unit)

    def go_to(self, place: ObjectPlace) -> None:
        """Show an object: its frame, in the middle of the canvas, and as chosen label."""
        labels = self._labels
        if labels is None:
            return
        show_position(self.viewer, labels, (*place.frame, place.row, place.column))
        labels.selected_label = place.label

    def _choose_labels(self, labels: Labels | None) -> None:
        self._labels, self._went_to, self._without_image = labels, None, False
        self._match_image()
        self._show_choices()
        self._watch()
        # The rows of another layer must not be clicked, copied or saved any more.
        self.table = None
        self._show_table()
        self.refresh()

    def _match_image(self) -> bool:
        """Let go of an image that does not fit, and take one that does; whether so."""
        images, before = images_fitting(self._labels, self.viewer), self._image
        if before not in images:
            self._image = images[-1] if images and not self._without_image else None
        return self._image is not before

    def _on_image_chosen(self, image: Image | None) -> None:
        self._image, self._without_image = image, image is None
        self._watch()
        self._measure()

    def _show_choices(self) -> None:
        for choice, layer in (
            (self.labels_choice, self._labels),
            (self.image_choice, self._image),
        ):
            with choice.changed.blocked():
                choice.reset_choices()
                choice.value = layer

    def _watch(self) -> None:
        """Follow the chosen layers, and no others."""
        self._layer_events.close()
        if self._labels is not None:
            events = self._labels.events
            self._layer_events.connect(events, ('paint',), self._on_paint)
            self._layer_events.connect(events, _SIZE_EVENTS, self._on_replaced)
            self._layer_events.connect(events, ('data',), self._on_other_labels)
            self._layer_events.connect(events, ('features',), self._on_features)
        if self._image is not None:
            self._layer_events.connect(self._image.events, ('data',), self._on_replaced)

    def _on_layers_changed(self, event: Any = None) -> None:
        # napari is still in the middle of adding or removing the layer.
        QTimer.singleShot(0, self._follow_layers)

    def _follow_layers(self) -> None:
        offered = measurable_labels(self.viewer)
        gone = self._labels is not None and self._labels not in offered
        if gone or (self._labels is None and offered):
            self._choose_labels(offered[-1] if offered else None)
            return
        if self._match_image():
            self._watch()
            self._measure()
        self._show_choices()

    def _on_paint(self, event: Any) -> None:
        if self._labels is None:
            return
        frames = frames_of_paint(event.value, self._labels.ndim)
        if frames is None:
            self._changed = None
        elif self._changed is not None:
            self._changed.update(frames)
        self._timer.start()

    def _on_replaced(self, event: Any = None) -> None:
        self._changed = None
        self._timer.start()

    def _on_other_labels(self, event: Any = None) -> None:
        # The layer may be of another image now, and so is no row and no line drawn.
        self.pixel_size.cancel()
        self.table = None
        self._show_table()

    def _on_features(self, event: Any = None) -> None:
        self._show_table()

    def _measure(self) -> None:
        """Have what has changed measured."""
        self._timer.stop()
        pixel_size, self._unit_asked = (
            ((1.0, 1.0), 'px') if self._labels is None else pixel_size_of(self._labels)
        )
        self.pixel_size.show_size(self._labels, pixel_size, self._unit_asked)
        changed, self._changed = self._changed, set()
        if self._labels is None:
            self._asked = self._worker.measure(None, None)
            return
        if self._match_image():
            self._watch()
            self._show_choices()
        image = None if self._image is None else data_of(self._image)
        self._asked = self._worker.measure(
            MeasureRequest(
                self._labels.data,
                image,
                pixel_size,
                unit_in_millimetres(self._labels.units[-1]),
                self.heads.isChecked(),
            ),
            None if changed is None else frozenset(changed),
        )

    def _on_measured(self, number: int, table: pd.DataFrame) -> None:
        if number == self._asked and self._labels is not None:
            self.table, self.unit = table, self._unit_asked
            self._show_table()

    def _on_progressed(self, number: int, done: int, total: int) -> None:
        if number == self._asked:
            self._say(f'Measuring: {done} of {total} frames…')

    def _on_failed(self, number: int, text: str) -> None:
        if number == self._asked:
            self.table = None
            self._show_table()
            self._say(text)

    def _show_table(self) -> None:
        self.view.show_measurements(
            self.table,
            classes_of(self._labels),
            self.unit,
            0 if self._labels is None else self._labels.ndim - 2,
            intensities=self._image is not None,
            chosen=self._went_to,
        )
        filled = self.model.rowCount() > 0
        self.copy_button.setEnabled(filled)
        self.save_button.setEnabled(filled)
        self.refresh_button.setEnabled(self._labels is not None)
        self._say(self._summary())

    def _summary(self) -> str:
        if self._labels is None:
            return _NO_LABELS
        count = self.model.rowCount()
        if not count:
            return 'Measuring…' if self.table is None else _NO_OBJECTS
        text = counted(count, 'object')
        if self._labels.ndim > 2:
            frames = {place.frame for place in self.model.places}
            text += f' in {counted(len(frames), "frame")}'
        if self.unit == 'px':
            text += ', in pixels because the layer has no unit: set the pixel size'
        return f'{text}. Click one to go there.'

    def _set_pixel_size(self, size: float, unit: str) -> None:
        """Set it for the labels, their image, and what else has a pixel for each."""
        if self._labels is None:
            return
        shape = self._labels.data.shape
        others = [
            layer
            for layer in measurable_labels(self.viewer)
            if layer.data.shape == shape
            and np.allclose(layer.scale, self._labels.scale)
        ]
        images = [] if self._image is None else [self._image]
        for layer in (*images, *others):
            set_pixel_size(layer, size, unit)
        # The canvas would show a picture of millimetres as large as one of pixels.
        self.viewer.reset_view()
        self.refresh()

    def _on_clicked(self, index: QModelIndex) -> None:
        place = self.model.place(index.row())
        self._went_to = (place.frame, place.label)
        self.go_to(place)

    def _ask_where_to_save(self) -> None:
        dialog = QFileDialog(self, 'Save measurements', '', 'CSV (*.csv)')
        dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
        dialog.setDefaultSuffix('csv')
        of = '' if self._image is None else f'{Path(_file_name(self._image)).stem}_'
        dialog.selectFile(f'{of}measurements.csv')
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.fileSelected.connect(self.save)
        dialog.open()

    def _say(self, text: str) -> None:
        self.status.setText(text)


def _file_name(image: Image) -> str:
    return Path(image.source.path).name if image.source.path else str(image.name)
