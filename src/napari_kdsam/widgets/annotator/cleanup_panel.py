"""Settings of the clean-up of masks."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from qtpy.QtCore import Qt, Signal  # type: ignore[attr-defined]
from qtpy.QtGui import QResizeEvent
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QSizePolicy,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_kdsam.annotation.cleanup import (
    MOST_SMOOTH_PIXELS,
    MOST_SPECK_PIXELS,
    CleanUp,
    Ellipse,
)
from napari_kdsam.widgets.shared.qt_parts import folded_section, leave_wheel

_TITLE = 'Clean-up'
_HELP = 'What is done to each mask, in this order, before it is shown and committed'
_SNAPS = {'none': 'As it is', 'convex': 'Convex hull', 'ellipse': 'Ellipse'}
_SNAPPED = {'convex': 'convex hull', 'ellipse': 'ellipse'}


class CleanUpPanel(QWidget):
    """Choose what is done to each mask before it is shown and committed.

    Folded up, the title says what is on.

    Parameters
    ----------
    parent : QWidget, optional

    Attributes
    ----------
    changed : Signal
        The new `CleanUp`, after each change by the user, also while a number is typed.
    """

    changed = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._value = CleanUp()
        self._showing = False
        self.specks = QSpinBox()
        self.specks.setRange(0, MOST_SPECK_PIXELS)
        self.specks.setSingleStep(10)
        self.largest = QCheckBox('Largest part only')
        self.holes = QCheckBox('Fill holes')
        self.smooth = QDoubleSpinBox()
        self.smooth.setRange(0, MOST_SMOOTH_PIXELS)
        self.smooth.setSingleStep(0.5)
        self.smooth.setDecimals(1)
        self.snap = QComboBox()
        for snap, text in _SNAPS.items():
            self.snap.addItem(text, snap)
        self.ellipse = QLabel()
        self.ellipse.setWordWrap(True)
        self.ellipse.setTextInteractionFlags(
            Qt.TextInteractionFlag.TextSelectableByMouse
        )
        self.ellipse.setContentsMargins(9, 0, 9, 0)
        self.ellipse.hide()
        self.folded = folded_section(_TITLE)
        self._prepare()
        self._lay_out()
        self._show_summary()

    def _prepare(self) -> None:
        for number in (self.specks, self.smooth):
            number.setSuffix(' px')
            number.setSpecialValueText('off')
            number.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
            line = number.lineEdit()
            if line is not None:
                # Enter gives the keyboard back to the canvas.
                line.returnPressed.connect(number.clearFocus)
            leave_wheel(number)
        for control in (
            self.largest,
            self.holes,
            self.snap,
            self.ellipse,
            self.folded.toggleButton(),
        ):
            control.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        leave_wheel(self.snap)
        self.specks.setToolTip('Remove connected parts of fewer pixels')
        self.largest.setToolTip('Keep the largest connected part of a mask')
        self.holes.setToolTip('Fill background that is enclosed by a mask')
        self.smooth.setToolTip(
            'Smooth bends of the boundary that are tighter than this radius'
        )
        self.snap.setToolTip('Replace a mask by its convex hull or the best ellipse')
        self.specks.valueChanged.connect(lambda n: self._on_changed(speck_pixels=n))
        self.largest.toggled.connect(lambda on: self._on_changed(largest_only=on))
        self.holes.toggled.connect(lambda on: self._on_changed(fill_holes=on))
        self.smooth.valueChanged.connect(
            lambda radius: self._on_changed(smooth_pixels=radius)
        )
        self.snap.currentIndexChanged.connect(
            lambda _: self._on_changed(snap=self.snap.currentData())
        )

    def _lay_out(self) -> None:
        form = QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.setVerticalSpacing(4)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        boxes = QHBoxLayout()
        boxes.setSpacing(12)
        boxes.addWidget(self.largest)
        boxes.addWidget(self.holes)
        boxes.addStretch()
        form.addRow('Specks below', self.specks)
        form.addRow(boxes)
        form.addRow('Smooth', self.smooth)
        form.addRow('Shape', self.snap)
        inner = QWidget()
        inner.setLayout(form)
        self.folded.addWidget(inner)
        self.folded.collapse(animate=False)
        around = self.folded.layout()
        if around is not None:
            around.setContentsMargins(9, 4, 9, 4)
        # A long summary must not widen the dock.
        self.folded.toggleButton().setSizePolicy(
            QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed
        )
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self.folded)
        column.addWidget(self.ellipse)

    @property
    def value(self) -> CleanUp:
        """The settings shown; setting them emits nothing."""
        return self._value

    @value.setter
    def value(self, cleanup: CleanUp) -> None:
        self._value = cleanup
        self._showing = True
        try:
            self.specks.setValue(cleanup.speck_pixels)
            self.largest.setChecked(cleanup.largest_only)
            self.holes.setChecked(cleanup.fill_holes)
            self.smooth.setValue(cleanup.smooth_pixels)
            self.snap.setCurrentIndex(self.snap.findData(cleanup.snap))
        finally:
            self._showing = False
        self._show_summary()

    def show_ellipse(self, text: str) -> None:
        """Show a line on the ellipse below the settings, or none for an empty text."""
        self.ellipse.setText(text)
        self.ellipse.setVisible(bool(text))

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        """Shorten the title to the width there is."""
        super().resizeEvent(event)
        self._show_summary()

    def _on_changed(self, **change: Any) -> None:
        if not self._showing:
            self._value = replace(self._value, **change)
            self._show_summary()
            self.changed.emit(self._value)

    def _show_summary(self) -> None:
        summary = _summary(self._value)
        title = f'{_TITLE}: {summary}' if summary else _TITLE
        button = self.folded.toggleButton()
        icon_and_margins = button.iconSize().width() + 16
        button.setText(
            button.fontMetrics().elidedText(
                title,
                Qt.TextElideMode.ElideRight,
                max(0, button.width() - icon_and_margins),
            )
        )
        button.setToolTip(f'{title}\n{_HELP}' if summary else _HELP)
        button.setAccessibleName(title)


def _summary(cleanup: CleanUp) -> str:
    steps = []
    if cleanup.speck_pixels:
        steps.append(f'specks {cleanup.speck_pixels}')
    if cleanup.largest_only:
        steps.append('largest')
    if cleanup.fill_holes:
        steps.append('holes')
    if cleanup.smooth_pixels:
        steps.append(f'smooth {cleanup.smooth_pixels:g}')
    if cleanup.snap != 'none':
        steps.append(_SNAPPED[cleanup.snap])
    return ', '.join(steps)


def describe_ellipse(
    ellipse: Ellipse, pixel_size: tuple[float, float], unit: str
) -> str:
    """One line with the axes and the circumference of an ellipse.

    Parameters
    ----------
    ellipse : Ellipse
    pixel_size : tuple of float
        Extent of a pixel along rows and columns; (1, 1) if unknown.
    unit : str
        Of the pixel size; ``px`` if unknown.

    Returns
    -------
    str
        Such as ``Ellipse 92.1 × 71.3 mm, circumference 258 mm``.
    """
    lengths = ellipse.measurements(pixel_size)
    long, short = _digits(lengths['long_axis']), _digits(lengths['short_axis'])
    around = _digits(lengths['circumference'])
    return f'Ellipse {long} × {short} {unit}, circumference {around} {unit}'


def _digits(length: float) -> str:
    """Three digits, or all of those before the point if they are more."""
    return f'{length:.{max(0, 2 - math.floor(math.log10(length)))}f}'
