"""From a frame's pixels and prompts to its labels."""

from __future__ import annotations

from typing import Any

import numpy as np

from napari_kdsam import Predictor, Prompt
from napari_kdsam.segmentation.methods import Prompted


def test_objects_of_a_frame_are_counted_as_they_are_done(fake_model: Any) -> None:
    counted: list[tuple[int, int]] = []
    prompts = [(n, Prompt(box=(10, 10 * n, 40, 10 * n + 8))) for n in range(1, 8)]
    method = Prompted(
        lambda frame: prompts,
        on_object=lambda done, total: counted.append((done, total)),
    )
    method.label(Predictor(fake_model), 0, np.zeros((80, 100), np.uint8))
    assert counted == [(n, 7) for n in range(1, 8)]
