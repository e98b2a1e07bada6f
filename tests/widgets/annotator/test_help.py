"""Tests of the window that lists the shortcuts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from napari_kdsam.widgets.shared.shortcuts import (
    SHORTCUTS,
    bound_shortcuts,
    help_rows,
)


@pytest.fixture
def panel(qtbot: Any) -> Any:
    """A shown window with the keys of a user who has changed two."""
    from napari_kdsam.widgets.annotator.help import HelpPanel

    shortcuts, refused = bound_shortcuts({'undo': 'Shift-B', 'refine': ''})
    assert not refused
    shown = HelpPanel(shortcuts)
    qtbot.addWidget(shown)
    shown.show()
    return shown


def plain(panel: Any) -> str:
    from qtpy.QtGui import QTextDocument

    document = QTextDocument()
    document.setHtml(panel.text.text())
    return str(document.toPlainText())


def test_every_action_is_listed_under_its_group_with_the_key_in_force(panel):
    lines = [line.strip() for line in plain(panel).splitlines() if line.strip()]
    place = -1
    for group, rows in help_rows().items():
        place = lines.index(group, place + 1)
        for keys, title in rows:
            row = lines.index(title, place)
            if title.startswith('Undo'):
                assert lines[row - 1] == 'Shift-B, Control-Z'
            elif title.startswith('Refine'):
                assert lines[row - 1] == '–'
            else:
                assert lines[row - 1] == keys


def test_the_five_sentences_on_how_to_work_name_the_keys_in_force(qtbot):
    from napari_kdsam.widgets.annotator.help import HelpPanel

    shortcuts, _ = bound_shortcuts({'use_lasso': 'Shift-B', 'commit': ''})
    panel = HelpPanel(shortcuts)
    qtbot.addWidget(panel)
    text = plain(panel).split('Prompts')[0]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    starts = [line.split(':')[0] for line in lines]
    assert starts == ['Click', 'Box', 'Lasso', 'Commit', 'Edit']
    assert 'draw around the object (Shift-B)' in text
    assert 'make the mask a label, then' in text


def test_a_small_window_is_scrolled_down_and_never_sideways(panel, qtbot):
    from qtpy.QtWidgets import QScrollArea

    scroll = panel.findChild(QScrollArea)
    panel.resize(340, 300)
    qtbot.waitUntil(lambda: panel.width() <= 360, timeout=10_000)
    assert scroll.verticalScrollBar().maximum() > 0
    assert scroll.horizontalScrollBar().maximum() == 0


def test_the_help_fits_a_small_screen(panel):
    assert panel.width() <= 600
    assert panel.height() <= 700


@pytest.mark.parametrize('theme', ['dark', 'light'])
def test_the_text_stands_out_in_both_themes(annotate, tmp_path, theme):
    session = annotate()
    session.viewer.theme = theme
    session.controller.show_help()
    panel = session.widget.help_window
    assert panel.isVisible()
    session.settle()
    picture = tmp_path / 'help.png'
    panel.text.grab().save(str(picture))
    pixels = np.asarray(Image.open(picture).convert('RGB')).reshape(-1, 3) / 255
    linear = np.where(
        pixels <= 0.03928, pixels / 12.92, ((pixels + 0.055) / 1.055) ** 2.4
    )
    luminance = linear @ (0.2126, 0.7152, 0.0722)
    ground = np.median(luminance)
    contrast = (np.maximum(luminance, ground) + 0.05) / (
        np.minimum(luminance, ground) + 0.05
    )
    # The least that guidelines ask for text; strokes cover a few hundredths.
    assert np.quantile(contrast, 0.98) >= 4.5
    assert (ground < 0.5) == (theme == 'dark')
    panel.close()


def test_the_help_opens_by_its_key_and_lists_the_keys_in_force(annotate):
    session = annotate()
    bound = {str(key): action for key, action in session.viewer.keymap.items()}
    key = next(s.key for s in SHORTCUTS if s.action == 'show_help')
    bound[key](session.viewer)
    assert session.widget.help_window.isVisible()
    assert not session.widget.help_window.isModal()
    session.widget.help_window.close()
