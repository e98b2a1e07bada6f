"""What the inference thread is asked, and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

if TYPE_CHECKING:
    from napari_kdsam.core.intensity import IntensityMapping
    from napari_kdsam.core.prompts import Prompt
    from napari_kdsam.inference.predictor import Prediction
    from napari_kdsam.segmentation.likely_objects import LikelyObject

    Finish = Callable[[NDArray[Any], tuple[Prediction, ...], IntensityMapping], Any]


@dataclass(frozen=True)
class Request:
    """A mask to predict.

    Attributes
    ----------
    number : int
        Grows with each request; only the answer to the newest is used.
    image_token : hashable
        Equal only for the same pixels: image, version of its data, and frame.
    read_frame : callable
        Returns the frame's array; called in the thread, so that a slow disk never
        blocks the window.
    prompts : tuple of Prompt
        One for each object.
    mapping : IntensityMapping
    model, device : str
        As for `load_model`.
    candidate : int or None
        The candidate whose mask will be shown; None for the best.
    context : object
        Handed back with the answer.
    finish : callable, optional
        ``finish(frame array, predictions, resolved mapping)``, called in the thread;
        its result is handed back as ``Answer.finished``.
    first_look : tuple of Prediction
        For a second look: the answers that it may improve.
    """

    number: int
    image_token: Hashable
    read_frame: Callable[[], NDArray[Any]]
    prompts: tuple[Prompt, ...]
    mapping: IntensityMapping
    model: str
    device: str
    candidate: int | None = None
    context: Any = None
    finish: Finish | None = None
    first_look: tuple[Prediction, ...] = ()


@dataclass(frozen=True)
class Answer:
    """What became of a request: predictions, or one sentence saying why not.

    Attributes
    ----------
    request : Request
    predictions : tuple of Prediction
        One for each prompt; empty if there is an error, or if a second look has
        improved none.
    error : str
    milliseconds : float
        From the start of decoding to the finished mask.
    mapping : IntensityMapping or None
        With its limits resolved.
    finished : object
        What ``Request.finish`` returned; None if it failed.
    """

    request: Request
    predictions: tuple[Prediction, ...] = ()
    error: str = ''
    milliseconds: float = 0.0
    mapping: IntensityMapping | None = None
    finished: Any = None


@dataclass(frozen=True)
class Prefetch:
    """A frame to embed when there is nothing else to do.

    Attributes
    ----------
    image_token : hashable
    read_frame : callable
    mapping : IntensityMapping
    model, device : str
        As in `Request`.
    """

    image_token: Hashable
    read_frame: Callable[[], NDArray[Any]]
    mapping: IntensityMapping
    model: str
    device: str


@dataclass(frozen=True)
class LikelyRequest(Prefetch):
    """A frame to look for likely objects in.

    Attributes
    ----------
    context : object
        Handed back with the answer.
    """

    context: Any = None


@dataclass(frozen=True)
class LikelyAnswer:
    """What was found in a frame, or one sentence saying why nothing could be."""

    request: LikelyRequest
    found: tuple[LikelyObject, ...] = ()
    error: str = ''


@dataclass(frozen=True)
class EngineState:
    """What the thread works with.

    Attributes
    ----------
    model : str
        Name or path of the loaded model.
    device : str
        Where it computes, such as ``cpu`` or ``cuda:0``.
    encode_ms : float or None
        Time of the last embedding that was not there already.
    frames, nbytes : int
        Embeddings kept, and the bytes they take.
    store_problem : str
        See `Predictor.store_problem`.
    """

    model: str
    device: str
    encode_ms: float | None
    frames: int
    nbytes: int
    store_problem: str = ''
