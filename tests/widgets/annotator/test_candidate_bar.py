"""The bar of candidate masks."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import Qt

COLORS = ((200, 30, 30), (30, 200, 30), (30, 30, 200))


def pictures(side: int = 40) -> list[np.ndarray]:
    return [np.full((side, side, 3), color, np.uint8) for color in COLORS]


@pytest.fixture
def bar(qtbot):
    from napari_kdsam.widgets.annotator.candidate_bar import CandidateBar

    widget = CandidateBar('Next candidate mask (N)')
    qtbot.addWidget(widget)
    widget.show()
    qtbot.waitExposed(widget)
    return widget


def grabbed(widget) -> np.ndarray:
    """(rows, columns, 3) pixels of what a widget shows."""
    from qtpy.QtGui import QImage

    image = widget.grab().toImage().convertToFormat(QImage.Format.Format_RGB888)
    data = np.frombuffer(image.constBits().asstring(image.sizeInBytes()), np.uint8)
    lines = data.reshape(image.height(), image.bytesPerLine())
    return lines[:, : 3 * image.width()].reshape(image.height(), image.width(), 3)


def texts(bar) -> list[str]:
    return [button.text() for button in bar.buttons]


def click(qtbot, button) -> None:
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def test_each_candidate_shows_its_picture_and_predicted_overlap(bar):
    bar.show_candidates(pictures(), [0.7, 0.931, 0.8], 1)
    assert texts(bar) == ['0.70', '★ 0.93', '0.80']
    for button, color in zip(bar.buttons, COLORS, strict=True):
        shown = (grabbed(button) == color).all(axis=-1)
        assert shown.sum() >= 0.9 * bar.thumbnail_side**2


def test_the_chosen_one_has_a_frame_and_a_bold_number(bar):
    bar.show_candidates(pictures(), [0.8, 0.9, 0.8], 2)
    assert [button.isChecked() for button in bar.buttons] == [False, False, True]
    first, chosen = grabbed(bar.buttons[0]), grabbed(bar.buttons[2])
    middle = chosen.shape[0] // 2
    assert (chosen[middle, 0] == (0x2F, 0x7F, 0xFF)).all()
    assert (first[middle, 0] != (0x2F, 0x7F, 0xFF)).any()
    assert [button.font().bold() for button in bar.buttons] == [False, False, True]


def test_a_click_on_another_candidate_chooses_it_and_marks_it_at_once(bar, qtbot):
    bar.show_candidates(pictures(), [0.7, 0.9, 0.8], 1)
    with qtbot.waitSignal(bar.chosen) as caught:
        click(qtbot, bar.buttons[0])
    assert caught.args == [0]
    assert [button.isChecked() for button in bar.buttons] == [True, False, False]


def test_a_click_on_the_chosen_candidate_changes_nothing(bar, qtbot):
    bar.show_candidates(pictures(), [0.7, 0.9, 0.8], 1)
    with qtbot.assertNotEmitted(bar.chosen):
        click(qtbot, bar.buttons[1])
    assert bar.buttons[1].isChecked()


def test_a_single_candidate_has_no_star_and_placeholders_beside_it(bar, qtbot):
    bar.show_candidates(pictures()[:1], [0.88], 0)
    assert texts(bar) == ['0.88', '–', '–']
    with qtbot.assertNotEmitted(bar.chosen):
        click(qtbot, bar.buttons[1])


def test_clearing_leaves_three_placeholders_that_cannot_be_chosen(bar, qtbot):
    bar.show_candidates(pictures(), [0.7, 0.9, 0.8], 1)
    bar.clear()
    assert texts(bar) == ['–', '–', '–']
    assert not any(button.isChecked() for button in bar.buttons)
    with qtbot.assertNotEmitted(bar.chosen):
        click(qtbot, bar.buttons[0])
    for button in bar.buttons:
        assert not (grabbed(button) == COLORS[0]).all(axis=-1).any()


def test_its_size_stays_whatever_it_shows(bar, qtbot):
    sizes = {(bar.sizeHint().width(), bar.sizeHint().height())}
    for count in (1, 2, 3):
        for side in (40, bar.thumbnail_side, 200):
            bar.show_candidates(pictures(side)[:count], [0.7, 0.9, 0.8][:count], 0)
            sizes.add((bar.sizeHint().width(), bar.sizeHint().height()))
    bar.clear()
    sizes.add((bar.sizeHint().width(), bar.sizeHint().height()))
    assert len(sizes) == 1


def test_it_fits_a_narrow_dock(bar):
    bar.show_candidates(pictures(), [0.7, 0.9, 0.8], 1)
    assert bar.minimumSizeHint().width() <= 270


def test_tooltips_say_which_candidate_it_is_and_the_key(bar):
    bar.show_candidates(pictures(), [0.7, 0.9, 0.8], 1)
    tip = bar.buttons[1].toolTip()
    assert 'Candidate 2 of 3' in tip
    assert '0.90' in tip
    assert 'best' in tip
    assert tip.endswith('Next candidate mask (N)')
    assert 'best' not in bar.buttons[0].toolTip()


def test_a_click_leaves_the_keyboard_where_it_was(bar, qtbot):
    from qtpy.QtWidgets import QLineEdit

    line = QLineEdit(bar)
    line.show()
    bar.activateWindow()
    line.setFocus()
    qtbot.waitUntil(line.hasFocus)
    bar.show_candidates(pictures(), [0.7, 0.9, 0.8], 1)
    click(qtbot, bar.buttons[0])
    assert line.hasFocus()
