"""What napari's menu opens, before and after its content is loaded."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

DOCKS = ('AnnotatorDock', 'BatchDock', 'MeasureDock', 'CompareDock', 'SeriesDock')
IMPORTED = """
import importlib, sys
from napari_kdsam.widgets import opening
early = set(sys.modules)
for name in sys.argv[1:]:
    importlib.import_module(getattr(opening, name).home[0])
heavy = {'torch', 'torchvision', 'skimage', 'pandas', 'openvino'}
print(sorted(heavy & set(sys.modules)), sorted({'napari', *heavy} & early))
"""


def test_no_dock_imports_what_is_heavy_and_the_menu_not_even_napari():
    done = subprocess.run(
        [sys.executable, '-c', IMPORTED, *DOCKS],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ['[]', '[]']


@pytest.mark.parametrize('name', DOCKS)
def test_a_panel_says_that_it_is_loading_and_is_filled_then(
    make_napari_viewer_proxy, qtbot, name
):
    from qtpy.QtWidgets import QLabel

    from napari_kdsam.widgets import opening

    viewer = make_napari_viewer_proxy(show=False)
    viewer.add_image(np.zeros((60, 90), np.uint8), name='scan')
    dock = getattr(opening, name)(viewer)
    viewer.window.add_dock_widget(dock, name=name)
    assert dock.content is None
    assert 'Loading' in dock.findChild(QLabel).text()
    qtbot.waitUntil(lambda: dock.content is not None, timeout=60_000)
    assert type(dock.content).__name__ == dock.home[1]
    assert dock.content.parent() is dock
    if name == 'AnnotatorDock':
        workspace = dock.content.controller.workspace
        qtbot.waitUntil(lambda: workspace.image is not None, timeout=60_000)
        assert [layer.name for layer in viewer.layers if 'KD SAM' in layer.name] == [
            'KD SAM preview',
            'KD SAM shapes',
            'KD SAM points',
        ]
        assert viewer.layers.selection.active == workspace.layers.points


def test_an_image_that_goes_while_the_panel_begins_leaves_nothing(
    make_napari_viewer_proxy, qtbot
):
    from napari_kdsam.widgets.annotator.dock import AnnotatorWidget

    viewer = make_napari_viewer_proxy(show=False)
    viewer.add_image(np.zeros((60, 90), np.uint8), name='below')
    gone = viewer.add_image(np.zeros((60, 90), np.uint8), name='gone')
    widget = AnnotatorWidget(viewer, begin=False)
    qtbot.addWidget(widget)
    steps = widget.begin_in_steps()
    next(steps)
    viewer.layers.remove(gone)
    assert list(steps)
    assert widget.workspace.image.name == 'below'
    assert len(viewer.layers) == 4
    widget.controller.close()
    assert [layer.name for layer in viewer.layers] == ['below']


def test_a_panel_that_cannot_be_loaded_says_why(qtbot):
    from qtpy.QtWidgets import QLabel

    from napari_kdsam.widgets.opening import OpeningDock

    class Broken(OpeningDock):
        home = 'napari_kdsam.widgets.not_there', 'Widget'

    dock = Broken(None)
    qtbot.addWidget(dock)
    text = dock.findChild(QLabel)
    qtbot.waitUntil(lambda: 'not_there' in text.text(), timeout=60_000)


def opened_annotators():
    from qtpy.QtWidgets import QApplication

    from napari_kdsam.widgets.opening import AnnotatorDock

    widgets = QApplication.allWidgets()
    return [widget for widget in widgets if isinstance(widget, AnnotatorDock)]


def test_another_dock_gets_an_annotator_that_is_still_loading_at_once(
    make_napari_viewer_proxy, qtbot
):
    from napari_kdsam.widgets.shared.image_annotator import plugin_annotator

    viewer = make_napari_viewer_proxy(show=False)
    image = viewer.add_image(np.zeros((60, 90), np.uint8), name='scan')
    annotator = plugin_annotator(viewer)
    assert not annotator.has_prompts(image)
    (dock,) = opened_annotators()
    content = dock.content
    assert annotator == content.guided
    assert content.workspace.image.name == 'scan'
    qtbot.wait(1000)
    assert dock.content is content, 'what was loaded meanwhile is not needed'
    assert plugin_annotator(viewer) == content.guided
    assert opened_annotators() == [dock]


@pytest.mark.parametrize('by', ['menu', 'function', 'plugin'])
def test_a_panel_is_opened_once_however_it_was_opened_before(
    make_napari_viewer_proxy, qtbot, by
):
    from qtpy.QtWidgets import QLabel, QMenu

    from napari_kdsam.widgets.shared.plugin_docks import plugin_dock

    viewer = make_napari_viewer_proxy(show=True)
    if by == 'menu':
        plugins_menu = viewer.window.plugins_menu
        plugins_menu.aboutToShow.emit()
        next(
            action
            for menu in (plugins_menu, *plugins_menu.findChildren(QMenu))
            for action in menu.actions()
            if action.text().startswith('Click to label')
        ).trigger()
    elif by == 'function':
        viewer.window.add_plugin_dock_widget('napari-kdsam', 'Click to label')
    else:
        plugin_dock(viewer, 'Click to label')
    (before,) = opened_annotators()
    other = viewer.window.add_dock_widget(QLabel('other'), name='other', tabify=True)
    other.raise_()
    qtbot.waitUntil(lambda: before.visibleRegion().isEmpty())
    plugin_dock(viewer, 'Click to label')
    assert before.visibleRegion().isEmpty()
    plugin_dock(viewer, 'Click to label', front=True)
    assert opened_annotators() == [before]
    qtbot.waitUntil(lambda: not before.visibleRegion().isEmpty())
    qtbot.waitUntil(lambda: before.content is not None, timeout=60_000)
    before.content.controller.flow.thread.stop(timeout=30)


@pytest.mark.parametrize('title', ['Click to label', 'Label a series of images'])
def test_nothing_is_cut_at_the_side_of_a_panel_in_a_low_window(
    make_napari_viewer_proxy, qtbot, title
):
    from qtpy.QtWidgets import QApplication, QScrollArea

    from napari_kdsam.widgets.opening import OpeningDock
    from napari_kdsam.widgets.shared.plugin_docks import plugin_dock

    viewer = make_napari_viewer_proxy(show=True)
    viewer.add_image(
        np.zeros((60, 90), np.uint8), name='a_name_of_more_than_20_letters'
    )
    viewer.window.resize(1000, 500)
    plugin_dock(viewer, title)
    (dock,) = [x for x in QApplication.allWidgets() if isinstance(x, OpeningDock)]
    qtbot.waitUntil(lambda: dock.content is not None, timeout=60_000)
    scroll = dock.findChild(QScrollArea)
    qtbot.waitUntil(lambda: scroll.verticalScrollBar().isVisible(), timeout=20_000)
    qtbot.wait(200)
    assert not scroll.horizontalScrollBar().isVisible()
    dock.filled()
    if title == 'Click to label':
        dock.content.controller.flow.thread.stop(timeout=30)
