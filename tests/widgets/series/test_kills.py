"""A series in a window of its own process, which is killed at any moment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_kdsam.annotation.session_file import read_session
from napari_kdsam.series.entries import ImageStatus
from napari_kdsam.series.series import Series

IMAGES = 40
_WALK = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import napari
import numpy as np
from fakes import FakeModel
from napari_kdsam import Predictor
from napari_kdsam.widgets.annotator.dock import AnnotatorWidget
from napari_kdsam.widgets.series.dock import SeriesWidget
from qtpy.QtWidgets import QApplication

folder, sessions = Path(sys.argv[2]), Path(sys.argv[3])
viewer = napari.Viewer()
annotator = AnnotatorWidget(viewer, lambda model, device: Predictor(FakeModel()))
viewer.window.add_dock_widget(annotator)
dock = SeriesWidget(viewer, lambda _: annotator.guided)
viewer.window.add_dock_widget(dock)
walk, workspace = dock.walk, annotator.workspace

def until(condition):
    while not condition():
        QApplication.processEvents()

walk.open(folder, folder / 'labels', 'png')
until(lambda: walk.index >= 0)
print('open', flush=True)
for number in range(walk.index, len(walk.series.images)):
    until(lambda: not workspace.unseen)
    workspace.layers.points.add(np.array((20.0, 20.0 + number)))
    until(lambda: workspace.status.kind.value == 'ready')
    if number % 2:
        annotator.controller.objects.commit()
        until(lambda: any('"region"' in p.read_text() for p in sessions.glob('*.json')))
        print('kept', number, flush=True)
    walk.next()
    until(lambda: walk.index > number or 'last' in walk.message)
    print('saved', number, flush=True)
"""


def draw(folder: Path) -> None:
    folder.mkdir()
    for number in range(IMAGES):
        pixels = np.random.default_rng(number).integers(0, 255, (60, 90), np.uint8)
        Image.fromarray(pixels).save(folder / f'img{number}.png')


def masks_in(sessions: Path) -> list[np.ndarray]:
    """The pixels of all objects that sessions hold."""
    return [
        item.region.full_mask((60, 90))
        for path in sessions.glob('*.json')
        for item in read_session(path, path.name.split('-')[0]).state.objects
    ]


def killed_after(seconds: float, folder: Path, sessions: Path) -> dict[str, set[int]]:
    """Walk through a series, and end the process after a while; what it said by then."""
    script = folder.with_name('walk.py')
    script.write_text(_WALK)
    call = [sys.executable, script, Path(__file__).parents[2], folder, sessions]
    said: dict[str, set[int]] = {'kept': set(), 'saved': set()}
    with subprocess.Popen(
        call, stdout=subprocess.PIPE, text=True, env=dict(os.environ)
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == 'open\n'
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        for line in process.stdout:
            what, _, number = line.partition(' ')
            if number.endswith('\n'):
                said[what].add(int(number))
    return said


@pytest.mark.gui
@pytest.mark.parametrize('seed', range(int(os.environ.get('KDSAM_WINDOW_KILLS', '2'))))
def test_a_kill_loses_nothing_that_was_saved_or_kept(tmp_path, sessions, seed):
    folder = tmp_path / 'scans'
    draw(folder)
    randomness = np.random.default_rng(seed)
    said = killed_after(randomness.uniform(0.1, 4.0), folder, sessions)
    held = masks_in(sessions)
    series = Series(folder, folder / 'labels')
    assert not series.notices
    for place in range(IMAGES):
        start, entry = series.start_of(place, (60, 90)), series.entry(place)
        assert not start.notice
        if start.labels is not None:
            assert entry.status is ImageStatus.done
            assert start.labels[20, 20 + place] == 1
            assert set(np.unique(start.labels)) == {0, 1}
        else:
            assert place not in said['saved']
            assert entry.status is ImageStatus.new
        if place in said['kept']:
            assert start.labels is not None or any(m[20, 20 + place] for m in held)
    # Of what is in its file no session is left, but for what the kill cut short.
    assert len(held) <= 2
    series.close()
