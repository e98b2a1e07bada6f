"""The strip of frames: what is done, what is open, where the user is."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from qtpy.QtCore import QPoint, Qt
from qtpy.QtGui import QColor, QPalette

WIDTH = 240


@pytest.fixture
def dock(qtbot: Any) -> Any:
    """Keeps the strip: alone, it would be a window of its own."""
    from qtpy.QtWidgets import QVBoxLayout, QWidget

    dock = QWidget()
    QVBoxLayout(dock)
    qtbot.addWidget(dock)
    return dock


@pytest.fixture
def strip(dock: Any, qtbot: Any) -> Any:
    from napari_kdsam.widgets.annotator.frame_strip import FrameStrip

    widget = FrameStrip()
    dock.layout().addWidget(widget)
    widget.cells.setFixedWidth(WIDTH)
    dock.show()
    qtbot.waitExposed(dock)
    return widget


def rows_drawn(strip: Any, column: int) -> list[int]:
    """Rows of a column where a bar is drawn: neither the groove nor what is around."""
    strip.window().repaint()
    image = strip.cells.grab().toImage()
    rows = range(image.height())
    return [row for row in rows if QColor(image.pixel(column, row)).saturation() > 90]


@given(
    st.integers(1, 400), st.integers(1, 300), st.sets(st.integers(0, 399)), st.data()
)
def test_cells_cover_every_frame_and_every_pixel_once(count, width, marked, data):
    from napari_kdsam.widgets.annotator.frame_strip import frame_cells

    done = {place for place in marked if place < count}
    open_ = data.draw(st.sets(st.integers(0, count - 1), max_size=5))
    cells = frame_cells(count, done, open_, width)
    frames = [place for cell in cells for place in cell.frames]
    pixels = [column for cell in cells for column in range(cell.left, cell.right)]
    assert frames == list(range(count))
    assert pixels == list(range(width))
    for cell in cells:
        assert cell.right > cell.left
        assert cell.done * len(cell.frames) == pytest.approx(
            len(done & set(cell.frames))
        )
        assert cell.open == bool(open_ & set(cell.frames))
    if count <= width:
        assert all(len(cell.frames) == 1 for cell in cells)


def test_a_single_image_has_no_strip(strip) -> None:
    strip.show_frames(1, set(), set(), 0)
    assert not strip.isVisible()
    strip.show_frames(2, set(), set(), 0)
    assert strip.isVisible()
    strip.show_frames(0, set(), set(), 0)
    assert not strip.isVisible()


def test_words_say_how_many_frames_are_done(strip) -> None:
    strip.show_frames(30, set(range(12)), {20}, 3)
    assert strip.text.text() == '12 of 30 frames done'
    assert strip.cells.accessibleDescription() == '12 of 30 frames done'


def test_done_and_open_frames_differ_in_form_not_only_in_colour(strip) -> None:
    strip.show_frames(4, {0, 1}, {1, 2}, 3)
    bottom = strip.cells.height() - 1
    done, both, open_, neither = (rows_drawn(strip, 30 + 60 * n) for n in range(4))
    middle = (done[0] + done[-1]) // 2
    assert done[-1] == bottom and len(done) == bottom - done[0] + 1
    assert open_[0] == done[0] and open_[-1] <= middle
    assert both[0] == done[0] and both[-1] == bottom and len(both) < len(done)
    assert neither == []


def test_a_shared_bar_is_as_tall_as_the_part_that_is_done(strip) -> None:
    count = 10 * WIDTH
    half = {place for place in range(count // 2) if place % 2}
    strip.show_frames(count, half | set(range(count // 2, count)), set(), 0)
    partly, fully = rows_drawn(strip, WIDTH // 4), rows_drawn(strip, 3 * WIDTH // 4)
    assert len(partly) == pytest.approx(len(fully) / 2, abs=1)
    assert partly[-1] == fully[-1]


def test_one_frame_of_very_many_is_still_seen(strip) -> None:
    strip.show_frames(10_000, {5000}, {8000}, 0)
    assert rows_drawn(strip, WIDTH // 2)
    assert rows_drawn(strip, WIDTH * 4 // 5)


@pytest.mark.parametrize('text', ['#f0f1f2', '#3b3a39'])
def test_bars_stand_out_in_every_theme(strip, text) -> None:
    palette = QPalette(strip.palette())
    ground = '#262930' if text == '#f0f1f2' else '#efebe9'
    palette.setColor(QPalette.ColorRole.WindowText, QColor(text))
    palette.setColor(QPalette.ColorRole.Window, QColor(ground))
    strip.window().setPalette(palette)
    strip.show_frames(3, {0}, {1}, 2)
    image = strip.cells.grab().toImage()
    done, open_, empty = (luminance(image.pixel(40 + 80 * n, 7)) for n in range(3))
    for bar in (done, open_):
        darker, brighter = sorted((bar, empty))
        assert (brighter + 0.05) / (darker + 0.05) > 3


def luminance(pixel: int) -> float:
    """Relative luminance as the web's rules for contrast define it."""
    parts = QColor(pixel).getRgbF()[:3]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_a_triangle_stands_over_the_frame_in_view_also_at_the_ends(strip) -> None:
    seen = []
    for current in (0, 5, 9):
        strip.show_frames(10, set(), set(), current)
        image = strip.cells.grab().toImage()
        ground = image.pixel(60, 0)
        drawn = [x for x in range(WIDTH) if image.pixel(x, 1) != ground]
        seen.append((min(drawn), max(drawn)))
        assert len(drawn) >= 4
    assert seen[0][1] < 24 and 120 <= seen[1][0] < seen[1][1] < 144
    assert seen[2][0] >= 216


@pytest.mark.parametrize('count', [2, 7, 240, 1000])
def test_a_click_goes_to_the_frame_under_it(strip, qtbot, count) -> None:
    chosen = []
    strip.frame_chosen.connect(chosen.append)
    strip.show_frames(count, set(), set(), 0)
    middle = QPoint(0, strip.cells.height() // 2)
    for column in (0, 119, 120, WIDTH - 1):
        qtbot.mouseClick(
            strip.cells, Qt.MouseButton.LeftButton, pos=middle + QPoint(column, 0)
        )
        assert abs(chosen[-1] - column * count / WIDTH) <= max(1, count / WIDTH)
    assert len(chosen) == 4
    assert chosen[0] == 0
    assert chosen == sorted(chosen)
    qtbot.mouseClick(strip.cells, Qt.MouseButton.RightButton, pos=middle)
    assert len(chosen) == 4, 'only the left button goes anywhere'


def test_every_frame_that_has_its_own_cell_can_be_clicked(strip, qtbot) -> None:
    from napari_kdsam.widgets.annotator.frame_strip import frame_cells

    strip.show_frames(37, set(), set(), 0)
    chosen = []
    strip.frame_chosen.connect(chosen.append)
    for cell in frame_cells(37, set(), set(), WIDTH):
        for column in (cell.left, cell.right - 1):
            at = QPoint(column, 10)
            qtbot.mouseClick(strip.cells, Qt.MouseButton.LeftButton, pos=at)
    assert chosen == [place for place in range(37) for _ in range(2)]


def test_the_strip_takes_no_keys_from_the_canvas(strip) -> None:
    assert strip.focusPolicy() == Qt.FocusPolicy.NoFocus
    assert strip.cells.focusPolicy() == Qt.FocusPolicy.NoFocus


def test_the_count_is_whole_also_in_a_panel_that_is_laid_out_already(strip):
    strip.show_frames(20, {0}, set(), 0)
    assert strip.text.minimumWidth() >= strip.text.fontMetrics().horizontalAdvance(
        strip.text.text()
    )
