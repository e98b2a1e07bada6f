"""The controls of the comparison's dock, and what they show."""

from __future__ import annotations

from collections.abc import Callable

from magicgui.widgets import ComboBox
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QComboBox,
    QDoubleSpinBox,
    QFileDialog,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QVBoxLayout,
    QWidget,
)

from napari_kdsam.measure.comparison import Matching
from napari_kdsam.measure.comparison_tables import ScoreSummary
from napari_kdsam.widgets.compare.error_layer import MISSED_COLOUR, WRONG_COLOUR
from napari_kdsam.widgets.compare.table import SCORE_COLUMNS, ScoreTable
from napari_kdsam.widgets.compare.worker import StackComparison
from napari_kdsam.widgets.shared.qt_parts import form_of, plain_button
from napari_kdsam.widgets.shared.sortable_table import format_value

_MATCHINGS = (('by overlap', Matching.overlap), ('by label', Matching.label))
_LISTS = (('Objects', False), ('Frames', True))
_LEGEND = (
    f'<span style="color:{MISSED_COLOUR}">■</span> missed&nbsp;&nbsp; '
    f'<span style="color:{WRONG_COLOUR}">■</span> wrong'
)
_MEAN_HELP = (
    'Mean of what is listed. Frames without a label in either are left out, and for '
    'the distance what has no counterpart.'
)
_TOLERANCE_HELP = 'How far apart outlines may be and still agree, for NSD'


class SummaryGrid(QWidget):
    """Mean and worst of every score."""

    def __init__(self) -> None:
        super().__init__()
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setVerticalSpacing(2)
        self._titles = [QLabel(column.title) for column in SCORE_COLUMNS]
        self.means = [QLabel() for _ in SCORE_COLUMNS]
        self.worst = [QLabel() for _ in SCORE_COLUMNS]
        for row, name in enumerate(('Mean', 'Worst'), start=1):
            grid.addWidget(QLabel(name), row, 0)
        for row, labels in enumerate((self._titles, self.means, self.worst)):
            for column, label in enumerate(labels, start=1):
                label.setAlignment(Qt.AlignmentFlag.AlignRight)
                grid.addWidget(label, row, column)
        self.setToolTip(_MEAN_HELP)
        self.hide()

    def show_summary(self, summary: ScoreSummary | None, unit: str) -> None:
        """Show a summary, or nothing."""
        self.setVisible(summary is not None)
        if summary is None:
            return
        for number, known in enumerate(SCORE_COLUMNS):
            title = f'{known.title} {known.unit.format(unit)}'
            self._titles[number].setText(title.rstrip())
            for labels, scores in (
                (self.means, summary.mean),
                (self.worst, summary.worst),
            ):
                value = getattr(scores, known.name)
                labels[number].setText(format_value(value, known.decimals))


class ComparePanel(QWidget):
    """Controls without a viewer; see `CompareWidget`."""

    def __init__(self) -> None:
        super().__init__()
        self.labels_choice = ComboBox(nullable=True)
        self.reference_choice = ComboBox(nullable=True)
        self.matching_choice = ComboBox(choices=_MATCHINGS, value=Matching.overlap)
        self.list_choice = ComboBox(choices=_LISTS, value=False)
        self.folder_button = plain_button(
            'Folder…',
            'Take a folder of masks as the reference: a file with the name of the '
            'image, or one for each frame',
        )
        self.reference_choice.tooltip = 'What the labels should look like'
        form = form_of(
            (
                ('Labels', self.labels_choice, 'The labels layer to compare'),
                (
                    'Match',
                    self.matching_choice,
                    'Pair the objects that overlap best, or those of the same label',
                ),
            )
        )
        form.insertRow(
            1, 'Reference', _row(self.reference_choice.native, self.folder_button)
        )
        self.tolerance = QDoubleSpinBox()
        self.tolerance.setRange(0, 1_000_000)
        self.tolerance.setDecimals(3)
        self.tolerance.setStepType(QDoubleSpinBox.StepType.AdaptiveDecimalStepType)
        self.tolerance.setToolTip(_TOLERANCE_HELP)
        # Only a click into it takes the keyboard from the canvas.
        self.tolerance.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        self.tolerance.setKeyboardTracking(False)
        form.addRow('Tolerance', self.tolerance)
        self.list_choice.tooltip = 'What is listed, the worst first'
        self.compare_button = plain_button('Compare', 'Compare every frame')
        self.cancel_button = plain_button('Cancel', 'Stop comparing')
        self.errors_button = plain_button(
            'Show errors', 'Show missed and wrong pixels of every frame in a layer'
        )
        self.errors_button.setCheckable(True)
        self.save_button = plain_button('Save CSV…', 'Write what is listed to a file')
        self.legend = QLabel(_LEGEND)
        self.legend.hide()
        self.summary = SummaryGrid()
        self.view = ScoreTable()
        self.status = QLabel()
        self.status.setWordWrap(True)
        column = QVBoxLayout(self)
        column.setContentsMargins(4, 4, 4, 4)
        column.setSpacing(6)
        column.addLayout(form)
        column.addLayout(_row(self.compare_button, self.cancel_button))
        column.addWidget(self.summary)
        column.addWidget(self.view, stretch=1)
        column.addWidget(self.legend)
        column.addWidget(self.status)
        column.addLayout(
            _row(self.list_choice.native, self.errors_button, self.save_button)
        )
        self.setMinimumWidth(300)

    def offer_tolerance(self, value: float, unit: str) -> None:
        """Set the tolerance, rounded, and its unit."""
        self.tolerance.setSuffix(f' {unit}')
        self.tolerance.setValue(float(f'{value:.2g}'))

    def show_comparison(self, found: StackComparison | None, leading: int) -> None:
        """Show what was found, or nothing.

        Parameters
        ----------
        found : StackComparison or None
        leading : int
            How many axes of the layer come before rows and columns.
        """
        by_frame = bool(self.list_choice.value)
        if found is None:
            self.view.show_scores(None, 'px', leading, by_frame=by_frame)
            self.summary.show_summary(None, 'px')
        else:
            unit = found.request.unit
            table = found.table(by_frame=by_frame)
            self.view.show_scores(table, unit, leading, by_frame=by_frame)
            self.summary.show_summary(found.summary(by_frame=by_frame), unit)

    def mark_errors(self, shown: bool) -> None:
        """Show whether the layer of errors is there."""
        blocked = self.errors_button.blockSignals(True)
        self.errors_button.setChecked(shown)
        self.errors_button.blockSignals(blocked)
        self.legend.setVisible(shown)

    def describe(self, found: StackComparison) -> str:
        """What was found, in a few words."""
        frames = found.frames
        counts = {
            name: int(frames[name].sum()) for name in ('matched', 'missed', 'extra')
        }
        if not sum(counts.values()):
            return 'Neither has a label, so they agree.'
        text = ', '.join(f'{count} {name}' for name, count in counts.items())
        text = f'Objects: {text}.'
        empty = len(frames) - found.summary(by_frame=True).counted
        if empty and self.list_choice.value:
            text += f' {empty} empty in both, left out of the mean.'
        if found.request.unit == 'px':
            text += ' Distances are in pixels, because the layer has no unit.'
        return f'{text} Click a row to go there.'

    def ask_for_folder(self, use: Callable[[str], None]) -> None:
        """Let the user choose a folder of masks."""
        dialog = QFileDialog(self, 'Folder of reference masks')
        dialog.setFileMode(QFileDialog.FileMode.Directory)
        dialog.setOption(QFileDialog.Option.ShowDirsOnly)
        _open(dialog, use)

    def ask_where_to_save(self, save: Callable[[str], None]) -> None:
        """Let the user choose where to write what is listed."""
        dialog = QFileDialog(self, 'Save comparison', '', 'CSV (*.csv)')
        dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
        dialog.setDefaultSuffix('csv')
        listed = 'frames' if self.list_choice.value else 'objects'
        dialog.selectFile(f'comparison_{listed}.csv')
        _open(dialog, save)

    def say(self, text: str) -> None:
        """Show a sentence."""
        self.status.setText(text)


def _open(dialog: QFileDialog, use: Callable[[str], None]) -> None:
    dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    dialog.fileSelected.connect(use)
    dialog.open()


def _row(*widgets: QWidget) -> QHBoxLayout:
    row = QHBoxLayout()
    row.setSpacing(4)
    for widget in widgets:
        # A choice takes the room that the buttons leave.
        row.addWidget(widget, stretch=int(isinstance(widget, QComboBox)))
    return row
