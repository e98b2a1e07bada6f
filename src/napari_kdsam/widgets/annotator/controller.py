"""Between napari's layers, the annotation session and the inference thread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_kdsam.annotation.commands import ChangeFrame, Command, as_one
from napari_kdsam.annotation.state import AnnotationState
from napari_kdsam.core.errors import KDSAMError
from napari_kdsam.core.intensity import IntensityMapping
from napari_kdsam.widgets.annotator.annotation_view import AnnotationView
from napari_kdsam.widgets.annotator.frames import FrameActions
from napari_kdsam.widgets.annotator.history_sync import HistorySync
from napari_kdsam.widgets.annotator.image_record import ImageRecord, Shown
from napari_kdsam.widgets.annotator.key_methods import KeyMethods
from napari_kdsam.widgets.annotator.keyboard_cursor import KeyboardCursor
from napari_kdsam.widgets.annotator.layer_watch import LayerWatch
from napari_kdsam.widgets.annotator.objects import LAYER_ERRORS, ObjectActions
from napari_kdsam.widgets.annotator.pick_tool import PickTool
from napari_kdsam.widgets.annotator.prediction import PredictionFlow
from napari_kdsam.widgets.annotator.prompt_edits import PromptEdits
from napari_kdsam.widgets.annotator.prompt_layers import PromptLayers
from napari_kdsam.widgets.annotator.second_looks import SecondLooks
from napari_kdsam.widgets.annotator.session_keeper import SessionKeeper
from napari_kdsam.widgets.annotator.shortcuts import (
    LAYER_SHORTCUTS,
    SHORTCUTS,
    key_actions,
)
from napari_kdsam.widgets.annotator.status import (
    EMPTY_MASK,
    FIRST_CLICK,
    NO_IMAGE,
    ONLY_OUTSIDE,
    OTHER_VIEW,
    Stage,
    Status,
)
from napari_kdsam.widgets.shared.connections import Connections
from napari_kdsam.widgets.shared.inference_thread import (
    PredictorFactory,
    make_predictor,
)
from napari_kdsam.widgets.shared.requests import Answer, EngineState

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari.layers import Image, Labels
    from napari.viewer import Viewer

    from napari_kdsam.widgets.annotator.shortcuts import Shortcut


class AnnotationController(KeyMethods, AnnotationView):
    """Everything the annotator does, without its buttons.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    predictor_factory : callable, optional
        Makes a predictor from a model's and a device's name.
    shortcuts : sequence of Shortcut, optional
        The keys in force.

    Attributes
    ----------
    updated : psygnal.Signal
        Emitted whenever anything shown may have changed.
    help_wanted : psygnal.Signal
        Emitted when the user asks for the shortcuts.
    status : Status
    mapping : IntensityMapping or None
        How the last answered image's values became 8 bits.
    engine : EngineState or None
        Model, device, encoding time and memory, once a model is loaded.
    decode_ms : float or None
        How long the last click took to decode.
    objects : ObjectActions
    frames : FrameActions
    second_looks : SecondLooks
    """

    updated = Signal()
    help_wanted = Signal()

    def __init__(
        self,
        viewer: Viewer,
        predictor_factory: PredictorFactory = make_predictor,
        shortcuts: Iterable[Shortcut] = SHORTCUTS,
    ) -> None:
        self.viewer = viewer
        self.layers: PromptLayers | None = None
        self.mapping: IntensityMapping | None = None
        self.status = NO_IMAGE
        self.engine: EngineState | None = None
        self.decode_ms: float | None = None
        self._record: ImageRecord | None = None
        self._records: dict[Any, ImageRecord] = {}
        self._closed = False
        self._high_contrast = False
        self._layer_keys = key_actions(self, (*shortcuts, *LAYER_SHORTCUTS))
        self.second_looks = SecondLooks(self)
        self.flow = PredictionFlow(
            predictor_factory,
            self._on_progress,
            self._on_answer,
            self.second_looks.on_answer,
            self._on_engine,
        )
        self.keeper = SessionKeeper(
            self.updated.emit,
            lambda text: self.set_status(Status(Stage.ERROR, text)),
        )
        self.objects = ObjectActions(self)
        self.frames = FrameActions(self)
        self.cursor = KeyboardCursor(self)
        self.history = HistorySync(self)
        self.pick = PickTool(self)
        self.edits = PromptEdits(self)
        self._watch = LayerWatch(self)
        self._view_events = Connections()
        self._view_events.connect(
            viewer.dims.events,
            ('current_step', 'ndisplay', 'order'),
            self._on_view_changed,
        )

    def restore_session(self) -> None:
        """Bring earlier work on the image back."""
        if self._record is None or self.layers is None or self.offer is None:
            return
        try:
            self.keeper.restore(self._record, self.viewer, self.layers.preview)
        except LAYER_ERRORS as error:
            self.set_status(Status(Stage.ERROR, f'Not restored: {error}'))
        self.history.follow(self._record)
        self.updated.emit()

    def discard_session(self) -> None:
        """Delete earlier work on the image."""
        if self._record is not None and self.offer is not None:
            self.keeper.discard(self._record)
            self.updated.emit()

    def set_image(self, image: Image | None) -> None:
        """Annotate another image layer; drafts and commits of the earlier one stay."""
        if image == self.image:
            return
        self._forget_requests()
        self._leave_image()
        if image is None:
            self.set_status(NO_IMAGE)
            return
        record = self._records.setdefault(
            image, ImageRecord(image, self.objects.on_painted)
        )
        self._record = record
        try:
            record.frames.check()
            self.layers = PromptLayers(
                self.viewer,
                image,
                self.edits.on_edit,
                self.edits.on_drag,
                self.edits.on_press,
                self.edits.on_release,
                self._layer_keys,
            )
        except (KDSAMError, MemoryError, ValueError, TypeError, IndexError) as error:
            self._record = None
            text = f'This layer cannot be annotated: {error}'
            self.set_status(Status(Stage.ERROR, text))
            return
        self.history.follow(record)
        self.show_contrast()
        # So that undo finds its way back to where the first object was made.
        record.session.execute(ChangeFrame(self.frame))
        image.events.data.connect(self._watch.on_image_data)
        record.session.changed.connect(self._on_session_changed)
        self.layers.show_drafts(record.session.state.drafts)
        self.use_points()
        self.refresh_preview()
        self.flow.preload()
        self.keeper.watch(record)

    def set_model(self, model: str, device: str) -> None:
        """Use another model or device; labels and prompts stay."""
        if (model, device) != (self.flow.model, self.flow.device):
            self.flow.model, self.flow.device = model, device
            self._predict_again()
            self.flow.preload()

    def set_intensity(self, use_contrast_limits: bool) -> None:
        """Map intensities as displayed, or automatically."""
        if use_contrast_limits != self.flow.use_contrast_limits:
            self.flow.use_contrast_limits = use_contrast_limits
            self._predict_again()

    def set_second_look(self, on: bool) -> None:
        """Look again at small objects of large images, or not."""
        if on != self.flow.second_look:
            self.flow.second_look = on
            self._predict_again()

    def set_high_contrast(self, high: bool) -> None:
        """Preview masks as bright outlines, or as tinted areas."""
        self._high_contrast = high
        self.show_contrast()

    def show_contrast(self) -> None:
        """Show the preview as the user wants it, also one that is new."""
        if self.layers is not None:
            self.layers.mask.use_high_contrast(self._high_contrast)

    def set_autosave(self, on: bool, beside: bool) -> None:
        """Keep sessions in files or not, and beside the images where that is possible."""
        self.keeper.configure(on, beside)

    def set_target(self, labels: Labels | None) -> None:
        """Commit to this layer; None for a new one at the next commit."""
        if self._record is None or labels == self.target_layer:
            return
        try:
            self._record.set_target(labels)
        except LAYER_ERRORS as error:
            self.set_status(
                Status(Stage.ERROR, f'These labels cannot be used: {error}')
            )
        self.history.follow(self._record)
        self.updated.emit()

    def commit(self) -> None:
        """Write the masks into the labels; waits for those that are on their way."""
        self.objects.commit()

    def close(self) -> None:
        """Let go of the viewer and the thread; layers with labels stay."""
        if self._closed:
            return
        self._closed = True
        self.flow.close()
        self.pick.close()
        self.cursor.close()
        self._watch.close()
        self._view_events.close()
        self._leave_image()
        self.keeper.close()
        for record in self._records.values():
            record.set_target(None)
        self._records.clear()

    def execute(self, commands: tuple[Command, ...]) -> None:
        """Do commands as one step."""
        if commands:
            self.session.execute(as_one(commands))

    def say(self, text: str) -> None:
        """Show a sentence; the stage stays."""
        self.set_status(Status(self.status.stage, text))

    def set_status(self, status: Status) -> None:
        """Show a stage and a sentence."""
        self.status = status
        self.updated.emit()

    def _leave_image(self) -> None:
        self.cursor.close()
        if self.layers is not None:
            # Let go first, so that removing the layers does not bring them back.
            layers, self.layers = self.layers, None
            layers.close()
        if self._record is not None:
            self._record.image.events.data.disconnect(self._watch.on_image_data)
            self._record.session.changed.disconnect(self._on_session_changed)
            self._record = None
        self.history.close()
        self.objects.question = None
        self.edits.stop()

    def _on_session_changed(
        self, before: AnnotationState, after: AnnotationState
    ) -> None:
        if self.layers is None or self._record is None:
            return
        self.objects.question = None
        self._record.forget_cleared()
        self.keeper.changed(self._record, before, after)
        if (before.objects, before.classes) != (after.objects, after.classes):
            self.objects.show_classes(self._record)
        self.edits.follow(before, after)
        if after.frame != self.frame and len(after.frame) == len(self.frame):
            # Undo and redo show what they change; the view's change comes back here.
            self.frames.go_to(after.frame)
            return
        self.refresh_preview()

    def refresh_preview(self) -> None:
        """Show the masks of the frame in view, asking for them if they are not there."""
        if self.layers is None or self._record is None:
            return
        if not self._record.frames.in_plane(self.viewer.dims):
            self._forget_requests()
            self.set_status(OTHER_VIEW)
            return
        self.edits.use_ahead()
        if self.shown is not None and all(
            candidate.has_mask
            for candidate in self.shown.candidates(self.chosen_candidate)
        ):
            self.objects.wait_no_longer()
            self.flow.forget_requests()
            self.show(self.shown)
            self.second_looks.ask()
            return
        if self.draft.predictable:
            self._request()
            return
        self._forget_requests()
        self.layers.mask.show(self.frame, (), '')
        self.set_status(FIRST_CLICK if self.draft.empty else ONLY_OUTSIDE)

    def show(self, shown: Shown, milliseconds: float | None = None) -> None:
        """Show the masks of predictions, and how long they took."""
        if self.layers is None:
            return
        state = self.session.state
        chosen = shown.draft.candidate
        if shown is self.shown:
            chosen = self.chosen_candidate
        masks = shown.masks(chosen, state.cleanup)
        self.layers.mask.show(self.frame, masks, self.class_color)
        scores = [candidate.score for candidate in shown.candidates(chosen)]
        parts = [f'Ready: predicted overlap {min(scores):.2f}']
        if len(masks) > 1:
            parts = [f'Ready: {len(masks)} objects, overlaps from {min(scores):.2f}']
        elif len(self.candidates) > 1:
            number = self.chosen_candidate + 1
            parts.append(f'candidate {number} of {len(self.candidates)}')
        if milliseconds is not None:
            parts.append(f'{milliseconds:.0f} ms')
        if any(candidate.close_up for candidate in shown.candidates(chosen)):
            parts.append('second look')
        ready = Status(Stage.READY, ', '.join(parts))
        self.set_status(ready if any(mask.any() for mask in masks) else EMPTY_MASK)

    def _request(self) -> None:
        if self._record is None:
            return
        self.objects.wait_no_longer()
        try:
            self.flow.request(self._record, self.frame, self.draft)
        except KDSAMError as error:
            self._forget_requests()
            self.set_status(Status(Stage.WAITING, str(error)))
            return
        self.set_status(Status(Stage.WORKING, 'Predicting…'))

    def _forget_requests(self) -> None:
        self.objects.wait_no_longer()
        self.flow.forget()

    def _predict_again(self) -> None:
        for record in self._records.values():
            record.shown.clear()
        self.refresh_preview()

    def _on_progress(self, text: str) -> None:
        self.set_status(Status(Stage.WORKING, text))

    def _on_engine(self, engine: EngineState) -> None:
        self.engine = engine
        self.updated.emit()

    def _on_answer(self, answer: Answer) -> None:
        if not answer.predictions:
            self.objects.wait_no_longer()
            self.set_status(Status(Stage.ERROR, answer.error))
            return
        record, frame, draft = answer.request.context
        shown = Shown(draft, answer.predictions, tuple(answer.finished or ()))
        if draft.same_prompts(record.session.state.draft(frame)):
            record.shown[frame] = shown
        else:
            self.edits.keep_ahead(record, frame, shown)
        self.mapping = answer.mapping
        self.decode_ms = answer.milliseconds
        self.show(shown, answer.milliseconds)
        self.objects.commit_waiting()
        if self.shown is shown:
            self.second_looks.ask()
        self.frames.prefetch()

    def _on_view_changed(self, event: Any = None) -> None:
        if self._record is not None and self.frame != self.session.state.frame:
            self.objects.question = None
            self.frames.note_direction(self.session.state.frame, self.frame)
            self.session.execute(ChangeFrame(self.frame))
            self.cursor.follow_frame()
        else:
            self.refresh_preview()

    def knows(self, layer: Any) -> bool:
        """Whether a layer is an image that has been annotated."""
        return layer in self._records

    def drop(self, image: Any) -> None:
        """Keep nothing of an image any more; its session stays in its file."""
        record = self._records.pop(image, None)
        if record is not None:
            self.keeper.forget(record)
            record.set_target(None)
            self.updated.emit()
