"""A table of every object of a Labels layer, in physical units."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from magicgui.widgets import ComboBox
from qtpy.QtCore import (  # type: ignore[attr-defined]
    QAbstractTableModel,
    QModelIndex,
    QObject,
    QSortFilterProxyModel,
    Qt,
    QTimer,
    Signal,
)
from qtpy.QtWidgets import (
    QApplication,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QTableView,
    QVBoxLayout,
    QWidget,
)

from napari_kdsam.annotation.measurements import (
    Measurement,
    headers,
    measure_frame,
    row_of,
    write_measurements,
)
from napari_kdsam.errors import KDSAMError
from napari_kdsam.widgets.annotator_panels import form_of, plain_button
from napari_kdsam.widgets.label_target import HELPER_KEY
from napari_kdsam.widgets.transforms import data_of, pixel_size_of, spatial_shape

if TYPE_CHECKING:
    from napari.layers import Image, Labels
    from napari.viewer import Viewer

_DELAY_MS = 300
_TITLES = (
    'Label',
    'Class',
    'Frame',
    'Area',
    'Perimeter',
    'Long axis',
    'Short axis',
    'Diameter',
    'Mean',
    'Row',
    'Column',
)


class _Model(QAbstractTableModel):
    def __init__(self) -> None:
        super().__init__()
        self.rows: list[Measurement] = []
        self.unit = 'px'

    def show_rows(self, rows: list[Measurement], unit: str) -> None:
        self.beginResetModel()
        self.rows, self.unit = rows, unit
        self.endResetModel()

    def rowCount(self, parent: QModelIndex | None = None) -> int:
        return len(self.rows)

    def columnCount(self, parent: QModelIndex | None = None) -> int:
        return len(_TITLES)

    def data(self, index: QModelIndex, role: int = 0) -> Any:
        value = row_of(self.rows[index.row()])[index.column()]
        if role == Qt.ItemDataRole.UserRole:
            return value
        if role == Qt.ItemDataRole.DisplayRole:
            return f'{value:.1f}' if isinstance(value, float) else value
        return None

    def headerData(self, section: int, orientation: Any, role: int = 0) -> Any:
        if (
            role != Qt.ItemDataRole.DisplayRole
            or orientation != Qt.Orientation.Horizontal
        ):
            return None
        title = _TITLES[section]
        if title == 'Area':
            return f'{title} ({self.unit}²)'
        if title in ('Perimeter', 'Long axis', 'Short axis', 'Diameter'):
            return f'{title} ({self.unit})'
        return title


class _Measuring(QObject):
    """Measures in a thread of its own; only the newest job's result arrives."""

    done = Signal(int, object)
    failed = Signal(int, str)

    def __init__(self) -> None:
        super().__init__()
        self.newest = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix='kdsam-measure')

    def start(self, job: Callable[[Callable[[], bool]], list[Measurement]]) -> None:
        self.newest += 1
        self._thread.submit(self._run, self.newest, job)

    def stop(self) -> None:
        self.newest += 1
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _run(self, number: int, job: Any) -> None:
        def wanted() -> bool:
            return number == self.newest

        if not wanted():
            return
        try:
            rows = job(wanted)
        except Exception as error:  # noqa: BLE001 - readers raise anything
            self._emit(self.failed, number, str(error))
        else:
            self._emit(self.done, number, rows)

    @staticmethod
    def _emit(signal: Any, *values: Any) -> None:
        try:
            signal.emit(*values)
        except RuntimeError:
            # The window was closed, and Qt has deleted this object, in between.
            return


class MeasurementTable(QWidget):
    """List the objects of a Labels layer; a click on one goes there.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
        Given by napari.
    """

    def __init__(self, napari_viewer: 'Viewer') -> None:  # noqa: UP037
        super().__init__()
        self.viewer = napari_viewer
        self._layer: Labels | None = None
        self._measuring = _Measuring()
        self._measuring.done.connect(self._on_done)
        self._measuring.failed.connect(self._on_failed)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_DELAY_MS)
        self._timer.timeout.connect(self.measure)
        self._build()
        self._watched = [
            getattr(napari_viewer.layers.events, name)
            for name in ('inserted', 'removed', 'renamed')
            if hasattr(napari_viewer.layers.events, name)
        ]
        for event in self._watched:
            event.connect(self._refresh_choices)
        self.destroyed.connect(
            partial(
                _release,
                self._measuring,
                self._watched,
                self._refresh_choices,
                self._unwatch,
            )
        )
        self._refresh_choices()

    def _build(self) -> None:
        self.labels_choice = ComboBox(choices=lambda _: self._labels(), nullable=True)
        self.image_choice = ComboBox(choices=lambda _: self._images(), nullable=True)
        self.labels_choice.changed.connect(self._on_chosen)
        self.image_choice.changed.connect(lambda _: self._timer.start())
        self.model = _Model()
        self.sorted = QSortFilterProxyModel()
        self.sorted.setSourceModel(self.model)
        self.sorted.setSortRole(Qt.ItemDataRole.UserRole)
        self.table = QTableView()
        self.table.setModel(self.sorted)
        self.table.setSortingEnabled(True)
        self.table.sortByColumn(0, Qt.SortOrder.AscendingOrder)
        self.table.setSelectionBehavior(QTableView.SelectionBehavior.SelectRows)
        self.table.setAlternatingRowColors(True)
        numbers = self.table.verticalHeader()
        if numbers is not None:
            numbers.setVisible(False)
        self.table.clicked.connect(self._on_clicked)
        self.state = QLabel()
        self.state.setWordWrap(True)
        refresh = plain_button('Refresh', 'Measure everything again')
        copy = plain_button('Copy', 'Copy the table, for a spreadsheet')
        save = plain_button('Save CSV…', 'Write the table to a file')
        refresh.clicked.connect(lambda _: self.measure())
        copy.clicked.connect(lambda _: self.copy())
        save.clicked.connect(lambda _: self._ask_for_file())
        buttons = QHBoxLayout()
        for button in (refresh, copy, save):
            buttons.addWidget(button)
        column = QVBoxLayout(self)
        column.setContentsMargins(4, 4, 4, 4)
        column.addLayout(
            form_of(
                (
                    ('Labels', self.labels_choice, 'Whose objects are measured'),
                    ('Image', self.image_choice, 'Where intensities come from'),
                )
            )
        )
        column.addWidget(self.table, stretch=1)
        column.addWidget(self.state)
        column.addLayout(buttons)
        self.setMinimumWidth(300)

    def measure(self) -> None:
        """Measure every frame in the background."""
        layer, image = self.labels_choice.value, self.image_choice.value
        if layer is None:
            self.model.show_rows([], 'px')
            self.state.setText('There is no labels layer to measure.')
            return
        size, unit = pixel_size_of(layer)
        self._unit = unit
        self.state.setText('Measuring…')
        names = _class_names(layer)
        data, pixels = layer.data, None
        if image is not None and spatial_shape(image) == tuple(data.shape):
            pixels = data_of(image)
        self._measuring.start(partial(_measure_all, data, pixels, size, names))

    def copy(self) -> None:
        """Put the table into the clipboard, columns parted by tabs."""
        lines = ['\t'.join(headers(self.model.unit))]
        for item in self.shown_rows():
            lines.append('\t'.join(str(value) for value in row_of(item)))
        clipboard = QApplication.clipboard()
        if clipboard is not None:
            clipboard.setText('\n'.join(lines))

    def save(self, path: Path) -> None:
        """Write the table to a CSV file, in the order shown."""
        try:
            write_measurements(path, self.shown_rows(), self.model.unit)
        except KDSAMError as error:
            self.state.setText(f'Not saved: {error}')
        else:
            self.state.setText(f'Saved {path.name}.')

    def shown_rows(self) -> list[Measurement]:
        """The measurements in the order shown."""
        places = range(self.sorted.rowCount())
        return [
            self.model.rows[self.sorted.mapToSource(self.sorted.index(n, 0)).row()]
            for n in places
        ]

    def _ask_for_file(self) -> None:
        path, _ = QFileDialog.getSaveFileName(
            self, 'Save measurements', 'measurements.csv', 'CSV (*.csv)'
        )
        if path:
            self.save(Path(path))

    def _labels(self) -> list[Labels]:
        from napari.layers import Labels

        return [
            layer
            for layer in self.viewer.layers
            if isinstance(layer, Labels)
            and not layer.multiscale
            and HELPER_KEY not in layer.metadata
        ]

    def _images(self) -> list[Image]:
        from napari.layers import Image

        return [layer for layer in self.viewer.layers if isinstance(layer, Image)]

    def _refresh_choices(self, event: Any = None) -> None:
        self.labels_choice.reset_choices()
        self.image_choice.reset_choices()
        if self.labels_choice.value is None and self._labels():
            self.labels_choice.value = self._labels()[-1]
        if self.image_choice.value is None and self._images():
            self.image_choice.value = self._images()[-1]
        self._on_chosen()

    def _on_chosen(self, _: Any = None) -> None:
        layer = self.labels_choice.value
        if layer is not self._layer:
            self._unwatch()
            self._layer = layer
            if layer is not None:
                for name in ('paint', 'data', 'features'):
                    getattr(layer.events, name).connect(self._on_labels_changed)
        self._timer.start()

    def _unwatch(self) -> None:
        layer, self._layer = self._layer, None
        if layer is not None:
            for name in ('paint', 'data', 'features'):
                getattr(layer.events, name).disconnect(self._on_labels_changed)

    def _on_labels_changed(self, event: Any = None) -> None:
        self._timer.start()

    def _on_done(self, number: int, rows: list[Measurement]) -> None:
        if number == self._measuring.newest:
            self.model.show_rows(rows, self._unit)
            self.table.resizeColumnsToContents()
            count = len(rows)
            self.state.setText(f'{count} object{"" if count == 1 else "s"}')

    def _on_failed(self, number: int, reason: str) -> None:
        if number == self._measuring.newest:
            self.state.setText(f'The labels cannot be measured: {reason}')

    def _on_clicked(self, index: QModelIndex) -> None:
        item = self.model.rows[self.sorted.mapToSource(index).row()]
        layer = self._layer
        if layer is None:
            return
        world = layer.data_to_world((*item.frame, item.row, item.column))
        dims = self.viewer.dims
        first = dims.ndim - len(world)
        leading = len(item.frame)
        dims.set_point(tuple(range(first, first + leading)), world[:leading])
        camera = getattr(self.viewer, 'scene', self.viewer).camera
        camera.center = (*camera.center[:-2], *world[-2:])
        layer.selected_label = item.label


def _class_names(layer: Labels) -> dict[int, str]:
    features = layer.features
    if not {'index', 'class'} <= set(features.columns):
        return {}
    pairs = zip(features['index'], features['class'], strict=True)
    return {int(label): str(name) for label, name in pairs}


def _measure_all(
    data: Any,
    pixels: Any,
    size: tuple[float, float],
    names: dict[int, str],
    wanted: Callable[[], bool],
) -> list[Measurement]:
    """Frame by frame, because a lazy stack may be larger than memory."""
    rows: list[Measurement] = []
    for frame in np.ndindex(*data.shape[:-2]):
        if not wanted():
            break
        labels = np.asarray(data[frame])
        if labels.any():
            image = None if pixels is None else np.asarray(pixels[frame])
            rows += measure_frame(labels, image, size, frame, names)
    return rows


def _release(
    measuring: _Measuring,
    watched: list[Any],
    refresh_choices: Callable[..., None],
    unwatch: Callable[[], None],
    _: Any = None,
) -> None:
    for event in watched:
        event.disconnect(refresh_choices)
    unwatch()
    measuring.stop()
