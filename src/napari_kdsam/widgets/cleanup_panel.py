"""Settings of the clean-up of masks."""

from __future__ import annotations

from qtpy.QtCore import Qt, Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QLabel,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)
from superqt import QCollapsible

from napari_kdsam.annotation.cleanup import CleanUp, Ellipse

_SNAPS = {'none': 'As it is', 'convex': 'Convex hull', 'ellipse': 'Ellipse'}


class CleanUpPanel(QWidget):
    """Choose what is done to each mask before it is committed.

    Attributes
    ----------
    changed : Signal
        The new `CleanUp`, after each change by the user.
    """

    changed = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self.holes = QCheckBox('Fill holes')
        self.largest = QCheckBox('Largest part only')
        self.specks = QSpinBox()
        self.specks.setRange(0, 100_000)
        self.specks.setSingleStep(10)
        self.specks.setSuffix(' px')
        self.specks.setToolTip('Remove parts of fewer pixels')
        self.smooth = QDoubleSpinBox()
        self.smooth.setRange(0, 50)
        self.smooth.setSingleStep(0.5)
        self.smooth.setDecimals(1)
        self.smooth.setSuffix(' px')
        self.smooth.setToolTip('Smooth bends of the boundary below this radius')
        self.snap = QComboBox()
        for value, text in _SNAPS.items():
            self.snap.addItem(text, value)
        self.snap.setToolTip('Replace the mask by a simpler shape')
        self.ellipse = QLabel()
        self.ellipse.setWordWrap(True)
        self.ellipse.setTextInteractionFlags(
            Qt.TextInteractionFlag.TextSelectableByMouse
        )
        self.ellipse.hide()
        form = QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.addRow(self.holes)
        form.addRow(self.largest)
        form.addRow('Remove specks', self.specks)
        form.addRow('Smooth', self.smooth)
        form.addRow('Shape', self.snap)
        form.addRow(self.ellipse)
        inner = QWidget()
        inner.setLayout(form)
        self.folded = QCollapsible('Clean-up')
        self.folded.addWidget(inner)
        self.folded.collapse(animate=False)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.folded)
        self.holes.toggled.connect(self._on_changed)
        self.largest.toggled.connect(self._on_changed)
        self.specks.valueChanged.connect(self._on_changed)
        self.smooth.valueChanged.connect(self._on_changed)
        self.snap.currentIndexChanged.connect(self._on_changed)
        self._setting = False

    @property
    def value(self) -> CleanUp:
        """The settings shown; setting them emits nothing."""
        return CleanUp(
            speck_pixels=self.specks.value(),
            largest_only=self.largest.isChecked(),
            fill_holes=self.holes.isChecked(),
            smooth_pixels=self.smooth.value(),
            snap=self.snap.currentData(),
        )

    @value.setter
    def value(self, cleanup: CleanUp) -> None:
        self._setting = True
        try:
            self.specks.setValue(cleanup.speck_pixels)
            self.largest.setChecked(cleanup.largest_only)
            self.holes.setChecked(cleanup.fill_holes)
            self.smooth.setValue(cleanup.smooth_pixels)
            self.snap.setCurrentIndex(self.snap.findData(cleanup.snap))
        finally:
            self._setting = False
        self._show_summary()

    def show_ellipse(self, text: str) -> None:
        """Show a line on the ellipse, or none."""
        self.ellipse.setText(text)
        self.ellipse.setVisible(bool(text))

    def _on_changed(self, _: object = None) -> None:
        if not self._setting:
            self._show_summary()
            self.changed.emit(self.value)

    def _show_summary(self) -> None:
        mark = ' (on)' if self.value.active else ''
        self.folded.setText(f'Clean-up{mark}')


def describe_ellipse(
    ellipse: Ellipse, pixel_size: tuple[float, float], unit: str
) -> str:
    """One line with the axes and the circumference of an ellipse."""
    found = ellipse.measurements(pixel_size)
    return (
        f'Ellipse {found["long_axis"]:.1f} × {found["short_axis"]:.1f} {unit}, '
        f'circumference {found["circumference"]:.1f} {unit}'
    )
