"""Measure the annotator in a real window: clicks, commits, blocking and memory.

Run it where there is a display, or with xvfb-run, on an idle machine. A click is a mouse
button pressed, held for `HOLD` seconds and let go, as hands do. It counts from letting go to
the first frame that the window paints with the new point and its mask; counted from the press
it takes `HOLD` longer. `points.add` is a point added by a script instead, which gives no
warning. The same window with plain napari layers is measured too, because a click or another
frame takes its time there as well.

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
from qtpy.QtCore import QEventLoop, QPoint, Qt, QTimer
from qtpy.QtOpenGLWidgets import QOpenGLWidget
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from napari_kdsam.phantoms import ultrasound_phantom
from napari_kdsam.widgets.annotator.dock import AnnotatorWidget

# Qt's stubs take its static methods for others.
MOUSE: Any = QTest

SHAPE = (600, 800)
TICK_MS = 5
# How long a mouse button stays down in a click.
HOLD = 0.08


def process(done: Callable[[], bool], seconds: float = 60) -> None:
    """Run Qt's event loop until `done`, asleep between two events as in a real window."""
    end = time.perf_counter() + seconds
    waker = QTimer()
    waker.setTimerType(Qt.TimerType.PreciseTimer)
    waker.start(2)
    while not done():
        if time.perf_counter() > end:
            sys.exit('The window did not get there in time.')
        QApplication.processEvents(QEventLoop.ProcessEventsFlag.WaitForMoreEvents)
    waker.stop()


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


class Window:
    """A napari window with a stack of phantoms, and a mouse over its canvas."""

    def __init__(self, frames: int) -> None:
        image = np.stack([_phantom(seed) for seed in range(min(frames, 4))])
        stack = np.concatenate([image] * -(-frames // len(image)))[:frames]
        self.viewer = napari.Viewer()
        self.image = self.viewer.add_image(stack, name='phantoms')
        self.painted = 0
        self.generator = np.random.default_rng(0)

    def show(self) -> None:
        """Lay the window out, and find its canvas."""
        self.viewer.window.resize(1366, 768)
        rest(1)
        self.canvas = next(
            widget
            for top in QApplication.topLevelWidgets()
            for widget in top.findChildren(QOpenGLWidget)
            if widget.isVisible()
        )
        self.canvas.frameSwapped.connect(self._on_painted)

    def _on_painted(self) -> None:
        self.painted += 1

    def place(self) -> tuple[float, float]:
        """Somewhere in the middle of the image, (row, column)."""
        row, column = self.generator.uniform((150, 200), (450, 600))
        return float(row), float(column)

    def press(self, place: tuple[float, float]) -> Callable[[], None]:
        """Press the mouse at a place of the image; call the result to let it go."""
        camera, size = self.viewer.scene.camera, self.canvas.size()
        spot = QPoint(
            round((place[1] - camera.center[-1]) * camera.zoom + size.width() / 2),
            round((place[0] - camera.center[-2]) * camera.zoom + size.height() / 2),
        )
        MOUSE.mouseMove(self.canvas, spot)
        left = Qt.MouseButton.LeftButton
        MOUSE.mousePress(self.canvas, left, pos=spot)
        return lambda: MOUSE.mouseRelease(self.canvas, left, pos=spot)

    def click(self, points: Any, ready: Callable[[], bool]) -> float:
        """Milliseconds from letting go to the painted answer."""
        held, count = self.press(self.place()), len(points.data)
        rest(HOLD)
        start = time.perf_counter()
        held()
        process(lambda: len(points.data) > count and ready())
        painted = self.painted
        process(lambda: self.painted > painted)
        return 1000 * (time.perf_counter() - start)


class PlainNapari(Window):
    """Points and labels as napari has them, without the plugin."""

    def __init__(self, frames: int) -> None:
        super().__init__(frames)
        self.viewer.add_labels(np.zeros((1, *SHAPE), np.uint8))
        self.viewer.add_labels(np.zeros((frames, *SHAPE), np.int32))
        self.points = self.viewer.add_points(ndim=3, size=10)
        self.points.mode = 'add'
        self.show()

    def measure(self, clicks: int) -> tuple[list[float], float, float]:
        """Milliseconds of clicks; the longest block by them, and by other frames."""
        ticker = Ticker()
        self.viewer.dims.set_point(0, 0)
        rest(1)
        ticker.restart()
        taken = []
        for number in range(clicks):
            taken.append(self.click(self.points, lambda: True))
            if number % 4 == 3:
                self.points.data = np.empty((0, 3))
                rest(0.02)
        by_clicks = ticker.worst
        ticker.restart()
        for frame in range(20, 40):
            self.viewer.dims.set_point(0, frame)
            rest(0.05)
        return taken, by_clicks, ticker.worst


class Bench(Window):
    """The annotator on a stack of phantoms."""

    def __init__(self, frames: int) -> None:
        super().__init__(frames)
        self.widget = AnnotatorWidget(self.viewer)
        self.viewer.window.add_dock_widget(self.widget, name='Click to label')
        self.controller: Any = self.widget.controller
        self.show()

    def annotate(self) -> float:
        """Milliseconds of a click with the mouse."""
        return self.click(
            self.controller.workspace.layers.points,
            lambda: self.controller.workspace.shown is not None,
        )

    def add(self, frame: int) -> float:
        """Milliseconds from a point that a script adds to its painted mask."""
        start = time.perf_counter()
        self.controller.workspace.layers.points.add(np.array([frame, *self.place()]))
        process(lambda: self.controller.workspace.shown is not None)
        painted = self.painted
        process(lambda: self.painted > painted)
        return 1000 * (time.perf_counter() - start)


def timed(act: Callable[[], Any]) -> float:
    """Milliseconds that a call takes."""
    start = time.perf_counter()
    act()
    return 1000 * (time.perf_counter() - start)


def rest(seconds: float = 0.2) -> None:
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


def row(name: str, value: float, target: float, plain: float | None = None) -> str:
    """A line of the table."""
    mark = 'met' if value <= target else 'MISSED'
    without = '' if plain is None else f'{plain:.0f}'
    return f'| {name} | {value:.0f} | {without} | {target:.0f} | {mark} |'


def main() -> None:
    """Run everything and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--clicks', type=int, default=200)
    parser.add_argument('--memory-clicks', type=int, default=2000)
    arguments = parser.parse_args()
    plain = PlainNapari(300)
    plain_clicks, plain_blocked, plain_frames = plain.measure(arguments.clicks)
    plain.viewer.close()

    bench, ticker = Bench(300), Ticker()
    controller = bench.controller
    bench.viewer.dims.set_point(0, 0)
    rest(3)
    bench.annotate()
    rest(1)
    clicks, commits, scripted = [], [], []
    ticker.restart()
    for number in range(arguments.clicks):
        clicks.append(bench.annotate())
        if number % 4 == 3:
            commits.append(timed(controller.objects.commit))
            if controller.workspace.draft.points:
                controller.clear()
            rest(0.02)
    blocked_clicks = ticker.worst
    for number in range(arguments.clicks // 2):
        scripted.append(bench.add(0))
        if number % 4 == 3:
            controller.clear()
            rest(0.02)

    rest(1)
    ticker.restart()
    for frame in range(20, 40):
        bench.viewer.dims.set_point(0, frame)
        rest(0.05)
    blocked_frames = ticker.worst

    ticker.restart()
    bench.viewer.dims.set_point(0, 100)
    bench.annotate()
    rest(2)
    blocked_encoding = ticker.worst

    bench.viewer.dims.set_point(0, 200)
    for _ in range(50):
        bench.add(200)
        controller.clear()
    start = memory_mb()
    for number in range(arguments.memory_clicks):
        bench.add(200)
        if number % 10 == 9:
            controller.objects.commit()
            controller.clear()
    grown = memory_mb() - start

    print('| measured | here | napari alone | target | |')
    print('|---|--:|--:|--:|---|')
    middle, most = float(np.median(clicks)), float(np.percentile(clicks, 95))
    plain_most = float(np.percentile(plain_clicks, 95))
    print(row('click to painted mask, median, ms', middle, 80, np.median(plain_clicks)))
    print(row('click to painted mask, p95, ms', most, 80, plain_most))
    print(row('`points.add` to painted mask, median, ms', np.median(scripted), 80))
    print(row('commit on 300 frames, p95, ms', np.percentile(commits, 95), 50))
    print(
        row('longest block, clicks and commits, ms', blocked_clicks, 50, plain_blocked)
    )
    print(row('longest block, other frames, ms', blocked_frames, 50, plain_frames))
    print(row('longest block, encoding and prefetching, ms', blocked_encoding, 50))
    many, objects = arguments.memory_clicks, arguments.memory_clicks // 10
    print(row(f'memory grown, {many} clicks, {objects} objects, MB', grown, 50))
    bench.viewer.close()


if __name__ == '__main__':
    main()
