"""The section of the batch panel for a folder of images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from magicgui.widgets import ComboBox
from qtpy.QtWidgets import (
    QApplication,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_kdsam.segmentation.methods import Method
from napari_kdsam.widgets.batch.folder_run import FolderChoices, FolderRun
from napari_kdsam.widgets.batch.setup import BatchMethod
from napari_kdsam.widgets.shared.qt_parts import modest_choice, plain_button

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from napari_kdsam.widgets.batch.choices import BatchChoices

# Opens a folder of images and one of labels to go through.
OpenSeries = Callable[['Viewer', Path, Path], object]
_METHODS = {
    BatchMethod.PROPOSALS: Method.proposals,
    BatchMethod.AUTOMATIC: Method.automatic,
}
_LABELS = 'labels'


class FolderPanel(QWidget):
    """Choose a folder of images and one for labels, and segment all of it.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    choices : BatchChoices
        Model and second look are those.
    device : str
    open_series : callable
        Opens the results.
    """

    def __init__(
        self,
        viewer: Viewer,
        choices: BatchChoices,
        device: str,
        open_series: OpenSeries,
    ) -> None:
        super().__init__()
        self._viewer, self._choices, self._device = viewer, choices, device
        self._open_series = open_series
        self.images: Path | None = None
        self.labels: Path | None = None
        self.job = FolderRun()
        self.images_button = plain_button('Choose…', 'Choose the folder of the images')
        self.labels_button = plain_button('Choose…', 'Choose the folder of the labels')
        self.images_button.clicked.connect(lambda _: self._ask_for_images())
        self.labels_button.clicked.connect(lambda _: self._ask_for_labels())
        self.method = ComboBox(
            choices=[(m.value, m) for m in _METHODS if m.available],
            tooltip='Nobody clicks here, so objects are found',
        )
        modest_choice(self.method.native)
        self.start = plain_button(
            'Start', 'Segment the folder, or go on where it was left'
        )
        self.cancel = plain_button(
            'Cancel', 'Stop after this frame; what is done stays'
        )
        self.look = plain_button(
            'Go through', 'Open the results in Label a series of images'
        )
        self.start.clicked.connect(lambda _: self._start())
        self.cancel.clicked.connect(lambda _: self.job.cancel())
        self.look.clicked.connect(lambda _: self._go_through())
        self.bar = QProgressBar()
        self.bar.setFormat('%v of %m')
        self.bar.setVisible(False)
        self.status = QLabel('Each image gets a label image in the folder of labels.')
        self.status.setWordWrap(True)
        self._lay_out()
        self.job.told.connect(self.status.setText)
        self.job.progressed.connect(self._on_progress)
        self.job.ended.connect(self._on_ended)
        application = QApplication.instance()
        if application is not None:
            application.aboutToQuit.connect(self.job.close)
        self._refresh()

    def _lay_out(self) -> None:
        form = QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.setHorizontalSpacing(4)
        form.addRow('Images', self.images_button)
        form.addRow('Labels', self.labels_button)
        form.addRow('Prompts', self.method.native)
        for button in (self.images_button, self.labels_button):
            button.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.method.native.setSizePolicy(
            QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed
        )
        row = QHBoxLayout()
        row.setSpacing(4)
        for button in (self.start, self.cancel, self.look):
            # Room for the scroll bar of a small window.
            button.setMinimumWidth(50)
            button.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
            row.addWidget(button)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addLayout(form)
        column.addLayout(row)
        column.addWidget(self.bar)
        column.addWidget(self.status)

    def choose(self, images: Path, labels: Path | None = None) -> None:
        """Fill in the folders; labels go beside the images if nothing else is said."""
        self.images, self.labels = images, labels or images / _LABELS
        self._refresh()

    def _ask_for_images(self) -> None:
        folder = QFileDialog.getExistingDirectory(
            self, 'Folder of the images', str(self.images or '')
        )
        if folder:
            self.choose(Path(folder))

    def _ask_for_labels(self) -> None:
        folder = QFileDialog.getExistingDirectory(
            self, 'Folder of the labels', str(self.labels or '')
        )
        if folder:
            self.labels = Path(folder)
            self._refresh()

    def _start(self) -> None:
        if self.job.running or self.images is None or self.labels is None:
            return
        choices = FolderChoices(
            self.images,
            self.labels,
            _METHODS[self.method.value],
            self._choices.model.value,
            self._device,
            self._choices.second_look.value,
        )
        self.bar.setVisible(False)
        self.job.start(choices)
        self._refresh()

    def _go_through(self) -> None:
        if self.images is not None and self.labels is not None:
            self._open_series(self._viewer, self.images, self.labels)

    def _on_progress(self, _: int, done: int, total: int) -> None:
        self.bar.setRange(0, max(total, 1))
        self.bar.setValue(done)
        self.bar.setVisible(True)
        self.status.setText('Working…')

    def _on_ended(self, text: str, done: bool) -> None:
        self.status.setText(text)
        self._refresh()

    def _refresh(self) -> None:
        for button, path in (
            (self.images_button, self.images),
            (self.labels_button, self.labels),
        ):
            button.setText(_short(button, path))
            button.setToolTip(str(path or 'Choose a folder'))
            button.setEnabled(not self.job.running)
        there = self.images is not None and self.labels is not None
        self.start.setEnabled(there and not self.job.running)
        self.cancel.setEnabled(self.job.running)
        labelled = self.labels is not None and self.labels.is_dir()
        self.look.setEnabled(there and labelled and not self.job.running)


def _short(button: QPushButton, path: Path | None) -> Any:
    if path is None:
        return 'Choose…'
    return f'{path.parent.name}/{path.name}' if path.name == _LABELS else path.name
