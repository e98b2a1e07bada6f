"""An annotator in a window: what is in it, and how a user acts on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from fakes import FakeModel


@dataclass
class Canvas:
    """The canvas of a window that is shown, for events at world (row, column)."""

    viewer: Any
    native: Any

    def move(self, spot: Any) -> None:
        """Move the mouse, no faster than the canvas cares to notice."""
        from qtpy.QtTest import QTest

        QTest.mouseMove(self.native, spot)
        QTest.qWait(20)

    def at(self, row: float, column: float) -> Any:
        """The canvas pixel that shows a world point, by where the cursor says it is."""
        from qtpy.QtCore import QPoint

        for _ in range(200):
            (row0, column0), (row1, column1) = (
                self._seen_at(QPoint(200, 200)),
                self._seen_at(QPoint(300, 300)),
            )
            # A window that has just been shown may not notice the mouse yet.
            if row0 != row1 and column0 != column1:
                break
        x = 200 + 100 * (column - column0) / (column1 - column0)
        y = 200 + 100 * (row - row0) / (row1 - row0)
        return QPoint(round(x), round(y))

    def _seen_at(self, spot: Any) -> tuple[float, float]:
        self.move(spot)
        row, column = self.viewer.cursor.position[-2:]
        return row, column

    def click(self, row: float, column: float) -> None:
        """Move the mouse to a world point and click there."""
        from qtpy.QtCore import Qt
        from qtpy.QtTest import QTest

        spot = self.at(row, column)
        self.move(spot)
        QTest.mouseClick(self.native, Qt.MouseButton.LeftButton, pos=spot)

    def key(self, key: Any, *modifiers: Any) -> None:
        """Press and release a key."""
        from qtpy.QtCore import Qt
        from qtpy.QtTest import QTest

        held = Qt.KeyboardModifier.NoModifier
        for modifier in modifiers:
            held |= modifier
        QTest.keyClick(self.native, key, held)


def show_canvas(viewer: Any, qtbot: Any) -> Canvas:
    """Show a viewer's window, and give real mouse and key events to its canvas."""
    from qtpy.QtWidgets import QApplication, QWidget

    viewer.window.resize(1000, 700)
    viewer.window.show()
    qtbot.wait(300)
    found = next(
        widget
        for top in QApplication.topLevelWidgets()
        for widget in top.findChildren(QWidget)
        if 'CanvasBackend' in type(widget).__name__ and widget.isVisible()
    )
    return Canvas(viewer, found)


@dataclass
class Annotating:
    """A viewer with the docked annotator, and ways to wait for it."""

    viewer: Any
    widget: Any
    qtbot: Any
    model: FakeModel

    @property
    def controller(self) -> Any:
        return self.widget.controller

    @property
    def workspace(self) -> Any:
        return self.controller.workspace

    @property
    def points(self) -> Any:
        return self.workspace.layers.points

    @property
    def shapes(self) -> Any:
        return self.workspace.layers.shapes

    @property
    def preview(self) -> np.ndarray:
        return np.asarray(self.workspace.layers.preview.data)

    @property
    def labels(self) -> np.ndarray:
        return np.asarray(self.workspace.target_layer.data)

    def stage(self) -> str:
        return str(self.workspace.status.kind.value)

    def wait_for(self, stage: str) -> None:
        self.qtbot.waitUntil(lambda: self.stage() == stage, timeout=30_000)

    def click(self, *position: float) -> None:
        """Add a point as a left click does, and wait for the mask."""
        self.points.add(np.array(position, float))
        self.wait_for('ready')

    def draw(self, *corners: tuple[float, ...]) -> None:
        """Draw a box from one corner to the opposite one, and wait for the mask."""
        (*lead, r0, c0), (*_, r1, c1) = corners
        outline = [(*lead, r0, c0), (*lead, r0, c1), (*lead, r1, c1), (*lead, r1, c0)]
        self.shapes.add_rectangles(np.array([outline], float))
        self.wait_for('ready')

    def settle(self) -> None:
        """Let what Qt has queued happen."""
        self.qtbot.wait(30)

    def show_canvas(self) -> Canvas:
        """Show the window, and give real mouse and key events to its canvas."""
        return show_canvas(self.viewer, self.qtbot)


def commit_box(session: Any, *corners: tuple[float, ...]) -> None:
    """Draw a box from one corner to the opposite one, and commit its mask."""
    session.draw(*corners)
    assert session.controller.objects.commit()


def paint(session: Any, rows: slice, columns: slice, label: int) -> None:
    """Write a label past the annotator, as a batch does."""
    session.workspace.target_layer.data[..., rows, columns] = label
