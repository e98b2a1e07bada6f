"""Small parts that docks are built of."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from magicgui.widgets import ComboBox
from qtpy.QtCore import QEvent, QObject, QSize, Qt
from qtpy.QtGui import QColor, QHelpEvent, QIcon, QPainter, QPixmap
from qtpy.QtWidgets import (
    QAbstractSpinBox,
    QComboBox,
    QFormLayout,
    QFrame,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QStyle,
    QStyleOptionComboBox,
    QStylePainter,
    QToolTip,
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


def on_click(button: QPushButton, act: Callable[[], object]) -> None:
    """Call `act` without Qt's argument when a button is clicked."""
    button.clicked.connect(lambda _: act())


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


def scrolling(content: QWidget, least_width: int) -> QScrollArea:
    """Let a part of a dock be scrolled where the screen is too low for it.

    It is wide enough for the content and a scroll bar, and at least `least_width`
    pixels; the dock must set no least width of its own, which would count instead.
    """
    scroll = _ScrolledDown(least_width)
    scroll.setWidgetResizable(True)
    scroll.setFrameShape(QFrame.Shape.NoFrame)
    scroll.setWidget(content)
    return scroll


class _ScrolledDown(QScrollArea):
    """A scroll area that is never too narrow for its content and the scroll bar."""

    def __init__(self, least_width: int) -> None:
        super().__init__()
        self._least_width = least_width

    def minimumSizeHint(self) -> QSize:
        hint = super().minimumSizeHint()
        content, bar = self.widget(), self.verticalScrollBar()
        if content is not None and bar is not None:
            width = content.minimumSizeHint().width() + bar.sizeHint().width()
            hint.setWidth(max(self._least_width, width))
        return hint

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        if event is not None and event.type() == QEvent.Type.LayoutRequest:
            self.updateGeometry()
        return super().eventFilter(watched, event)


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
    choice.installEventFilter(_LongNames(choice))


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


class _LongNames(QObject):
    """Shorten the name that a drop-down shows in its middle; the tooltip has it whole.

    An image and its labels differ at the end of their names, which Qt cuts off.
    """

    def __init__(self, choice: QComboBox) -> None:
        super().__init__(choice)
        self._choice = choice

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        if event is not None and event.type() == QEvent.Type.Paint:
            self._paint()
            return True
        if isinstance(event, QHelpEvent) and event.type() == QEvent.Type.ToolTip:
            choice = self._choice
            lines = [choice.toolTip()]
            if self._option().currentText != choice.currentText():
                lines.insert(0, choice.currentText())
            QToolTip.showText(event.globalPos(), '\n'.join(lines), choice)
            return True
        return super().eventFilter(watched, event)

    def _option(self) -> QStyleOptionComboBox:
        option, choice = QStyleOptionComboBox(), self._choice
        choice.initStyleOption(option)
        style = choice.style()
        assert style is not None
        field = style.subControlRect(
            QStyle.ComplexControl.CC_ComboBox,
            option,
            QStyle.SubControl.SC_ComboBoxEditField,
            choice,
        )
        option.currentText = choice.fontMetrics().elidedText(
            option.currentText, Qt.TextElideMode.ElideMiddle, field.width()
        )
        return option

    def _paint(self) -> None:
        option = self._option()
        painter = QStylePainter(self._choice)
        painter.drawComplexControl(QStyle.ComplexControl.CC_ComboBox, option)
        painter.drawControl(QStyle.ControlElement.CE_ComboBoxLabel, option)
        painter.end()
