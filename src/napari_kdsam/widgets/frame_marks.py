"""A strip with one cell for each frame: done, open, in view."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Any

from qtpy.QtCore import QPointF, QRectF, QSize, Qt, Signal  # type: ignore[attr-defined]
from qtpy.QtGui import QColor, QPainter, QPalette, QPolygonF
from qtpy.QtWidgets import QHBoxLayout, QLabel, QSizePolicy, QWidget

_HEIGHT = 16
_DONE, _OPEN = QColor('#2e9e44'), QColor('#e08a00')
_LEGEND = (
    'Full bars: frames with committed objects. Half bars: prompts not committed yet. '
    'Frame in view: the triangle. Click to go there.'
)


class FrameStrip(QWidget):
    """Show which frames of a stack are done, and go to one by a click.

    Attributes
    ----------
    frame_chosen : Signal
        Place of a frame in the stack.
    """

    frame_chosen = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self.cells = _Cells()
        self.cells.setToolTip(_LEGEND)
        self.cells.clicked.connect(self.frame_chosen)
        self.text = QLabel()
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.cells, stretch=1)
        row.addWidget(self.text)
        self.hide()

    def show_frames(
        self,
        count: int,
        done: AbstractSet[int],
        open_: AbstractSet[int],
        current: int,
    ) -> None:
        """Show the frames of a stack; nothing for a single image.

        Parameters
        ----------
        count : int
            Frames of the stack.
        done, open_ : set of int
            Places of frames with committed objects, and with open prompts.
        current : int
            Place of the frame in view.
        """
        self.setVisible(count > 1)
        if count > 1:
            self.cells.show_frames(count, frozenset(done), frozenset(open_), current)
            self.text.setText(f'{len(done)} of {count} done')


class _Cells(QWidget):
    clicked = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._shown: tuple[int, frozenset[int], frozenset[int], int] = (
            0,
            frozenset(),
            frozenset(),
            0,
        )

    def sizeHint(self) -> QSize:
        return QSize(120, _HEIGHT)

    def show_frames(
        self, count: int, done: frozenset[int], open_: frozenset[int], current: int
    ) -> None:
        shown = (count, done, open_, current)
        if shown != self._shown:
            self._shown = shown
            self.update()

    def mousePressEvent(self, event: Any) -> None:
        count = self._shown[0]
        if count and self.width():
            place = int(event.position().x() * count / self.width())
            self.clicked.emit(min(max(place, 0), count - 1))

    def paintEvent(self, event: Any) -> None:
        count, done, open_, current = self._shown
        if not count:
            return
        painter = QPainter(self)
        width, height = self.width() / count, self.height()
        groove = self.palette().color(QPalette.ColorRole.WindowText)
        groove.setAlpha(50)
        painter.fillRect(QRectF(0, 5, self.width(), height - 5), groove)
        # Many frames share a pixel; a bar is never too thin to be seen.
        bar = max(1.0, width - (1 if width > 4 else 0))
        for places, colour, part in ((open_, _OPEN, 0.5), (done, _DONE, 1.0)):
            tall = (height - 5) * part
            for place in places:
                cell = QRectF(place * width, height - tall, bar, tall)
                painter.fillRect(cell, colour)
        middle = (current + 0.5) * width
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(self.palette().color(QPalette.ColorRole.WindowText))
        painter.drawPolygon(
            QPolygonF(
                [QPointF(middle - 4, 0), QPointF(middle + 4, 0), QPointF(middle, 5)]
            )
        )
        painter.end()
