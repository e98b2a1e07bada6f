"""A model that needs no weights, and images for it, to try the evaluation with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from napari_kdsam.training.data.samples import Sample
from napari_kdsam.training.evaluation.runner import run_evaluation
from napari_kdsam.training.evaluation.segmenter import SegmentedMask


def disc(shape: tuple[int, int], centre: tuple[float, float], radius: float) -> Any:
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 <= radius**2


TRUTH = disc((60, 80), (30, 40), 15)


class FakeSegmenter:
    """Gets better with every click: the truth, eroded by 6 pixels less a click."""

    def __init__(self, name: str = 'fake', prompts: tuple[str, ...] = ('box', 'click')):
        self.name, self.parameters = name, 1_000_000
        self.prompts, self.fingerprint = frozenset(prompts), 'one'
        self.asked: list[Any] = []
        self.predicted_iou: float | None = 0.75

    def embed(self, image: Any) -> Any:
        return image.shape[:2]

    def segment(
        self, state: Any, points: Any, labels: Any, box: Any, previous: Any
    ) -> Any:
        self.asked.append((list(points), list(labels), box, previous))
        shrink = 1 if box else max(6 - 2 * (len(points) - 1), 0)
        found = disc(state, (30, 40), 15 - shrink)
        return SegmentedMask(found, self.predicted_iou, len(points))

    def sync(self) -> None:
        pass


def sample(stem: str, truth: Any = TRUTH, **more: Any) -> Sample:
    image = np.zeros((*truth.shape, 3), np.uint8)
    data_set = more.pop('data_set', 'busi')
    return Sample(data_set, 'val', stem, read=lambda: (image, truth), **more)


def run(samples: list[Sample], out: Path, fake: Any, **more: Any) -> Any:
    return run_evaluation(
        samples, [fake.name], out, progress=False, opener=lambda *_: fake, **more
    )
