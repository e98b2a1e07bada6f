"""A window with a series of pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from series_window import Walking, draw, shape_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(4):
        draw(tmp_path / 'scans' / f'img{number}.png', shape_of(number), number)
    return tmp_path / 'scans'


@pytest.fixture
def walking(
    make_napari_viewer_proxy: Any,
    qtbot: Any,
    fake_factory: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Any:
    from qtpy.QtWidgets import QFileDialog, QMessageBox

    from napari_kdsam.widgets.annotator.dock import AnnotatorWidget
    from napari_kdsam.widgets.series.dock import SeriesWidget

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError('a dialog was opened')

    for dialog, names in (
        (QFileDialog, ('getSaveFileName', 'getOpenFileName', 'getExistingDirectory')),
        (QMessageBox, ('question', 'exec')),
    ):
        for name in names:
            monkeypatch.setattr(dialog, name, refuse)
    monkeypatch.setenv('XDG_CONFIG_HOME', str(tmp_path / 'config'))
    opened = []

    def open_viewer() -> Walking:
        viewer = make_napari_viewer_proxy(show=False)
        annotator = AnnotatorWidget(viewer, fake_factory)
        viewer.window.add_dock_widget(annotator, name='Click to label')
        dock = SeriesWidget(viewer, lambda _: annotator.guided)
        viewer.window.add_dock_widget(dock, name='Label a series of images')
        opened.append(Walking(viewer, annotator, dock, qtbot))
        return opened[-1]

    yield open_viewer
    for one in opened:
        one.walk.close()
        one.annotator.controller.flow.thread.stop(timeout=5)
