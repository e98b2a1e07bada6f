"""A teacher that says what it sees at a click or in a box, and how sure it is."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_kdsam.core.errors import CheckpointError
from napari_kdsam.core.geometry import Box, Mask, PaddedSquare
from napari_kdsam.core.prompts import Prompt
from napari_kdsam.core.sizes import LOGITS_SIZE
from napari_kdsam.inference.automatic import stability_score
from napari_kdsam.inference.predictor import Candidate
from napari_kdsam.model.registry import models_folder
from napari_kdsam.training.evaluation import sam2
from napari_kdsam.training.evaluation.segmenters import (
    PromptableSegmenter,
    open_segmenter,
)

STABILITY_OFFSET = 1.0


@dataclass(frozen=True, eq=False)
class ThingProposal:
    """One mask of an answer.

    Attributes
    ----------
    score : float
        Predicted IoU.
    stability : float
        See `stability_score`, at logits of 1.
    area : float
        Share of the image, at the decoder's resolution.
    make_mask : callable
        Returns the (H, W) bool mask.
    """

    score: float
    stability: float
    area: float
    make_mask: Callable[[], Mask]

    @classmethod
    def of_logits(
        cls,
        logits: NDArray[np.float32],
        score: float,
        make_mask: Callable[[], Mask],
    ) -> ThingProposal:
        """From logits that cover the image and nothing else."""
        area = np.count_nonzero(logits > 0) / logits.size
        stability = stability_score(logits, STABILITY_OFFSET)
        return cls(float(score), stability, area, make_mask)


class ThingTeacher(Protocol):
    """What is asked of a teacher.

    Attributes
    ----------
    name : str
        For logs.
    fingerprint : str
        Equal only for equal weights and precision.
    """

    name: str
    fingerprint: str

    def embed(self, image: NDArray[np.uint8]) -> Any:
        """Do what is done once per image: (H, W, 3) uint8 RGB to an opaque state."""

    def at_point(self, state: Any, point: tuple[float, float]) -> list[ThingProposal]:
        """Every mask for one click at (row, column), in image pixels."""

    def in_box(self, state: Any, box: Box) -> list[ThingProposal]:
        """Every mask for a half-open (row0, col0, row1, col1) box, in image pixels."""


class SAM2Teacher(sam2.SAM2):
    """SAM 2 as a `ThingTeacher`; parameters as for `SAM2`."""

    def at_point(self, state: Any, point: tuple[float, float]) -> list[ThingProposal]:
        """See `ThingTeacher.at_point`."""
        return self._proposals(state, self.masks_of(state, [point], [1]))

    def in_box(self, state: Any, box: Box) -> list[ThingProposal]:
        """See `ThingTeacher.in_box`."""
        return self._proposals(state, self.masks_of(state, [], [], box))

    @staticmethod
    def _proposals(
        state: Any, answer: tuple[NDArray[np.float32], NDArray[np.float32]]
    ) -> list[ThingProposal]:
        return [
            ThingProposal.of_logits(
                logits, score, partial(sam2.stretched, logits, state[1])
            )
            for logits, score in zip(*answer, strict=True)
        ]


class SAMTeacher:
    """MobileSAM, KD SAM or one of Meta's SAMs as a `ThingTeacher`.

    Parameters
    ----------
    segmenter : PromptableSegmenter
        From `open_segmenter`.
    """

    def __init__(self, segmenter: PromptableSegmenter) -> None:
        self.name = segmenter.name
        self.fingerprint = segmenter.fingerprint
        self._predictor = segmenter.predictor

    def embed(self, image: NDArray[np.uint8]) -> Any:
        """See `ThingTeacher.embed`."""
        return self._predictor.embed(image)

    def at_point(self, state: Any, point: tuple[float, float]) -> list[ThingProposal]:
        """See `ThingTeacher.at_point`."""
        return self._proposals(state, Prompt([point]))

    def in_box(self, state: Any, box: Box) -> list[ThingProposal]:
        """See `ThingTeacher.in_box`."""
        return self._proposals(state, Prompt(box=box))

    def _proposals(self, state: Any, prompt: Prompt) -> list[ThingProposal]:
        answer = self._predictor.predict(state, prompt)
        return [_proposal_of(candidate) for candidate in answer.candidates]


def _proposal_of(candidate: Candidate) -> ThingProposal:
    rows, columns = PaddedSquare(candidate.image_shape, LOGITS_SIZE).scaled_shape
    logits = candidate.logits[:rows, :columns]
    return ThingProposal.of_logits(logits, candidate.score, lambda: candidate.mask)


def open_thing_teacher(
    name_or_path: str | os.PathLike[str], device: str = 'auto'
) -> ThingTeacher:
    """Open a model that finds things.

    Parameters
    ----------
    name_or_path : str or path-like
        As for `open_segmenter`.
    device : str
        As for `load_model`.

    Raises
    ------
    CheckpointError
        If the model takes no clicks.
    KDSAMError
        As `open_segmenter`.
    """
    target = str(name_or_path).rpartition('=')[2]
    path = Path(target).expanduser()
    if target == sam2.NAME:
        path = models_folder() / sam2.ENCODER_FILE
    is_sam2 = path.name.endswith(sam2.ENCODER_SUFFIX)
    if is_sam2 and path.is_file() and sam2.decoder_of(path).is_file():
        return SAM2Teacher(path, device=device)
    segmenter = open_segmenter(name_or_path, device)
    if not isinstance(segmenter, PromptableSegmenter):
        raise CheckpointError(
            f'{segmenter.name} does not take clicks, so it cannot find things; choose '
            'SAM 2, MobileSAM or another SAM.'
        )
    return SAMTeacher(segmenter)
