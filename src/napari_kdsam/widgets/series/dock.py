"""The dock widget: choose a folder, then click and go on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from magicgui.widgets import ComboBox
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import (
    QAbstractItemView,
    QApplication,
    QCheckBox,
    QFileDialog,
    QFormLayout,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QListView,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)
from superqt import QElidingLabel

from napari_kdsam.core.errors import counted
from napari_kdsam.series.entries import FILTERS, ImageStatus, SeriesEntry
from napari_kdsam.series.images import common_folder
from napari_kdsam.series.label_files import LabelForm
from napari_kdsam.widgets.preferences import load_preferences
from napari_kdsam.widgets.series.image_list import LEGEND, ImageList
from napari_kdsam.widgets.series.layer_files import files_of_layers, hide_layers_of
from napari_kdsam.widgets.series.remembered import SeriesChoices, remember, remembered
from napari_kdsam.widgets.series.walk import OpenAnnotator, SeriesWalk
from napari_kdsam.widgets.shared.dock import Dock
from napari_kdsam.widgets.shared.image_annotator import plugin_annotator
from napari_kdsam.widgets.shared.key_bindings import bind, key_actions, unbind
from napari_kdsam.widgets.shared.qt_parts import (
    folded_section,
    modest_choice,
    on_click,
    plain_button,
    scrolling,
)
from napari_kdsam.widgets.shared.shortcuts import bound_shortcuts, tooltip

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from napari_kdsam.series.series import Series

_FORMS: dict[str, LabelForm] = {
    'As suits the image': 'image',
    'PNG': 'png',
    'TIFF': 'tiff',
    'NIfTI': 'nifti',
    'DICOM-SEG of DICOM': 'dicom-seg',
    'COCO': 'coco',
}
_LEAST_LIST = 90
_HINT = 'Choose a folder of images, then Start.'


class SeriesWidget(Dock):
    """Label a folder of images, one after the other.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
        Given by napari.
    open_annotator : callable, optional
        Gives the annotator of the viewer.
    """

    # Its messages and the annotator's are both to be seen.
    beside_layers = True
    # napari reads the settings of all plugins, once.
    warm_up = staticmethod(load_preferences)

    def __init__(
        self,
        napari_viewer: 'Viewer',  # noqa: UP037
        open_annotator: OpenAnnotator = plugin_annotator,
    ) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.walk = SeriesWalk(napari_viewer, open_annotator)
        self.choices = remembered()
        self._before_typing: QWidget | None = None
        self._opened: Series | None = None
        self._noted = -1
        preferences, _ = load_preferences()
        self.shortcuts, refused = bound_shortcuts(preferences.keys, ['Series'])
        self._build()
        acts: dict[str, Callable[[], object]] = {
            'next_image': self.walk.next,
            'previous_image': self.walk.previous,
            'no_lesion': self.walk.no_lesion,
            'mark_unsure': self._toggle_unsure,
            'mark_checked': self._toggle_checked,
        }
        keys = key_actions(acts, self.shortcuts)
        bind(napari_viewer, keys)
        self.walk.changed.connect(self._refresh)
        self.at_end(partial(unbind, napari_viewer, keys), self.walk.close)
        application = QApplication.instance()
        if isinstance(application, QApplication):
            # A window may be left to the end of Python, when threads no longer start.
            application.aboutToQuit.connect(self.walk.close)
            application.focusChanged.connect(self._on_focus)
        self._show_choices()
        self._refresh()
        if refused:
            self.status.setText(' '.join(refused))

    def _build(self) -> None:
        walk = self.walk
        self.images_button = plain_button('', 'Choose the folder of the images')
        self.images_button.clicked.connect(lambda _: self._choose_images())
        self.list_button = plain_button(
            'List…', 'Choose a text file with the path of an image on each line'
        )
        self.list_button.clicked.connect(lambda _: self._choose_list())
        self.layers_button = plain_button(
            'Layers', 'Take the files of the image layers that are open now'
        )
        self.layers_button.clicked.connect(lambda _: self._choose_layers())
        self.labels_button = plain_button('', 'Choose the folder of the labels')
        self.labels_button.clicked.connect(lambda _: self._choose_labels())
        self.form_choice = ComboBox(choices=list(_FORMS.items()))
        self.form_choice.tooltip = (
            'Format of the labels, one file for each image; those that are there keep '
            'theirs'
        )
        modest_choice(self.form_choice.native)
        self.likely = QCheckBox('Show likely objects')
        self.likely.setToolTip(
            'As a start on images without labels; saved only if they are accepted'
        )
        self.likely.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.likely.toggled.connect(self._on_likely)
        self.start = plain_button('Start', 'Begin, or go on where it was left')
        self.start.clicked.connect(lambda _: self._start())
        self.title = QElidingLabel()
        self.progress = QProgressBar()
        self.progress.setTextVisible(True)
        self.progress.setMaximumHeight(16)
        self.previous = self._button('◀ Previous', 'previous_image')
        self.next = self._button('Next ▶', 'next_image')
        self.no_lesion = self._button('No lesion', 'no_lesion')
        self.unsure = self._button('Unsure', 'mark_unsure')
        self.checked = self._button('Checked', 'mark_checked')
        for button, act in (
            (self.previous, partial(self._move, walk.previous)),
            (self.next, partial(self._move, walk.next)),
            (self.no_lesion, partial(self._move, walk.no_lesion)),
            (self.unsure, self._toggle_unsure),
            (self.checked, self._toggle_checked),
        ):
            on_click(button, act)
        for flag in (self.unsure, self.checked):
            flag.setCheckable(True)
        self.tags, self.note = QLineEdit(), QLineEdit()
        self.tags.setPlaceholderText('Tags, with commas between')
        self.note.setPlaceholderText('Note')
        self.tags.editingFinished.connect(self._keep_tags)
        self.note.editingFinished.connect(self._keep_note)
        self.filter = ComboBox(choices=list(FILTERS))
        self.filter.tooltip = 'Which images are listed and walked through'
        modest_choice(self.filter.native)
        self.search = QLineEdit()
        self.search.setPlaceholderText('Search name, tag, note')
        self.search.setClearButtonEnabled(True)
        self.filter.changed.connect(self._cut_down)
        self._typing = QTimer(self)
        self._typing.setSingleShot(True)
        self._typing.setInterval(200)
        self._typing.timeout.connect(self._cut_down)
        self.search.textChanged.connect(lambda _: self._typing.start())
        for field in (self.tags, self.note, self.search):
            field.returnPressed.connect(self._leave_field)
        self.images = ImageList(walk)
        self.list = QListView()
        self.list.setModel(self.images)
        # With rows of one height, 20,000 cost no more than those that are seen.
        self.list.setUniformItemSizes(True)
        self.list.setMinimumHeight(_LEAST_LIST)
        self.list.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.list.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.list.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.list.setToolTip(LEGEND)
        self.list.clicked.connect(lambda index: walk.go_to(self.images.image_at(index)))
        self.status = QLabel()
        self.status.setWordWrap(True)
        self._lay_out()

    def _button(self, text: str, action: str) -> QPushButton:
        return plain_button(text, tooltip(action, self.shortcuts))

    def _lay_out(self) -> None:
        setup = QWidget()
        form = QFormLayout(setup)
        form.setContentsMargins(0, 0, 0, 0)
        others = QHBoxLayout()
        others.addWidget(self.list_button)
        others.addWidget(self.layers_button)
        form.addRow('Images', self.images_button)
        form.addRow('or', others)
        form.addRow('Labels', self.labels_button)
        form.addRow('Save as', self.form_choice.native)
        form.addRow(self.likely)
        form.addRow(self.start)
        self.setup = folded_section('Images and labels')
        self.setup.addWidget(setup)
        self.setup.expand(animate=False)
        buttons = QGridLayout()
        buttons.setSpacing(4)
        buttons.addWidget(self.previous, 0, 0, 1, 3)
        buttons.addWidget(self.next, 0, 3, 1, 3)
        for place, button in enumerate((self.no_lesion, self.unsure, self.checked)):
            buttons.addWidget(button, 1, 2 * place, 1, 2)
        cut = QHBoxLayout()
        cut.addWidget(self.filter.native, stretch=1)
        cut.addWidget(self.search, stretch=1)
        content = QWidget()
        column = QVBoxLayout(content)
        column.setContentsMargins(4, 4, 4, 4)
        column.setSpacing(6)
        column.addWidget(self.setup)
        column.addWidget(self.title)
        column.addWidget(self.progress)
        column.addLayout(buttons)
        column.addWidget(self.tags)
        column.addWidget(self.note)
        column.addLayout(cut)
        column.addWidget(self.list, stretch=1)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(scrolling(content, 260), stretch=1)
        outer.addWidget(self.status)

    def _choose_images(self) -> None:
        folder = QFileDialog.getExistingDirectory(
            self, 'Folder of the images', self.choices.images
        )
        if folder:
            self.choose(remembered(folder))

    def _choose_list(self) -> None:
        file, _ = QFileDialog.getOpenFileName(
            self, 'List of images', self.choices.images, 'Lists (*.txt *.csv)'
        )
        if file:
            self.choose(remembered(file))

    def _choose_layers(self) -> None:
        found = files_of_layers(self.viewer)
        if found.files:
            root = common_folder(found.files)
            self.choose(remembered(str(root), tuple(map(str, found.files))))
        elif not found.notices:
            found = replace(found, notices=('There is no image layer open.',))
        self.walk.tell(' '.join(found.notices))

    def _choose_labels(self) -> None:
        folder = QFileDialog.getExistingDirectory(
            self, 'Folder of the labels', self.choices.labels
        )
        if folder:
            form = self.form_choice.value
            self.choose(replace(self.choices, labels=folder, form=form))

    def choose(self, choices: SeriesChoices) -> None:
        """Fill in what a series is to be opened with."""
        self.choices = choices
        self._show_choices()

    def open_folder(self, images: Path, labels: Path) -> None:
        """Begin with a folder of images, or go on in it."""
        form = remembered(str(images)).form
        self.choose(SeriesChoices(str(images), str(labels), form))
        self._start()

    def _show_choices(self) -> None:
        images, labels = Path(self.choices.images), Path(self.choices.labels)
        text, files = images.name, self.choices.files
        if files:
            text = f'{counted(len(files), "file")} in {images.name}'
        self.images_button.setText(text or 'Choose…')
        self.labels_button.setText(
            f'{labels.parent.name}/{labels.name}' if labels.name else 'Choose…'
        )
        for button, path in (
            (self.images_button, images),
            (self.labels_button, labels),
        ):
            button.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
            button.setToolTip(str(path) if path.name else 'Choose a folder')
        self.form_choice.value = self.choices.form
        self.likely.setChecked(self.choices.likely_objects)
        self.start.setEnabled(bool(images.name and labels.name))

    def _on_likely(self, wanted: bool) -> None:
        self.choices = replace(self.choices, likely_objects=wanted)
        self.walk.suggest(wanted)
        if self.walk.series is not None:
            remember(self.choices)

    def _start(self) -> None:
        choices = self.choices = replace(self.choices, form=self.form_choice.value)
        remember(choices)
        self.walk.open(choices.choice, Path(choices.labels), choices.form)

    def _cut_down(self, _: Any = None) -> None:
        self.walk.cut_down(self.filter.value, self.search.text().strip())

    def _toggle_unsure(self) -> None:
        entry = self.walk.entry
        if entry is not None:
            self.walk.mark(unsure=not entry.unsure)

    def _toggle_checked(self) -> None:
        entry = self.walk.entry
        if entry is not None:
            self.walk.mark(checked=not entry.checked)

    def _keep_tags(self) -> None:
        parts = self.tags.text().replace(';', ',').split(',')
        self.walk.mark(tags=tuple(part.strip() for part in parts if part.strip()))

    def _keep_note(self) -> None:
        self.walk.mark(note=self.note.text().strip())

    def _show_notes(self, entry: SeriesEntry) -> None:
        for field, text in (
            (self.tags, ', '.join(entry.tags)),
            (self.note, entry.note),
        ):
            # What is being typed stays, but for another image.
            typing = field.hasFocus() and self._noted == self.walk.index
            if not typing and field.text() != text:
                field.setText(text)
        self._noted = self.walk.index

    def _move(self, act: Callable[[], object]) -> None:
        """Go to another image, after keeping what was typed about this one."""
        self._keep_tags()
        self._keep_note()
        act()

    def _on_focus(self, before: QWidget | None, now: QWidget | None) -> None:
        fields = (self.tags, self.note, self.search)
        if now in fields and before not in fields:
            self._before_typing = before

    def _leave_field(self) -> None:
        """Give the keyboard back to what had it, so that keys go on working."""
        before, self._before_typing = self._before_typing, None
        if before is not None:
            before.setFocus()

    def _refresh(self) -> None:
        walk = self.walk
        entry, series = walk.entry, walk.series
        shown = entry is not None
        for widget in (
            self.previous,
            self.next,
            self.no_lesion,
            self.unsure,
            self.checked,
            self.tags,
            self.note,
        ):
            widget.setEnabled(shown)
        self.title.setText(walk.title)
        # It asks for less than its text, whose size is known once it is seen.
        self.title.setMinimumHeight(self.title.fontMetrics().height() + 2)
        self.title.setToolTip(walk.title)
        if series is not None:
            if self._opened is not series:
                self._opened = series
                hide_layers_of(self.viewer, (image.path for image in series.images))
                self.setup.collapse(animate=False)
            counts = walk.counts
            finished = counts[ImageStatus.done] + counts[ImageStatus.no_lesion]
            self.progress.setMaximum(len(series.images))
            self.progress.setValue(finished)
            self.progress.setFormat(f'{finished} of {len(series.images)} finished')
        self.progress.setVisible(series is not None)
        if entry is not None:
            self.unsure.setChecked(entry.unsure)
            self.checked.setChecked(entry.checked)
            self._show_notes(entry)
            row = self.images.row_of(walk.index)
            if row.isValid() and row != self.list.currentIndex():
                self.list.setCurrentIndex(row)
        self.status.setText(walk.message or ('' if series is not None else _HINT))
        self.status.setStyleSheet('color: #e06c75;' if walk.failed else '')
