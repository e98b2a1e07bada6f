"""The foot of the dock: what is going on, with which model and how fast."""

from __future__ import annotations

import math
import re
from typing import Any

from qtpy.QtCore import QSize, Qt, QTimer
from qtpy.QtGui import QTextDocument, QTextOption
from qtpy.QtWidgets import (
    QGridLayout,
    QLabel,
    QProgressBar,
    QSizePolicy,
    QTextEdit,
    QWidget,
)

from napari_kdsam.widgets.annotator.status import NO_IMAGE, StatusKind, StatusLine

# Shapes differ as well as colours; the colours show on dark and on light themes.
_MARKS = {
    StatusKind.NO_IMAGE: ('○', '#8a8a8a'),
    StatusKind.WAITING: ('○', '#8a8a8a'),
    StatusKind.WORKING: ('◐', '#e08a00'),
    StatusKind.READY: ('●', '#2e9e44'),
    StatusKind.ERROR: ('▲', '#f0483e'),
}
_RESERVED_LINES, _MOST_LINES = 2, 8
# A click on an embedded image is answered sooner; a bar for it would only flicker.
_BAR_DELAY_MS = 150
_BAR_STYLE = """
QProgressBar {
    background: rgba(128, 128, 128, 60); border: 0px; border-radius: 1px;
    padding: 0px; min-height: 3px; max-height: 3px;
}
QProgressBar::chunk { background: #2f7fff; width: 24px; }
"""
_SMALL = 0.85
_NO_BREAK = '\u00a0'


class StatusBar(QWidget):
    """Say what the annotator is doing, and with what.

    A sentence with a mark for its kind, a thin bar while something takes long, and
    two small lines on the model, times and memory. What a short sentence leaves empty
    stays reserved, so that nothing in the dock moves.

    Parameters
    ----------
    parent : QWidget, optional
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._model = self._device = ''
        self._times: tuple[float | None, float | None] = (None, None)
        self._memory = (0, 0)
        self.mark = QLabel()
        self.sentence = _Sentence()
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.bar.setStyleSheet(_BAR_STYLE)
        self.bar.setRange(0, 0)
        policy = self.bar.sizePolicy()
        policy.setRetainSizeWhenHidden(True)
        policy.setHorizontalPolicy(QSizePolicy.Policy.Ignored)
        self.bar.setSizePolicy(policy)
        self.bar.hide()
        self._bar_delay = QTimer(self)
        self._bar_delay.setSingleShot(True)
        self._bar_delay.setInterval(_BAR_DELAY_MS)
        self._bar_delay.timeout.connect(self.bar.show)
        self.details = QLabel()
        self.details.setWordWrap(True)
        self.details.setTextFormat(Qt.TextFormat.PlainText)
        self.details.setAlignment(Qt.AlignmentFlag.AlignTop)
        # A long name must not widen the dock.
        self.details.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        grid = QGridLayout(self)
        grid.setContentsMargins(4, 2, 4, 2)
        grid.setHorizontalSpacing(4)
        grid.setVerticalSpacing(2)
        grid.addWidget(self.mark, 0, 0, Qt.AlignmentFlag.AlignTop)
        grid.addWidget(self.sentence, 0, 1)
        grid.addWidget(self.bar, 1, 0, 1, 2)
        grid.addWidget(self.details, 2, 0, 1, 2)
        grid.setColumnStretch(1, 1)
        self.show_status(NO_IMAGE)

    def show_status(self, status: StatusLine) -> None:
        """Show what is being done and its sentence; that of an error can be selected and copied."""
        mark, color = _MARKS[status.kind]
        self.mark.setText(mark)
        self.mark.setStyleSheet(f'color: {color};')
        self.mark.setToolTip(status.kind.value.capitalize())
        self.sentence.show_text(status.text, selectable=status.kind is StatusKind.ERROR)
        if status.kind is StatusKind.WORKING:
            if not self.bar.isVisible() and not self._bar_delay.isActive():
                self._bar_delay.start()
        else:
            self._bar_delay.stop()
            self.bar.hide()

    def show_engine(self, model: str, device: str) -> None:
        """Show the model, by its file's name if it is a path, and the device."""
        self._model, self._device = model, device
        self._refresh_details()

    def show_times(self, encode_ms: float | None, decode_ms: float | None) -> None:
        """Show how long the last encoding and the last click took, in milliseconds."""
        self._times = (encode_ms, decode_ms)
        self._refresh_details()

    def show_memory(self, frames: int, nbytes: int) -> None:
        """Show how many frames are kept encoded, and the bytes they take."""
        self._memory = (frames, nbytes)
        self._refresh_details()

    def resizeEvent(self, event: Any) -> None:
        super().resizeEvent(event)
        self._refresh_details()

    def changeEvent(self, event: Any) -> None:
        super().changeEvent(event)
        if event.type() in (event.Type.FontChange, event.Type.StyleChange):
            self._refresh_details()

    def _refresh_details(self) -> None:
        encode, click = self._times
        frames, nbytes = self._memory
        others = [
            self._device,
            '' if encode is None else f'encode {_duration(encode)}',
            '' if click is None else f'click {_duration(click)}',
            f'{frames} frame{"s" * (frames != 1)}, {_size(nbytes)}' if frames else '',
        ]
        name = _file_name(self._model)
        self.details.setToolTip(' · '.join(filter(None, (self._model, *others))))
        # The theme's style sheet sets the size of labels, so a font alone would not do.
        style = f'font-size: {_SMALL * self.mark.fontInfo().pointSizeF():.1f}pt;'
        if style != self.details.styleSheet():
            self.details.setStyleSheet(style)
        metrics = self.details.fontMetrics()
        self.details.setFixedHeight(2 * metrics.lineSpacing() + 4)
        device = metrics.horizontalAdvance(f' · {self._device} ·')
        room = self.details.width() - device - metrics.averageCharWidth()
        name = metrics.elidedText(name, Qt.TextElideMode.ElideMiddle, max(0, room))
        parts = [part for part in (name, *others) if part]
        # Lines break between the parts only, after a dot.
        self.details.setText(
            f'{_NO_BREAK}· '.join(part.replace(' ', _NO_BREAK) for part in parts)
        )


class _Sentence(QTextEdit):
    """A label that breaks paths too, grows with its text and whose text can be copied."""

    def __init__(self) -> None:
        super().__init__()
        self._document = QTextDocument(self)
        self._document.setDocumentMargin(0)
        self.setDocument(self._document)
        self.setReadOnly(True)
        self.setUndoRedoEnabled(False)
        self.setStyleSheet(
            'QTextEdit, QTextEdit > QWidget { background: transparent; }'
            'QTextEdit { border: 0px; padding: 0px; margin: 0px; }'
        )
        self.setWordWrapMode(QTextOption.WrapMode.WrapAtWordBoundaryOrAnywhere)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.textChanged.connect(self._fit)
        self._fit()

    def show_text(self, text: str, *, selectable: bool) -> None:
        if text != self.toPlainText():
            self.setPlainText(text)
        if selectable:
            self.setTextInteractionFlags(
                Qt.TextInteractionFlag.TextSelectableByMouse
                | Qt.TextInteractionFlag.TextSelectableByKeyboard
            )
            self.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        else:
            self.setTextInteractionFlags(Qt.TextInteractionFlag.NoTextInteraction)
            # The canvas keeps the keyboard, so that the keys go on working.
            self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
            self.clearFocus()

    def resizeEvent(self, event: Any) -> None:
        super().resizeEvent(event)
        self._fit()

    def minimumSizeHint(self) -> QSize:
        return QSize(0, self.height())

    def changeEvent(self, event: Any) -> None:
        super().changeEvent(event)
        if event.type() in (event.Type.FontChange, event.Type.StyleChange):
            self._fit()

    def _fit(self) -> None:
        line = self.fontMetrics().lineSpacing()
        wanted = max(self._document.size().height(), _RESERVED_LINES * line)
        self.setFixedHeight(math.ceil(min(wanted, _MOST_LINES * line)) + 2)


def _file_name(model: str) -> str:
    # Paths of either kind of system: a session may come from another computer.
    return re.split(r'[\\/]', model.rstrip('\\/'))[-1]


def _duration(milliseconds: float) -> str:
    if milliseconds < 999.5:
        return f'{milliseconds:.0f} ms'
    return f'{milliseconds / 1000:.1f} s'


def _size(nbytes: int) -> str:
    megabytes = nbytes / 1024**2
    if megabytes < 1023.5:
        return f'{megabytes:.0f} MB'
    return f'{megabytes / 1024:.1f} GB'
