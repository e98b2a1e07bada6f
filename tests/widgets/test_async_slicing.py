"""The annotator and the batch panel with napari's asynchronous slicing on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from batch_window import Batching, FickleModel, add_box, stack, wait_for_threads


@pytest.fixture(autouse=True)
def asynchronous() -> Iterator[None]:
    from napari.settings import get_settings

    experimental = get_settings().experimental
    before = experimental.async_
    experimental.async_ = True
    yield
    experimental.async_ = before


def test_clicks_commits_undo_and_frames_work(annotate):
    session = annotate(stack(4))
    canvas = session.show_canvas()
    session.viewer.dims.set_current_step(0, 1)
    canvas.click(30, 40)
    session.wait_for('ready')
    assert session.preview[..., 30, 40].any()
    session.controller.objects.commit()
    assert session.labels[1, 30, 40] == 1
    session.viewer.dims.set_current_step(0, 3)
    canvas.click(20, 60)
    session.wait_for('ready')
    session.controller.objects.commit()
    before = session.labels.copy()
    assert before[3, 20, 60] == 2
    session.controller.undo()
    session.settle()
    assert not (session.labels[3] == 2).any()
    session.controller.redo()
    session.settle()
    np.testing.assert_array_equal(session.labels, before)
    # napari's own undo on the labels is followed, too.
    session.workspace.target_layer.undo()
    session.qtbot.waitUntil(
        lambda: len(session.workspace.session.state.objects) == 1, timeout=10_000
    )


def test_a_batch_writes_its_labels_and_is_corrected(annotate, qtbot):
    from napari_kdsam import Predictor
    from napari_kdsam.widgets.batch.dock import BatchWidget

    annotating = annotate(stack(4))
    model: Any = FickleModel()
    widget = BatchWidget(
        annotating.viewer,
        lambda *_: Predictor(model),
        lambda _: annotating.widget.guided,
    )
    annotating.viewer.window.add_dock_widget(widget, name='batch')
    session = Batching(annotating.viewer, widget, qtbot, model)
    widget.watch.setChecked(True)
    session.look_at(0)
    session.run('SAME', shapes=add_box(session, 0))
    assert session.filled() == [0, 1, 2, 3]
    widget.answers['next_result'].click()
    widget.answers['reject_result'].click()
    assert len(session.filled()) == 3
    widget.answers['undo_review'].click()
    assert session.filled() == [0, 1, 2, 3]
    widget.answers['correct_result'].click()
    assert annotating.workspace.target_layer is session.choices.output.value
    session.controller.close()
    wait_for_threads(qtbot)
