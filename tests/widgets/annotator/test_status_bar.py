"""The foot of the dock."""

from __future__ import annotations

import pytest
from qtpy.QtCore import Qt

LONG_ERROR = (
    "The weights file '/home/someone/data/projects/endoscopy_2024/checkpoints/"
    "kdsam-resnet50-512-long-training.safetensors' cannot be read; download it again."
)


@pytest.fixture
def panel(qtbot):
    from napari_kdsam.widgets.annotator.status_bar import StatusBar

    widget = StatusBar()
    qtbot.addWidget(widget)
    widget.resize(290, 80)
    widget.show()
    qtbot.waitExposed(widget)
    return widget


def status(stage: str, text: str):
    from napari_kdsam.widgets.annotator.status import StatusKind, StatusLine

    return StatusLine(StatusKind(stage), text)


def details(panel) -> str:
    return panel.details.text().replace('\u00a0', ' ')


def height(panel) -> int:
    return panel.sizeHint().height()


def test_each_stage_has_a_mark_of_its_own_shape_or_colour(panel):
    from napari_kdsam.widgets.annotator.status import StatusKind

    marks = {}
    for stage in StatusKind:
        panel.show_status(status(stage.value, 'A sentence.'))
        assert panel.sentence.toPlainText() == 'A sentence.'
        marks[stage] = panel.mark.text()
    shapes = {
        marks[s] for s in (StatusKind.WAITING, StatusKind.WORKING, StatusKind.READY)
    }
    assert len(shapes | {marks[StatusKind.ERROR]}) == 4


def test_text_is_shown_as_it_is_not_as_markup(panel):
    panel.show_status(status('error', 'No layer <b>scan</b> & no image.'))
    assert panel.sentence.toPlainText() == 'No layer <b>scan</b> & no image.'


def test_an_error_can_be_selected_and_copied(panel, qtbot):
    from qtpy.QtWidgets import QApplication

    panel.show_status(status('error', LONG_ERROR))
    panel.activateWindow()
    qtbot.mouseClick(panel.sentence.viewport(), Qt.MouseButton.LeftButton)
    qtbot.waitUntil(panel.sentence.hasFocus)
    qtbot.keyClick(panel.sentence, 'a', Qt.KeyboardModifier.ControlModifier)
    qtbot.keyClick(panel.sentence, 'c', Qt.KeyboardModifier.ControlModifier)
    qtbot.waitUntil(lambda: QApplication.clipboard().text() == LONG_ERROR)


def test_an_error_cannot_be_overwritten(panel, qtbot):
    panel.show_status(status('error', LONG_ERROR))
    qtbot.keyClicks(panel.sentence, 'something else')
    assert panel.sentence.toPlainText() == LONG_ERROR


def test_other_sentences_leave_the_keyboard_where_it_is(panel, qtbot):
    panel.show_status(status('error', LONG_ERROR))
    panel.activateWindow()
    qtbot.mouseClick(panel.sentence.viewport(), Qt.MouseButton.LeftButton)
    qtbot.waitUntil(panel.sentence.hasFocus)
    panel.show_status(status('ready', 'The mask is ready.'))
    assert not panel.sentence.hasFocus()
    qtbot.mouseClick(panel.sentence.viewport(), Qt.MouseButton.LeftButton)
    assert not panel.sentence.hasFocus()


def test_two_lines_are_reserved_and_a_longer_error_is_shown_whole(panel, qtbot):
    panel.show_status(status('ready', 'Ready.'))
    reserved = height(panel)
    panel.show_status(
        status('waiting', 'Points outside only trim a mask: add one inside, or a box.')
    )
    assert height(panel) == reserved
    panel.show_status(status('error', LONG_ERROR))
    qtbot.waitUntil(lambda: height(panel) > reserved)
    scroll = panel.sentence.verticalScrollBar()
    assert scroll.maximum() == 0, 'some of it is out of view'
    panel.show_status(status('ready', 'Ready.'))
    qtbot.waitUntil(lambda: height(panel) == reserved)


def test_an_error_stays_whole_when_the_dock_is_made_narrower(panel, qtbot):
    panel.show_status(status('error', LONG_ERROR))
    wide = panel.sentence.height()
    panel.resize(200, 200)
    qtbot.waitUntil(lambda: panel.sentence.height() > wide)
    assert panel.sentence.verticalScrollBar().maximum() == 0


def test_long_paths_break_instead_of_widening_the_dock(panel):
    panel.show_status(status('error', '/very/long/path' * 20))
    panel.show_engine('/very/long/path' * 20 + '/' + 'name' * 50 + '.pth', 'cpu')
    assert panel.minimumSizeHint().width() < 120


def test_a_text_without_spaces_breaks_too(panel, qtbot):
    panel.show_status(status('error', 'x' * 200))
    document = panel.sentence.document()
    assert document.size().width() <= panel.sentence.width()
    assert document.size().height() > 3 * panel.sentence.fontMetrics().lineSpacing()


def test_the_busy_bar_comes_only_when_work_takes_long_and_goes_with_it(panel, qtbot):
    reserved = height(panel)
    assert not panel.bar.isVisible()
    panel.show_status(status('working', 'Encoding the image…'))
    assert not panel.bar.isVisible(), 'it flickers at every click'
    qtbot.waitUntil(panel.bar.isVisible)
    assert panel.bar.maximum() == 0, 'how long it takes is not known'
    assert height(panel) == reserved
    panel.show_status(status('ready', 'Ready.'))
    assert not panel.bar.isVisible()
    assert height(panel) == reserved


def test_work_that_ends_soon_shows_no_bar(panel, qtbot):
    panel.show_status(status('working', 'Encoding the image…'))
    panel.show_status(status('ready', 'Ready.'))
    qtbot.wait(300)
    assert not panel.bar.isVisible()


def test_the_small_text_says_model_device_times_and_memory(panel):
    panel.show_engine('KD SAM 512', 'cpu')
    assert details(panel) == 'KD SAM 512 · cpu'
    panel.show_times(93.4, 41.0)
    panel.show_memory(12, 48 * 1024**2)
    assert details(panel) == (
        'KD SAM 512 · cpu · encode 93 ms · click 41 ms · 12 frames, 48 MB'
    )


def test_what_is_not_known_is_left_out(panel):
    panel.show_engine('KD SAM 512', 'cpu')
    panel.show_times(None, 41.0)
    panel.show_memory(0, 0)
    assert details(panel) == 'KD SAM 512 · cpu · click 41 ms'


def test_one_frame_long_times_and_large_memory_are_worded_well(panel):
    panel.show_engine('kdsam', 'cuda')
    panel.show_times(1430.0, 999.7)
    panel.show_memory(1, 3 * 1024**3)
    assert details(panel) == (
        'kdsam · cuda · encode 1.4 s · click 1.0 s · 1 frame, 3.0 GB'
    )


@pytest.mark.parametrize(
    'path',
    ['/home/someone/weights/mine.safetensors', r'C:\Users\someone\mine.safetensors'],
)
def test_a_weights_file_is_shown_by_its_name_and_its_path_is_in_the_tooltip(
    panel, path
):
    panel.show_engine(path, 'cpu')
    assert details(panel) == 'mine.safetensors · cpu'
    assert path in panel.details.toolTip()


def test_a_long_name_is_cut_in_the_middle_and_comes_back_with_more_room(panel, qtbot):
    name = 'kdsam-fine-tuned-on-the-colonoscopy-images-of-the-year-2024.safetensors'
    panel.show_engine(f'/somewhere/{name}', 'cpu')
    shown = details(panel).split(' · ')[0]
    assert '…' in shown
    assert shown.startswith('kdsam') and shown.endswith('.safetensors')
    assert details(panel).endswith(' · cpu')
    panel.resize(900, panel.height())
    qtbot.waitUntil(lambda: details(panel) == f'{name} · cpu')


def test_the_small_text_fits_its_two_lines(panel):
    panel.show_engine('/somewhere/' + 'a-long-name-' * 8 + '.safetensors', 'cuda')
    panel.show_times(93.0, 41.0)
    panel.show_memory(12, 48 * 1024**2)
    needed = panel.details.heightForWidth(panel.details.width())
    assert needed <= panel.details.height()
    assert panel.details.fontInfo().pointSizeF() < panel.mark.fontInfo().pointSizeF()
