"""From a frame's pixels to its labels, by each of the methods."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_kdsam.batch.inputs import Source
from napari_kdsam.batch.jobs import Job, Method
from napari_kdsam.batch.records import FoundObject
from napari_kdsam.core.errors import KDSAMError
from napari_kdsam.core.intensity import check_image
from napari_kdsam.io.label_images import label_dtype

if TYPE_CHECKING:
    from napari_kdsam.core.prompts import Prompt
    from napari_kdsam.inference.predictor import ImageEmbedding, Predictor
    from napari_kdsam.model.proposal_head import ProposalHead

NO_PROMPTS = 'there are no prompts for it'


class NothingToDo(KDSAMError):
    """A frame that is left out; the message says why."""


@dataclass(frozen=True)
class Labelled:
    """The labels of a frame.

    Attributes
    ----------
    labels : numpy.ndarray
        (H, W) uint8, uint16 or uint32.
    objects : tuple of FoundObject
    note : str
        What to look at; empty for nothing.
    """

    labels: NDArray[Any]
    objects: tuple[FoundObject, ...]
    note: str = ''


@cache
def predictor_for(model: str, device: str, store: str, threads: int) -> Predictor:
    """Load a model once in each process.

    Raises
    ------
    KDSAMError
        If it cannot be loaded, or the store cannot be used.
    """
    import torch

    from napari_kdsam.inference.embedding_store import EmbeddingStore
    from napari_kdsam.inference.predictor import Predictor
    from napari_kdsam.model.loading import load_model

    if threads:
        torch.set_num_threads(threads)
    loaded = load_model(model, device)
    kept = EmbeddingStore(store) if store else None
    # Each frame is embedded once, so there is nothing to keep in memory.
    return Predictor(loaded, cache_bytes=0, store=kept)


def segment_frame(
    predictor: Predictor, job: Job, source: Source, frame: int, pixels: NDArray[Any]
) -> Labelled:
    """Segment one frame that needs no other.

    Parameters
    ----------
    predictor : Predictor
    job : Job
        Propagation is for stacks; a single image is segmented by its prompts.
    source : Source
    frame : int
    pixels : numpy.ndarray
        (H, W), (H, W, 3) or (H, W, 4).

    Returns
    -------
    Labelled

    Raises
    ------
    NothingToDo
        If there are no prompts for the frame.
    KDSAMError
        If the pixels or prompts cannot be used.
    """
    image = check_image(pixels)
    if job.method is Method.prompts or job.method is Method.propagation:
        present = prompts_on(job, source, frame)
        highest = len(job.objects_of(source))
        embedding = predictor.embed(image)
        return label_prompts(job, predictor, image, embedding, present, highest)
    embedding = predictor.embed(image)
    if job.method is Method.automatic:
        return _everything(predictor, embedding)
    return _proposed(job, predictor, image, embedding)


def prompts_on(job: Job, source: Source, frame: int) -> list[tuple[int, Prompt]]:
    """Labels and prompts of the objects of a frame.

    Raises
    ------
    NothingToDo
        If there are none.
    """
    objects = job.objects_of(source)
    present = [
        (label, item.prompt)
        for label, item in enumerate(objects, 1)
        if item.in_frame(frame)
    ]
    if not present:
        raise NothingToDo(NO_PROMPTS)
    return present


def label_prompts(
    job: Job,
    predictor: Predictor,
    image: NDArray[Any],
    embedding: ImageEmbedding,
    prompts: list[tuple[int, Prompt]],
    highest: int,
) -> Labelled:
    """Predict prompted objects; where they overlap, the earlier keeps the pixels.

    Parameters
    ----------
    job : Job
        Decides about second looks.
    predictor : Predictor
    image : numpy.ndarray
        The image of `embedding`, from `check_image`.
    embedding : ImageEmbedding
    prompts : list of (label, Prompt)
    highest : int
        The highest label there can be.

    Returns
    -------
    Labelled
    """
    from napari_kdsam.inference.second_look import masks_of_prompts

    found = masks_of_prompts(
        predictor,
        image,
        embedding,
        [prompt for _, prompt in prompts],
        second_look=job.second_look and job.method.looks_again,
    )
    labelled = (
        (label, mask, score)
        for (label, _), (mask, score) in zip(prompts, found, strict=True)
    )
    return label_masks(embedding.image_shape, labelled, highest)


def label_masks(
    shape: tuple[int, int],
    found: Iterable[tuple[int, NDArray[np.bool_], float]],
    highest: int,
) -> Labelled:
    """Put masks into one label image; where they overlap, the earlier keeps the pixels.

    Parameters
    ----------
    shape : tuple of int
        (rows, columns).
    found : iterable of (label, mask, score)
        Masks (rows, columns) bool.
    highest : int
        The highest label there can be.

    Returns
    -------
    Labelled
    """
    labels = np.zeros(shape, label_dtype(highest))
    objects = []
    for label, mask, score in found:
        own = mask & (labels == 0)
        labels[own] = label
        objects.append(FoundObject(label, round(score, 4), int(np.count_nonzero(own))))
    return Labelled(labels, tuple(objects))


def _everything(predictor: Predictor, embedding: ImageEmbedding) -> Labelled:
    from napari_kdsam.inference.automatic import AutomaticSettings, segment_everything

    found = segment_everything(predictor, embedding, AutomaticSettings())
    numbered = ((n, item.mask, item.score) for n, item in enumerate(found, 1))
    return label_masks(embedding.image_shape, numbered, len(found))


@cache
def _proposal_head(predictor: Predictor) -> ProposalHead:
    """Read and check the head once, not for every frame."""
    from napari_kdsam.inference.proposals import load_proposal_head

    return load_proposal_head(predictor)


def _proposed(
    job: Job,
    predictor: Predictor,
    image: NDArray[Any],
    embedding: ImageEmbedding,
) -> Labelled:
    from napari_kdsam.core.prompts import Prompt
    from napari_kdsam.inference.proposals import propose_boxes

    proposals = propose_boxes(_proposal_head(predictor), embedding)
    prompts = [(label, Prompt(box=item.box)) for label, item in enumerate(proposals, 1)]
    labelled = label_prompts(job, predictor, image, embedding, prompts, len(prompts))
    objects = tuple(
        replace(item, name=proposal.name)
        for item, proposal in zip(labelled.objects, proposals, strict=True)
    )
    return replace(labelled, objects=objects)
