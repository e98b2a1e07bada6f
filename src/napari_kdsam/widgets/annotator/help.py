"""The shortcuts in force, and how to work."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from html import escape

from qtpy.QtCore import Qt
from qtpy.QtGui import QIcon
from qtpy.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QLabel,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from napari_kdsam.widgets.shared.shortcuts import (
    SHORTCUTS,
    Shortcut,
    help_rows,
    how_to,
    key_text,
)


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
        for button in buttons.buttons():
            # The style's cross is black on napari's dark theme as well.
            button.setIcon(QIcon())
        buttons.rejected.connect(self.close)
        column = QVBoxLayout(self)
        column.addWidget(scroll)
        column.addWidget(buttons)
        self.resize(520, 620)


def help_text(shortcuts: tuple[Shortcut, ...]) -> str:
    """The help as HTML: a few sentences, then a table for each group of shortcuts."""
    parts = ['<ul style="margin-left: -24px">']
    named = [replace(s, key=key_text(s.key)) for s in shortcuts]
    parts += [f'<li>{sentence}</li>' for sentence in how_to(named)]
    parts.append('</ul><table width="100%" cellspacing="0" cellpadding="2">')
    for group, rows in help_rows(shortcuts).items():
        parts.append(f'<tr><td colspan="2"><br><b>{group}</b></td></tr>')
        parts += [
            f'<tr><td width="160"><tt>{escape(key_text(keys))}</tt></td><td>{title}</td></tr>'
            for keys, title in rows
        ]
    parts.append('</table>')
    return ''.join(parts)
