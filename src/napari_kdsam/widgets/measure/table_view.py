"""How the measurement table looks, and that it stays put when it is filled again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from napari_kdsam.widgets.measure.table import CLASS, FRAME, MEAN, MeasurementModel
from napari_kdsam.widgets.shared.compact_table import CompactTable

if TYPE_CHECKING:
    import pandas as pd

    from napari_kdsam.core.stack_index import FrameIndex


class MeasurementView(CompactTable):
    """Show measurements; a click on a header sorts by its column.

    Columns with nothing in them are hidden, so that more fits a narrow dock.

    Attributes
    ----------
    contents : MeasurementModel
    """

    def __init__(self) -> None:
        contents = MeasurementModel()
        super().__init__(contents)
        self.contents = contents

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
            self.fit_columns()
        row = None if chosen is None else self.contents.row_of(*chosen)
        if row is not None:
            self.selectRow(row)
        scroll_bar.setValue(scrolled)

    def _shape(self) -> tuple[Any, ...]:
        """What the widths of the columns depend on."""
        hidden = [self.isColumnHidden(place) for place in (CLASS, FRAME, MEAN)]
        return (self.contents.rowCount() > 0, self.contents.unit, *hidden)
