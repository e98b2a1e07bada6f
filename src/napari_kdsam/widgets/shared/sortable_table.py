"""A table of objects or frames whose rows lead to a place, sorted by any column."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QAbstractTableModel, QModelIndex, Qt
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableView

if TYPE_CHECKING:
    import pandas as pd

    from napari_kdsam.core.stack_index import FrameIndex

_DIGITS = 4
# The accent is readable on napari's dark and light themes, whose selection is faint.
_STYLE = """
QTableView::item:selected { background: rgba(47, 127, 255, 110); }
QHeaderView::section { padding: 2px 3px; }
"""
_ARROW_WIDTH = 20


@dataclass(frozen=True)
class TableColumn:
    """A column of a table.

    Attributes
    ----------
    title, name, help : str
        ``name`` is that in the data; ``frame`` stands for the index of the frame.
    unit : str
        In which the layer's unit of length takes the place of ``{}``; empty for none.
    decimals : int or None
        How many are shown; None for four digits in all.
    words : bool
        Whether it holds words, which begin on the left.
    """

    title: str
    name: str
    help: str
    unit: str = ''
    decimals: int | None = None
    words: bool = False


@dataclass(frozen=True)
class ObjectPlace:
    """Where an object or a frame's labels are.

    Attributes
    ----------
    frame : tuple of int
        Empty for a single image.
    label : int
        0 for a frame, or an object that has no label.
    row, column : float
        Its centre in pixels.
    """

    frame: FrameIndex
    label: int
    row: float
    column: float


class SortableTable(QAbstractTableModel):
    """Rows of a pandas table that can be sorted by each column.

    It sorts itself: Qt's sorting proxy would ask for two values at each comparison,
    which stops the window for seconds when there are many thousands of objects.

    Attributes
    ----------
    columns : tuple of TableColumn
    unit : str
        Of the lengths shown.
    places : list of ObjectPlace
        Of the rows, unsorted.
    """

    def __init__(self, columns: tuple[TableColumn, ...]) -> None:
        super().__init__()
        self.columns = columns
        self.unit = 'px'
        self.places: list[ObjectPlace] = []
        self._values: list[list[Any]] = [[] for _ in columns]
        self._order: list[int] = []
        self._sorted_by = (-1, False)

    def fill(
        self,
        table: pd.DataFrame | None,
        unit: str,
        leading: int,
        columns: tuple[TableColumn, ...] = (),
    ) -> None:
        """Show other rows, sorted as the ones before.

        Parameters
        ----------
        table : pandas.DataFrame or None
            With the columns of `frame_columns`, ``row``, ``column``, ``label`` if it is
            of objects, and those of `columns`; None for nothing.
        unit : str
            Of lengths.
        leading : int
            How many axes of the layer come before rows and columns.
        columns : tuple of TableColumn, optional
            Those from now on, if not the ones before.
        """
        self.beginResetModel()
        self.columns = columns or self.columns
        self.unit, self.places = unit, []
        self._values = [[] for _ in self.columns]
        if table is not None and len(table):
            names = [name for name in table.columns if name.startswith('frame')]
            indices = zip(*(table[name].tolist() for name in names), strict=True)
            frames = [index[:leading] for index in indices]
            labels = table['label'].tolist() if 'label' in table else [0] * len(table)
            spots = zip(frames, labels, table['row'], table['column'], strict=True)
            self.places = [
                ObjectPlace(frame, label, float(row), float(column))
                for frame, label, row, column in spots
            ]
            self._values = [
                [frame[0] if len(frame) == 1 else frame for frame in frames]
                if column.name == 'frame'
                else table[column.name].tolist()
                for column in self.columns
            ]
        self._order = self._sorted()
        self.endResetModel()

    def place(self, row: int) -> ObjectPlace:
        """Where what a row of the view is about is."""
        return self.places[self._order[row]]

    def shown(self, column: int, number: int) -> str:
        """Text of a cell; its row is counted without sorting."""
        value, decimals = self._values[column][number], self.columns[column].decimals
        return format_value(value, decimals)

    def title(self, column: int, separator: str) -> str:
        """Title of a column and, behind the separator, its unit."""
        known = self.columns[column]
        unit = known.unit.format(self.unit)
        return f'{known.title}{separator}{unit}' if unit else known.title

    def as_text(self, columns: list[int]) -> str:
        """These columns, tab separated and unrounded, in the order of the view."""
        lines = [[self.title(column, ' ') for column in columns]]
        for number in self._order:
            values = (self._values[column][number] for column in columns)
            lines.append([_unrounded(value) for value in values])
        return ''.join('\t'.join(line) + '\n' for line in lines)

    def rowCount(self, parent: QModelIndex | None = None) -> int:
        return 0 if parent is not None and parent.isValid() else len(self._order)

    def columnCount(self, parent: QModelIndex | None = None) -> int:
        return 0 if parent is not None and parent.isValid() else len(self.columns)

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        if not index.isValid():
            return None
        column, number = index.column(), self._order[index.row()]
        if role == Qt.ItemDataRole.TextAlignmentRole:
            words, side = self.columns[column].words, Qt.AlignmentFlag
            across = side.AlignLeft if words else side.AlignRight
            return across | side.AlignVCenter
        if role == Qt.ItemDataRole.DisplayRole:
            return self.shown(column, number)
        if role == Qt.ItemDataRole.ToolTipRole:
            value = self._values[column][number]
            exact = isinstance(value, float)
            return _unrounded(value) if exact else self.shown(column, number)
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
            return self.title(section, '\n')
        if role == Qt.ItemDataRole.ToolTipRole:
            return f'{self.columns[section].help}\nClick to sort'
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

    def _sorted(self) -> list[int]:
        column, descending = self._sorted_by
        numbers = list(range(len(self.places)))
        if not 0 <= column < len(self.columns):
            return numbers
        values = self._values[column]
        known = [number for number in numbers if not _unknown(values[number])]
        known.sort(key=values.__getitem__, reverse=descending)
        return [*known, *(number for number in numbers if _unknown(values[number]))]


class CompactTable(QTableView):
    """A table that fits a narrow dock and leaves the keyboard to the canvas.

    A click chooses a row, one on a header sorts by its column.
    """

    def __init__(self, contents: SortableTable) -> None:
        super().__init__()
        contents.setParent(self)
        self.setModel(contents)
        self.setSortingEnabled(True)
        self.setStyleSheet(_STYLE)
        self.setWordWrap(False)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setHorizontalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        # The canvas keeps the keyboard, so that the keys go on working.
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        rows, columns = self._headers()
        rows.hide()
        rows.setDefaultSectionSize(self.fontMetrics().lineSpacing() + 6)
        columns.setHighlightSections(False)
        columns.setSortIndicator(-1, Qt.SortOrder.AscendingOrder)

    def fit_columns(self) -> None:
        """Make columns as narrow as can be, narrower than Qt makes them."""
        _, header = self._headers()
        model = self.model()
        assert model is not None
        metrics = header.fontMetrics()
        for place in range(model.columnCount()):
            title = model.headerData(place, Qt.Orientation.Horizontal)
            widest = max(map(metrics.horizontalAdvance, title.split('\n')))
            width = max(widest + _ARROW_WIDTH, self.sizeHintForColumn(place))
            header.resizeSection(place, width + 2)

    def _headers(self) -> tuple[QHeaderView, QHeaderView]:
        rows, columns = self.verticalHeader(), self.horizontalHeader()
        assert rows is not None
        assert columns is not None
        return rows, columns


def format_value(value: Any, decimals: int | None = None) -> str:
    """Round a number for a table.

    Parameters
    ----------
    value : object
        Only a float is rounded; an index of several numbers is joined.
    decimals : int, optional
        Four digits in all by default, or all of those before the point.

    Returns
    -------
    str
        A dash for NaN.
    """
    if not isinstance(value, float):
        return _unrounded(value)
    if math.isnan(value):
        return '–'
    if math.isinf(value):
        return '∞' if value > 0 else '-∞'
    if decimals is None:
        size = math.floor(math.log10(abs(value))) + 1 if value else 1
        decimals = min(max(_DIGITS - size, 0), 12)
    return f'{value:.{decimals}f}'


def _unknown(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _unrounded(value: Any) -> str:
    if isinstance(value, tuple):
        return ', '.join(map(str, value))
    return '' if _unknown(value) else str(value)
