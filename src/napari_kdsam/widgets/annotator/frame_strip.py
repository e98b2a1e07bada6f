"""A strip with one cell for each frame: done, open, in view."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from qtpy.QtCore import QPointF, QSize, Qt, Signal  # type: ignore[attr-defined]
from qtpy.QtGui import QColor, QPainter, QPalette, QPolygonF
from qtpy.QtWidgets import QHBoxLayout, QLabel, QSizePolicy, QWidget

_HEIGHT = 16
_POINTER = 5
_THINNEST = 3
# Each is three times as bright or as dark as the strip of its theme.
_ON_DARK = (QColor('#3fc258'), QColor('#ffb43a'))
_ON_LIGHT = (QColor('#1c7430'), QColor('#a34f00'))
_LEGEND = (
    'Bar from below: the frame has committed objects.\n'
    'Bar from above: it has prompts that are not committed.\n'
    'Triangle: the frame in view.\n'
    'Where a bar stands for several frames, it is as tall as the part that is done.\n'
    'Click to go to a frame.'
)


@dataclass(frozen=True)
class FrameCell:
    """One or more neighbouring frames that are drawn together.

    Attributes
    ----------
    left, right : int
        Pixel columns, half-open.
    frames : range
        Places of the frames in the stack.
    done : float
        Share of the frames that are done, 0..1.
    open : bool
        Whether any of them is open.
    """

    left: int
    right: int
    frames: range
    done: float
    open: bool


def frame_cells(
    count: int, done: AbstractSet[int], open_: AbstractSet[int], width: int
) -> list[FrameCell]:
    """Lay the frames of a stack out, sharing cells if there are more than pixels.

    Parameters
    ----------
    count : int
        Frames of the stack.
    done, open_ : set of int
        Places of frames with committed objects, and with open prompts.
    width : int
        Pixels there are.

    Returns
    -------
    list of FrameCell
        From left to right, without gaps.
    """
    number = min(count, width)
    found = []
    for index in range(number):
        frames = range(index * count // number, (index + 1) * count // number)
        found.append(
            FrameCell(
                left=index * width // number,
                right=(index + 1) * width // number,
                frames=frames,
                done=sum(place in done for place in frames) / len(frames),
                open=any(place in open_ for place in frames),
            )
        )
    return found


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
        self.cells.setAccessibleName('Frames')
        self.cells.clicked.connect(self.frame_chosen)
        self.text = QLabel()
        self.setToolTip(_LEGEND)
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
            said = f'{len(done)} of {count} frames done'
            self.text.setText(said)
            # Shown first in a panel that is already laid out, it would get no room.
            self.text.setMinimumWidth(self.text.sizeHint().width())
            self.cells.setAccessibleDescription(said)


class _Cells(QWidget):
    clicked = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
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
        if event.button() != Qt.MouseButton.LeftButton:
            super().mousePressEvent(event)
            return
        column = event.position().x()
        for cell in self._laid_out():
            if cell.left <= column < cell.right:
                self.clicked.emit(cell.frames[0])
                return

    def _laid_out(self) -> list[FrameCell]:
        count, done, open_, _ = self._shown
        return frame_cells(count, done, open_, self.width())

    def paintEvent(self, event: Any) -> None:
        text = self.palette().color(QPalette.ColorRole.WindowText)
        done_color, open_color = _ON_DARK if text.lightness() > 127 else _ON_LIGHT
        groove = QColor(text)
        groove.setAlpha(30)
        painter = QPainter(self)
        painter.setPen(Qt.PenStyle.NoPen)
        tall = self.height() - _POINTER
        current = self._shown[-1]
        cells = self._laid_out()
        # Gaps show where frames end, and only where every cell has room for one.
        gap = 1 if cells and self.width() // len(cells) > 3 else 0
        for cell in cells:
            bar = cell.right - cell.left - gap
            painter.fillRect(cell.left, _POINTER, bar, tall, groove)
            if cell.done:
                part = max(2, round(cell.done * tall))
                top = self.height() - part
                painter.fillRect(cell.left, top, bar, part, done_color)
        for cell in cells:
            if cell.open:
                # Wide enough to be seen, and apart from a bar below it.
                bar = max(cell.right - cell.left - gap, _THINNEST)
                part = tall // 2
                painter.fillRect(cell.left, _POINTER, bar, part, open_color)
                window = self.palette().window()
                painter.fillRect(cell.left, _POINTER + part, bar, 1, window)
            if current in cell.frames:
                self._point_at(painter, (cell.left + cell.right - gap) / 2, text)
        painter.end()

    def _point_at(self, painter: QPainter, column: float, color: QColor) -> None:
        # Never cut off by the ends of the strip.
        column = min(max(column, _POINTER - 1), self.width() - _POINTER + 1)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setBrush(color)
        painter.drawPolygon(
            QPolygonF(
                [
                    QPointF(column - _POINTER + 1, 0),
                    QPointF(column + _POINTER - 1, 0),
                    QPointF(column, _POINTER),
                ]
            )
        )
        painter.setRenderHint(QPainter.RenderHint.Antialiasing, on=False)
