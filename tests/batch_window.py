"""The batch widget in a window: what is in it, and how a user acts on it."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
from fakes import FakeModel


def stack(frames: int) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 200, (frames, 60, 90), np.uint8)


class FickleModel(FakeModel):
    """Finds nothing on frames that have a white pixel."""

    def encode(self, pixels: Any) -> Any:
        return super().encode(pixels) + float(pixels.max() == 255)

    def decode(
        self, embedding: Any, *prompts: Any, multimask_output: bool
    ) -> tuple[Any, Any]:
        logits, scores = super().decode(
            embedding, *prompts, multimask_output=multimask_output
        )
        return (logits * 0 - 10 if embedding.max() > 0 else logits), scores


class Turnstile:
    """Lets the encoder begin only as many frames as it is told to."""

    def __init__(self, model: FakeModel) -> None:
        self._encode = model.encode
        self._passes = threading.Semaphore(0)
        model.encode = self  # type: ignore[method-assign]

    def __call__(self, pixels: Any) -> Any:
        assert self._passes.acquire(timeout=60), 'the test never let the frame pass'
        return self._encode(pixels)

    def let(self, frames: int) -> None:
        self._passes.release(frames)


@dataclass
class Batching:
    viewer: Any
    widget: Any
    qtbot: Any
    model: FakeModel

    @property
    def controller(self) -> Any:
        return self.widget.controller

    @property
    def choices(self) -> Any:
        return self.widget.choices

    @property
    def labels(self) -> np.ndarray:
        return np.asarray(self.choices.output.value.data)

    @property
    def listed(self) -> list[str]:
        frames = self.widget.frames
        return [frames.item(row).text() for row in range(frames.count())]

    def choose(self, method: str, **values: Any) -> None:
        from napari_kdsam.widgets.batch.setup import BatchMethod

        self.choices.method.value = BatchMethod[method]
        for name, value in values.items():
            getattr(self.choices, name).value = value

    def run(self, method: str, **values: Any) -> None:
        self.choose(method, **values)
        self.widget.start_button.click()
        self.wait()

    def phase(self) -> str:
        return str(self.controller.phase.value)

    def wait(self, phase: str = 'idle') -> None:
        self.qtbot.waitUntil(lambda: self.phase() == phase, timeout=60_000)

    def wait_for(self, done: int) -> None:
        self.qtbot.waitUntil(
            lambda: self.controller.counts.done >= done, timeout=60_000
        )

    def look_at(self, frame: int) -> None:
        self.viewer.dims.set_current_step(0, frame)

    def filled(self) -> list[int]:
        return np.flatnonzero(self.labels.any(axis=(1, 2))).tolist()


def wait_for_threads(qtbot: Any) -> None:
    from qtpy.QtCore import QThreadPool

    pool = QThreadPool.globalInstance()
    qtbot.waitUntil(lambda: pool.activeThreadCount() == 0, timeout=60_000)


def add_box(session: Batching, *frames: int, corner: tuple[int, int] = (10, 30)) -> Any:
    """A box of 20 x 20 pixels on each of these frames."""
    row, column = np.array(corner) - 0.5
    low, high = row + 20, column + 20
    corners = [(row, column), (row, high), (low, high), (low, column)]
    boxes = [[(frame, *place) for place in corners] for frame in frames]
    return session.viewer.add_shapes(boxes, shape_type='rectangle')


def drifting() -> np.ndarray:
    """Seven frames, on the fourth of which nothing is found."""
    frames = stack(7)
    frames[3] = 255
    return frames
