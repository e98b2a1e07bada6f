"""The table of a comparison: objects or frames, the worst first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt

from napari_kdsam.widgets.shared.sortable_table import (
    CompactTable,
    SortableTable,
    TableColumn,
)

if TYPE_CHECKING:
    import pandas as pd

_FRAME = TableColumn('Frame', 'frame', "Index of the frame, as on napari's slider")
# In the order of the columns.
SCORE_COLUMNS = (
    TableColumn(
        'Dice', 'dice', 'Overlap: twice what is shared, by the sum of both', decimals=3
    ),
    TableColumn(
        'HD95',
        'hd95',
        'Distance that 95 % of the outlines are within of each other '
        '(Hausdorff); ∞ where one of them is missing',
        '{}',
    ),
    TableColumn(
        'NSD',
        'nsd',
        'Share of the outlines within the tolerance (surface Dice)',
        decimals=3,
    ),
    TableColumn(
        'IoU', 'iou', 'Overlap: what is shared, by what either has', decimals=3
    ),
)
OBJECT_COLUMNS = (
    _FRAME,
    TableColumn(
        'Label',
        'label',
        'The label compared; missed: only the reference has the object, extra: only '
        'the labels have it',
    ),
    *SCORE_COLUMNS,
    TableColumn('Reference', 'reference', 'Its label in the reference'),
)
FRAME_COLUMNS = (
    _FRAME,
    *SCORE_COLUMNS,
    TableColumn('Missed', 'missed', 'Objects that only the reference has'),
    TableColumn('Extra', 'extra', 'Objects that the reference has not'),
    TableColumn('Matched', 'matched', 'Objects with a counterpart in the reference'),
)


class ScoreModel(SortableTable):
    """Scores of objects or of frames; of equal ones in a column the worst is first."""

    def __init__(self) -> None:
        super().__init__(OBJECT_COLUMNS)
        self._results: list[str] = []

    def fill(
        self,
        table: pd.DataFrame | None,
        unit: str,
        leading: int,
        columns: tuple[TableColumn, ...] = (),
    ) -> None:
        self._results = []
        if table is not None:
            table = table.sort_values(
                ['dice', 'hd95'], ascending=[True, False], kind='stable'
            )
            if 'result' in table:
                self._results = table['result'].tolist()
        super().fill(table, unit, leading, columns)

    def shown(self, column: int, number: int) -> str:
        name, value = self.columns[column].name, self._values[column][number]
        if name == 'label' and self._results[number] != 'matched':
            return f'{value or ""} {self._results[number]}'.strip()
        # There is no object with the label 0.
        return (
            '–' if name == 'reference' and not value else super().shown(column, number)
        )


class ScoreTable(CompactTable):
    """List objects or frames, the worst first until a header is clicked."""

    def __init__(self) -> None:
        contents = ScoreModel()
        super().__init__(contents)
        self.contents = contents

    def show_scores(
        self, table: pd.DataFrame | None, unit: str, leading: int, *, by_frame: bool
    ) -> None:
        """Show other scores.

        Parameters
        ----------
        table : pandas.DataFrame or None
            As `tables_of` makes them; None for nothing.
        unit, leading
            See `SortableTable.fill`.
        by_frame : bool
            Whether the table is of frames, not of objects.
        """
        columns = FRAME_COLUMNS if by_frame else OBJECT_COLUMNS
        self.contents.fill(table, unit, leading, columns)
        names = [column.name for column in columns]
        self.sortByColumn(names.index('dice'), Qt.SortOrder.AscendingOrder)
        self.setColumnHidden(0, leading == 0)
        self.fit_columns()
        self.scrollToTop()
