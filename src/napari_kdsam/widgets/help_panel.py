"""The shortcuts in force, and how to work."""

from __future__ import annotations

from collections.abc import Iterable

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QLabel,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from napari_kdsam.widgets.shortcuts import SHORTCUTS, Shortcut, help_rows, how_to


class HelpPanel(QDialog):
    """A window that lists the shortcuts by group; others stay usable.

    Parameters
    ----------
    shortcuts : iterable of Shortcut
        Those in force.
    parent : QWidget, optional
        Gives the window its look.
    """

    def __init__(
        self, shortcuts: Iterable[Shortcut] = SHORTCUTS, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.setWindowTitle('KD SAM: how to work')
        self.setModal(False)
        self.text = QLabel(help_text(tuple(shortcuts)))
        self.text.setTextFormat(Qt.TextFormat.RichText)
        self.text.setWordWrap(True)
        self.text.setMargin(8)
        self.text.setAlignment(Qt.AlignmentFlag.AlignTop)
        scroll = QScrollArea()
        scroll.setWidgetResizable(True)
        scroll.setWidget(self.text)
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
        buttons.rejected.connect(self.close)
        column = QVBoxLayout(self)
        column.addWidget(scroll)
        column.addWidget(buttons)
        self.resize(460, 620)


def help_text(shortcuts: tuple[Shortcut, ...]) -> str:
    """The help as HTML: a few sentences, then a table for each group of shortcuts."""
    parts = ['<ul style="margin-left: -24px">']
    parts += [f'<li>{sentence}</li>' for sentence in how_to(shortcuts)]
    parts.append('</ul><table cellspacing="0" cellpadding="2">')
    for group, rows in help_rows(shortcuts).items():
        parts.append(f'<tr><td colspan="2"><br><b>{group}</b></td></tr>')
        parts += [
            f'<tr><td><tt>{keys}</tt>&nbsp;&nbsp;</td><td>{title}</td></tr>'
            for keys, title in rows
        ]
    parts.append('</table>')
    return ''.join(parts)
