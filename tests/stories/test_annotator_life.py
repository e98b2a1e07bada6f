"""Opening, closing and responsiveness of the annotator in a real napari window."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest


def test_the_window_keeps_ticking_at_20_hz_while_an_encoder_takes_two_seconds(annotate):
    from qtpy.QtCore import QTimer

    session = annotate()
    session.model.encode_seconds = 2.0
    session.qtbot.wait(300)
    ticks = []
    timer = QTimer()
    timer.setInterval(20)
    timer.timeout.connect(lambda: ticks.append(time.monotonic()))
    timer.start()
    started = time.monotonic()
    session.points.add(np.array((60, 60)))
    session.wait_for('ready')
    elapsed = time.monotonic() - started
    timer.stop()
    assert elapsed >= 2.0
    assert len(ticks) / elapsed >= 20


def test_the_plugin_opens_from_the_plugins_menu(make_napari_viewer_proxy, qtbot):
    from qtpy.QtWidgets import QLabel, QMenu

    viewer = make_napari_viewer_proxy(show=True)
    viewer.add_image(np.zeros((60, 90), np.uint8))
    plugins_menu = viewer.window.plugins_menu
    plugins_menu.aboutToShow.emit()
    found = [
        action
        for menu in (plugins_menu, *plugins_menu.findChildren(QMenu))
        for action in menu.actions()
        if 'Click to label' in action.text()
    ]
    assert found, [action.text() for action in plugins_menu.actions()]
    found[0].trigger()
    widgets = viewer.window.dock_widgets
    docked = [widget for name, widget in widgets.items() if 'Click to label' in name]
    assert len(docked) == 1
    docked = docked[0]
    assert 'Loading' in docked.findChild(QLabel).text()
    qtbot.waitUntil(lambda: docked.content is not None, timeout=60_000)
    workspace = docked.content.controller.workspace
    qtbot.waitUntil(lambda: workspace.image is not None, timeout=60_000)
    assert [layer.name for layer in viewer.layers][-1] == 'KD SAM points'
    docked.content.controller.flow.thread.stop(timeout=30)


def test_a_real_mouse_click_and_real_keys_make_and_commit_a_mask(annotate):
    from qtpy.QtCore import QPoint, Qt
    from qtpy.QtTest import QTest
    from qtpy.QtWidgets import QApplication, QWidget

    session = annotate()
    session.viewer.window.resize(1000, 700)
    session.viewer.window.show()
    session.qtbot.wait(300)
    canvas = next(
        widget
        for top in QApplication.topLevelWidgets()
        for widget in top.findChildren(QWidget)
        if 'CanvasBackend' in type(widget).__name__ and widget.isVisible()
    )
    middle = QPoint(canvas.width() // 2, canvas.height() // 2)
    QTest.mouseMove(canvas, middle)
    QTest.mouseClick(canvas, Qt.MouseButton.LeftButton, pos=middle)
    session.wait_for('ready')
    assert len(session.points.data) == 1
    row, column = session.points.data[0]
    assert abs(row - 60) < 3
    assert abs(column - 100) < 3
    QTest.keyClick(canvas, Qt.Key.Key_Q)
    assert session.widget.tools.buttons['Outside'].isChecked()
    QTest.keyClick(canvas, Qt.Key.Key_N)
    assert session.workspace.chosen_candidate == 2
    QTest.keyClick(canvas, Qt.Key.Key_W)
    assert session.labels[60, 100] == 1
    QTest.keyClick(canvas, Qt.Key.Key_U)
    session.wait_for('ready')
    assert not session.labels.any()
    QTest.keyClick(canvas, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert session.workspace.chosen_candidate == 1
    QTest.keyClick(canvas, Qt.Key.Key_K)
    assert len(session.points.data) == 0


def test_no_key_of_ours_is_one_of_napari_own_or_used_twice():
    from napari.settings import get_settings

    from napari_kdsam.widgets.shared.shortcuts import SHORTCUTS

    ours = [shortcut.key for shortcut in SHORTCUTS]
    assert len(set(ours)) == len(ours)
    shortcuts = get_settings().shortcuts.shortcuts
    taken = {str(key).upper() for keys in shortcuts.values() for key in keys}
    assert {'P', 'V'} <= taken, 'the table of napari was not understood'
    assert not taken & set(ours)


def test_an_image_opened_later_is_picked_up(
    make_napari_viewer_proxy, qtbot, fake_factory
):
    from napari_kdsam.widgets.annotator.dock import AnnotatorWidget

    viewer = make_napari_viewer_proxy()
    widget = AnnotatorWidget(viewer, fake_factory)
    viewer.window.add_dock_widget(widget, name='Click to label')
    assert 'Open an image' in widget.status.sentence.toPlainText()
    viewer.add_image(np.zeros((60, 90), np.uint8), name='late')
    qtbot.waitUntil(lambda: widget.controller.workspace.image is not None, timeout=5000)
    assert widget.image_choice.value.name == 'late'
    assert 'Click inside' in widget.status.sentence.toPlainText()
    widget.controller.flow.thread.stop(timeout=5)


def test_removing_the_image_while_it_is_encoded_raises_nothing(annotate):
    session = annotate()
    session.model.encode_seconds = 0.4
    session.points.add(np.array((60, 60)))
    session.qtbot.waitUntil(lambda: session.model.encoded == 1, timeout=10_000)
    session.viewer.layers.remove(session.workspace.image)
    session.qtbot.wait(700)
    assert session.workspace.image is None
    assert len(session.viewer.layers) == 0, 'the helper layers go with their image'


def test_closing_the_dock_ends_the_thread_and_leaves_the_labels(annotate):
    session = annotate()
    session.click(60, 60)
    session.controller.objects.commit()
    session.model.encode_seconds = 0.5
    session.controller.flow.set_model('slow', 'cpu')
    session.points.add(np.array((60, 150)))
    thread = session.controller.flow.thread
    session.viewer.window.remove_dock_widget(session.widget)
    session.widget.deleteLater()
    session.qtbot.waitUntil(lambda: not thread.alive, timeout=10_000)
    names = [layer.name for layer in session.viewer.layers]
    assert names == ['scan', 'scan labels']
    assert session.viewer.layers['scan labels'].data[60, 60] == 1


def test_the_close_button_of_the_panel_ends_the_annotator(annotate):
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest
    from qtpy.QtWidgets import QPushButton

    session = annotate()
    session.click(60, 60)
    session.controller.objects.commit()
    session.points.add(np.array((60, 150)))
    session.show_canvas()
    thread = session.controller.flow.thread
    dock = session.widget.parent()
    cross = dock.titleBarWidget().findChild(QPushButton, 'QTitleBarCloseButton')
    QTest.mouseClick(cross, Qt.MouseButton.LeftButton)
    session.qtbot.waitUntil(lambda: not thread.alive, timeout=10_000)
    names = [layer.name for layer in session.viewer.layers]
    assert names == ['scan', 'scan labels']
    assert 'Q' not in {str(key) for key in session.viewer.keymap}


@pytest.mark.parametrize('shown', [True, False])
def test_two_panels_share_the_side_as_tabs(annotate, shown):
    from qtpy.QtWidgets import QDockWidget, QMainWindow

    from napari_kdsam.widgets.measure.dock import MeasureWidget

    session = annotate()
    if shown:
        session.show_canvas()
    measure = MeasureWidget(session.viewer)
    session.viewer.window.add_dock_widget(measure, name='Measure')
    session.show_canvas()
    panels = [widget.parent() for widget in (session.widget, measure)]
    assert all(isinstance(panel, QDockWidget) for panel in panels)
    window = panels[0].window()
    assert isinstance(window, QMainWindow)
    assert window.tabifiedDockWidgets(panels[0]) == [panels[1]]
    assert not measure.visibleRegion().isEmpty(), 'the one just opened is in front'
    panels[0].raise_()
    session.settle()
    assert session.widget.height() > 400


def test_a_panel_that_is_docked_elsewhere_goes_on(annotate):
    session = annotate()
    window = session.viewer.window
    window.remove_dock_widget(session.widget)
    window.add_dock_widget(session.widget, name='Click to label', area='left')
    session.settle()
    session.click(60, 60)
    assert session.preview[60, 60] == 1


def test_the_first_click_on_real_weights_labels_a_phantom_lesion(
    make_napari_viewer_proxy, qtbot
):
    from napari_kdsam.phantoms import dermoscopy_phantom
    from napari_kdsam.widgets.annotator.dock import AnnotatorWidget

    phantom = dermoscopy_phantom(shape=(300, 400))
    viewer = make_napari_viewer_proxy()
    viewer.add_image(phantom.image, rgb=True, name='lesion')
    widget = AnnotatorWidget(viewer)
    viewer.window.add_dock_widget(widget, name='Click to label')
    controller = widget.controller
    row0, col0, row1, col1 = phantom.box
    corners = [(row0, col0), (row0, col1), (row1, col1), (row1, col0)]
    controller.workspace.layers.shapes.add_rectangles(np.array([corners], float) - 0.5)
    qtbot.waitUntil(
        lambda: controller.workspace.status.kind.value in ('ready', 'error'),
        timeout=60_000,
    )
    controller.objects.commit()
    labels = np.asarray(controller.workspace.target_layer.data) == 1
    overlap = 2 * (labels & phantom.mask).sum() / (labels.sum() + phantom.mask.sum())
    assert overlap > 0.9
    controller.flow.thread.stop(timeout=10)


def test_a_weights_file_can_be_chosen_and_a_broken_one_is_reported(annotate, tmp_path):
    broken = tmp_path / 'broken.safetensors'
    broken.write_bytes(b'not weights')
    session = annotate()
    session.widget.add_weights_file(broken)
    assert session.controller.flow.model == str(broken)
    assert session.widget.model_choice.value == str(broken)


@pytest.mark.parametrize('index', range(5))
def test_every_sample_opens_in_the_viewer(make_napari_viewer_proxy, index):
    from npe2 import PluginManifest

    import napari_kdsam

    manifest = PluginManifest.from_file(
        Path(napari_kdsam.__file__).with_name('napari.yaml')
    )
    sample = manifest.contributions.sample_data[index]
    viewer = make_napari_viewer_proxy()
    viewer.open_sample('napari-kdsam', sample.key)
    assert len(viewer.layers) >= 1
    assert viewer.layers[0].data.size > 0


def test_the_demonstration_opens_ready_to_click_on_its_first_image(qtbot):
    import napari

    from napari_kdsam.demo import DemoResult
    from napari_kdsam.widgets import demo_view

    image = np.zeros((60, 90), np.uint8)
    results = [
        DemoResult('one', image, False, image),
        DemoResult('two', np.zeros((50, 70), np.uint8), False, image[:50, :70]),
    ]
    demo_view.show(results, block=False)
    viewer = napari.current_viewer()
    try:
        docked = list(viewer.window.dock_widgets.values())[-1]
        assert docked.controller.workspace.image.name == 'one'
        visible = [layer.name for layer in viewer.layers if layer.visible]
        assert visible[:2] == ['one', 'one labels']
        assert 'two' not in visible
        assert viewer.layers.selection.active.name == 'KD SAM points'
        docked.controller.flow.thread.stop(timeout=30)
    finally:
        viewer.close()


def test_closing_one_of_two_annotators_leaves_the_other_its_keys(
    annotate, fake_factory
):
    from napari_kdsam.widgets.annotator.dock import AnnotatorWidget

    first = annotate()
    second = AnnotatorWidget(first.viewer, fake_factory)
    first.viewer.window.add_dock_widget(second, name='Click to label, again')
    assert second.controller.workspace.possible_targets() == []
    thread = first.controller.flow.thread
    first.viewer.window.remove_dock_widget(first.widget)
    first.widget.deleteLater()
    first.qtbot.waitUntil(lambda: not thread.alive, timeout=10_000)
    bound = {str(key): action for key, action in first.viewer.keymap.items()}
    assert 'Q' in bound
    bound['Q'](first.viewer)
    assert second.tools.buttons['Outside'].isChecked()
    other = second.controller.flow.thread
    first.viewer.window.remove_dock_widget(second)
    second.deleteLater()
    first.qtbot.waitUntil(lambda: not other.alive, timeout=10_000)
    assert 'Q' not in {str(key) for key in first.viewer.keymap}
