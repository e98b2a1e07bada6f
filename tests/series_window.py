"""A series in a window: what is in it, and how a user acts on it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from annotator_window import Canvas, show_canvas
from PIL import Image

from napari_kdsam.series.entries import ImageStatus


def draw(path: Path, shape: tuple[int, int], seed: int) -> None:
    """Write a picture of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, shape, np.uint8)
    Image.fromarray(pixels).save(path)


def shape_of(number: int) -> tuple[int, int]:
    """(rows, columns) of a picture of the usual folder."""
    return 60 + 7 * (number % 5), 90 - 6 * (number % 4)


@dataclass
class Walking:
    """A viewer with the annotator and the series, and ways to wait for them."""

    viewer: Any
    annotator: Any
    dock: Any
    qtbot: Any

    @property
    def walk(self) -> Any:
        return self.dock.walk

    def open(self, folder: Path, output: Path | None = None) -> None:
        from napari_kdsam.widgets.series.remembered import SeriesChoices

        self.dock.choose(SeriesChoices(str(folder), str(output or folder / 'labels')))
        self.dock.start.click()
        self.settle()

    def settle(self) -> None:
        """Wait until an image is in view, or it is said why there is none."""
        self.qtbot.waitUntil(lambda: not self.walk.busy, timeout=30_000)
        workspace = self.annotator.workspace
        self.qtbot.waitUntil(lambda: not workspace.unseen, timeout=30_000)
        self.qtbot.wait(20)

    def point(self, row: float = 30, column: float = 40) -> None:
        """Click, as the layer is told of it, and wait for the mask."""
        self.annotator.workspace.layers.points.add(np.array([row, column], float))
        self.qtbot.waitUntil(self.is_ready, timeout=30_000)

    def is_ready(self) -> bool:
        return str(self.annotator.workspace.status.kind.value) == 'ready'

    def images(self) -> list[str]:
        from napari.layers import Image as ImageLayer

        return [x.name for x in self.viewer.layers if isinstance(x, ImageLayer)]

    def status(self, index: int) -> ImageStatus:
        return self.walk.series.entry(index).status

    def canvas(self) -> Canvas:
        return show_canvas(self.viewer, self.qtbot)
