"""How a comparison with a reference looks: mean and worst above the list."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QGridLayout, QLabel, QWidget

from napari_kdsam.measure.comparison_tables import ScoreSummary
from napari_kdsam.widgets.compare.table import (
    DICE,
    FRAME_COLUMNS,
    OBJECT_COLUMNS,
    AgreementModel,
    rounded,
)
from napari_kdsam.widgets.shared.compact_table import CompactTable

if TYPE_CHECKING:
    import pandas as pd

# In the order of the columns below.
_TITLES = {'dice': 'Dice', 'hd95': 'HD95', 'nsd': 'NSD', 'iou': 'IoU'}
_MEAN_HELP = (
    'Mean of what is listed. Frames without a label in either are left out, and for '
    'the distance what has no counterpart.'
)


class AgreementView(CompactTable):
    """List objects or frames, the worst first.

    Attributes
    ----------
    contents : AgreementModel
    """

    def __init__(self) -> None:
        contents = AgreementModel()
        super().__init__(contents)
        self.contents = contents

    def show_scores(
        self, table: pd.DataFrame | None, unit: str, leading: int, *, by_frame: bool
    ) -> None:
        """Show other scores; see `AgreementModel.show`."""
        columns = FRAME_COLUMNS if by_frame else OBJECT_COLUMNS
        self.contents.show(table, columns, unit, leading)
        names = [column.name for column in columns]
        self.sortByColumn(names.index(DICE), Qt.SortOrder.AscendingOrder)
        self.setColumnHidden(0, leading == 0)
        self.fit_columns()
        self.scrollToTop()


class SummaryGrid(QWidget):
    """Mean and worst of every score."""

    def __init__(self) -> None:
        super().__init__()
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setVerticalSpacing(2)
        self._titles = [QLabel(title) for title in _TITLES.values()]
        self.means = [QLabel() for _ in _TITLES]
        self.worst = [QLabel() for _ in _TITLES]
        for row, name in enumerate(('Mean', 'Worst'), start=1):
            grid.addWidget(QLabel(name), row, 0)
        for row, labels in enumerate((self._titles, self.means, self.worst)):
            for column, label in enumerate(labels, start=1):
                label.setAlignment(Qt.AlignmentFlag.AlignRight)
                grid.addWidget(label, row, column)
        self.setToolTip(_MEAN_HELP)
        self.hide()

    def show_summary(self, summary: ScoreSummary | None, unit: str) -> None:
        """Show a summary, or nothing."""
        self.setVisible(summary is not None)
        if summary is None:
            return
        self._titles[list(_TITLES).index('hd95')].setText(f'HD95 {unit}')
        for labels, scores in (
            (self.means, summary.mean),
            (self.worst, summary.worst),
        ):
            for label, name in zip(labels, _TITLES, strict=True):
                label.setText(rounded(getattr(scores, name)))
