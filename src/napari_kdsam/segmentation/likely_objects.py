"""What an image probably shows, to be looked at before it becomes labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_kdsam.core.geometry import Box
from napari_kdsam.core.prompts import Prompt

if TYPE_CHECKING:
    from napari_kdsam.inference.predictor import ImageEmbedding, Predictor


@dataclass(frozen=True, eq=False)
class LikelyObject:
    """An object that was found without a prompt.

    Attributes
    ----------
    box : tuple of float
        Half-open (row0, col0, row1, col1); the prompt of its mask.
    mask : numpy.ndarray
        (rows, columns) bool, never empty.
    certainty : float
        0..1; how sure it is that there is something.
    score : float
        Predicted IoU of the mask.
    name : str
        What it probably is; empty where that is not known.
    """

    box: Box
    mask: NDArray[np.bool_]
    certainty: float
    score: float
    name: str = ''


def likely_objects(
    predictor: Predictor, embedding: ImageEmbedding, pixels: NDArray[Any]
) -> tuple[LikelyObject, ...]:
    """Find objects by the bundled proposal head.

    Parameters
    ----------
    predictor : Predictor
    embedding : ImageEmbedding
        Of `pixels`, from the predictor.
    pixels : numpy.ndarray
        (rows, columns), or with 3 or 4 channels last.

    Returns
    -------
    tuple of LikelyObject
        The surest first; empty if nothing was found.

    Raises
    ------
    CheckpointError
        If the head does not belong to the predictor's model.
    """
    from napari_kdsam.inference.proposals import bundled_head, propose_boxes
    from napari_kdsam.inference.second_look import masks_of_prompts

    boxes = propose_boxes(bundled_head(predictor), embedding)
    prompts = [Prompt(box=found.box) for found in boxes]
    masks = masks_of_prompts(predictor, pixels, embedding, prompts)
    return tuple(
        LikelyObject(found.box, mask, found.score, score, found.name)
        for found, (mask, score) in zip(boxes, masks, strict=True)
        if mask.any()
    )
