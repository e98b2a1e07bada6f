"""Fixtures shared by the tests: a fake model, the widget, and weights files."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import numpy as np
import pytest
from fakes import FakeModel

if TYPE_CHECKING:
    from napari_kdsam.model.network import PromptableModel

# Before napari reads it: tests neither see nor change a developer's own preferences.
_CONFIGURATION = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
os.environ['NAPARI_CONFIG'] = str(Path(_CONFIGURATION.name, 'settings.yaml'))


# One profile for all tests: examples are few enough, and how long they take is no claim.
hypothesis.settings.register_profile('napari-kdsam', deadline=None)
hypothesis.settings.load_profile('napari-kdsam')


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark what opens a window, wherever it is: it has Qt's application."""
    if 'qapp' in getattr(item, 'fixturenames', ()):
        item.add_marker(pytest.mark.gui)


@pytest.fixture(autouse=True)
def sessions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of session files of this test, never the user's."""
    folder = tmp_path / 'sessions'
    monkeypatch.setenv('NAPARI_KDSAM_SESSIONS', str(folder))
    return folder


@pytest.fixture
def fake_model() -> FakeModel:
    return FakeModel()


@pytest.fixture
def fake_factory(fake_model: FakeModel) -> Callable[[str, str], Any]:
    """Make predictors of the fake model, whatever name is asked for."""

    def make(model: str, device: str) -> Any:
        from napari_kdsam import Predictor

        return Predictor(fake_model)  # type: ignore[arg-type]

    return make


@dataclass
class Canvas:
    """The canvas of a window that is shown, for events at world (row, column)."""

    viewer: Any
    native: Any

    def move(self, spot: Any) -> None:
        """Move the mouse, no faster than the canvas cares to notice."""
        from qtpy.QtTest import QTest

        QTest.mouseMove(self.native, spot)
        QTest.qWait(20)

    def at(self, row: float, column: float) -> Any:
        """The canvas pixel that shows a world point, by where the cursor says it is."""
        from qtpy.QtCore import QPoint

        seen = []
        for spot in (QPoint(200, 200), QPoint(300, 300)):
            self.move(spot)
            seen.append(self.viewer.cursor.position[-2:])
        (row0, column0), (row1, column1) = seen
        x = 200 + 100 * (column - column0) / (column1 - column0)
        y = 200 + 100 * (row - row0) / (row1 - row0)
        return QPoint(round(x), round(y))

    def key(self, key: Any, *modifiers: Any) -> None:
        """Press and release a key."""
        from qtpy.QtCore import Qt
        from qtpy.QtTest import QTest

        held = Qt.KeyboardModifier.NoModifier
        for modifier in modifiers:
            held |= modifier
        QTest.keyClick(self.native, key, held)


@dataclass
class Annotating:
    """A viewer with the docked annotator, and ways to wait for it."""

    viewer: Any
    widget: Any
    qtbot: Any
    model: FakeModel

    @property
    def controller(self) -> Any:
        return self.widget.controller

    @property
    def workspace(self) -> Any:
        return self.controller.workspace

    @property
    def points(self) -> Any:
        return self.workspace.layers.points

    @property
    def shapes(self) -> Any:
        return self.workspace.layers.shapes

    @property
    def preview(self) -> np.ndarray:
        return np.asarray(self.workspace.layers.preview.data)

    @property
    def labels(self) -> np.ndarray:
        return np.asarray(self.workspace.target_layer.data)

    def stage(self) -> str:
        return str(self.workspace.status.kind.value)

    def wait_for(self, stage: str) -> None:
        self.qtbot.waitUntil(lambda: self.stage() == stage, timeout=30_000)

    def click(self, *position: float) -> None:
        """Add a point as a left click does, and wait for the mask."""
        self.points.add(np.array(position, float))
        self.wait_for('ready')

    def draw(self, *corners: tuple[float, ...]) -> None:
        """Draw a box from one corner to the opposite one, and wait for the mask."""
        (*lead, r0, c0), (*_, r1, c1) = corners
        outline = [(*lead, r0, c0), (*lead, r0, c1), (*lead, r1, c1), (*lead, r1, c0)]
        self.shapes.add_rectangles(np.array([outline], float))
        self.wait_for('ready')

    def settle(self) -> None:
        """Let what Qt has queued happen."""
        self.qtbot.wait(30)

    def show_canvas(self) -> Canvas:
        """Show the window, and give real mouse and key events to its canvas."""
        from qtpy.QtWidgets import QApplication, QWidget

        self.viewer.window.resize(1000, 700)
        self.viewer.window.show()
        self.qtbot.wait(300)
        found = next(
            widget
            for top in QApplication.topLevelWidgets()
            for widget in top.findChildren(QWidget)
            if 'CanvasBackend' in type(widget).__name__ and widget.isVisible()
        )
        return Canvas(self.viewer, found)


@pytest.fixture
def annotate(
    make_napari_viewer_proxy: Any, qtbot: Any, fake_model: FakeModel, fake_factory: Any
) -> Iterator[Callable[..., Annotating]]:
    """Open a viewer with an image and the docked annotator over a fake model."""
    opened = []

    def open_annotator(image: Any = None, **options: Any) -> Annotating:
        from napari_kdsam.widgets.annotator.dock import AnnotatorWidget

        viewer = make_napari_viewer_proxy(show=False)
        if image is None:
            image = np.random.default_rng(0).integers(0, 255, (120, 200), np.uint8)
        viewer.add_image(image, name='scan', **options)
        widget = AnnotatorWidget(viewer, fake_factory)
        viewer.window.add_dock_widget(widget, name='Click to label')
        opened.append(widget)
        return Annotating(viewer, widget, qtbot, fake_model)

    yield open_annotator
    for widget in opened:
        widget.controller.flow.thread.stop(timeout=5)
        assert not widget.controller.flow.thread.alive


@pytest.fixture(scope='module')
def untrained() -> PromptableModel:
    """A student with random weights; tests leave it as it is."""
    import torch
    from weights_files import shake_norms

    from napari_kdsam.model.network import build_kdsam

    torch.manual_seed(0)
    model = build_kdsam(512)
    shake_norms(model)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope='module')
def saved(untrained: PromptableModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The random student's checkpoint; tests leave it as it is."""
    from napari_kdsam import save_kdsam

    path = tmp_path_factory.mktemp('saved') / 'mine.safetensors'
    return save_kdsam(untrained, path, {'teacher': 'nobody', 'note': {'epochs': 3}})


@pytest.fixture
def altered(saved: Path, tmp_path: Path) -> Callable[..., Path]:
    """Write the saved checkpoint again with a change to its tensors or header."""
    from safetensors.torch import load_file, save_file

    from napari_kdsam.model.checkpoint import read_metadata

    def write(
        change: Callable[[dict[str, Any]], Any] | None = None, **header: Any
    ) -> Path:
        tensors = load_file(saved)
        if change:
            change(tensors)
        described = read_metadata(saved).model_dump() | header
        path = tmp_path / 'altered.safetensors'
        save_file(tensors, path, {'kdsam': json.dumps(described)})
        return path

    return write
