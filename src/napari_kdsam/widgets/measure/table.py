"""The rows and columns of the measurement table, as Qt wants them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QAbstractTableModel, QModelIndex, Qt

if TYPE_CHECKING:
    import pandas as pd

    from napari_kdsam.core.stack_index import FrameIndex

LABEL, CLASS, FRAME, MEAN = 0, 1, 2, 8
_POWERS = {1: '', 2: '²'}
_DIGITS = 4


@dataclass(frozen=True)
class _Column:
    title: str
    name: str
    help: str
    power: int = 0


COLUMNS = (
    _Column('Label', 'label', 'The value of the pixels'),
    _Column('Class', 'class', 'The class it was given'),
    _Column('Frame', 'frame', "Index of the frame, as on napari's slider"),
    _Column('Area', 'area', 'Area', 2),
    _Column(
        'Perimeter', 'perimeter', 'Length of the outline, that of holes included', 1
    ),
    _Column(
        'Long axis', 'major_axis', 'Long axis of the ellipse with the same moments', 1
    ),
    _Column(
        'Short axis', 'minor_axis', 'Short axis of the ellipse with the same moments', 1
    ),
    _Column(
        'Diameter', 'equivalent_diameter', 'Diameter of the disc with the same area', 1
    ),
    _Column('Mean', 'mean_intensity', 'Mean grey value, or luminance of colours'),
    _Column('Row', 'row', 'Row of the centre, in pixels'),
    _Column('Column', 'column', 'Column of the centre, in pixels'),
)
_IN_PIXELS = ('row', 'column')


@dataclass(frozen=True)
class Place:
    """Where an object is.

    Attributes
    ----------
    frame : tuple of int
        Empty for a single image.
    label : int
    row, column : float
        Its centre in pixels.
    """

    frame: FrameIndex
    label: int
    row: float
    column: float


class MeasurementModel(QAbstractTableModel):
    """Measurements as a table that can be sorted by each column.

    It sorts itself: Qt's sorting proxy would ask for two values at each comparison,
    which stops the window for seconds when there are many thousands of objects.

    Attributes
    ----------
    unit : str
        Of the lengths shown.
    """

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._values: list[list[Any]] = [[] for _ in COLUMNS]
        self._frames: list[FrameIndex] = []
        self._order: list[int] = []
        self.unit = 'px'
        self._sorted_by = (-1, False)

    def show(
        self,
        table: pd.DataFrame | None,
        classes: Mapping[int, str],
        unit: str,
        leading: int,
    ) -> None:
        """Show other measurements, sorted as the ones before.

        Parameters
        ----------
        table : pandas.DataFrame or None
            As `measure_stack` makes it; None for nothing.
        classes : mapping of int to str
            Label to name of its class.
        unit : str
            Of lengths.
        leading : int
            How many axes of the layer come before rows and columns.
        """
        self.beginResetModel()
        self.unit = unit
        self._values = [[] for _ in COLUMNS]
        self._frames = []
        if table is not None and len(table):
            names = [name for name in table.columns if name.startswith('frame')]
            indices = zip(*(table[name].tolist() for name in names), strict=True)
            self._frames = [index[:leading] for index in indices]
            for place, column in enumerate(COLUMNS):
                if column.name in table.columns:
                    self._values[place] = table[column.name].tolist()
            labels = self._values[LABEL]
            self._values[CLASS] = [classes.get(label, '') for label in labels]
            self._values[FRAME] = [
                index[0] if len(index) == 1 else index for index in self._frames
            ]
        self._order = self._sorted()
        self.endResetModel()

    def place(self, row: int) -> Place:
        """Where the object in a row of the view is."""
        number = self._order[row]
        label, down, right = (self._values[place][number] for place in (LABEL, -2, -1))
        return Place(self._frames[number], label, down, right)

    def row_of(self, frame: FrameIndex, label: int) -> int | None:
        """The row of the view with an object; None if it is not there."""
        labels = self._values[LABEL]
        return next(
            (
                row
                for row, number in enumerate(self._order)
                if labels[number] == label and self._frames[number] == frame
            ),
            None,
        )

    @property
    def has_classes(self) -> bool:
        """Whether any object has a class."""
        return any(self._values[CLASS])

    @property
    def frame_count(self) -> int:
        """How many frames have objects."""
        return len(set(self._frames))

    def as_text(self) -> str:
        """Everything, tab separated and unrounded, in the order of the view."""
        shown = [
            place
            for place in range(len(COLUMNS))
            if (place != CLASS or self.has_classes) and (place != FRAME or self._framed)
        ]
        lines = ['\t'.join(self._title(place, ' ') for place in shown)]
        for number in self._order:
            values = (self._values[place][number] for place in shown)
            lines.append('\t'.join(_unrounded(value) for value in values))
        return '\n'.join(lines) + '\n'

    def rowCount(self, parent: QModelIndex | None = None) -> int:
        return 0 if parent is not None and parent.isValid() else len(self._order)

    def columnCount(self, parent: QModelIndex | None = None) -> int:
        return 0 if parent is not None and parent.isValid() else len(COLUMNS)

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        if not index.isValid():
            return None
        if role == Qt.ItemDataRole.TextAlignmentRole:
            side = Qt.AlignmentFlag.AlignRight
            if index.column() == CLASS:
                side = Qt.AlignmentFlag.AlignLeft
            return side | Qt.AlignmentFlag.AlignVCenter
        value = self._values[index.column()][self._order[index.row()]]
        if role == Qt.ItemDataRole.DisplayRole:
            return _rounded(value)
        if role == Qt.ItemDataRole.ToolTipRole:
            return _unrounded(value)
        return None

    def headerData(
        self,
        section: int,
        orientation: Qt.Orientation,
        role: int = Qt.ItemDataRole.DisplayRole,
    ) -> Any:
        if orientation != Qt.Orientation.Horizontal:
            return None
        if role == Qt.ItemDataRole.DisplayRole:
            return self._title(section, '\n')
        if role == Qt.ItemDataRole.ToolTipRole:
            return f'{COLUMNS[section].help}\nClick to sort'
        return None

    def sort(
        self, column: int, order: Qt.SortOrder = Qt.SortOrder.AscendingOrder
    ) -> None:
        self._sorted_by = (column, order == Qt.SortOrder.DescendingOrder)
        self.layoutAboutToBeChanged.emit()
        held = self.persistentIndexList()
        numbers = [self._order[index.row()] for index in held]
        self._order = self._sorted()
        rows = {number: row for row, number in enumerate(self._order)}
        moved = [
            self.index(rows[number], index.column())
            for number, index in zip(numbers, held, strict=True)
        ]
        self.changePersistentIndexList(held, moved)
        self.layoutChanged.emit()

    @property
    def _framed(self) -> bool:
        return any(self._frames)

    def _title(self, place: int, separator: str) -> str:
        column = COLUMNS[place]
        if column.name in _IN_PIXELS:
            return f'{column.title}{separator}px'
        if not column.power:
            return column.title
        return f'{column.title}{separator}{self.unit}{_POWERS[column.power]}'

    def _sorted(self) -> list[int]:
        column, descending = self._sorted_by
        numbers = list(range(len(self._frames)))
        if column < 0:
            return numbers
        values = self._values[column]
        known = [number for number in numbers if not _unknown(values[number])]
        known.sort(key=values.__getitem__, reverse=descending)
        return [*known, *(number for number in numbers if _unknown(values[number]))]


def _unknown(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _rounded(value: Any) -> str:
    """Four digits, or all of those before the point; empty if unknown."""
    if not isinstance(value, float):
        return _unrounded(value)
    if _unknown(value):
        return ''
    size = math.floor(math.log10(abs(value))) + 1 if value else 1
    return f'{value:.{min(max(_DIGITS - size, 0), 12)}f}'


def _unrounded(value: Any) -> str:
    if isinstance(value, tuple):
        return ', '.join(map(str, value))
    return '' if _unknown(value) else str(value)
