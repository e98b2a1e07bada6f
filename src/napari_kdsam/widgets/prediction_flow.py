"""Requests out, answers in: only the answer to the newest request ever arrives."""

from __future__ import annotations

from collections.abc import Callable

from napari_kdsam.annotation.state import Draft, FrameIndex
from napari_kdsam.model.registry import DEFAULT_MODEL
from napari_kdsam.widgets.image_record import ImageRecord
from napari_kdsam.widgets.inference_thread import (
    Answer,
    InferenceThread,
    PredictorFactory,
    Request,
)


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

    Attributes
    ----------
    model, device : str
        Used for the next requests.
    use_contrast_limits : bool
        Map intensities as displayed instead of automatically.
    thread : InferenceThread
    """

    def __init__(
        self,
        predictor_factory: PredictorFactory,
        on_progress: Callable[[str], None],
        on_answer: Callable[[Answer], None],
    ) -> None:
        self.model = DEFAULT_MODEL
        self.device = 'auto'
        self.use_contrast_limits = False
        self._newest = 0
        self._pass_progress = on_progress
        self._pass_answer = on_answer
        self.thread = InferenceThread(predictor_factory)
        self.thread.progressed.connect(self._on_progress)
        self.thread.answered.connect(self._on_answer)

    def request(self, record: ImageRecord, frame: FrameIndex, draft: Draft) -> None:
        """Ask for the masks of a draft; any earlier request is overtaken."""
        self._newest += 1
        self.thread.submit(
            Request(
                number=self._newest,
                image_token=record.token(frame),
                read_frame=record.reader(frame),
                prompt=draft.to_prompt(),
                mapping=record.mapping(self.use_contrast_limits),
                model=self.model,
                device=self.device,
                candidate=draft.candidate,
                context=(record, frame, draft),
            )
        )

    def forget(self) -> None:
        """Want no answer any more."""
        self._newest += 1
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

    def _on_answer(self, answer: Answer) -> None:
        if answer.request.number == self._newest:
            self._pass_answer(answer)
