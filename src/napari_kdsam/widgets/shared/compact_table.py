"""A table that fits a narrow dock and leaves the keyboard to the canvas."""

from __future__ import annotations

from qtpy.QtCore import QAbstractTableModel, Qt
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableView

# The accent is readable on napari's dark and light themes, whose selection is faint.
_STYLE = """
QTableView::item:selected { background: rgba(47, 127, 255, 110); }
QHeaderView::section { padding: 2px 3px; }
"""
_ARROW_WIDTH = 20


class CompactTable(QTableView):
    """Show a model whose rows are chosen by a click and sorted by one on a header.

    Parameters
    ----------
    contents : QAbstractTableModel
        Titles of its columns may have several lines.
    """

    def __init__(self, contents: QAbstractTableModel) -> None:
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
