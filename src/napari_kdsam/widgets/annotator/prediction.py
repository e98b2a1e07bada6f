"""Requests out, answers in: only the answer to the newest request ever arrives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from napari_kdsam.annotation.draft_prompts import prompts_of
from napari_kdsam.annotation.state import Draft
from napari_kdsam.core.stack_index import FrameIndex
from napari_kdsam.model.registry import DEFAULT_MODEL
from napari_kdsam.widgets.annotator.image_record import ImageRecord, Shown
from napari_kdsam.widgets.shared.inference_thread import (
    InferenceThread,
    PredictorFactory,
)
from napari_kdsam.widgets.shared.requests import (
    Answer,
    EngineState,
    Prefetch,
    Request,
)

if TYPE_CHECKING:
    import numpy as np

    from napari_kdsam.core.intensity import IntensityMapping
    from napari_kdsam.core.prompts import Prompt
    from napari_kdsam.inference.predictor import Prediction

_THUMBNAIL_SIDE = 74
_THUMBNAIL_PIXELS = 1000


class PredictionFlow:
    """Number requests, and drop the answers that have been overtaken.

    Parameters
    ----------
    predictor_factory : callable
        Makes a predictor from a model's and a device's name.
    on_progress : callable
        Called with a sentence when a slow step of the newest request begins.
    on_answer : callable
        Called with the `Answer` to the newest request.
    on_second_look : callable
        Called with the `Answer` to the newest second look.
    on_engine : callable
        Called with the `EngineState` when it has changed.

    Attributes
    ----------
    model, device : str
        Used for the next requests.
    use_contrast_limits : bool
        Map intensities as displayed instead of automatically.
    second_look : bool
        Look again at small objects of large images.
    thread : InferenceThread
    """

    def __init__(
        self,
        predictor_factory: PredictorFactory,
        on_progress: Callable[[str], None],
        on_answer: Callable[[Answer], None],
        on_second_look: Callable[[Answer], None],
        on_engine: Callable[[EngineState], None],
    ) -> None:
        self.model = DEFAULT_MODEL
        self.device = 'auto'
        self.use_contrast_limits = False
        self.second_look = True
        self._newest = 0
        self._awaited: Any = None
        self._looked_at: tuple[Shown, int] | None = None
        self._pass_progress = on_progress
        self._pass_answer = on_answer
        self._pass_second_look = on_second_look
        self.thread = InferenceThread(predictor_factory)
        self.thread.progressed.connect(self._on_progress)
        self.thread.answered.connect(self._on_answer)
        self.thread.looked_again.connect(self._on_second_look)
        self._pass_engine = on_engine
        self.thread.engine_changed.connect(self._on_engine)

    def request(self, record: ImageRecord, frame: FrameIndex, draft: Draft) -> None:
        """Ask for the masks of a draft; any earlier request is overtaken.

        Does nothing if the answer to the very same question is on its way.

        Raises
        ------
        PromptError
            If the prompts do not say where an object is.
        """
        request = self._request(record, frame, draft)
        asked = replace(draft, number=None)
        question = (
            request.image_token,
            asked,
            request.mapping,
            self.model,
            self.device,
        )
        if question == self._awaited:
            return
        self.forget()
        self._awaited = question
        self.thread.submit(replace(request, number=self._newest))

    def look_again(
        self, record: ImageRecord, frame: FrameIndex, shown: Shown, candidate: int
    ) -> None:
        """Ask for a better mask than one that is shown, unless that was done already.

        Parameters
        ----------
        record : ImageRecord
        frame : tuple of int
        shown : Shown
        candidate : int
            Index of the candidate in view, if it is one of several.
        """
        looked_at = shown, candidate
        if (
            not self.second_look
            or candidate in shown.looked_again
            or looked_at == self._looked_at
        ):
            return
        self._looked_at = looked_at
        request = self._request(record, frame, shown.draft)
        self.thread.look_again(
            replace(
                request,
                candidate=candidate,
                context=(record, frame, shown),
                first_look=shown.predictions,
            )
        )

    def _request(self, record: ImageRecord, frame: FrameIndex, draft: Draft) -> Request:
        prompts = prompts_of(draft, record.frames.plane_shape)
        return Request(
            number=self._newest,
            image_token=record.token(frame),
            read_frame=partial(record.frames.reader(), frame),
            prompts=prompts,
            mapping=record.mapping(self.use_contrast_limits),
            model=self.model,
            device=self.device,
            candidate=draft.candidate,
            context=(record, frame, draft),
            # Reads the frame again, so only for what offers candidates.
            finish=_thumbnails if _offers_candidates(prompts) else None,
        )

    def prefetch(self, record: ImageRecord, frames: list[FrameIndex]) -> None:
        """Have frames embedded when there is nothing else to do."""
        mapping = record.mapping(self.use_contrast_limits)
        self.thread.prefetch(
            [
                Prefetch(
                    record.token(frame),
                    partial(record.frames.reader(), frame),
                    mapping,
                    self.model,
                    self.device,
                )
                for frame in frames
            ]
        )

    def forget(self) -> None:
        """Want no answer any more."""
        self.forget_requests()
        self._looked_at = None
        self.thread.cancel_second_look()

    def forget_requests(self) -> None:
        """Want no answer to a prompt any more; a second look may go on."""
        self._newest += 1
        self._awaited = None
        self.thread.cancel_waiting()

    def preload(self) -> None:
        """Load the model while there is nothing else to do."""
        self.thread.preload(self.model, self.device)

    def close(self) -> None:
        """Want no answer ever again, and let the thread end."""
        self.forget()
        self.thread.stop()

    def _on_progress(self, number: int, text: str) -> None:
        if number == self._newest:
            self._pass_progress(text)

    def _on_engine(self, engine: EngineState) -> None:
        self._pass_engine(engine)

    def _on_answer(self, answer: Answer) -> None:
        if answer.request.number == self._newest:
            self._awaited = None
            self._pass_answer(answer)

    def _on_second_look(self, answer: Answer) -> None:
        _, _, shown = answer.request.context
        if self._looked_at == (shown, answer.request.candidate):
            self._looked_at = None
            self._pass_second_look(answer)


def _offers_candidates(prompts: Sequence[Prompt]) -> bool:
    return len(prompts) == 1 and prompts[0].ambiguous


def _thumbnails(
    frame: NDArray[Any], predictions: tuple[Prediction, ...], mapping: IntensityMapping
) -> tuple[NDArray[np.uint8], ...]:
    """Pictures of the candidates of a single object, made in the thread."""
    candidates = predictions[0].candidates
    from napari_kdsam.core.intensity import check_image
    from napari_kdsam.inference.masks import mask_of_logits
    from napari_kdsam.io.thumbnails import candidate_thumbnails

    # A picture needs few pixels, and whole masks of large frames are slow to make.
    step = max(1, max(candidates[0].image_shape) // _THUMBNAIL_PIXELS)
    image = check_image(frame)[::step, ::step]
    shape = (image.shape[0], image.shape[1])
    masks = [
        candidate.mask[::step, ::step]
        if step == 1 or candidate.close_up is not None
        else mask_of_logits(candidate.logits, shape)
        for candidate in candidates
    ]
    return tuple(candidate_thumbnails(image, masks, mapping, _THUMBNAIL_SIDE))
