"""Small parts that docks are built of."""

from __future__ import annotations

from collections.abc import Iterable

from magicgui.widgets import ComboBox
from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtGui import QColor, QIcon, QPainter, QPixmap
from qtpy.QtWidgets import (
    QAbstractSpinBox,
    QComboBox,
    QFormLayout,
    QFrame,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QWidget,
)
from superqt import QCollapsible

_ARROW_SIDE = 14


def plain_button(text: str, help_text: str) -> QPushButton:
    """A push button that leaves the keyboard to the canvas."""
    button = QPushButton(text)
    button.setToolTip(help_text)
    # The canvas keeps the keyboard, so that the keys go on working after a click.
    button.setFocusPolicy(Qt.FocusPolicy.NoFocus)
    return button


def folded_section(title: str) -> QCollapsible:
    """A section of a dock with a title that opens it and folds it up."""
    section = QCollapsible(title, expandedIcon=_arrow('▾'), collapsedIcon=_arrow('▸'))
    # Open is no tool in use, which napari's themes would make it look like.
    section.toggleButton().setStyleSheet(
        'text-align: left; border: none; outline: none; background: transparent;'
    )
    return section


def _arrow(symbol: str) -> QIcon:
    """An icon in a grey that is seen on dark and light themes."""
    picture = QPixmap(_ARROW_SIDE, _ARROW_SIDE)
    picture.fill(Qt.GlobalColor.transparent)
    painter = QPainter(picture)
    painter.setPen(QColor(128, 128, 128))
    painter.drawText(picture.rect(), Qt.AlignmentFlag.AlignCenter, symbol)
    painter.end()
    return QIcon(picture)


def scrolling(content: QWidget) -> QScrollArea:
    """Let a part of a dock be scrolled where the screen is too small for it."""
    scroll = QScrollArea()
    scroll.setWidgetResizable(True)
    scroll.setFrameShape(QFrame.Shape.NoFrame)
    scroll.setWidget(content)
    return scroll


def form_of(rows: Iterable[tuple[str, ComboBox, str]]) -> QFormLayout:
    """Lay out choices with their titles and tooltips."""
    form = QFormLayout()
    form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
    form.setContentsMargins(0, 0, 0, 0)
    for title, choice, help_text in rows:
        choice.tooltip = help_text
        choice.native.setSizePolicy(
            QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed
        )
        modest_choice(choice.native)
        form.addRow(title, choice.native)
    return form


def modest_choice(choice: QComboBox) -> None:
    """Let a drop-down take neither room for long names, nor keys and wheel unasked."""
    choice.setSizeAdjustPolicy(
        QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
    )
    choice.setMinimumContentsLength(8)
    # After a choice by mouse, the keys go on working on the canvas.
    choice.setFocusPolicy(Qt.FocusPolicy.TabFocus)
    leave_wheel(choice)


def leave_wheel(field: QWidget) -> None:
    """Leave the wheel over a field to the dock, which scrolls."""
    field.installEventFilter(_WheelFilter(field))


class _WheelFilter(QObject):
    """Swallow the wheel, unless a number is edited."""

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        if event is not None and event.type() == QEvent.Type.Wheel:
            editing = isinstance(watched, QAbstractSpinBox) and watched.hasFocus()
            if not editing:
                event.ignore()
                return True
        return super().eventFilter(watched, event)
