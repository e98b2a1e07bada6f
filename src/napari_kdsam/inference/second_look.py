"""The second look: a small object of a large image is seen again at full resolution.

The network sees an image scaled to its input size, so of a polyp that fills a tenth of
a 1280-pixel frame it sees some 50 pixels. A square around the first answer, encoded by
itself, shows it all of them. Where that helps was measured; see docs/second-look.md.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_kdsam.core.geometry import Box, PaddedSquare, Window, box_of_mask
from napari_kdsam.core.intensity import check_image
from napari_kdsam.core.prompts import Prompt
from napari_kdsam.inference.predictor import (
    OBJECTS_PER_CALL,
    Candidate,
    ImageEmbedding,
    Prediction,
    Predictor,
)
from napari_kdsam.inference.windows import (
    CloseUp,
    logits_in_window,
    prompt_in_window,
    window_around,
)

# Room around the object for what tells it from its surroundings.
_FACTOR = 2.0
# Enlarged eight times at most: beyond that a mask of some pixels is hardly an object.
_LEAST_SIDE = 64
# Of a larger object the window would be the whole image; measured, see the page.
_LARGEST_SHARE = 0.5
# Below this the image has hardly more pixels than the network saw of it.
_LEAST_REDUCTION = 1.5


def worth_a_second_look(
    image_shape: tuple[int, int], box: Sequence[float], input_size: int
) -> bool:
    """Whether the network is likely to do better on a window around an object.

    Parameters
    ----------
    image_shape : tuple of int
        (rows, columns) of the image.
    box : sequence of float
        Half-open (row0, col0, row1, col1) around the object.
    input_size : int
        Side of the encoder's input in pixels, to which the image was reduced.

    Returns
    -------
    bool
        Whether the image was reduced enough, and the object is small enough in it.
    """
    longest = max(image_shape)
    size = max(box[2] - box[0], box[3] - box[1])
    reduced = longest >= _LEAST_REDUCTION * input_size
    return reduced and size <= _LARGEST_SHARE * longest


def second_window(
    predictor: Predictor, prompt: Prompt, candidate: Candidate
) -> Window | None:
    """Where a second look would be taken.

    Parameters
    ----------
    predictor : Predictor
    prompt : Prompt
        In coordinates of the image.
    candidate : Candidate
        A first answer to it.

    Returns
    -------
    tuple of int or None
        Half-open (row0, col0, row1, col1) around the box and the points inside of the
        prompt, and the answer unless there is a box; None if it is not worth it.
    """
    shape, input_size = candidate.image_shape, predictor.model.input_size
    if candidate.close_up is not None or max(shape) <= input_size:
        return None
    box = _around(prompt, candidate)
    if box is None or not worth_a_second_look(shape, box, input_size):
        return None
    return window_around(box, shape, _FACTOR, _LEAST_SIDE)


def _around(prompt: Prompt, candidate: Candidate) -> Box | None:
    shape = candidate.image_shape
    boxes: list[Sequence[float]] = []
    if prompt.box is not None:
        given = PaddedSquare(shape, 1).clip_box(prompt.box)
        boxes += [given] if given else []
    else:
        found = box_of_mask(candidate.mask)
        boxes += [found] if found else []
    if not boxes:
        return None
    boxes += [
        (row - 0.5, column - 0.5, row + 0.5, column + 0.5)
        for (row, column), label in zip(prompt.points, prompt.labels or (), strict=True)
        if label == 1
    ]
    sides = np.asarray(boxes, np.float64)
    row0, col0 = sides[:, :2].min(axis=0).tolist()
    row1, col1 = sides[:, 2:].max(axis=0).tolist()
    return row0, col0, row1, col1


def look_again(
    predictor: Predictor,
    image: ArrayLike,
    embedding: ImageEmbedding,
    prompt: Prompt,
    prediction: Prediction,
    candidate: int | None = None,
) -> Prediction | None:
    """Improve an answer by a second look at full resolution.

    A square around the first answer, or around the prompt's box, is embedded with the
    same intensities, and asked for the same prompt with the first answer as a mask
    prompt.

    Parameters
    ----------
    predictor : Predictor
        That made `embedding` and `prediction`.
    image : array-like
        The image of `embedding`.
    embedding : ImageEmbedding
        Of the whole image.
    prompt : Prompt
        The question that `prediction` answers.
    prediction : Prediction
        From `Predictor.predict`.
    candidate : int, optional
        Which of its candidates to improve; the best by default.

    Returns
    -------
    Prediction or None
        With another mask and score in the place of that candidate; the best one is the
        same as before, and `logits` stay those of the whole image. None where the
        first answer stands: the image has no more pixels than the network saw, the
        object is not small in it, or what was found is empty, reaches out of the
        window or has a lower predicted IoU.
    """
    index = prediction.best_index if candidate is None else candidate
    first = prediction.candidates[index]
    window = second_window(predictor, prompt, first)
    if window is None:
        return None
    row0, col0, row1, col1 = window
    part = check_image(np.asarray(image))[row0:row1, col0:col1]
    seen = predictor.embed(part, embedding.mapping, stored=False)
    moved = prompt_in_window(prompt, window)
    logits = logits_in_window(first.logits, first.image_shape, window)
    asked = Prompt(moved.points, moved.labels, moved.box, logits)
    answer = predictor.predict(seen, asked).best
    less_sure = answer.score < first.score
    if less_sure or not answer.mask.any():
        return None
    if _leaves(answer.mask, window, first.image_shape):
        return None
    better = replace(first, score=answer.score, close_up=CloseUp(window, answer.logits))
    candidates = list(prediction.candidates)
    candidates[index] = better
    return Prediction(tuple(candidates), prediction.best_index)


def _leaves(
    part: NDArray[np.bool_], window: Window, image_shape: tuple[int, int]
) -> bool:
    """Whether a mask reaches a side of its window that is not one of the image."""
    row0, col0, row1, col1 = window
    return bool(
        (row0 > 0 and part[0].any())
        or (col0 > 0 and part[:, 0].any())
        or (row1 < image_shape[0] and part[-1].any())
        or (col1 < image_shape[1] and part[:, -1].any())
    )


def masks_of_prompts(
    predictor: Predictor,
    image: NDArray[Any],
    embedding: ImageEmbedding,
    prompts: Sequence[Prompt],
    *,
    second_look: bool = True,
) -> Iterator[tuple[NDArray[np.bool_], float]]:
    """Predict the masks of any number of objects, those of small ones by a second look.

    Parameters
    ----------
    predictor : Predictor
    image : numpy.ndarray
        The image of `embedding`.
    embedding : ImageEmbedding
        From `predictor`.
    prompts : sequence of Prompt
        One for each object.
    second_look : bool
        Whether small objects of a large image are looked at again.

    Yields
    ------
    tuple of (numpy.ndarray, float)
        (rows, columns) bool mask of the best candidate, and its predicted IoU; one
        mask in memory at a time.

    Raises
    ------
    PromptError
        If a prompt is outside the image or the embedding is another model's, when its
        turn comes.
    """
    if not second_look or max(embedding.image_shape) <= predictor.model.input_size:
        yield from predictor.predict_masks(embedding, prompts)
        return
    for start in range(0, len(prompts), OBJECTS_PER_CALL):
        part = prompts[start : start + OBJECTS_PER_CALL]
        # Let go one after the other, because each keeps its mask.
        waiting = deque(predictor.predict_many(embedding, part))
        for prompt in part:
            first = waiting.popleft()
            found = look_again(predictor, image, embedding, prompt, first) or first
            yield found.mask, found.score
