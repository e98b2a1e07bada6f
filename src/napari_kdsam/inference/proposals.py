"""Propose the target's box without a prompt; the box then is the prompt."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from napari_kdsam.core.errors import CheckpointError, PromptError
from napari_kdsam.core.geometry import Box, PaddedSquare
from napari_kdsam.core.sizes import PROMPT_SIDE
from napari_kdsam.inference.predictor import ImageEmbedding, Predictor
from napari_kdsam.model.proposal_head import ProposalHead, encoder_digest, load_head
from napari_kdsam.model.registry import BUNDLED_HEAD
from napari_kdsam.model.torchvision_guard import non_maximum_suppression

# Two targets rarely overlap; a larger overlap is the same one found twice.
_MAX_OVERLAP = 0.3
# A model that is let go takes its head along.
_heads: WeakKeyDictionary[Predictor, ProposalHead] = WeakKeyDictionary()


@dataclass(frozen=True)
class Proposal:
    """A box that probably holds a target.

    Attributes
    ----------
    box : tuple of float
        Half-open (row0, col0, row1, col1) in image pixels; `Prompt.box` takes it.
    score : float
        0..1; how sure the head is of the box's centre.
    name : str
        What it probably is, such as ``polyp``; empty from a head that names nothing.
    """

    box: Box
    score: float
    name: str = ''


def load_proposal_head(
    predictor: Predictor, path: str | os.PathLike[str] | None = None
) -> ProposalHead:
    """Load the proposal head that belongs to a predictor's model.

    Parameters
    ----------
    predictor : Predictor
        Its model must have been loaded from a KD SAM file.
    path : path-like, optional
        A head of one's own; the bundled one by default.

    Returns
    -------
    ProposalHead
        On the model's device.

    Raises
    ------
    CheckpointError
        If the head cannot be read, or belongs to another encoder.
    """
    weights = predictor.model.identity.path
    if not weights:
        raise CheckpointError(
            'Proposals need a model loaded from a file; choose the model kdsam.'
        )
    head = load_head(path or BUNDLED_HEAD, encoder_digest(weights))
    return head.to(predictor.model.device)


def bundled_head(predictor: Predictor) -> ProposalHead:
    """The bundled head, read and checked once for each predictor; as `load_proposal_head`."""
    if predictor not in _heads:
        _heads[predictor] = load_proposal_head(predictor)
    return _heads[predictor]


def propose_boxes(
    head: ProposalHead,
    embedding: ImageEmbedding,
    threshold: float | None = None,
    max_proposals: int = 5,
) -> list[Proposal]:
    """Propose where the targets of an image are.

    Parameters
    ----------
    head : ProposalHead
        From `load_proposal_head` for the predictor that made the embedding.
    embedding : ImageEmbedding
        From ``predictor.embed``.
    threshold : float, optional
        Score, 0..1, from which a proposal counts; the head's own by default.
    max_proposals : int
        At most so many.

    Returns
    -------
    list of Proposal
        The best first, cut to the image; empty if nothing was found.

    Raises
    ------
    PromptError
        If `threshold` is not between 0 and 1.
    """
    threshold = head.metadata.threshold if threshold is None else threshold
    if not 0 <= threshold <= 1:
        raise PromptError(f'threshold must be between 0 and 1, not {threshold:g}.')
    with torch.inference_mode():
        maps = head(embedding.features.float())
    return proposals_of_maps(
        torch.sigmoid(maps.scores[0]).float().cpu(),
        maps.boxes[0].float().cpu(),
        embedding.image_shape,
        threshold,
        max_proposals,
        maps.classes[0].float().cpu(),
        head.metadata.classes,
    )


def proposals_of_maps(
    scores: torch.Tensor,
    boxes: torch.Tensor,
    image_shape: tuple[int, int],
    threshold: float,
    max_proposals: int,
    classes: torch.Tensor | None = None,
    names: Sequence[str] = (),
) -> list[Proposal]:
    """Read proposals off a head's maps.

    Parameters
    ----------
    scores : torch.Tensor
        (S, S) float 0..1.
    boxes : torch.Tensor
        (4, S, S) float, (row0, col0, row1, col1) as shares of the padded square's side.
    image_shape : tuple of int
        (rows, columns) of the image.
    threshold : float
        Score from which a proposal counts.
    max_proposals : int
        At most so many.
    classes : torch.Tensor, optional
        (C, S, S) float logits.
    names : sequence of str
        C names; none leaves proposals without.

    Returns
    -------
    list of Proposal
        The best first; peaks on padding, and boxes outside the image, are left out.
    """
    side = scores.shape[0]
    peaks = functional.max_pool2d(scores[None, None], 3, stride=1, padding=1)[0, 0]
    counts = (scores >= threshold) & (scores == peaks)
    square = PaddedSquare(image_shape, PROMPT_SIDE)
    rows, columns = (
        int(np.ceil(length * side / PROMPT_SIDE)) for length in square.scaled_shape
    )
    counts[rows:] = False
    counts[:, columns:] = False
    chosen_scores = scores[counts]
    # (row, column) to the square's (x, y).
    chosen = boxes[:, counts].T[:, [1, 0, 3, 2]] * PROMPT_SIDE
    order = non_maximum_suppression(chosen, chosen_scores, _MAX_OVERLAP)
    own_names = [''] * len(chosen)
    if classes is not None and names:
        own_names = [names[kind] for kind in classes[:, counts].argmax(0).tolist()]
    found = []
    for index in order.tolist():
        box = square.clip_box(_image_box(square, chosen[index].double().numpy()))
        if box is not None:
            found.append(Proposal(box, float(chosen_scores[index]), own_names[index]))
    return found[:max_proposals]


def _image_box(square: PaddedSquare, box: NDArray[np.float64]) -> Box:
    # A box's sides lie between pixels, half a pixel before the centres of points.
    corners = square.points_from_square(box.reshape(2, 2) - 0.5) + 0.5
    (row0, col0), (row1, col1) = corners.tolist()
    return row0, col0, row1, col1
