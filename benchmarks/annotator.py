"""Measure the annotator in a real window: clicks, commits, blocking and memory.

Run it where there is a display, or with xvfb-run, on an idle machine. A click counts from
the added point to the first frame that the window paints with the new mask.

Usage: python benchmarks/annotator.py [--clicks 200] [--memory-clicks 2000]
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import napari
import numpy as np
from qtpy.QtCore import Qt, QTimer
from qtpy.QtOpenGLWidgets import QOpenGLWidget
from qtpy.QtWidgets import QApplication

from napari_kdsam.phantoms import ultrasound_phantom
from napari_kdsam.widgets.annotator import AnnotatorWidget

SHAPE = (600, 800)
TICK_MS = 5


def process(done: Callable[[], bool], seconds: float = 60) -> None:
    """Run Qt's event loop until `done`."""
    end = time.perf_counter() + seconds
    while not done():
        if time.perf_counter() > end:
            sys.exit('The window did not get there in time.')
        QApplication.processEvents()
        time.sleep(0.0005)


@dataclass
class Ticker:
    """A timer whose late ticks tell how long the event loop was blocked."""

    gaps: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._last = time.perf_counter()
        self._timer = QTimer()
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.setInterval(TICK_MS)
        self._timer.timeout.connect(self._tick)
        self._timer.start()

    def _tick(self) -> None:
        now = time.perf_counter()
        self.gaps.append(1000 * (now - self._last))
        self._last = now

    def restart(self) -> None:
        """Forget what was measured so far."""
        self._last = time.perf_counter()
        self.gaps.clear()

    @property
    def worst(self) -> float:
        """The longest time between two ticks, in milliseconds."""
        return max(self.gaps, default=0.0)


class Bench:
    """A window with a stack of phantoms and the annotator."""

    def __init__(self, frames: int) -> None:
        image = np.stack([_phantom(seed) for seed in range(min(frames, 4))])
        stack = np.concatenate([image] * -(-frames // len(image)))[:frames]
        self.viewer = napari.Viewer()
        self.viewer.add_image(stack, name='phantoms')
        self.widget = AnnotatorWidget(self.viewer)
        self.viewer.window.add_dock_widget(self.widget, name='Click to label')
        self.viewer.window.resize(1366, 768)
        self.controller: Any = self.widget.controller
        self.painted = 0
        window = self.widget.window()
        for canvas in window.findChildren(QOpenGLWidget):
            canvas.frameSwapped.connect(self._on_painted)
        self.generator = np.random.default_rng(0)

    def _on_painted(self) -> None:
        self.painted += 1

    def click(self, frame: int) -> float:
        """Add a point and return the milliseconds until its mask is painted."""
        position = self.generator.uniform((150, 200), (450, 600))
        before = self.controller.decode_ms
        start = time.perf_counter()
        self.controller.layers.points.add(np.array([frame, *position]))
        process(lambda: self.controller.decode_ms != before)
        painted = self.painted
        process(lambda: self.painted > painted)
        return 1000 * (time.perf_counter() - start)

    def timed(self, act: Callable[[], Any]) -> float:
        """Milliseconds that a call takes."""
        start = time.perf_counter()
        act()
        return 1000 * (time.perf_counter() - start)

    def rest(self, seconds: float = 0.2) -> None:
        """Let everything that is queued happen."""
        end = time.perf_counter() + seconds
        process(lambda: time.perf_counter() > end)


def _phantom(seed: int) -> Any:
    from skimage.transform import resize

    image = ultrasound_phantom(seed).image
    return resize(image, SHAPE, preserve_range=True).astype(np.uint8)


def memory_mb() -> float:
    """Resident memory of this process."""
    text = Path('/proc/self/status').read_text(encoding='ascii')
    return float(text.split('VmRSS:')[1].split()[0]) / 1024


def row(name: str, value: float, target: float, unit: str = 'ms') -> str:
    """A line of the table."""
    mark = 'met' if value <= target else 'MISSED'
    return f'| {name} | {value:.0f} {unit} | {target:.0f} {unit} | {mark} |'


def main() -> None:
    """Run everything and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--clicks', type=int, default=200)
    parser.add_argument('--memory-clicks', type=int, default=2000)
    arguments = parser.parse_args()
    bench, ticker = Bench(300), Ticker()
    bench.viewer.dims.set_point(0, 0)
    bench.rest(3)
    bench.click(0)
    bench.rest(1)

    clicks, commits = [], []
    ticker.restart()
    for number in range(arguments.clicks):
        clicks.append(bench.click(0))
        if number % 4 == 3:
            commits.append(bench.timed(bench.controller.commit))
            if bench.controller.draft.points:
                bench.controller.clear()
            bench.rest(0.02)
    blocked_clicks = ticker.worst

    bench.rest(1)
    ticker.restart()
    for frame in range(20, 40):
        bench.viewer.dims.set_point(0, frame)
        bench.rest(0.05)
    blocked_frames = ticker.worst

    ticker.restart()
    bench.viewer.dims.set_point(0, 100)
    bench.click(100)
    bench.rest(2)
    blocked_encoding = ticker.worst

    bench.viewer.dims.set_point(0, 200)
    for _ in range(50):
        bench.click(200)
        bench.controller.clear()
    start = memory_mb()
    for number in range(arguments.memory_clicks):
        bench.click(200)
        if number % 10 == 9:
            bench.controller.commit()
            bench.controller.clear()
    grown = memory_mb() - start

    print('| measured | value | target | |')
    print('|---|--:|--:|---|')
    print(row('click to painted preview, median', float(np.median(clicks)), 80))
    print(row('click to painted preview, p95', float(np.percentile(clicks, 95)), 80))
    print(row('commit on 300 frames, p95', float(np.percentile(commits, 95)), 50))
    print(row('longest block, clicks, commits, autosave', blocked_clicks, 50))
    print(row('longest block, frame changes', blocked_frames, 50))
    print(row('longest block, encoding and prefetching', blocked_encoding, 50))
    many = arguments.memory_clicks
    print(row(f'memory grown over {many} clicks', grown, 50, 'MB'))
    print(f'\n{len(clicks)} clicks at 800 x 600, {len(commits)} commits.')
    bench.viewer.close()


if __name__ == '__main__':
    main()
