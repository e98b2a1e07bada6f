"""Simulated prompts: what an annotator would give, drawn from the true mask."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from napari_kdsam.inference.prompts import LOGITS_SIZE
from napari_kdsam.model.sizes import PROMPT_FRAME

STEP = PROMPT_FRAME // LOGITS_SIZE
_MOST_CLICKS = 8
_LOOSE_SHARE = 0.08
# Few corrections are the common case; long sequences cost decoder calls.
_CLICK_WEIGHTS = (0.4, 0.2, 0.12, 0.1, 0.06, 0.05, 0.04, 0.03)


def number_of_clicks(generator: np.random.Generator) -> int:
    """Draw how many corrective clicks a step simulates, 1 to 8."""
    return int(generator.choice(np.arange(1, _MOST_CLICKS + 1), p=_CLICK_WEIGHTS))


def frame_point(row: float, column: float) -> tuple[float, float]:
    """(x, y) in the 1024 frame of the centre of a pixel of the 256 grid."""
    return (column + 0.5) * STEP - 0.5, (row + 0.5) * STEP - 0.5


def simulated_boxes(
    extents: NDArray[np.float64],
    sizes: NDArray[np.int64],
    generators: list[np.random.Generator],
    jitter: float,
) -> torch.Tensor:
    """Boxes around objects, each side moved by up to `jitter` of the box's extent.

    Parameters
    ----------
    extents : numpy.ndarray
        (B, 4) (x0, y0, x1, y1) on the 256 grid, the exact boxes.
    sizes : numpy.ndarray
        (B, 2) rows and columns of the image part of the 256 grid.
    generators : list of numpy.random.Generator
        One for each image.
    jitter : float
        0 gives the exact boxes; half of the boxes get at most a quarter of it,
        because annotators draw most boxes tight, and one in twelve has a side or a
        corner far outside, as hasty boxes and those of masks with specks have.

    Returns
    -------
    torch.Tensor
        (B, 4) float32 (x0, y0, x1, y1) in the 1024 frame.
    """
    boxes = np.empty((len(extents), 4), np.float32)
    for number, (box, size, generator) in enumerate(
        zip(extents, sizes, generators, strict=True)
    ):
        extent = np.array([box[2] - box[0], box[3] - box[1]] * 2)
        most = jitter * (0.25 if generator.random() < 0.5 else 1.0)
        moved = box + generator.uniform(-most, most, 4) * extent
        if jitter > 0 and generator.random() < _LOOSE_SHARE:
            far = generator.uniform(0.2, 1.5, 4) * extent * (-1, -1, 1, 1)
            # One side, or the two that meet at a corner.
            row, column = generator.integers(2, size=2) * 2 + (1, 0)
            sides = [[row], [column], [row, column]][int(generator.integers(3))]
            moved[sides] += far[sides]
        limit = np.array([size[1], size[0]] * 2, float)
        moved = np.clip(moved, 0, limit)
        small = moved[2:] - moved[:2] < 1
        moved[:2], moved[2:] = (
            np.where(small, box[:2], moved[:2]),
            np.where(small, box[2:], moved[2:]),
        )
        boxes[number] = moved * STEP
    return torch.from_numpy(boxes)


def simulated_first_clicks(
    masks: NDArray[np.bool_], generators: list[np.random.Generator]
) -> torch.Tensor:
    """One click inside each mask: half at its middle, half anywhere well inside.

    Parameters
    ----------
    masks : numpy.ndarray
        (B, 256, 256) bool, none empty.
    generators : list of numpy.random.Generator
        One for each image.

    Returns
    -------
    torch.Tensor
        (B, 2) float32 (x, y) in the 1024 frame.
    """
    points = [
        frame_point(*_inside(mask, generator))
        for mask, generator in zip(masks, generators, strict=True)
    ]
    return torch.tensor(points, dtype=torch.float32)


def central_clicks(masks: NDArray[np.bool_]) -> torch.Tensor:
    """(B, 2) float32 (x, y): the most interior pixel of each (256, 256) mask."""
    points = [frame_point(*_peak(_deepest(mask)[1])) for mask in masks]
    return torch.tensor(points, dtype=torch.float32)


def _inside(
    mask: NDArray[np.bool_], generator: np.random.Generator
) -> tuple[float, float]:
    _, depth = _deepest(mask)
    if generator.random() < 0.5:
        return _peak(depth)
    return _anywhere(depth >= min(2.0, depth.max()), generator)


def _peak(depth: NDArray[np.float64]) -> tuple[float, float]:
    row, column = np.unravel_index(int(depth.argmax()), depth.shape)
    return float(row), float(column)


def _anywhere(
    mask: NDArray[np.bool_], generator: np.random.Generator
) -> tuple[float, float]:
    places = np.argwhere(mask)
    row, column = places[generator.integers(len(places))]
    return float(row), float(column)


def simulated_corrections(
    found: NDArray[np.bool_],
    truth: NDArray[np.bool_],
    generators: list[np.random.Generator],
) -> tuple[torch.Tensor, torch.Tensor]:
    """One click on the largest error of each prediction.

    Parameters
    ----------
    found, truth : numpy.ndarray
        (B, 256, 256) bool.
    generators : list of numpy.random.Generator
        One for each image; a third of the clicks land elsewhere in the error.

    Returns
    -------
    points : torch.Tensor
        (B, 2) float32 (x, y) in the 1024 frame.
    labels : torch.Tensor
        (B,) float32, 1 where the object was missed and 0 where too much was found.
    """
    points, labels = [], []
    for mine, real, generator in zip(found, truth, generators, strict=True):
        missed, extra = (_deepest(real & ~mine), _deepest(mine & ~real))
        inside = missed[0] >= extra[0]
        depth, field = missed if inside else extra
        if depth == 0:
            # Nothing is wrong: a careful annotator may still confirm the object.
            point, inside = _inside(real, generator), True
        elif generator.random() < 1 / 3:
            point = _anywhere(field >= depth / 2, generator)
        else:
            point = _peak(field)
        points.append(frame_point(*point))
        labels.append(float(inside))
    return torch.tensor(points, dtype=torch.float32), torch.tensor(labels)


def _deepest(error: NDArray[np.bool_]) -> tuple[float, NDArray[np.float64]]:
    field = np.asarray(ndimage.distance_transform_edt(np.pad(error, 1)))[1:-1, 1:-1]
    return float(field.max()), field
