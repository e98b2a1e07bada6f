"""Viewer, `segment` and `batch` make the same labels of the same prompts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from napari_kdsam import Predictor
from napari_kdsam.batch.work import predictor_for
from napari_kdsam.cli.main import app

SHAPE = (5, 120, 160)
# Half-open boxes by frame; the first two overlap, and the third is cut by the edge.
BOXES = {
    0: [(10, 10, 60, 70), (40, 40, 90, 120), (100, 130, 120, 160)],
    1: [(20, 20, 70, 80), (20, 20, 70, 80)],
    3: [(5, 60, 100, 150)],
}


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    path = tmp_path / 'stack.npy'
    np.save(path, np.random.default_rng(0).integers(0, 255, SHAPE, np.uint8))
    return path


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, fake_model: Any) -> Callable[..., None]:
    """Run a command over the fake model."""
    monkeypatch.setattr('napari_kdsam.model.loading.load_model', lambda *_: fake_model)

    def run(*arguments: object) -> None:
        predictor_for.cache_clear()
        done = CliRunner().invoke(app, [str(item) for item in arguments])
        predictor_for.cache_clear()
        assert done.exit_code == 0, done.output

    return run


@pytest.fixture
def in_viewer(
    make_napari_viewer_proxy: Any, qtbot: Any, fake_model: Any
) -> Callable[..., np.ndarray]:
    """Run the batch dock over the fake model, and give the labels that it made."""

    def run(path: Path, method: str, boxes: dict[int, Any], at: int) -> np.ndarray:
        from napari_kdsam.widgets.batch.dock import BatchWidget
        from napari_kdsam.widgets.batch.setup import BatchMethod

        viewer = make_napari_viewer_proxy(show=False)
        viewer.add_image(np.load(path), name='stack')
        viewer.dims.set_current_step(0, at)
        corners = [
            [(frame, *place) for place in outline(box)]
            for frame, drawn in boxes.items()
            for box in drawn
        ]
        if corners:
            viewer.add_shapes(corners, shape_type='rectangle')
        widget = BatchWidget(viewer, lambda *_: Predictor(fake_model))
        viewer.window.add_dock_widget(widget, name='batch')
        widget.choices.method.value = BatchMethod[method]
        widget.start_button.click()
        qtbot.waitUntil(lambda: widget.controller.phase.value == 'idle', timeout=60_000)
        assert not widget.controller.counts.failed
        labels = np.asarray(widget.choices.output.value.data)
        widget.controller.close()
        return labels

    return run


def outline(box: tuple[int, ...]) -> list[tuple[float, float]]:
    row0, col0, row1, col1 = np.array(box) - 0.5
    return [(row0, col0), (row0, col1), (row1, col1), (row1, col0)]


def prompts(folder: Path, boxes: dict[int, Any]) -> Path:
    objects = [
        {'box': list(box), 'frame': frame}
        for frame, drawn in boxes.items()
        for box in drawn
    ]
    path = folder / 'prompts.json'
    path.write_text(json.dumps({'format': 1, 'objects': objects}))
    return path


@pytest.mark.parametrize('frame', [0, 1, 3])
def test_prompts_that_overlap_give_equal_labels_in_all_three(
    command, in_viewer, stack: Path, tmp_path: Path, frame: int
) -> None:
    boxes = {frame: BOXES[frame]}
    given = prompts(tmp_path, boxes)
    command('segment', stack, '--prompts', given, '--out', tmp_path / 'one')
    command('batch', stack, '--prompts', given, '--out', tmp_path / 'many')
    one, many = tmp_path / 'one/stack_labels.tif', tmp_path / 'many/stack_labels.tif'
    assert tifffile.imread(one).tobytes() == tifffile.imread(many).tobytes()
    shown = in_viewer(stack, 'EACH', boxes, frame)
    np.testing.assert_array_equal(shown, tifffile.imread(many))
    assert len(np.unique(shown[frame])) > 1


def test_objects_without_a_frame_are_labelled_alike_on_every_frame(
    command, in_viewer, stack: Path, tmp_path: Path
) -> None:
    given = tmp_path / 'prompts.json'
    objects = [{'box': list(box)} for box in BOXES[0]]
    given.write_text(json.dumps({'format': 1, 'objects': objects}))
    command('segment', stack, '--prompts', given, '--out', tmp_path / 'one')
    command('batch', stack, '--prompts', given, '--out', tmp_path / 'many')
    one, many = tmp_path / 'one/stack_labels.tif', tmp_path / 'many/stack_labels.tif'
    assert tifffile.imread(one).tobytes() == tifffile.imread(many).tobytes()
    shown = in_viewer(stack, 'SAME', {0: BOXES[0]}, 0)
    np.testing.assert_array_equal(shown, tifffile.imread(many))


@pytest.mark.parametrize('key', [0, 1, 3])
def test_followed_objects_are_labelled_alike(
    command, in_viewer, stack: Path, tmp_path: Path, key: int
) -> None:
    given = prompts(tmp_path, {key: BOXES[0]})
    command(
        'batch', stack, '--prompts', given, '--propagate', '--out', tmp_path / 'many'
    )
    shown = in_viewer(stack, 'FOLLOW_PROMPTS', {key: BOXES[0]}, key)
    np.testing.assert_array_equal(
        shown, tifffile.imread(tmp_path / 'many/stack_labels.tif')
    )
    assert sum(frame.any() for frame in shown) >= 3


def test_everything_that_is_found_is_labelled_alike(
    command, in_viewer, stack: Path, tmp_path: Path
) -> None:
    command('batch', stack, '--prompts', 'automatic', '--out', tmp_path / 'many')
    shown = in_viewer(stack, 'AUTOMATIC', {}, 0)
    np.testing.assert_array_equal(
        shown, tifffile.imread(tmp_path / 'many/stack_labels.tif')
    )
