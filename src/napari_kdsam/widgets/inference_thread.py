"""One long-lived thread that embeds and predicts, always the latest request first."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QObject, Signal  # type: ignore[attr-defined]

from napari_kdsam.errors import KDSAMError

if TYPE_CHECKING:
    from napari_kdsam.inference.intensity import IntensityMapping
    from napari_kdsam.inference.predictor import ImageEmbedding, Prediction, Predictor
    from napari_kdsam.inference.prompts import Prompt

_logger = logging.getLogger(__name__)
# Masks of images up to this many pixels are made for every candidate in advance.
_EAGER_PIXELS = 4_000_000
_REMEMBERED_FRAMES = 4096

PredictorFactory = Callable[[str, str], 'Predictor']


def make_predictor(model: str, device: str) -> Predictor:
    """Load a model by name or path and make a predictor of it."""
    from napari_kdsam.inference.predictor import Predictor
    from napari_kdsam.model.loading import load_model

    return Predictor(load_model(model, device))


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
    prompt : Prompt
    mapping : IntensityMapping
    model, device : str
        As for `load_model`.
    candidate : int or None
        The candidate whose mask will be shown; None for the best.
    context : object
        Handed back with the answer.
    """

    number: int
    image_token: Hashable
    read_frame: Callable[[], NDArray[Any]]
    prompt: Prompt
    mapping: IntensityMapping
    model: str
    device: str
    candidate: int | None = None
    context: Any = None


@dataclass(frozen=True)
class Answer:
    """What became of a request: a prediction, or one sentence saying why not.

    Attributes
    ----------
    request : Request
    prediction : Prediction or None
    error : str
    milliseconds : float
        From the start of decoding to the finished mask.
    mapping : IntensityMapping or None
        With its limits resolved.
    """

    request: Request
    prediction: Prediction | None = None
    error: str = ''
    milliseconds: float = 0.0
    mapping: IntensityMapping | None = None


@dataclass
class _Slot:
    """A place for one request; a newer one takes it over."""

    request: Request | None = None
    to_load: tuple[str, str] | None = None
    stopped: bool = False
    condition: threading.Condition = field(default_factory=threading.Condition)


class InferenceThread(QObject):
    """Run requests one at a time off the main thread; a newer one replaces a waiting one.

    Signals reach the main thread through Qt's event queue.

    Parameters
    ----------
    predictor_factory : callable
        Makes a `Predictor` from a model's name or path and a device's name.

    Attributes
    ----------
    progressed : Signal
        (request number, sentence) when a slow step begins.
    answered : Signal
        An `Answer`.
    """

    progressed = Signal(int, str)
    answered = Signal(object)

    def __init__(self, predictor_factory: PredictorFactory = make_predictor) -> None:
        super().__init__()
        self._make_predictor = predictor_factory
        self._predictor: Predictor | None = None
        self._predictor_name: tuple[str, str] | None = None
        self._known: OrderedDict[Hashable, str] = OrderedDict()
        self._slot = _Slot()
        self._thread = threading.Thread(
            target=self._work, name='kdsam-inference', daemon=True
        )
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread is still running."""
        return self._thread.is_alive()

    def submit(self, request: Request) -> None:
        """Ask for a mask; a request that has not begun is forgotten."""
        with self._slot.condition:
            self._slot.request = request
            self._slot.condition.notify()

    def preload(self, model: str, device: str) -> None:
        """Load a model when there is nothing else to do, so the first click is quick."""
        with self._slot.condition:
            self._slot.to_load = (model, device)
            self._slot.condition.notify()

    def cancel_waiting(self) -> None:
        """Forget a request that has not begun."""
        with self._slot.condition:
            self._slot.request = None

    def stop(self, timeout: float = 0.0) -> None:
        """Let the thread end after the step it is in; its answer goes nowhere.

        Parameters
        ----------
        timeout : float
            Seconds to wait for it to have ended.
        """
        with self._slot.condition:
            self._slot.stopped = True
            self._slot.request = None
            self._slot.to_load = None
            self._slot.condition.notify()
        if timeout > 0:
            self._thread.join(timeout)

    def _work(self) -> None:
        slot = self._slot
        while True:
            with slot.condition:
                slot.condition.wait_for(
                    lambda: slot.request or slot.to_load or slot.stopped
                )
                if slot.stopped:
                    return
                request, slot.request = slot.request, None
                to_load = None if request else slot.to_load
                slot.to_load = None
            if request is not None:
                self._emit(self.answered, self._answer(request))
            elif to_load is not None:
                self._load_quietly(to_load)

    def _load_quietly(self, name: tuple[str, str]) -> None:
        try:
            self._predictor_for(name)
        except Exception as error:  # noqa: BLE001
            # Whatever is wrong is reported when the model is first needed.
            _logger.info('Preloading %s failed: %s', name[0], error)

    def _emit(self, signal: Any, *values: Any) -> None:
        if self._slot.stopped:
            return
        try:
            signal.emit(*values)
        except RuntimeError:
            # The window was closed, and Qt has deleted this object, in between.
            self._slot.stopped = True

    def _answer(self, request: Request) -> Answer:
        try:
            return self._predict(request)
        except KDSAMError as error:
            return Answer(request, error=str(error))
        except MemoryError:
            return Answer(
                request,
                error='There is not enough memory for this image; close other '
                'programs or use a smaller image.',
            )
        except Exception as error:
            # A defect must show as a message, not end the thread.
            _logger.exception('Prediction failed')
            return Answer(request, error=f'Prediction failed: {error}')

    def _predict(self, request: Request) -> Answer:
        name = (request.model, request.device)
        if name != self._predictor_name:
            self._emit(self.progressed, request.number, 'Loading the model…')
        predictor = self._predictor_for(name)
        embedding = self._embedding_for(predictor, request)
        started = time.perf_counter()
        prediction = predictor.predict(embedding, request.prompt)
        self._make_masks(prediction, request.candidate)
        elapsed = 1000 * (time.perf_counter() - started)
        return Answer(
            request, prediction, milliseconds=elapsed, mapping=embedding.mapping
        )

    @staticmethod
    def _make_masks(prediction: Prediction, chosen: int | None) -> None:
        rows, columns = prediction.best.image_shape
        if rows * columns <= _EAGER_PIXELS:
            for candidate in prediction.candidates:
                candidate.make_mask()
        else:
            prediction.candidate(chosen).make_mask()

    def _predictor_for(self, name: tuple[str, str]) -> Predictor:
        if self._predictor is None or self._predictor_name != name:
            # The old model is let go first: two large ones might not fit in memory.
            self._predictor, self._predictor_name = None, None
            self._predictor = self._make_predictor(*name)
            self._predictor_name = name
            self._known.clear()
        return self._predictor

    def _embedding_for(self, predictor: Predictor, request: Request) -> ImageEmbedding:
        token = (request.image_token, request.mapping)
        key = self._known.get(token)
        embedding = predictor.cache.get(key) if key else None
        if embedding is None:
            self._emit(self.progressed, request.number, 'Encoding the image…')
            frame = _read(request)
            embedding = predictor.embed(frame, request.mapping)
            self._known[token] = embedding.key
            while len(self._known) > _REMEMBERED_FRAMES:
                self._known.popitem(last=False)
        return embedding


def _read(request: Request) -> NDArray[Any]:
    from napari_kdsam.errors import ImageError

    try:
        return np.asarray(request.read_frame())
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise ImageError(f'The frame could not be read: {error}.') from error
