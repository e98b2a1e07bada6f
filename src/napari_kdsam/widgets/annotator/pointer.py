"""The mouse pointer on the canvas: whether the next click is inside or outside."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QPointF, Qt
from qtpy.QtGui import QColor, QCursor, QPainter, QPen, QPixmap
from qtpy.QtWidgets import QApplication, QWidget

from napari_kdsam.widgets.annotator.workspace import Workspace
from napari_kdsam.widgets.shared.prompt_geometry import COLORS, sign_name

_SIDE = 32
_MIDDLE = _SIDE // 2
# Of the hair and of the sign beside it, from the middle; nothing hides the place itself.
_NEAR, _FAR = 6, 11
_SIGN, _SIGN_LENGTH = 25, 4
_HALO, _LINE = 4, 2


class SignedPointer:
    """Show a plus or a minus beside the pointer while clicks add points.

    Parameters
    ----------
    workspace : Workspace

    Attributes
    ----------
    shown : bool or None
        Whether it shows inside; None while it is napari's own.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._canvas: QWidget | None = None
        self._before: QCursor | None = None
        self._cursors: dict[bool, QCursor] = {}
        self.shown: bool | None = None
        workspace.viewer.mouse_move_callbacks.append(self._on_move)
        workspace.updated.connect(self._follow)

    def close(self) -> None:
        """Leave the pointer as it was."""
        self._workspace.viewer.mouse_move_callbacks.remove(self._on_move)
        self._workspace.updated.disconnect(self._follow)
        self._let_go()

    def _on_move(self, viewer: Any, event: Any) -> None:
        # The widget under the mouse is the canvas that tells of the movement.
        self._show(QApplication.widgetAt(QCursor.pos()))

    def _follow(self) -> None:
        self._show(self._canvas)

    def _show(self, canvas: QWidget | None) -> None:
        layers = self._workspace.layers
        if layers is None or not layers.adding:
            # napari chooses a pointer by itself for another tool.
            self._canvas = self._before = self.shown = None
            return
        if canvas is None:
            return
        positive = layers.positive
        cursor = self._cursors.setdefault(positive, _cursor(positive))
        try:
            now = canvas.cursor()
            if now.pixmap().cacheKey() == cursor.pixmap().cacheKey():
                return
            if self.shown is None:
                self._before = now
            canvas.setCursor(cursor)
        except RuntimeError:
            # The window was closed, and Qt has deleted its canvas.
            self._canvas = None
            return
        self._canvas, self.shown = canvas, positive

    def _let_go(self) -> None:
        canvas, self._canvas = self._canvas, None
        if canvas is None or self._before is None:
            return
        try:
            canvas.setCursor(self._before)
        except RuntimeError:
            return


def _cursor(positive: bool) -> QCursor:
    pixmap = QPixmap(_SIDE, _SIDE)
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    sign = [(_SIGN - _SIGN_LENGTH, _SIGN, _SIGN + _SIGN_LENGTH, _SIGN)]
    if positive:
        sign.append((_SIGN, _SIGN - _SIGN_LENGTH, _SIGN, _SIGN + _SIGN_LENGTH))
    hair = [
        (_MIDDLE + step * _NEAR, _MIDDLE, _MIDDLE + step * _FAR, _MIDDLE)
        for step in (-1, 1)
    ]
    hair += [(y, x, y2, x2) for x, y, x2, y2 in hair]
    for color, width in ((QColor('black'), _HALO), (QColor('white'), _LINE)):
        _draw(painter, hair, color, width)
    _draw(painter, sign, QColor('black'), _HALO)
    _draw(painter, sign, QColor(COLORS[sign_name(positive)]), _LINE)
    painter.end()
    return QCursor(pixmap, _MIDDLE, _MIDDLE)


def _draw(
    painter: QPainter, lines: list[tuple[int, int, int, int]], color: QColor, width: int
) -> None:
    painter.setPen(QPen(color, width))
    for x, y, x2, y2 in lines:
        painter.drawLine(QPointF(x, y), QPointF(x2, y2))
