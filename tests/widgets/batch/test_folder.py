"""A folder of images segmented from the batch panel, in a real window."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from batch_window import stack
from fakes import FakeModel
from PIL import Image

from napari_kdsam import Predictor
from napari_kdsam.batch import work
from napari_kdsam.io.label_images import read_mask


@pytest.fixture
def folder(batch, tmp_path: Path, monkeypatch) -> Any:
    """The panel of a window, with three images of different sizes to segment."""
    model = FakeModel()
    predictor = Predictor(model)  # type: ignore[arg-type]
    monkeypatch.setattr(work, 'predictor_for', lambda *_, **__: predictor)
    images = tmp_path / 'images'
    images.mkdir()
    for number, pixels in enumerate(stack(3)):
        Image.fromarray(pixels[: 60 - 5 * number]).save(images / f'scan {number}.png')
    opened: list[tuple[Path, Path]] = []
    panel = batch().widget.folder
    panel._open_series = lambda viewer, *folders: opened.append(folders)
    panel.choose(images)
    from napari_kdsam.widgets.batch.setup import BatchMethod

    panel.method.value = BatchMethod.AUTOMATIC
    panel.opened, panel.model = opened, model
    return panel


def gate(model: FakeModel, passes: int) -> threading.Semaphore:
    """Let the encoder begin only so many images."""
    semaphore, encode = threading.Semaphore(passes), model.encode

    def gated(pixels: Any) -> Any:
        assert semaphore.acquire(timeout=60)
        return encode(pixels)

    model.encode = gated  # type: ignore[method-assign]
    return semaphore


def wait(qtbot: Any, panel: Any) -> str:
    qtbot.waitUntil(panel.start.isEnabled, timeout=60_000)
    return str(panel.status.text())


def test_every_image_of_a_folder_gets_labels_and_they_can_be_gone_through(
    folder, qtbot
):
    (folder.images / 'notes.txt').write_text('no image')
    assert not folder.look.isEnabled()
    folder.start.click()
    assert not folder.start.isEnabled()
    said = wait(qtbot, folder)
    assert said.startswith('3 files: 3 done')
    assert '1 file left out' in said
    for number in range(3):
        mask = read_mask(folder.labels / f'scan {number}_labels.png')
        assert mask.shape == (60 - 5 * number, 90)
        assert mask.any()
    assert (folder.labels / 'manifest.csv').is_file()
    folder.look.click()
    assert folder.opened == [(folder.images, folder.images / 'labels')]


def test_a_cancelled_folder_goes_on_and_does_nothing_twice(folder, qtbot):
    for number in range(3, 9):
        Image.fromarray(stack(number)[-1]).save(folder.images / f'scan {number}.png')
    passes = gate(folder.model, 6)
    folder.start.click()
    qtbot.waitUntil(lambda: folder.bar.value() >= 1, timeout=60_000)
    folder.cancel.click()
    passes.release(20)
    assert wait(qtbot, folder).startswith('Cancelled; Start goes on.')
    assert (folder.labels / 'manifest.csv').is_file()
    before = folder.model.encoded
    assert before < 9
    folder.start.click()
    assert '9 done' in wait(qtbot, folder)
    assert folder.model.encoded <= 10


def test_files_of_somebody_else_are_not_replaced_and_named(folder, qtbot, tmp_path):
    folder.choose(folder.images, tmp_path / 'out')
    folder.labels.mkdir()
    own = folder.labels / 'scan 1_labels.png'
    Image.fromarray(np.ones((5, 5), np.uint8)).save(own)
    before = own.read_bytes()
    folder.start.click()
    said = wait(qtbot, folder)
    assert 'scan 1_labels.png' in said
    assert own.read_bytes() == before
    assert not (folder.labels / 'scan 0_labels.png').exists()


def test_a_folder_that_is_gone_or_empty_is_said(folder, qtbot, tmp_path):
    folder.choose(tmp_path / 'nowhere')
    folder.start.click()
    assert 'There is no folder' in wait(qtbot, folder)
    assert not folder.labels.exists()
    empty = tmp_path / 'empty'
    empty.mkdir()
    folder.choose(empty)
    folder.start.click()
    assert 'empty' in wait(qtbot, folder)
