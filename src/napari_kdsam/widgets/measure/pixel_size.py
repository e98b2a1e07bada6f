"""The row that shows the pixel size, and sets it by a number or a line drawn."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import (
    QComboBox,
    QDoubleSpinBox,
    QHBoxLayout,
    QLabel,
    QVBoxLayout,
    QWidget,
)

from napari_kdsam.widgets.shared.layer_marks import HELPER_KEY
from napari_kdsam.widgets.shared.qt_parts import (
    leave_wheel,
    modest_choice,
    plain_button,
)
from napari_kdsam.widgets.shared.transforms import transform_of

if TYPE_CHECKING:
    from napari.layers import Labels, Layer, Shapes
    from napari.viewer import Viewer

_UNITS = ('mm', 'cm', 'µm')
_LARGEST = 1e6
_LINE_COLOR = '#ffd400'
_OF_A_PIXEL = 'How large is a pixel? Or draw a line along the scale bar.'
_DRAW = 'Drag on the image from one end of the scale bar to the other.'


class ScaleBarLine:
    """A line that is drawn on the canvas, in a layer of its own.

    Attributes
    ----------
    pixels : float
        Its length; 0 until it is drawn.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    drawn : callable
        Told the length whenever a line is drawn.
    """

    def __init__(self, viewer: Viewer, drawn: Callable[[float], object]) -> None:
        self.pixels = 0.0
        self._viewer, self._drawn = viewer, drawn
        self._layer: Shapes | None = None
        self._before: Layer | None = None

    @property
    def begun(self) -> bool:
        """Whether a line is to be drawn, or was."""
        return self._layer is not None

    def begin(self, labels: Labels) -> None:
        """Let the mouse draw a line where these labels lie."""
        from napari.layers import Shapes

        self.drop()
        shape = labels.data.shape
        layer = Shapes(
            ndim=len(shape),
            name='KD SAM scale bar',
            edge_color=_LINE_COLOR,
            edge_width=max(1.0, max(shape[-2:]) / 300),
            metadata={HELPER_KEY: True},
            **transform_of(labels),
        )
        layer.events.data.connect(self._on_line)
        self._layer = layer
        self._before = self._viewer.layers.selection.active
        self._viewer.add_layer(layer)
        layer.mode = 'add_line'

    def drop(self) -> None:
        """Take the line away, and choose the layer that was chosen before."""
        layer, self._layer, self.pixels = self._layer, None, 0.0
        if layer is None:
            return
        layer.events.data.disconnect(self._on_line)
        if layer in self._viewer.layers:
            self._viewer.layers.remove(layer)
        if self._before in self._viewer.layers:
            self._viewer.layers.selection.active = self._before
        self._before = None

    def _on_line(self, event: Any = None) -> None:
        if self._layer is None or not len(self._layer.data):
            return
        first, *_, last = np.asarray(self._layer.data[-1], np.float64)
        length = float(np.hypot(*(last - first)[-2:]))
        # A click without a drag is no line.
        if length >= 1:
            self.pixels = length
            self._drawn(length)


class PixelSizeRow(QWidget):
    """Show and set the extent of a pixel; pixels that are set are square.

    Attributes
    ----------
    chosen : Signal
        (extent of a pixel, unit).
    """

    chosen = Signal(float, str)

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self._labels: Labels | None = None
        self.line = ScaleBarLine(viewer, self._show_line)
        self.text = QLabel()
        self.set_button = plain_button(
            'Set…', 'Say how large a pixel is, where the file does not'
        )
        self.length = QDoubleSpinBox()
        self.length.setDecimals(4)
        self.length.setRange(0.0, _LARGEST)
        self.length.setValue(1.0)
        leave_wheel(self.length)
        self.unit = QComboBox()
        self.unit.addItems(_UNITS)
        modest_choice(self.unit)
        self.unit.setMinimumContentsLength(3)
        self.draw_button = plain_button(
            'Draw', 'Draw a line along the scale bar, and give its length'
        )
        self.apply_button = plain_button('Apply', 'Measure with this pixel size')
        self.cancel_button = plain_button('Cancel', 'Leave the pixel size as it is')
        self.hint = QLabel()
        self.hint.setWordWrap(True)
        self._build()
        self.set_button.clicked.connect(lambda _: self._open())
        self.draw_button.clicked.connect(lambda _: self._begin_line())
        self.apply_button.clicked.connect(lambda _: self._apply())
        self.cancel_button.clicked.connect(lambda _: self.cancel())

    def _build(self) -> None:
        shown = QHBoxLayout()
        shown.addWidget(QLabel('Pixel size'))
        shown.addWidget(self.text, stretch=1)
        shown.addWidget(self.set_button)
        self._editor = QWidget()
        fields = QHBoxLayout()
        fields.setContentsMargins(0, 0, 0, 0)
        fields.addWidget(self.length, stretch=1)
        fields.addWidget(self.unit)
        fields.addWidget(self.draw_button)
        ends = QHBoxLayout()
        ends.addStretch()
        ends.addWidget(self.apply_button)
        ends.addWidget(self.cancel_button)
        editor = QVBoxLayout(self._editor)
        editor.setContentsMargins(0, 0, 0, 0)
        editor.setSpacing(4)
        editor.addWidget(self.hint)
        editor.addLayout(fields)
        editor.addLayout(ends)
        self._editor.hide()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addLayout(shown)
        column.addWidget(self._editor)

    def show_size(
        self, labels: Labels | None, pixel_size: tuple[float, float], unit: str
    ) -> None:
        """Show the pixel size of the chosen labels.

        Parameters
        ----------
        labels : napari.layers.Labels or None
        pixel_size : tuple of float
            Along rows and columns.
        unit : str
            ``px`` for one that is not known.
        """
        if labels is not self._labels:
            self.cancel()
        self._labels = labels
        rows, columns = (f'{size:.4g}' for size in pixel_size)
        sizes = rows if rows == columns else f'{rows} × {columns}'
        self.text.setText('not known' if unit == 'px' else f'{sizes} {unit}')
        self.set_button.setEnabled(labels is not None)

    def cancel(self) -> None:
        """Close the fields and take the line away."""
        self._editor.hide()
        self.line.drop()

    def _open(self) -> None:
        self.line.drop()
        self.hint.setText(_OF_A_PIXEL)
        self._editor.show()

    def _begin_line(self) -> None:
        assert self._labels is not None
        self.line.begin(self._labels)
        self.hint.setText(_DRAW)

    def _show_line(self, pixels: float) -> None:
        self.hint.setText(f'The line is {pixels:.1f} pixels long. Its true length?')

    def _apply(self) -> None:
        size = self.length.value() / (self.line.pixels or 1.0)
        if self.line.begun and not self.line.pixels:
            self.hint.setText(_DRAW)
        elif size <= 0:
            self.hint.setText('Give a length above 0.')
        else:
            self.cancel()
            self.chosen.emit(size, self.unit.currentText())
