"""Second looks at every object of a request, for the inference thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

if TYPE_CHECKING:
    from napari_kdsam.inference.predictor import ImageEmbedding, Prediction, Predictor
    from napari_kdsam.widgets.shared.requests import Request


def improved(
    predictor: Predictor,
    embedding: ImageEmbedding,
    request: Request,
    read: Callable[[], NDArray[Any]],
    wanted: Callable[[], bool],
) -> tuple[NDArray[Any], tuple[Prediction, ...]] | None:
    """Look again at the objects of a request, for a thread to call.

    Parameters
    ----------
    predictor : Predictor
    embedding : ImageEmbedding
        Of the frame.
    request : Request
        With a `Request.first_look`.
    read : callable
        Reads the frame; called only if there is something to look at.
    wanted : callable
        Whether to go on, asked before each object.

    Returns
    -------
    tuple of (numpy.ndarray, tuple of Prediction) or None
        The frame and all predictions, with masks; None if none is better or the
        second look was given up.
    """
    from napari_kdsam.inference.second_look import look_again, second_window

    chosen = request.candidate
    pairs = list(zip(request.prompts, request.first_look, strict=True))
    if not any(
        second_window(predictor, prompt, first.candidate(chosen))
        for prompt, first in pairs
    ):
        return None
    frame = read()
    found: list[Prediction] = []
    better = False
    for prompt, first in pairs:
        if not wanted():
            return None
        second = look_again(predictor, frame, embedding, prompt, first, chosen)
        better = better or second is not None
        found.append(second or first)
        found[-1].candidate(chosen).make_mask()
    return (frame, tuple(found)) if better else None
