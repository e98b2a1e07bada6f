"""The rows and columns of a comparison with a reference, as Qt wants them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QAbstractTableModel, QModelIndex, Qt

from napari_kdsam.widgets.measure.table import Place

if TYPE_CHECKING:
    import pandas as pd

    from napari_kdsam.core.stack_index import FrameIndex

_DIGITS = 4


@dataclass(frozen=True)
class Column:
    """A column of the table.

    Attributes
    ----------
    title, name, help : str
        ``name`` is that in the data.
    of_length : bool
        Whether it is in the unit of length.
    """

    title: str
    name: str
    help: str
    of_length: bool = False


_FRAME = Column('Frame', 'frame', "Index of the frame, as on napari's slider")
_SCORES = (
    Column('Dice', 'dice', 'Overlap: twice what is shared, by the sum of both'),
    Column(
        'HD95',
        'hd95',
        'Distance that 95 % of the outlines are within of each other '
        '(Hausdorff); ∞ where one of them is missing',
        of_length=True,
    ),
    Column('NSD', 'nsd', 'Share of the outlines within the tolerance (surface Dice)'),
    Column('IoU', 'iou', 'Overlap: what is shared, by what either has'),
)
OBJECT_COLUMNS = (
    _FRAME,
    Column(
        'Label',
        'label',
        'The label compared; missed: only the reference has the object, extra: only '
        'the labels have it',
    ),
    *_SCORES,
    Column('Reference', 'reference', 'Its label in the reference'),
)
FRAME_COLUMNS = (
    _FRAME,
    *_SCORES,
    Column('Missed', 'missed', 'Objects that only the reference has'),
    Column('Extra', 'extra', 'Objects that the reference has not'),
    Column('Matched', 'matched', 'Objects with a counterpart in the reference'),
)
DICE = 'dice'


class AgreementModel(QAbstractTableModel):
    """Scores as a table, sorted the worst first until a header is clicked.

    Attributes
    ----------
    columns : tuple of Column
    unit : str
        Of the distances shown.
    """

    def __init__(self) -> None:
        super().__init__()
        self.columns: tuple[Column, ...] = OBJECT_COLUMNS
        self.unit = 'px'
        self._values: list[list[Any]] = [[] for _ in self.columns]
        self._places: list[Place] = []
        self._results: list[str] = []
        self._worst_first: list[int] = []
        self._order: list[int] = []

    def show(
        self,
        table: pd.DataFrame | None,
        columns: tuple[Column, ...],
        unit: str,
        leading: int,
    ) -> None:
        """Show other scores, the worst first.

        Parameters
        ----------
        table : pandas.DataFrame or None
            As `tables_of` makes them; None for nothing.
        columns : tuple of Column
            `OBJECT_COLUMNS` or `FRAME_COLUMNS`.
        unit : str
            Of distances.
        leading : int
            How many axes of the layer come before rows and columns.
        """
        self.beginResetModel()
        self.columns, self.unit = columns, unit
        self._values = [[] for _ in columns]
        self._places, self._worst_first, self._results = [], [], []
        if table is not None and len(table):
            frames = _frames(table, leading)
            labels = table['label'] if 'label' in table else [0] * len(table)
            spots = zip(frames, labels, table['row'], table['column'], strict=True)
            self._places = [
                Place(frame, int(label), float(row), float(column))
                for frame, label, row, column in spots
            ]
            for number, column in enumerate(columns):
                if column is not _FRAME:
                    self._values[number] = table[column.name].tolist()
            if 'result' in table:
                self._results = table['result'].tolist()
            self._values[0] = [
                frame[0] if len(frame) == 1 else frame for frame in frames
            ]
            scores = list(zip(table['dice'], -table['hd95'], strict=True))
            self._worst_first = sorted(range(len(table)), key=scores.__getitem__)
        self._order = self._worst_first
        self.endResetModel()

    def place(self, row: int) -> Place:
        """Where what a row of the view is about is; its label is 0 if it has none."""
        return self._places[self._order[row]]

    def rowCount(self, parent: QModelIndex | None = None) -> int:
        return 0 if parent is not None and parent.isValid() else len(self._order)

    def columnCount(self, parent: QModelIndex | None = None) -> int:
        return 0 if parent is not None and parent.isValid() else len(self.columns)

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        if not index.isValid():
            return None
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        if role == Qt.ItemDataRole.DisplayRole:
            return self._shown(index.column(), self._order[index.row()])
        return None

    def _shown(self, column: int, number: int) -> str:
        name, value = self.columns[column].name, self._values[column][number]
        if name == 'label' and self._results[number] != 'matched':
            return f'{value or ""} {self._results[number]}'.strip()
        # There is no object with the label 0.
        return '–' if name == 'reference' and not value else rounded(value)

    def headerData(
        self,
        section: int,
        orientation: Qt.Orientation,
        role: int = Qt.ItemDataRole.DisplayRole,
    ) -> Any:
        if orientation != Qt.Orientation.Horizontal:
            return None
        column = self.columns[section]
        if role == Qt.ItemDataRole.DisplayRole:
            return f'{column.title}\n{self.unit}' if column.of_length else column.title
        if role == Qt.ItemDataRole.ToolTipRole:
            return f'{column.help}\nClick to sort'
        return None

    def sort(
        self, column: int, order: Qt.SortOrder = Qt.SortOrder.AscendingOrder
    ) -> None:
        self.layoutAboutToBeChanged.emit()
        held = self.persistentIndexList()
        numbers = [self._order[index.row()] for index in held]
        self._order = list(self._worst_first)
        if 0 <= column < len(self.columns) and self._order:
            self._order.sort(
                key=self._values[column].__getitem__,
                reverse=order == Qt.SortOrder.DescendingOrder,
            )
        rows = {number: row for row, number in enumerate(self._order)}
        moved = [
            self.index(rows[number], index.column())
            for number, index in zip(numbers, held, strict=True)
        ]
        self.changePersistentIndexList(held, moved)
        self.layoutChanged.emit()


def _frames(table: pd.DataFrame, leading: int) -> list[FrameIndex]:
    names = [name for name in table.columns if name.startswith('frame')]
    indices = zip(*(table[name].tolist() for name in names), strict=True)
    return [index[:leading] for index in indices]


def rounded(value: Any) -> str:
    """Four digits, or all of those before the point; whole numbers as they are."""
    if isinstance(value, tuple):
        return ', '.join(map(str, value))
    if not isinstance(value, float):
        return str(value)
    if math.isnan(value):
        return '–'
    if math.isinf(value):
        return '∞'
    size = math.floor(math.log10(abs(value))) + 1 if value >= 1 else 1
    return f'{value:.{max(_DIGITS - size, 0)}f}'
