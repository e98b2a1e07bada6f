"""The table of measurements: its columns, and that it stays put when filled again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from napari_kdsam.measure.fetal_head import HEAD_COLUMNS
from napari_kdsam.widgets.shared.sortable_table import (
    CompactTable,
    SortableTable,
    TableColumn,
)

if TYPE_CHECKING:
    import pandas as pd

    from napari_kdsam.core.stack_index import FrameIndex

COLUMNS = (
    TableColumn('Label', 'label', 'The value of the pixels'),
    TableColumn('Class', 'class', 'The class it was given', words=True),
    TableColumn('Frame', 'frame', "Index of the frame, as on napari's slider"),
    TableColumn('BPD', 'bpd', 'Biparietal diameter, outer to outer', '{}'),
    TableColumn('OFD', 'ofd', 'Occipitofrontal diameter', '{}'),
    TableColumn('HC', 'hc', 'Head circumference', '{}'),
    TableColumn(
        'Age', 'gestational_age', 'Gestational age by Hadlock 1984, from HC', 'weeks'
    ),
    TableColumn('Area', 'area', 'Area', '{}²'),
    TableColumn(
        'Perimeter', 'perimeter', 'Length of the outline, that of holes included', '{}'
    ),
    TableColumn(
        'Long axis',
        'major_axis',
        'Long axis of the ellipse with the same moments',
        '{}',
    ),
    TableColumn(
        'Short axis',
        'minor_axis',
        'Short axis of the ellipse with the same moments',
        '{}',
    ),
    TableColumn(
        'Diameter',
        'equivalent_diameter',
        'Diameter of the disc with the same area',
        '{}',
    ),
    TableColumn('Mean', 'mean_intensity', 'Mean grey value, or luminance of colours'),
    TableColumn('Row', 'row', 'Row of the centre, in pixels', 'px'),
    TableColumn('Column', 'column', 'Column of the centre, in pixels', 'px'),
)
_PLACES = {column.name: place for place, column in enumerate(COLUMNS)}
_CLASS, _FRAME, _MEAN = (_PLACES[name] for name in ('class', 'frame', 'mean_intensity'))
_HEAD = [_PLACES[name] for name in HEAD_COLUMNS]


class MeasurementTable(CompactTable):
    """Show measurements; columns with nothing in them are hidden.

    Attributes
    ----------
    contents : SortableTable
    has_classes : bool
        Whether any object has a class.
    """

    def __init__(self) -> None:
        contents = SortableTable(COLUMNS)
        super().__init__(contents)
        self.contents = contents
        self.has_classes = False

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
        table : pandas.DataFrame or None
            As `measure_stack` makes it; None for nothing.
        classes : mapping of int to str
            Label to name of its class.
        unit, leading
            See `SortableTable.fill`.
        intensities : bool
            Whether there are mean grey values to show.
        chosen : tuple of (tuple of int, int) or None
            Frame and label of the object whose row is selected.
        """
        before = self._shape()
        scroll_bar = self.verticalScrollBar()
        assert scroll_bar is not None
        scrolled = scroll_bar.value()
        self.has_classes = heads = False
        if table is not None:
            names = [classes.get(label, '') for label in table['label'].tolist()]
            self.has_classes = any(names)
            table = table.assign(**{'class': names})
            missing = [name for name in HEAD_COLUMNS if name not in table]
            table = table.assign(**dict.fromkeys(missing, math.nan))
            heads = not missing
        self.contents.fill(table, unit, leading)
        self.setColumnHidden(_CLASS, not self.has_classes)
        self.setColumnHidden(_FRAME, leading == 0)
        self.setColumnHidden(_MEAN, not intensities)
        for column in _HEAD:
            self.setColumnHidden(column, not heads)
        if self._shape() != before:
            self.fit_columns()
        for row in range(self.contents.rowCount() if chosen else 0):
            place = self.contents.place(row)
            if (place.frame, place.label) == chosen:
                self.selectRow(row)
                break
        scroll_bar.setValue(scrolled)

    def as_text(self) -> str:
        """Everything, tab separated and unrounded, in the order of the view."""
        return self.contents.as_text(
            [
                place
                for place in range(len(COLUMNS))
                if place == _MEAN or not self.isColumnHidden(place)
            ]
        )

    def _shape(self) -> tuple[Any, ...]:
        """What the widths of the columns depend on."""
        hidden = [
            self.isColumnHidden(place) for place in (_CLASS, _FRAME, _MEAN, *_HEAD)
        ]
        return (self.contents.rowCount() > 0, self.contents.unit, *hidden)
