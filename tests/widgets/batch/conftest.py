"""Opens the batch widget over a fake model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from batch_window import Batching, stack, wait_for_threads
from fakes import FakeModel

from napari_kdsam.core.errors import ModelNotFoundError


@pytest.fixture
def batch(make_napari_viewer_proxy: Any, qtbot: Any) -> Iterator[Callable[..., Any]]:
    """Open a viewer with images and the docked batch widget over a fake model."""
    opened: list[Batching] = []

    def open_batch(*images: Any, model: Any = None, **options: Any) -> Batching:
        from napari_kdsam import Predictor
        from napari_kdsam.widgets.batch.dock import BatchWidget

        viewer = make_napari_viewer_proxy(show=False)
        for number, image in enumerate(images or (stack(6),)):
            viewer.add_image(image, name=f'scan {number}', **options)
        model = model or FakeModel()

        def make(name: str, device: str) -> Predictor:
            if getattr(model, 'missing', False):
                raise ModelNotFoundError('No such model here.')
            return Predictor(model)

        widget = BatchWidget(viewer, make)
        viewer.window.add_dock_widget(widget, name='Segment a stack or layers')
        opened.append(Batching(viewer, widget, qtbot, model))
        return opened[-1]

    yield open_batch
    for session in opened:
        session.controller.close()
    wait_for_threads(qtbot)
