"""Labels that cannot be written: said in the window, and nothing is lost."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from qtpy.QtCore import Qt

from napari_kdsam.series.entries import ImageStatus


@pytest.mark.parametrize(
    ('owner', 'name', 'number'),
    [(os, 'replace', errno.ENOSPC), (Path, 'mkdir', errno.EROFS)],
    ids=['full', 'read-only'],
)
def test_an_image_whose_labels_cannot_be_written_stays_with_its_session(
    walking, folder, sessions, monkeypatch, owner, name, number
):
    output = folder.parent / 'out'
    day = walking()
    canvas = day.canvas()
    day.open(folder, output)
    day.point()
    assert day.annotator.controller.objects.commit()
    day.qtbot.waitUntil(lambda: bool(list(sessions.glob('*.json'))), timeout=30_000)
    real = getattr(owner, name)

    def refuse(*values: Any, **named: Any) -> Any:
        if str(values[0]).startswith(str(output)):
            raise OSError(number, os.strerror(number))
        return real(*values, **named)

    with monkeypatch.context() as patched:
        patched.setattr(owner, name, refuse)
        for _ in range(2):
            canvas.key(Qt.Key.Key_PageDown)
            day.qtbot.wait(20)
            day.settle()
            assert day.walk.index == 0
        said = day.dock.status.text()
        assert said.startswith('Not saved, so this image stays')
        assert os.strerror(number) in said
        assert day.dock.status.isVisible()
        assert day.walk.failed
        day.dock.unsure.click()
        if owner is os:
            # The table is replaced as well.
            day.qtbot.waitUntil(lambda: 'Marks and notes' in day.dock.status.text())
    assert day.annotator.workspace.target_layer.data.any()
    assert list(sessions.glob('*.json')), 'kept until it is in a file'
    assert not list(output.glob('img0*'))
    canvas.key(Qt.Key.Key_PageDown)
    day.qtbot.waitUntil(lambda: day.walk.index == 1, timeout=30_000)
    assert day.status(0) is ImageStatus.done
    assert day.walk.series.entry(0).unsure
    day.qtbot.waitUntil(lambda: not list(sessions.glob('*.json')), timeout=30_000)
