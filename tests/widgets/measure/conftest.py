"""Fixtures shared by the tests of the table of measurements."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from measure_window import Measured, measuring_threads


@pytest.fixture
def measure(make_napari_viewer_proxy: Any, qtbot: Any) -> Any:
    """Open a viewer, let the test add layers, then open the table."""
    from napari_kdsam.widgets.measure.dock import MeasureWidget

    opened = []

    def open_table(add: Callable[[Any], object] | None = None) -> Measured:
        viewer = make_napari_viewer_proxy(show=False)
        if add is not None:
            add(viewer)
        table = MeasureWidget(viewer)
        viewer.window.add_dock_widget(table, name='Measure objects', area='right')
        table.destroyed.connect(lambda _: opened.remove(table))
        opened.append(table)
        return Measured(viewer, table, qtbot)

    yield open_table
    for table in list(opened):
        table.deleteLater()
    qtbot.waitUntil(lambda: not measuring_threads(), timeout=30_000)
