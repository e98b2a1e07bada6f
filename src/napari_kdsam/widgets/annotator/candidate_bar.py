"""The candidate masks side by side, to choose one by looking."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QSize, Qt, Signal  # type: ignore[attr-defined]
from qtpy.QtGui import QColor, QIcon, QImage, QPainter, QPixmap
from qtpy.QtWidgets import QHBoxLayout, QToolButton, QWidget

CANDIDATES = 3
_SIDE = 74
_NOTHING = '–'
# The accent is readable on napari's dark and light themes, whose own are not.
_STYLE = """
QToolButton {
    background: transparent; border: 2px solid transparent; border-radius: 4px;
    padding: 1px; margin: 0px;
}
QToolButton:hover:enabled { border-color: rgba(128, 128, 128, 160); }
QToolButton:checked { border-color: #2f7fff; }
"""


class CandidateBar(QWidget):
    """Up to three candidate masks as pictures, with their predicted overlap.

    The chosen one has a frame and a bold number, the best a star. Its height never
    changes, so that what is below stays in place.

    Parameters
    ----------
    hint : str
        Ends each tooltip, such as the key for the next candidate.
    parent : QWidget, optional

    Attributes
    ----------
    chosen : Signal
        Index of a candidate that was clicked and is not the chosen one.
    """

    chosen = Signal(int)

    def __init__(self, hint: str = '', parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._hint = hint
        self._chosen = -1
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(2)
        self.buttons = tuple(QToolButton() for _ in range(CANDIDATES))
        for index, button in enumerate(self.buttons):
            button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextUnderIcon)
            button.setIconSize(QSize(_SIDE, _SIDE))
            button.setCheckable(True)
            button.setStyleSheet(_STYLE)
            # The canvas keeps the keyboard, so that the keys go on working.
            button.setFocusPolicy(Qt.FocusPolicy.NoFocus)
            button.clicked.connect(partial(self._on_clicked, index))
            row.addWidget(button)
        row.addStretch()
        self.clear()

    @property
    def thumbnail_side(self) -> int:
        """Side of the pictures to show, in pixels of this screen."""
        return round(_SIDE * self.devicePixelRatioF())

    def show_candidates(
        self,
        thumbnails: Sequence[NDArray[np.uint8]],
        scores: Sequence[float],
        chosen: int,
        best: int | None = None,
    ) -> None:
        """Show the candidates of a prediction.

        Parameters
        ----------
        thumbnails : sequence of numpy.ndarray
            (h, w, 3) uint8 RGB, at most three, best with `thumbnail_side` as sides.
        scores : sequence of float
            Predicted IoU, one for each picture.
        chosen : int
            Index of the candidate in use.
        best : int
            Index of the best one; that of the highest score by default.
        """
        if best is None:
            best = max(range(len(scores)), key=scores.__getitem__, default=-1)
        for index, button in enumerate(self.buttons):
            if index < len(thumbnails):
                mark = '★ ' if index == best and len(scores) > 1 else ''
                self._show(
                    button,
                    _pixmap(thumbnails[index], self.thumbnail_side),
                    f'{mark}{scores[index]:.2f}',
                    _description(index, scores, best, chosen),
                )
            else:
                self._show_nothing(button)
        self._mark(chosen)

    def clear(self) -> None:
        """Show three placeholders."""
        for button in self.buttons:
            self._show_nothing(button)
        self._mark(-1)

    def _mark(self, chosen: int) -> None:
        self._chosen = chosen
        for index, button in enumerate(self.buttons):
            button.setChecked(index == chosen)
            font = button.font()
            font.setBold(index == chosen)
            button.setFont(font)

    def _show(
        self, button: QToolButton, picture: QPixmap, text: str, description: str
    ) -> None:
        button.setIcon(QIcon(picture))
        button.setText(text)
        button.setToolTip('\n'.join(filter(None, (description, self._hint))))
        button.setAccessibleName(description)
        button.setEnabled(True)

    def _show_nothing(self, button: QToolButton) -> None:
        self._show(button, _placeholder(), _NOTHING, 'No candidate')
        button.setToolTip('A click on an image offers three candidate masks')
        button.setEnabled(False)

    def _on_clicked(self, index: int, _: bool = True) -> None:
        changed = index != self._chosen
        self._mark(index)
        if changed:
            self.chosen.emit(index)


def _description(index: int, scores: Sequence[float], best: int, chosen: int) -> str:
    return (
        f'Candidate {index + 1} of {len(scores)}, predicted overlap {scores[index]:.2f}'
        + (', the best' if index == best and len(scores) > 1 else '')
        + (', chosen' if index == chosen else '')
    )


def _pixmap(pixels: NDArray[np.uint8], side: int) -> QPixmap:
    height, width = pixels.shape[:2]
    data = pixels.tobytes()
    image = QImage(data, width, height, 3 * width, QImage.Format.Format_RGB888)
    return QPixmap.fromImage(image).scaled(
        side,
        side,
        Qt.AspectRatioMode.KeepAspectRatio,
        Qt.TransformationMode.SmoothTransformation,
    )


def _placeholder() -> QPixmap:
    picture = QPixmap(_SIDE, _SIDE)
    picture.fill(Qt.GlobalColor.transparent)
    painter = QPainter(picture)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(QColor(128, 128, 128, 50))
    painter.drawRoundedRect(picture.rect(), 3, 3)
    painter.end()
    return picture
