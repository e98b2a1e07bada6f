"""The settings of the clean-up in the dock."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QWheelEvent
from qtpy.QtWidgets import QApplication, QCheckBox, QComboBox

from napari_kdsam.annotation.cleanup import CleanUp, Ellipse

EVERYTHING = CleanUp(
    speck_pixels=1200,
    largest_only=True,
    fill_holes=True,
    smooth_pixels=12.5,
    snap='ellipse',
)


@pytest.fixture
def panel(qtbot):
    from napari_kdsam.widgets.annotator.cleanup_panel import CleanUpPanel

    widget = CleanUpPanel()
    qtbot.addWidget(widget)
    widget.resize(290, 200)
    widget.show()
    qtbot.waitExposed(widget)
    widget.folded.expand(animate=False)
    return widget


@pytest.fixture
def told(panel) -> list[CleanUp]:
    """What the panel has emitted."""
    values: list[CleanUp] = []
    panel.changed.connect(values.append)
    return values


def turn_wheel(widget) -> bool:
    """Turn the mouse wheel over a widget; whether it took the turn."""
    middle = QPointF(widget.rect().center())
    event = QWheelEvent(
        middle,
        widget.mapToGlobal(middle),
        QPoint(),
        QPoint(0, 120),
        Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    event.ignore()
    QApplication.sendEvent(widget, event)
    return event.isAccepted()


def title(panel) -> str:
    return panel.folded.toggleButton().text()


def test_a_click_on_a_box_tells_the_new_settings(panel, told):
    panel.holes.click()
    panel.largest.click()
    panel.holes.click()
    assert told == [
        CleanUp(fill_holes=True),
        CleanUp(fill_holes=True, largest_only=True),
        CleanUp(largest_only=True),
    ]
    assert panel.value == told[-1]


def test_a_number_is_told_while_it_is_typed(panel, told, qtbot):
    panel.specks.selectAll()
    qtbot.keyClicks(panel.specks, '120')
    assert told == [CleanUp(speck_pixels=number) for number in (1, 12, 120)]


def test_arrows_change_the_radius_in_half_pixels(panel, told):
    panel.smooth.stepUp()
    panel.smooth.stepUp()
    panel.smooth.stepDown()
    assert told == [CleanUp(smooth_pixels=radius) for radius in (0.5, 1.0, 0.5)]


def test_a_shape_can_be_chosen(panel, told, qtbot):
    qtbot.keyClick(panel.snap, Qt.Key.Key_Down)
    qtbot.keyClick(panel.snap, Qt.Key.Key_Down)
    qtbot.keyClick(panel.snap, Qt.Key.Key_Up)
    qtbot.keyClick(panel.snap, Qt.Key.Key_Up)
    assert [cleanup.snap for cleanup in told] == ['convex', 'ellipse', 'convex', 'none']


def test_settings_from_the_program_are_shown_and_not_told(panel, told):
    panel.value = EVERYTHING
    assert panel.specks.value() == 1200
    assert panel.largest.isChecked()
    assert panel.holes.isChecked()
    assert panel.smooth.value() == 12.5
    assert panel.snap.currentText() == 'Ellipse'
    assert panel.value == EVERYTHING
    panel.value = CleanUp()
    assert panel.specks.text() == panel.smooth.text() == 'off'
    assert not panel.largest.isChecked()
    assert not panel.holes.isChecked()
    assert panel.snap.currentText() == 'As it is'
    assert told == []


def test_a_radius_finer_than_shown_survives_other_changes(panel, told):
    panel.value = CleanUp(smooth_pixels=2.26)
    assert panel.value == CleanUp(smooth_pixels=2.26)
    panel.holes.click()
    assert told == [CleanUp(smooth_pixels=2.26, fill_holes=True)]


def test_the_largest_settings_allowed_can_be_shown(panel):
    from napari_kdsam.annotation.cleanup import (
        MOST_SMOOTH_PIXELS,
        MOST_SPECK_PIXELS,
    )

    panel.value = CleanUp(MOST_SPECK_PIXELS, smooth_pixels=MOST_SMOOTH_PIXELS)
    assert panel.specks.value() == MOST_SPECK_PIXELS
    assert panel.smooth.value() == MOST_SMOOTH_PIXELS


def test_the_title_says_what_is_on(panel):
    assert title(panel) == 'Clean-up'
    panel.value = CleanUp(fill_holes=True, snap='convex')
    assert title(panel) == 'Clean-up: holes, convex hull'
    panel.holes.click()
    assert title(panel) == 'Clean-up: convex hull'
    panel.value = CleanUp(speck_pixels=30, smooth_pixels=2.0)
    assert title(panel) == 'Clean-up: specks 30, smooth 2'


def test_a_long_title_is_cut_and_does_not_widen_the_dock(panel):
    narrow = panel.minimumSizeHint().width()
    panel.value = EVERYTHING
    assert title(panel).endswith('…')
    whole = 'Clean-up: specks 1200, largest, holes, smooth 12.5, ellipse'
    assert whole in panel.folded.toggleButton().toolTip()
    assert panel.minimumSizeHint().width() == narrow <= 280
    panel.resize(800, 200)
    QApplication.processEvents()
    assert title(panel) == whole
    assert panel.minimumSizeHint().width() == narrow


def test_a_click_on_the_title_folds_the_settings(panel, qtbot):
    unfolded = panel.sizeHint().height()
    assert panel.snap.visibleRegion().boundingRect().height() > 10
    panel.folded.setDuration(0)
    qtbot.mouseClick(panel.folded.toggleButton(), Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: panel.sizeHint().height() < unfolded / 2)
    assert not panel.folded.isExpanded()


def test_the_line_on_the_ellipse_is_there_only_with_a_text(panel):
    assert not panel.ellipse.isVisible()
    panel.show_ellipse('Ellipse 92.1 × 71.3 mm, circumference 258 mm')
    assert panel.ellipse.isVisible()
    assert '258 mm' in panel.ellipse.text()
    panel.folded.collapse(animate=False)
    assert panel.ellipse.isVisible()
    panel.show_ellipse('')
    assert not panel.ellipse.isVisible()


def test_the_wheel_scrolls_the_dock_and_changes_nothing(panel, told):
    panel.value = CleanUp(speck_pixels=10, smooth_pixels=1.0, snap='convex')
    QApplication.processEvents()
    for control in (panel.specks, panel.smooth, panel.snap):
        assert not turn_wheel(control)
    assert told == []


def test_the_wheel_turns_a_number_that_is_being_edited(panel, told, qtbot):
    panel.activateWindow()
    panel.specks.setFocus()
    qtbot.waitUntil(panel.specks.hasFocus)
    assert turn_wheel(panel.specks)
    assert told == [CleanUp(speck_pixels=10)]


def test_enter_gives_the_keyboard_back(panel, qtbot):
    panel.activateWindow()
    panel.smooth.setFocus()
    qtbot.waitUntil(panel.smooth.hasFocus)
    qtbot.keyClick(panel.smooth, Qt.Key.Key_Return)
    assert not panel.smooth.hasFocus()


def test_only_numbers_take_the_keyboard_and_everything_is_explained(panel):
    controls = [
        *panel.findChildren(QCheckBox),
        *panel.findChildren(QComboBox),
        panel.folded.toggleButton(),
    ]
    assert len(controls) == 4
    for control in controls:
        assert control.focusPolicy() == Qt.FocusPolicy.NoFocus
    for control in (*controls, panel.specks, panel.smooth):
        assert control.toolTip()


@pytest.mark.parametrize(
    ('pixel_size', 'unit', 'text'),
    [
        ((0.2, 0.2), 'mm', 'Ellipse 92.1 × 71.3 mm, circumference 258 mm'),
        ((1.0, 1.0), 'px', 'Ellipse 461 × 357 px, circumference 1289 px'),
        ((0.2, 0.1), 'mm', 'Ellipse 71.3 × 46.1 mm, circumference 187 mm'),
        ((2e-5, 2e-5), 'm', 'Ellipse 0.00921 × 0.00713 m, circumference 0.0258 m'),
    ],
)
def test_an_ellipse_is_described_in_the_unit_of_the_pixels(pixel_size, unit, text):
    from napari_kdsam.widgets.annotator.cleanup_panel import describe_ellipse

    ellipse = Ellipse(100, 200, 230.3, 178.3, 0.0)
    assert describe_ellipse(ellipse, pixel_size, unit) == text


def test_the_preview_follows_the_settings_and_the_ellipse_is_measured(annotate):
    annotation = annotate(scale=(0.5, 0.5), units=('mm', 'mm'))
    annotation.draw((20.0, 30.0), (80.0, 150.0))
    box = annotation.preview.copy()
    panel = annotation.widget.cleanup
    panel.snap.setCurrentIndex(panel.snap.findData('ellipse'))
    annotation.settle()
    assert box[22, 32] and box[50, 90]
    assert annotation.preview[50, 90]
    assert not annotation.preview[22, 32]
    assert 'mm' in panel.ellipse.text()
    panel.snap.setCurrentIndex(panel.snap.findData('none'))
    annotation.settle()
    assert np.array_equal(annotation.preview, box)
    assert panel.ellipse.text() == ''
