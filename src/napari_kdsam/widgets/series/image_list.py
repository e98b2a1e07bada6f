"""The list of images with their marks."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QAbstractListModel, QModelIndex, Qt

from napari_kdsam.series.entries import ImageStatus, SeriesEntry
from napari_kdsam.widgets.series.walk import SeriesWalk

_MARKS = {
    ImageStatus.new: '○',
    ImageStatus.done: '●',
    ImageStatus.no_lesion: '∅',
    ImageStatus.failed: '✗',
}
LEGEND = '● done, ○ to do, ∅ no lesion, ✗ cannot be opened, ? unsure, ✓ checked'


class ImageList(QAbstractListModel):
    """The images that filter and search leave, one a row; made only where it is seen.

    Parameters
    ----------
    walk : SeriesWalk
    """

    def __init__(self, walk: SeriesWalk) -> None:
        super().__init__()
        self._walk = walk
        self._rows: list[int] = []
        walk.relisted.connect(self.renew)

    def renew(self) -> None:
        """Show what the series has now."""
        rows = self._walk.visible
        if rows == self._rows:
            if rows:
                self.dataChanged.emit(self.index(0), self.index(len(rows) - 1))
            return
        self.beginResetModel()
        self._rows = rows
        self.endResetModel()

    def image_at(self, index: QModelIndex) -> int:
        """Place in the series of the image in a row."""
        return self._rows[index.row()]

    def row_of(self, image: int) -> QModelIndex:
        """The row of an image; not valid if it is not listed."""
        rows = self._rows
        return self.index(rows.index(image)) if image in rows else QModelIndex()

    def rowCount(self, parent: QModelIndex | None = None) -> int:
        return 0 if parent is not None and parent.isValid() else len(self._rows)

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        series = self._walk.series
        if series is None or not index.isValid() or index.row() >= len(self._rows):
            return None
        entry = series.entry(self._rows[index.row()])
        if role == Qt.ItemDataRole.DisplayRole:
            return f'{_mark(entry)} {entry.name}'
        if role == Qt.ItemDataRole.ToolTipRole:
            return _described(entry)
        return None


def _mark(entry: SeriesEntry) -> str:
    flags = '?' * entry.unsure + '✓' * entry.checked
    return _MARKS[entry.status] + flags


def _described(entry: SeriesEntry) -> str:
    parts = [entry.name, entry.reason, ', '.join(entry.tags), entry.note, LEGEND]
    return '\n'.join(part for part in parts if part)
