"""One long-lived thread that embeds and predicts, always the latest request first."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QObject, Signal  # type: ignore[attr-defined]

from napari_kdsam.core.errors import KDSAMError
from napari_kdsam.widgets.shared.collector import collector_paused
from napari_kdsam.widgets.shared.inference_slot import Slot
from napari_kdsam.widgets.shared.requests import (
    Answer,
    EngineState,
    LikelyAnswer,
    LikelyRequest,
    Prefetch,
    Request,
)
from napari_kdsam.widgets.shared.second_looks import improved
from napari_kdsam.widgets.shared.switch_interval import short_switch_interval

if TYPE_CHECKING:
    from napari_kdsam.core.intensity import IntensityMapping
    from napari_kdsam.inference.predictor import ImageEmbedding, Prediction, Predictor

_logger = logging.getLogger(__name__)
# Masks of images up to this many pixels are made for every candidate in advance.
_EAGER_PIXELS = 4_000_000
_REMEMBERED_FRAMES = 4096
# Frames embedded in advance may drive only the least recently used half out.
_SHARE_IN_ADVANCE = 0.5

PredictorFactory = Callable[[str, str], 'Predictor']


def make_predictor(model: str, device: str, store: str = '') -> Predictor:
    """Load a model by name or path and make a predictor of it.

    Parameters
    ----------
    model, device : str
        As for `load_model`.
    store : str
        Folder of an `EmbeddingStore`; empty for none. One that cannot be used is left
        out, and `Predictor.store_problem` says why.
    """
    from napari_kdsam.inference.embedding_store import EmbeddingStore
    from napari_kdsam.inference.predictor import Predictor
    from napari_kdsam.model.loading import load_model

    loaded = load_model(model, device)
    loaded.trace_decoder()
    if not store:
        return Predictor(loaded)
    try:
        return Predictor(loaded, store=EmbeddingStore(store))
    except KDSAMError as error:
        predictor = Predictor(loaded)
        predictor.store_problem = str(error)
        return predictor


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
    looked_again : Signal
        An `Answer` to a second look.
    hovered : Signal
        An `Answer` to what was only to be looked at; without predictions where the
        frame is not embedded yet.
    likely_found : Signal
        A `LikelyAnswer`.
    engine_changed : Signal
        An `EngineState`, after a model was loaded or a frame embedded.
    """

    progressed = Signal(int, str)
    answered = Signal(object)
    looked_again = Signal(object)
    hovered = Signal(object)
    likely_found = Signal(object)
    engine_changed = Signal(object)

    def __init__(self, predictor_factory: PredictorFactory = make_predictor) -> None:
        super().__init__()
        self._make_predictor = predictor_factory
        self._predictor: Predictor | None = None
        self._predictor_name: tuple[str, str] | None = None
        self._known: OrderedDict[Hashable, str] = OrderedDict()
        self._encode_ms: float | None = None
        self._bytes_in_advance = 0
        self._slot = Slot()
        self._thread = threading.Thread(
            target=self._work, name='kdsam-inference', daemon=True
        )
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread is still running."""
        return self._thread.is_alive()

    def submit(self, request: Request) -> None:
        """Ask for a mask; what was asked and has not begun is forgotten."""
        with self._slot.condition:
            self._slot.request, self._slot.second_look = request, None
            self._slot.condition.notify()

    def look_again(self, request: Request) -> None:
        """Ask for better masks when there is no request; none for an unknown frame.

        It is given up for a request between two objects, and has an answer then, too.

        Parameters
        ----------
        request : Request
            With a `Request.first_look`.
        """
        with self._slot.condition:
            self._slot.second_look = request
            self._slot.condition.notify()

    def preload(self, model: str, device: str) -> None:
        """Load a model when there is nothing else to do, so the first click is quick."""
        with self._slot.condition:
            self._slot.to_load = (model, device)
            self._slot.condition.notify()

    def prefetch(self, frames: Sequence[Prefetch]) -> None:
        """Embed these frames, and no earlier ones, when there is nothing else to do.

        Frames of a model that is not loaded are left out, and so are those that would
        drive frames in use out of memory. What fails is only logged.

        Parameters
        ----------
        frames : sequence of Prefetch
            The likeliest to be looked at first.
        """
        with self._slot.condition:
            self._slot.to_prefetch = list(frames)
            self._slot.condition.notify()

    def hover(self, request: Request | None) -> None:
        """Ask for a mask when no other is wanted; None for no longer."""
        with self._slot.condition:
            self._slot.hover = request
            self._slot.condition.notify()

    def look_for_likely(self, request: LikelyRequest | None) -> None:
        """Look for likely objects when nothing was asked for; None for no longer."""
        with self._slot.condition:
            self._slot.likely = request
            self._slot.condition.notify()

    def cancel_waiting(self) -> None:
        """Forget a request that has not begun."""
        with self._slot.condition:
            self._slot.request = None

    def cancel_second_look(self) -> None:
        """Forget a second look that has not begun."""
        with self._slot.condition:
            self._slot.second_look = None

    def stop(self, timeout: float = 0.0) -> None:
        """Let the thread end after the step it is in; its answer goes nowhere.

        Parameters
        ----------
        timeout : float
            Seconds to wait for it to have ended.
        """
        with self._slot.condition:
            self._slot.stopped = True
            self._slot.request = self._slot.second_look = None
            self._slot.to_load = self._slot.likely = self._slot.hover = None
            self._slot.to_prefetch = []
            self._slot.condition.notify()
        if timeout > 0:
            self._thread.join(timeout)

    def _work(self) -> None:
        # Nothing is held here between two jobs, so that closed images are let go.
        while self._do_next():
            pass

    def _do_next(self) -> bool:
        """Wait for a job and do it; False when the thread is to end."""
        slot = self._slot
        with slot.condition:
            slot.condition.wait_for(slot.has_work)
            if slot.stopped:
                return False
            request, slot.request = slot.request, None
            to_load, slot.to_load = slot.to_load, None
            second_look = None
            if request is None and to_load is None:
                second_look, slot.second_look = slot.second_look, None
            hover = likely = None
            if request is None and to_load is None and second_look is None:
                hover, slot.hover = slot.hover, None
                if hover is None:
                    likely, slot.likely = slot.likely, None
            frame = slot.to_prefetch[0] if slot.to_prefetch else None
        with collector_paused():
            self._do(request, to_load, second_look, hover, likely, frame)
        return True

    def _do(
        self,
        request: Request | None,
        to_load: tuple[str, str] | None,
        second_look: Request | None,
        hover: Request | None,
        likely: LikelyRequest | None,
        frame: Prefetch | None,
    ) -> None:
        """Do the first of these that there is."""
        if request is not None:
            with short_switch_interval():
                answer = self._answer(request)
            self._emit(self.answered, answer)
        elif to_load is not None:
            self._load_quietly(to_load)
        elif second_look is not None:
            with short_switch_interval():
                answer = self._look_again(second_look)
            self._emit(self.looked_again, answer)
        elif hover is not None:
            with short_switch_interval():
                answer = self._look_under_mouse(hover)
            self._emit(self.hovered, answer)
        elif likely is not None:
            self._emit(self.likely_found, self._look_for_likely(likely))
        elif frame is not None:
            self._embed_quietly(frame)

    def _at_hand(self, request: Request) -> tuple[Predictor, ImageEmbedding] | None:
        """The request's model and embedding, if nothing has to be loaded or encoded."""
        predictor = self._predictor
        if predictor is None or self._predictor_name != (request.model, request.device):
            return None
        embedding = self._known_embedding(predictor, request)
        return None if embedding is None else (predictor, embedding)

    def _look_under_mouse(self, request: Request) -> Answer:
        at_hand = self._at_hand(request)
        if at_hand is None:
            return Answer(request)
        predictor, embedding = at_hand
        started = time.perf_counter()
        try:
            predictions = tuple(predictor.predict_many(embedding, request.prompts))
            for prediction in predictions:
                prediction.candidate(request.candidate).make_mask()
        except Exception as error:  # noqa: BLE001
            # Whatever is wrong is reported when the place is clicked.
            _logger.info('A mask under the mouse failed: %s', error)
            return Answer(request)
        elapsed = 1000 * (time.perf_counter() - started)
        return Answer(request, predictions, '', elapsed, embedding.mapping)

    def _look_for_likely(self, request: LikelyRequest) -> LikelyAnswer:
        from napari_kdsam.segmentation.likely_objects import likely_objects

        try:
            predictor = self._predictor_for((request.model, request.device))
            pixels = _read(request)
            embedding = self._known_embedding(predictor, request)
            if embedding is None:
                embedding = self._embed(predictor, request, pixels)
            return LikelyAnswer(request, likely_objects(predictor, embedding, pixels))
        except KDSAMError as error:
            return LikelyAnswer(request, error=str(error))
        except Exception as error:
            # A defect must show as a message, not end the thread.
            _logger.exception('Looking for likely objects failed')
            return LikelyAnswer(request, error=f'Nothing was looked for: {error}')

    def _embed_quietly(self, frame: Prefetch) -> None:
        """Embed a frame that may be looked at soon, unless it costs one in use."""
        try:
            predictor = self._predictor
            if (
                predictor is not None
                and self._predictor_name == (frame.model, frame.device)
                and self._has_room(predictor)
                and self._known_embedding(predictor, frame) is None
            ):
                pixels = _read(frame)
                if not self._slot.wants(frame):
                    return
                embedding = self._embed(predictor, frame, pixels)
                self._bytes_in_advance += embedding.nbytes
        except Exception as error:  # noqa: BLE001
            # Whatever is wrong is reported when the frame is first clicked.
            _logger.info('Embedding a frame in advance failed: %s', error)
        self._slot.drop(frame)

    def _has_room(self, predictor: Predictor) -> bool:
        """Whether one more frame in advance leaves those in use where they are."""
        cache = predictor.cache
        size = cache.nbytes / max(len(cache), 1)
        return self._bytes_in_advance + size <= _SHARE_IN_ADVANCE * cache.max_bytes

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
        self._bytes_in_advance = 0
        embedding, frame = self._known_embedding(predictor, request), None
        if embedding is None:
            self._emit(self.progressed, request.number, 'Encoding the image…')
            frame = _read(request)
            embedding = self._embed(predictor, request, frame)
        started = time.perf_counter()
        predictions = tuple(predictor.predict_many(embedding, request.prompts))
        for prediction in predictions:
            self._make_masks(prediction, request.candidate)
        elapsed = 1000 * (time.perf_counter() - started)
        finished = self._finish(request, frame, predictions, embedding.mapping)
        return Answer(request, predictions, '', elapsed, embedding.mapping, finished)

    def _look_again(self, request: Request) -> Answer:
        at_hand = self._at_hand(request)
        if at_hand is None:
            return Answer(request)
        predictor, embedding = at_hand
        try:
            found = improved(
                predictor,
                embedding,
                request,
                lambda: _read(request),
                lambda: self._slot.request is None and not self._slot.stopped,
            )
        except Exception as error:  # noqa: BLE001
            # The first masks stay, which are good enough to go on with.
            _logger.info('A second look failed: %s', error)
            return Answer(request)
        self._tell_engine()
        if found is None:
            return Answer(request)
        finished = self._finish(request, *found, embedding.mapping)
        return Answer(request, found[1], '', 0.0, embedding.mapping, finished)

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

    def _known_embedding(
        self, predictor: Predictor, job: Request | Prefetch
    ) -> ImageEmbedding | None:
        key = self._known.get((job.image_token, job.mapping))
        return predictor.cache.get(key) if key else None

    def _embed(
        self, predictor: Predictor, job: Request | Prefetch, frame: NDArray[Any]
    ) -> ImageEmbedding:
        held = {key for key in self._known.values() if key in predictor.cache}
        started = time.perf_counter()
        embedding = predictor.embed(frame, job.mapping)
        if embedding.key not in held:
            # Equal pixels of another frame are found at once; that is no measure.
            self._encode_ms = 1000 * (time.perf_counter() - started)
        self._known[job.image_token, job.mapping] = embedding.key
        while len(self._known) > _REMEMBERED_FRAMES:
            self._known.popitem(last=False)
        self._tell_engine()
        return embedding

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
                predictor.store_problem,
            ),
        )


def _read(request: Request | Prefetch) -> NDArray[Any]:
    from napari_kdsam.core.errors import ImageError

    try:
        return np.asarray(request.read_frame())
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise ImageError(f'The frame could not be read: {error}.') from error
