"""From the prompts in view to their masks in the preview."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from napari.utils.notifications import show_warning
from numpy.typing import NDArray
from psygnal import Signal
from qtpy.QtCore import QTimer

from napari_kdsam.annotation.draft_prompts import prompts_of
from napari_kdsam.annotation.state import Draft
from napari_kdsam.core.errors import KDSAMError, excerpt
from napari_kdsam.core.intensity import IntensityMapping
from napari_kdsam.core.stack_index import FrameIndex
from napari_kdsam.model.registry import DEFAULT_MODEL
from napari_kdsam.widgets.annotator.image_record import (
    ImageRecord,
    Shown,
    mapping_of,
)
from napari_kdsam.widgets.annotator.status import (
    EMPTY_MASK,
    FIRST_CLICK,
    ONLY_OUTSIDE,
    StatusKind,
)
from napari_kdsam.widgets.annotator.workspace import Workspace
from napari_kdsam.widgets.shared.image_frames import ImageFrames
from napari_kdsam.widgets.shared.inference_thread import (
    InferenceThread,
    PredictorFactory,
)
from napari_kdsam.widgets.shared.requests import (
    Answer,
    EngineState,
    LikelyRequest,
    Prefetch,
    Request,
)

if TYPE_CHECKING:
    import numpy as np
    from napari.layers import Image

    from napari_kdsam.core.prompts import Prompt
    from napari_kdsam.inference.predictor import Prediction

_logger = logging.getLogger(__name__)
_THUMBNAIL_SIDE = 74
# Importing torch leaves the window little time.
_PAINT_MS = 300
_THUMBNAIL_PIXELS = 1000


class PredictionFlow:
    """Ask for masks, drop the answers that have been overtaken, and show the others.

    Parameters
    ----------
    workspace : Workspace
    predictor_factory : callable
        Makes a predictor from a model's and a device's name.

    Attributes
    ----------
    answered : psygnal.Signal
        Emitted when new masks have been shown.
    thread : InferenceThread
    model, device : str
        Used for the next requests.
    mapping : IntensityMapping or None
        How the last answered image's values became 8 bits.
    engine : EngineState or None
        Model, device, encoding time and memory, once a model is loaded.
    decode_ms : float or None
        How long the last click took to decode.
    """

    answered = Signal()

    def __init__(
        self, workspace: Workspace, predictor_factory: PredictorFactory
    ) -> None:
        self.model = DEFAULT_MODEL
        self.device = 'auto'
        self.mapping: IntensityMapping | None = None
        self.engine: EngineState | None = None
        self.decode_ms: float | None = None
        self._workspace = workspace
        self._use_contrast_limits = False
        self._second_look = True
        self._said_of_store = False
        self._said_of_sizes: WeakSet[ImageRecord] = WeakSet()
        self._next_image: tuple[Prefetch, ...] = ()
        self._newest = 0
        self._awaited: tuple[object, ...] | None = None
        self._looked_at: tuple[Shown, int] | None = None
        self._ahead: tuple[ImageRecord, FrameIndex, Shown] | None = None
        self._when_masks_come: Callable[[], object] | None = None
        self.thread = InferenceThread(predictor_factory)
        self.thread.progressed.connect(self._on_progress)
        self.thread.answered.connect(self._on_answer)
        self.thread.looked_again.connect(self._on_second_look)
        self.thread.engine_changed.connect(self._on_engine)

    def set_model(self, model: str, device: str) -> None:
        """Use another model or device; labels and prompts stay."""
        if (model, device) != (self.model, self.device):
            self.model, self.device = model, device
            self._predict_again()
            self.preload()

    def set_intensity(self, use_contrast_limits: bool) -> None:
        """Map intensities as displayed, or automatically."""
        if use_contrast_limits != self._use_contrast_limits:
            self._use_contrast_limits = use_contrast_limits
            self._predict_again()

    def set_second_look(self, on: bool) -> None:
        """Look again at small objects of large images, or not."""
        if on != self._second_look:
            self._second_look = on
            self._predict_again()

    def refresh(self) -> None:
        """Show the masks of the frame in view, asking for them if they are not there."""
        workspace = self._workspace
        record, layers = workspace.record, workspace.layers
        if layers is None or record is None:
            return
        hindrance = workspace.hindrance
        if hindrance is not None:
            self.forget()
            workspace.show_status(hindrance)
            return
        self._use_ahead(record)
        shown = workspace.shown
        if shown is not None and all(
            candidate.has_mask
            for candidate in shown.candidates(workspace.chosen_candidate)
        ):
            self._forget_requests()
            self._show(shown)
            self._look_again()
        elif workspace.draft.predictable:
            self._request(record)
        else:
            self.forget()
            layers.mask.show(workspace.frame, (), '')
            workspace.show_status(
                FIRST_CLICK if workspace.draft.empty else ONLY_OUTSIDE
            )

    def predict_ahead(self, frame: FrameIndex, draft: Draft) -> bool:
        """Show the masks of prompts that are not in the session, or not yet.

        Returns
        -------
        bool
            Whether they were asked for.
        """
        record = self._workspace.record
        if record is None or not draft.predictable or self._workspace.hindrance:
            return False
        try:
            self._ask(record, frame, draft)
        except KDSAMError:
            # Half-way through an edit prompts may make no sense; the end decides.
            return False
        return True

    def forget_ahead(self) -> None:
        """Let masks that were predicted ahead go."""
        self._ahead = None

    @property
    def promised(self) -> bool:
        """Whether something waits for the masks of the prompts in view."""
        return self._when_masks_come is not None

    def when_masks_come(self, act: Callable[[], object]) -> None:
        """Call once the masks of the prompts in view are shown, unless they change."""
        self._when_masks_come = act

    def prefetch(self, frames: list[FrameIndex]) -> None:
        """Have frames embedded when there is nothing else to do."""
        record = self._workspace.record
        if record is None:
            return
        read = record.reader()
        mapping = record.mapping(self._use_contrast_limits)
        made = [
            self._in_advance(record.token(frame), partial(read, frame), mapping)
            for frame in frames
        ]
        self.thread.prefetch([*made, *self._next_image])

    def encode_ahead(self, image: Image) -> None:
        """Have the frame of another image that will be in view embedded as well."""
        frames, point = ImageFrames(image), self._workspace.viewer.dims.point
        known = len(point) >= len(frames.shape)
        frame = frames.at(point) if known else frames.index_of(0)
        # Its pixels tell when it is asked for that they are embedded already.
        token = object()
        mapping = mapping_of(image, self._use_contrast_limits)
        made = self._in_advance(token, partial(frames.reader(), frame), mapping)
        self._next_image = (made,)
        # Frames of a model that is not there yet would be left out.
        self._preload()
        self.prefetch([self._workspace.frame])

    def hover_request(
        self, record: ImageRecord, frame: FrameIndex, draft: Draft
    ) -> Request:
        """Make a request of a mask that is only looked at.

        Raises
        ------
        PromptError
            If the prompts do not say where an object is.
        """
        context = record, frame, draft
        request = self._make_request(record, frame, draft)
        return replace(request, finish=None, context=context)

    def look_for_likely(self, record: ImageRecord, frame: FrameIndex) -> None:
        """Have a frame looked at for likely objects; the thread tells what it finds."""
        request = LikelyRequest(
            record.token(frame),
            partial(record.reader(), frame),
            record.mapping(self._use_contrast_limits),
            self.model,
            self.device,
            (record, frame),
        )
        self.thread.look_for_likely(request)

    def _in_advance(
        self, token: Hashable, read: Callable[[], Any], mapping: IntensityMapping
    ) -> Prefetch:
        return Prefetch(token, read, mapping, self.model, self.device)

    def preload(self) -> None:
        """Load the model while there is nothing else to do, the window painted first."""
        QTimer.singleShot(_PAINT_MS, self._preload)

    def _preload(self) -> None:
        self.thread.preload(self.model, self.device)

    def forget(self) -> None:
        """Want no answer any more."""
        self._forget_requests()
        self._looked_at = None
        self.thread.cancel_second_look()

    def close(self) -> None:
        """Want no answer ever again, and let the thread end."""
        self.forget()
        self.thread.stop()

    def _forget_requests(self) -> None:
        """Want no answer to a prompt any more; a second look may go on."""
        self._when_masks_come = None
        self._overtake()

    def _overtake(self) -> None:
        self._newest += 1
        self._awaited = None
        self.thread.cancel_waiting()

    def _predict_again(self) -> None:
        for record in self._workspace.records.values():
            record.shown.clear()
        self.refresh()

    def _request(self, record: ImageRecord) -> None:
        workspace = self._workspace
        self._when_masks_come = None
        try:
            self._ask(record, workspace.frame, workspace.draft)
        except KDSAMError as error:
            self.forget()
            workspace.set_status(StatusKind.WAITING, str(error))
            return
        workspace.set_status(StatusKind.WORKING, 'Predicting…')

    def _ask(self, record: ImageRecord, frame: FrameIndex, draft: Draft) -> None:
        """Ask for the masks of a draft; any earlier request is overtaken.

        Does nothing if the answer to the very same question is on its way.

        Raises
        ------
        PromptError
            If the prompts do not say where an object is.
        """
        request = self._make_request(record, frame, draft)
        question = (
            request.image_token,
            replace(draft, number=None),
            request.mapping,
            self.model,
            self.device,
        )
        if question == self._awaited:
            return
        self._overtake()
        self._looked_at = None
        self.thread.cancel_second_look()
        self._awaited = question
        self.thread.submit(replace(request, number=self._newest))

    def _make_request(
        self, record: ImageRecord, frame: FrameIndex, draft: Draft
    ) -> Request:
        prompts = prompts_of(draft, record.frames.plane_shape)
        return Request(
            number=self._newest,
            image_token=record.token(frame),
            read_frame=partial(record.reader(), frame),
            prompts=prompts,
            mapping=record.mapping(self._use_contrast_limits),
            model=self.model,
            device=self.device,
            candidate=draft.candidate,
            context=(record, frame, draft),
            # Reads the frame again, so only for what offers candidates.
            finish=_thumbnails if _offers_candidates(prompts) else None,
        )

    def _on_progress(self, number: int, text: str) -> None:
        if number == self._newest:
            self._workspace.set_status(StatusKind.WORKING, text)

    def _on_engine(self, engine: EngineState) -> None:
        if engine.store_problem and not self._said_of_store:
            # In a notice of its own, because the status line changes with each click.
            show_warning(f'{engine.store_problem} Everything else goes on.')
            self._said_of_store = True
        self.engine = engine
        self._workspace.updated.emit()

    def _on_answer(self, answer: Answer) -> None:
        if answer.request.number != self._newest:
            return
        self._awaited = None
        try:
            self._take(answer)
        except Exception as error:
            # Whatever it is, nobody may wait for ever, and it is not shown again.
            _logger.exception('Showing a mask failed')
            self._when_masks_come = self._ahead = None
            record, frame, _ = answer.request.context
            record.shown.pop(frame, None)
            self._workspace.fail(f'The mask could not be shown: {excerpt(error)}')

    def _take(self, answer: Answer) -> None:
        if not answer.predictions:
            self._when_masks_come = None
            self._workspace.fail(answer.error)
            return
        asked: tuple[ImageRecord, FrameIndex, Draft] = answer.request.context
        record, frame, draft = asked
        within = self._own_shape(record, frame)
        thumbnails = tuple(answer.finished or ())
        shown = Shown(draft, answer.predictions, thumbnails, within=within)
        if draft.same_prompts(record.session.state.draft(frame)):
            record.shown[frame] = shown
        else:
            self._ahead = record, frame, shown
        self.mapping = answer.mapping
        self.decode_ms = answer.milliseconds
        self._show(shown, answer.milliseconds)
        # Masks of a drag come as well, and are not those that were promised.
        if self._when_masks_come is not None and self._workspace.shown is not None:
            act, self._when_masks_come = self._when_masks_come, None
            act()
        if self._workspace.shown is shown:
            self._look_again()
        self.answered.emit()

    def _own_shape(
        self, record: ImageRecord, frame: FrameIndex
    ) -> tuple[int, int] | None:
        """Size of a frame where that is not the layer's; said once for each image."""
        own = record.own_shapes.get(frame)
        if own is not None and record not in self._said_of_sizes:
            self._said_of_sizes.add(record)
            show_warning(_sizes_differ(record, own))
        return own

    def _use_ahead(self, record: ImageRecord) -> None:
        """Take the masks that were predicted ahead, if they are those of the prompts."""
        if self._ahead is None:
            return
        of, frame, shown = self._ahead
        if of is not record or frame != self._workspace.frame:
            self._ahead = None
        elif shown.draft.same_prompts(self._workspace.draft):
            record.shown[frame] = shown
            self._ahead = None

    def _show(self, shown: Shown, milliseconds: float | None = None) -> None:
        """Paint the masks of predictions, and say how long they took."""
        workspace = self._workspace
        if workspace.layers is None:
            return
        in_view = shown is workspace.shown
        chosen = workspace.chosen_candidate if in_view else shown.draft.candidate
        masks = shown.masks(chosen, workspace.session.state.cleanup)
        workspace.layers.mask.show(workspace.frame, masks, workspace.class_color)
        scores = [candidate.score for candidate in shown.candidates(chosen)]
        parts = [f'Ready: predicted overlap {min(scores):.2f}']
        if len(masks) > 1:
            parts = [f'Ready: {len(masks)} objects, overlaps from {min(scores):.2f}']
        elif len(workspace.candidates) > 1:
            number = workspace.chosen_candidate + 1
            parts.append(f'candidate {number} of {len(workspace.candidates)}')
        if milliseconds is not None:
            parts.append(f'{milliseconds:.0f} ms')
        if any(candidate.close_up for candidate in shown.candidates(chosen)):
            parts.append('second look')
        if any(mask.any() for mask in masks):
            workspace.set_status(StatusKind.READY, ', '.join(parts))
        else:
            workspace.show_status(EMPTY_MASK)

    def _look_again(self) -> None:
        """Ask for a better mask than the one in view, unless that was done already."""
        workspace = self._workspace
        record, frame, shown = workspace.record, workspace.frame, workspace.shown
        if record is None or shown is None:
            return
        candidate = workspace.chosen_candidate
        if (
            not self._second_look
            or candidate in shown.looked_again
            or self._looked_at == (shown, candidate)
        ):
            return
        self._looked_at = shown, candidate
        self.thread.look_again(
            replace(
                self._make_request(record, frame, shown.draft),
                candidate=candidate,
                context=(record, frame, shown),
                first_look=shown.predictions,
            )
        )

    def _on_second_look(self, answer: Answer) -> None:
        """Replace the masks in view, if they are those that were looked at again."""
        workspace, chosen = self._workspace, answer.request.candidate
        asked: tuple[ImageRecord, FrameIndex, Shown] = answer.request.context
        record, frame, first = asked
        if self._looked_at != (first, chosen):
            return
        self._looked_at = None
        if (
            record is not workspace.record
            or frame != workspace.frame
            or first is not workspace.shown
            or chosen != workspace.chosen_candidate
            # What a question is about stays until it is answered.
            or workspace.question is not None
        ):
            return
        first.looked_again.add(chosen)
        if not answer.predictions:
            return
        thumbnails = tuple(answer.finished or first.thumbnails)
        better = Shown(
            first.draft,
            answer.predictions,
            thumbnails,
            first.looked_again,
            first.within,
        )
        record.shown[frame] = better
        before = workspace.status
        self._show(better)
        if before.kind is not StatusKind.READY:
            # Something went wrong in the meantime, and is still to be read.
            workspace.show_status(before)


def _sizes_differ(record: ImageRecord, own: tuple[int, int]) -> str:
    plane = record.frames.plane_shape
    sizes = f'{own[0]} x {own[1]} pixels and the labels {plane[0]} x {plane[1]}'
    beyond = ''
    if own[0] > plane[0] or own[1] > plane[1]:
        beyond = ' What lies beyond is cut; open the file alone to label all of it.'
    return (
        f'The frames of "{record.image.name}" differ in size: this one has {sizes}.'
        f'{beyond}'
    )


def _offers_candidates(prompts: Sequence[Prompt]) -> bool:
    return len(prompts) == 1 and prompts[0].ambiguous


def _thumbnails(
    frame: NDArray[Any],
    predictions: tuple[Prediction, ...],
    mapping: IntensityMapping,
) -> tuple[NDArray[np.uint8], ...]:
    """Pictures of the candidates of a single object, made in the thread."""
    from napari_kdsam.core.intensity import check_image
    from napari_kdsam.inference.masks import mask_of_logits
    from napari_kdsam.io.thumbnails import candidate_thumbnails

    candidates = predictions[0].candidates
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
