"""The table of measurements in a real napari viewer."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np

MILLIMETRES = {'scale': (0.5, 0.25), 'units': ('mm', 'mm')}


def two_objects() -> np.ndarray:
    labels = np.zeros((60, 80), np.uint16)
    labels[10:20, 10:30], labels[40:50, 60:64] = 2, 9
    return labels


@dataclass
class Measured:
    viewer: Any
    table: Any
    qtbot: Any

    @property
    def rows(self) -> list[dict[str, str]]:
        """What the table shows, without hidden columns, by title."""
        model, view = self.table.model, self.table.view
        places = [p for p in range(model.columnCount()) if not view.isColumnHidden(p)]
        return [
            {self.title(p): model.data(model.index(row, p)) for p in places}
            for row in range(model.rowCount())
        ]

    def title(self, place: int) -> str:
        from qtpy.QtCore import Qt

        return self.table.model.headerData(place, Qt.Orientation.Horizontal)

    @property
    def labels(self) -> list[str]:
        return [row['Label'] for row in self.rows]

    def wait_for(self, *labels: str) -> None:
        self.qtbot.waitUntil(lambda: self.labels == list(labels), timeout=30_000)

    def click(self, row: int) -> None:
        from qtpy.QtCore import Qt
        from qtpy.QtTest import QTest

        view = self.table.view
        spot = view.visualRect(self.table.model.index(row, 0)).center()
        left = Qt.MouseButton.LeftButton
        QTest.mouseClick(view.viewport(), left, pos=spot)

    def camera(self) -> Any:
        return getattr(self.viewer, 'scene', self.viewer).camera


def measuring_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith('kdsam-measuring')]
