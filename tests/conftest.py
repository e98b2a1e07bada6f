"""Fixtures shared by the tests: a fake model, the widget, and weights files."""

from __future__ import annotations

import gc
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import numpy as np
import pytest
from annotator_window import Annotating
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


@pytest.hookimpl(trylast=True)
def pytest_runtest_logfinish(nodeid: str) -> None:
    """Let the collector, which napari calls for every viewer, pass over what stays."""
    if 'napari' in sys.modules:
        gc.collect()
        gc.freeze()


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
