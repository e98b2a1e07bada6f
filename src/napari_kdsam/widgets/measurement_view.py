"""How the measurement table looks, and that it stays put when it is filled again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableView

from napari_kdsam.widgets.measurement_model import CLASS, FRAME, MEAN, MeasurementModel

if TYPE_CHECKING:
    import pandas as pd

    from napari_kdsam.annotation.state import FrameIndex

# The accent is readable on napari's dark and light themes, whose selection is faint.
_STYLE = """
QTableView::item:selected { background: rgba(47, 127, 255, 110); }
QHeaderView::section { padding: 2px 3px; }
"""
_ARROW_WIDTH = 20


class MeasurementView(QTableView):
    """Show measurements; a click on a header sorts by its column.

    Columns with nothing in them are hidden, so that more fits a narrow dock.

    Attributes
    ----------
    contents : MeasurementModel
    """

    def __init__(self) -> None:
        super().__init__()
        self.contents = MeasurementModel(self)
        self.setModel(self.contents)
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

    def show_measurements(
        self,
        table: pd.DataFrame | None,
        classes: Mapping[int, str],
        unit: str,
        leading: int,
        *,
        intensities: bool,
        chosen: tuple[FrameIndex, int] | None,
    ) -> None:
        """Show other measurements, scrolled and sorted as the ones before.

        Parameters
        ----------
        table, classes, unit, leading
            See `MeasurementModel.show`.
        intensities : bool
            Whether there are mean grey values to show.
        chosen : tuple of (tuple of int, int) or None
            Frame and label of the object whose row is selected.
        """
        before = self._shape()
        scroll_bar = self.verticalScrollBar()
        assert scroll_bar is not None
        scrolled = scroll_bar.value()
        self.contents.show(table, classes, unit, leading)
        self.setColumnHidden(CLASS, not self.contents.has_classes)
        self.setColumnHidden(FRAME, leading == 0)
        self.setColumnHidden(MEAN, not intensities)
        if self._shape() != before:
            self._fit_columns()
        row = None if chosen is None else self.contents.row_of(*chosen)
        if row is not None:
            self.selectRow(row)
        scroll_bar.setValue(scrolled)

    def _shape(self) -> tuple[Any, ...]:
        """What the widths of the columns depend on."""
        hidden = [self.isColumnHidden(place) for place in (CLASS, FRAME, MEAN)]
        return (self.contents.rowCount() > 0, self.contents.unit, *hidden)

    def _fit_columns(self) -> None:
        """Make columns as narrow as can be, narrower than Qt makes them."""
        _, header = self._headers()
        metrics = header.fontMetrics()
        for place in range(self.contents.columnCount()):
            title = self.contents.headerData(place, Qt.Orientation.Horizontal)
            widest = max(map(metrics.horizontalAdvance, title.split('\n')))
            width = max(widest + _ARROW_WIDTH, self.sizeHintForColumn(place))
            header.resizeSection(place, width + 2)

    def _headers(self) -> tuple[QHeaderView, QHeaderView]:
        rows, columns = self.verticalHeader(), self.horizontalHeader()
        assert rows is not None
        assert columns is not None
        return rows, columns
