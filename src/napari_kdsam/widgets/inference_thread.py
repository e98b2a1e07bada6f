"""One long-lived thread that embeds and predicts, always the latest request first."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QObject, Signal  # type: ignore[attr-defined]

from napari_kdsam.errors import KDSAMError
from napari_kdsam.widgets.inference_requests import (
    Answer,
    EngineState,
    Prefetch,
    Request,
)

if TYPE_CHECKING:
    from napari_kdsam.inference.intensity import IntensityMapping
    from napari_kdsam.inference.predictor import ImageEmbedding, Prediction, Predictor

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


@dataclass
class _Slot:
    """A place for one request; a newer one takes it over."""

    request: Request | None = None
    to_prefetch: list[Prefetch] = field(default_factory=list)
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
    engine_changed : Signal
        An `EngineState`, after a model was loaded or a frame embedded.
    """

    progressed = Signal(int, str)
    answered = Signal(object)
    engine_changed = Signal(object)

    def __init__(self, predictor_factory: PredictorFactory = make_predictor) -> None:
        super().__init__()
        self._make_predictor = predictor_factory
        self._predictor: Predictor | None = None
        self._predictor_name: tuple[str, str] | None = None
        self._known: OrderedDict[Hashable, str] = OrderedDict()
        self._encode_ms: float | None = None
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

    def prefetch(self, frames: Sequence[Prefetch]) -> None:
        """Embed these frames, and no earlier ones, when there is nothing else to do."""
        with self._slot.condition:
            self._slot.to_prefetch = list(frames)
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
            self._slot.to_prefetch = []
            self._slot.condition.notify()
        if timeout > 0:
            self._thread.join(timeout)

    def _work(self) -> None:
        slot = self._slot
        while True:
            with slot.condition:
                slot.condition.wait_for(
                    lambda: (
                        slot.request or slot.to_load or slot.to_prefetch or slot.stopped
                    )
                )
                if slot.stopped:
                    return
                request, slot.request = slot.request, None
                to_load = None if request else slot.to_load
                slot.to_load = None
                waiting = None
                if not request and not to_load and slot.to_prefetch:
                    waiting = slot.to_prefetch.pop(0)
            if request is not None:
                self._emit(self.answered, self._answer(request))
            elif to_load is not None:
                self._load_quietly(to_load)
            elif waiting is not None:
                self._embed_quietly(waiting)

    def _embed_quietly(self, frame: Prefetch) -> None:
        """Embed a frame that may be looked at soon, unless it costs one in use."""
        predictor = self._predictor
        if predictor is None or self._predictor_name != (frame.model, frame.device):
            return
        cache = predictor.cache
        size = cache.nbytes / len(cache) if len(cache) else 0
        if cache.nbytes + size > cache.max_bytes:
            return
        try:
            self._embedding_for(predictor, frame)
        except Exception as error:  # noqa: BLE001
            # Whatever is wrong is reported when the frame is first clicked.
            _logger.info('Embedding a frame in advance failed: %s', error)

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
        embedding, frame = self._embedding_for(predictor, request)
        started = time.perf_counter()
        predictions = tuple(predictor.predict_many(embedding, request.prompts))
        for prediction in predictions:
            self._make_masks(prediction, request.candidate)
        elapsed = 1000 * (time.perf_counter() - started)
        finished = self._finish(request, frame, predictions, embedding.mapping)
        return Answer(request, predictions, '', elapsed, embedding.mapping, finished)

    @staticmethod
    def _finish(
        request: Request,
        frame: NDArray[Any] | None,
        predictions: tuple[Prediction, ...],
        mapping: IntensityMapping,
    ) -> Any:
        if request.finish is None:
            return None
        try:
            if frame is None:
                frame = np.asarray(request.read_frame())
            return request.finish(frame, predictions, mapping)
        except Exception:
            # The masks matter more than what is made of them.
            _logger.exception('Finishing a prediction failed')
            return None

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
            self._encode_ms = None
            self._tell_engine()
        return self._predictor

    def _embedding_for(
        self, predictor: Predictor, request: Request | Prefetch
    ) -> tuple[ImageEmbedding, NDArray[Any] | None]:
        token = (request.image_token, request.mapping)
        key = self._known.get(token)
        embedding = predictor.cache.get(key) if key else None
        frame = None
        if embedding is None:
            if isinstance(request, Request):
                self._emit(self.progressed, request.number, 'Encoding the image…')
            frame = _read(request)
            started = time.perf_counter()
            embedding = predictor.embed(frame, request.mapping)
            self._encode_ms = 1000 * (time.perf_counter() - started)
            self._known[token] = embedding.key
            while len(self._known) > _REMEMBERED_FRAMES:
                self._known.popitem(last=False)
            self._tell_engine()
        return embedding, frame

    def _tell_engine(self) -> None:
        predictor = self._predictor
        if predictor is None or self._predictor_name is None:
            return
        cache = predictor.cache
        self._emit(
            self.engine_changed,
            EngineState(
                self._predictor_name[0],
                str(predictor.model.device),
                self._encode_ms,
                len(cache),
                cache.nbytes,
            ),
        )


def _read(request: Request | Prefetch) -> NDArray[Any]:
    from napari_kdsam.errors import ImageError

    try:
        return np.asarray(request.read_frame())
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise ImageError(f'The frame could not be read: {error}.') from error
