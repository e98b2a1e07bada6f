"""The classes of objects: choose, name, colour, add and remove them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from qtpy.QtCore import QPoint, QSize, Qt, Signal  # type: ignore[attr-defined]
from qtpy.QtGui import QColor, QIcon, QPainter, QPixmap
from qtpy.QtWidgets import (
    QAbstractItemView,
    QApplication,
    QColorDialog,
    QHBoxLayout,
    QHeaderView,
    QPushButton,
    QStyledItemDelegate,
    QToolTip,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_kdsam.annotation.classes import color_unlike
from napari_kdsam.annotation.state import ObjectClass
from napari_kdsam.widgets.shared.shortcuts import SHORTCUTS, key_text

_SWATCH, _KEY, _NAME, _COUNT = range(4)
_FEWEST_ROWS, _MOST_ROWS = 2, 5
_SWATCH_SIDE = 14
_CLASS_KEYS = tuple(
    key_text(shortcut.key)
    for shortcut in SHORTCUTS
    if shortcut.action.startswith('class_')
)


class ClassList(QWidget):
    """List the classes with their colours, keys, names and numbers of objects.

    A click on a class chooses it, a double click renames it, a click on its colour
    changes that. Nothing is changed here: the owner takes up what the signals offer
    and calls `show_classes`.

    Parameters
    ----------
    keys : sequence of str
        Of the first classes, in their order.
    parent : QWidget, optional

    Attributes
    ----------
    chosen : Signal
        Id of a class that was clicked and is not the current one.
    classes_changed : Signal
        The new tuple of ObjectClass.
    """

    chosen = Signal(int)
    classes_changed = Signal(object)

    def __init__(
        self, keys: Sequence[str] = _CLASS_KEYS, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._keys = tuple(keys)
        self._classes: tuple[ObjectClass, ...] = ()
        self._current = 0
        self._counts: dict[int, int] = {}
        self._added: int | None = None
        self.rows = _Rows()
        self.rows.itemClicked.connect(self._on_clicked)
        self.rows.itemDoubleClicked.connect(self._on_double_clicked)
        self.rows.itemChanged.connect(self._on_edited)
        self.add_button = _button('+', 'Add a class')
        self.remove_button = _button('−', '')
        self.add_button.clicked.connect(lambda _: self._add())
        self.remove_button.clicked.connect(lambda _: self._remove())
        buttons = QVBoxLayout()
        buttons.setSpacing(2)
        buttons.addWidget(self.add_button)
        buttons.addWidget(self.remove_button)
        buttons.addStretch()
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(4)
        row.addWidget(self.rows, stretch=1)
        row.addLayout(buttons)
        self.rows.fit()
        self._show_buttons()

    def show_classes(
        self,
        classes: Sequence[ObjectClass],
        current: int,
        counts: Mapping[int, int],
    ) -> None:
        """Show the classes; a name that is being typed is left alone.

        Parameters
        ----------
        classes : sequence of ObjectClass
            In the order of their keys.
        current : int
            Id of the class of the next object.
        counts : mapping of int to int
            Class id to number of objects; a class with any cannot be removed.
        """
        self._classes, self._current = tuple(classes), current
        self._counts = dict(counts)
        self.rows.blockSignals(True)
        if [item.id for item in classes] != self.rows.ids():
            self.rows.renew([item.id for item in classes])
        for index, item in enumerate(classes):
            key = self._keys[index] if index < len(self._keys) else ''
            self.rows.fill(index, item, key, counts.get(item.id, 0), item.id == current)
        self.rows.blockSignals(False)
        self.rows.fit()
        self._show_buttons()
        if self._added in self.rows.ids():
            self.rows.edit_name(self._added)
            self._added = None

    def _known(self, class_id: int) -> ObjectClass | None:
        return next((item for item in self._classes if item.id == class_id), None)

    def _show_buttons(self) -> None:
        current = self._known(self._current)
        used = self._counts.get(self._current, 0)
        if current is None:
            self.remove_button.setToolTip('Remove the current class')
        elif used:
            self.remove_button.setToolTip(
                f'“{current.name}” has {_objects(used)}, so it cannot be removed'
            )
        elif len(self._classes) == 1:
            self.remove_button.setToolTip('The only class cannot be removed')
        else:
            self.remove_button.setToolTip(f'Remove the class “{current.name}”')
        self.remove_button.setEnabled(
            current is not None and not used and len(self._classes) > 1
        )

    def _on_clicked(self, row: QTreeWidgetItem, column: int) -> None:
        class_id = self.rows.id_of(row)
        if column == _SWATCH:
            self._ask_for_color(class_id)
        elif class_id != self._current:
            self.chosen.emit(class_id)

    def _on_double_clicked(self, row: QTreeWidgetItem, column: int) -> None:
        if column != _SWATCH:
            self.rows.edit_name(self.rows.id_of(row))

    def _on_edited(self, row: QTreeWidgetItem, column: int) -> None:
        item = self._known(self.rows.id_of(row))
        if item is None or column != _NAME:
            return
        name = ' '.join(row.text(_NAME).split())
        taken = name in {other.name for other in self._classes if other != item}
        if taken:
            self.rows.explain(row, f'There is already a class “{name}”.')
        if taken or not name or name == item.name:
            self.rows.blockSignals(True)
            row.setText(_NAME, item.name)
            self.rows.blockSignals(False)
        else:
            self._offer(replace(item, name=name))

    def _offer(self, changed: ObjectClass) -> None:
        self.classes_changed.emit(
            tuple(changed if c.id == changed.id else c for c in self._classes)
        )

    def _add(self) -> None:
        self._added = max((item.id for item in self._classes), default=0) + 1
        names = {item.name for item in self._classes}
        numbers = range(self._added, self._added + len(names) + 1)
        name = next(n for i in numbers if (n := f'class {i}') not in names)
        color = color_unlike(item.color for item in self._classes)
        added = ObjectClass(self._added, name, color)
        self.classes_changed.emit((*self._classes, added))

    def _remove(self) -> None:
        left = tuple(item for item in self._classes if item.id != self._current)
        self.classes_changed.emit(left)

    def _ask_for_color(self, class_id: int) -> None:
        item = self._known(class_id)
        if item is None:
            return
        dialog = QColorDialog(QColor(item.color), self)
        dialog.setWindowTitle(f'Colour of {item.name}')
        # The system's own dialog may stop the event loop.
        dialog.setOption(QColorDialog.ColorDialogOption.DontUseNativeDialog)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.colorSelected.connect(lambda color: self._recolor(class_id, color))
        dialog.open()

    def _recolor(self, class_id: int, color: QColor) -> None:
        item = self._known(class_id)
        if item is not None and color.name() != QColor(item.color).name():
            self._offer(replace(item, color=color.name()))


class _Rows(QTreeWidget):
    """One line for each class."""

    def __init__(self) -> None:
        super().__init__()
        self.setColumnCount(4)
        self.setHeaderHidden(True)
        self.setRootIsDecorated(False)
        self.setIndentation(0)
        self.setUniformRowHeights(True)
        self.setIconSize(QSize(_SWATCH_SIDE, _SWATCH_SIDE))
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setSelectionMode(QAbstractItemView.SelectionMode.NoSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        # The canvas keeps the keyboard, so that the keys go on working.
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        header = self.header()
        assert header is not None
        header.setStretchLastSection(False)
        header.setMinimumSectionSize(_SWATCH_SIDE + 8)
        mode = QHeaderView.ResizeMode
        header.setSectionResizeMode(_SWATCH, mode.Fixed)
        header.resizeSection(_SWATCH, _SWATCH_SIDE + 8)
        header.setSectionResizeMode(_KEY, mode.ResizeToContents)
        header.setSectionResizeMode(_NAME, mode.Stretch)
        header.setSectionResizeMode(_COUNT, mode.ResizeToContents)
        # The theme's line edits are higher than a row.
        self.setStyleSheet('QLineEdit { min-height: 0px; padding: 0px; }')
        self._focus_before: QWidget | None = None
        delegate = QStyledItemDelegate(self)
        delegate.closeEditor.connect(self._give_focus_back)
        self.setItemDelegate(delegate)
        self._lines: list[QTreeWidgetItem] = []

    def ids(self) -> list[int]:
        return [self.id_of(row) for row in self._lines]

    @staticmethod
    def id_of(row: QTreeWidgetItem) -> int:
        return int(row.data(_NAME, Qt.ItemDataRole.UserRole))

    def renew(self, ids: Iterable[int]) -> None:
        self.clear()
        self._lines = []
        for class_id in ids:
            row = QTreeWidgetItem(self)
            self._lines.append(row)
            row.setData(_NAME, Qt.ItemDataRole.UserRole, class_id)
            row.setFlags(row.flags() | Qt.ItemFlag.ItemIsEditable)
            row.setTextAlignment(
                _COUNT, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
            )

    def fill(
        self, index: int, item: ObjectClass, key: str, count: int, current: bool
    ) -> None:
        row = self._lines[index]
        row.setIcon(_SWATCH, QIcon(_swatch(item.color)))
        font = row.font(_NAME)
        font.setBold(current)
        for column, text, help_text in (
            (_SWATCH, '', f'Change the colour of “{item.name}”'),
            (_KEY, key, f'Key of “{item.name}”'),
            (_NAME, item.name, f'{item.name}\nDouble click to rename'),
            (_COUNT, str(count), _objects(count)),
        ):
            row.setText(column, text)
            row.setFont(column, font)
            row.setToolTip(column, help_text)
        for column in range(self.columnCount()):
            row.setBackground(column, QColor(47, 127, 255, 80 if current else 0))
        row.setSizeHint(_SWATCH, QSize(0, self._row_height()))
        if current:
            self.scrollToItem(row)

    def _row_height(self) -> int:
        return max(_SWATCH_SIDE, self.fontMetrics().lineSpacing()) + 6

    def fit(self) -> None:
        """Take the height of the rows, within limits."""
        count = min(max(len(self._lines), _FEWEST_ROWS), _MOST_ROWS)
        self.setFixedHeight(count * self._row_height() + 2 * self.frameWidth() + 2)

    def edit_name(self, class_id: int) -> None:
        row = self._lines[self.ids().index(class_id)]
        self._focus_before = QApplication.focusWidget()
        self.scrollToItem(row)
        self.editItem(row, _NAME)

    def explain(self, row: QTreeWidgetItem, text: str) -> None:
        corner = self.visualItemRect(row).bottomLeft() + QPoint(_SWATCH_SIDE, 0)
        QToolTip.showText(self.mapToGlobal(corner), text, self)

    def _give_focus_back(self, editor: QWidget) -> None:
        before, self._focus_before = self._focus_before, None
        if before is None or QApplication.focusWidget() not in (None, self, editor):
            return
        try:
            before.setFocus()
        except RuntimeError:
            # Qt has deleted it in between.
            return


def _swatch(color: str) -> QPixmap:
    picture = QPixmap(_SWATCH_SIDE, _SWATCH_SIDE)
    picture.fill(Qt.GlobalColor.transparent)
    painter = QPainter(picture)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setPen(QColor(128, 128, 128))
    painter.setBrush(QColor(color))
    painter.drawRoundedRect(1, 1, _SWATCH_SIDE - 3, _SWATCH_SIDE - 3, 2, 2)
    painter.end()
    return picture


def _objects(count: int) -> str:
    return f'{count} object{"s" * (count != 1)}'


def _button(text: str, help_text: str) -> QPushButton:
    button = QPushButton(text)
    button.setToolTip(help_text)
    button.setFocusPolicy(Qt.FocusPolicy.NoFocus)
    button.setFixedWidth(24)
    return button
