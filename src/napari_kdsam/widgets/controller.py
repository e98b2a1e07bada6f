"""Between napari's layers, the annotation session and the inference thread."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from psygnal import Signal
from qtpy.QtCore import QTimer

from napari_kdsam.annotation.commands import (
    ChooseCandidate,
    ClearDraft,
    Command,
    Several,
    TogglePoint,
)
from napari_kdsam.annotation.edits import edit_between
from napari_kdsam.annotation.state import AnnotationState
from napari_kdsam.errors import KDSAMError
from napari_kdsam.inference.intensity import IntensityMapping
from napari_kdsam.widgets.annotation_view import AnnotationView
from napari_kdsam.widgets.image_record import ImageRecord, Shown
from napari_kdsam.widgets.inference_thread import (
    Answer,
    PredictorFactory,
    make_predictor,
)
from napari_kdsam.widgets.pick_tool import PickTool
from napari_kdsam.widgets.prediction_flow import PredictionFlow
from napari_kdsam.widgets.prompt_layers import PromptLayers
from napari_kdsam.widgets.session_keeper import SessionKeeper
from napari_kdsam.widgets.shortcuts import LAYER_SHORTCUTS, SHORTCUTS, key_actions
from napari_kdsam.widgets.status import (
    EMPTY_MASK,
    FIRST_CLICK,
    NO_IMAGE,
    ONLY_OUTSIDE,
    OTHER_VIEW,
    Stage,
    Status,
)

if TYPE_CHECKING:
    from napari.layers import Image, Labels
    from napari.viewer import Viewer

    from napari_kdsam.inference.predictor import Candidate

_LAYER_ERRORS = (KDSAMError, OSError, ValueError, TypeError)


class AnnotationController(AnnotationView):
    """Everything the annotator does, without its buttons.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    predictor_factory : callable, optional
        Makes a predictor from a model's and a device's name.

    Attributes
    ----------
    updated : psygnal.Signal
        Emitted whenever anything shown may have changed.
    status : Status
    mapping : IntensityMapping or None
        How the last answered image's values became 8 bits.
    """

    updated = Signal()

    def __init__(
        self, viewer: Viewer, predictor_factory: PredictorFactory = make_predictor
    ) -> None:
        self.viewer = viewer
        self.layers: PromptLayers | None = None
        self.mapping: IntensityMapping | None = None
        self.status = NO_IMAGE
        self._record: ImageRecord | None = None
        self._records: dict[Any, ImageRecord] = {}
        self._commit_when_answered = False
        self._reading_edit = False
        self._closed = False
        self._layer_keys = key_actions(self, (*SHORTCUTS, *LAYER_SHORTCUTS))
        self.flow = PredictionFlow(
            predictor_factory, self._on_progress, self._on_answer
        )
        self._keeper = SessionKeeper(
            self.updated.emit,
            lambda text: self._set_status(Status(Stage.ERROR, text)),
        )
        self.pick = PickTool(self)
        viewer.layers.events.removed.connect(self._on_layer_removed)
        self._views = [
            getattr(viewer.dims.events, name)
            for name in ('current_step', 'ndisplay', 'order')
        ]
        for event in self._views:
            event.connect(self._on_view_changed)

    def restore_session(self) -> None:
        """Bring earlier work on the image back."""
        if self._record is None or self.layers is None or self.offer is None:
            return
        try:
            self._keeper.restore(self._record, self.viewer, self.layers.preview)
        except _LAYER_ERRORS as error:
            self._set_status(Status(Stage.ERROR, f'Not restored: {error}'))
        self.updated.emit()

    def discard_session(self) -> None:
        """Delete earlier work on the image."""
        if self._record is not None and self.offer is not None:
            self._keeper.discard(self._record)
            self.updated.emit()

    def set_image(self, image: Image | None) -> None:
        """Annotate another image layer; drafts and commits of the earlier one stay."""
        if image == self.image:
            return
        self._forget_requests()
        self._leave_image()
        if image is None:
            self._set_status(NO_IMAGE)
            return
        record = self._records.setdefault(image, ImageRecord(image))
        self._record = record
        try:
            self.layers = PromptLayers(
                self.viewer, image, self._on_edit, self._layer_keys
            )
        except (KDSAMError, MemoryError, ValueError) as error:
            self._record = None
            text = f'This layer cannot be annotated: {error}'
            self._set_status(Status(Stage.ERROR, text))
            return
        image.events.data.connect(self._on_image_data)
        record.session.changed.connect(self._on_session_changed)
        self.layers.show_drafts(record.session.state.drafts)
        self.use_points()
        self._refresh_preview()
        self.flow.preload()
        self._keeper.watch(record)

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

    def set_target(self, labels: Labels | None) -> None:
        """Commit to this layer; None for a new one at the next commit."""
        if self._record is not None and labels != self.target_layer:
            self._record.set_target(labels)
            self.updated.emit()

    def toggle_polarity(self) -> None:
        """Switch the next click; in the points layer's select mode, the selected ones."""
        if self.layers is None:
            return
        points = self.layers.points
        if points.mode == 'select' and points.selected_data:
            drafts = self.session.state.drafts
            places = [(f, i) for f, d in drafts.items() for i in range(len(d.points))]
            selected = sorted(points.selected_data)
            self._execute(tuple(TogglePoint(*places[number]) for number in selected))
        else:
            self.set_polarity(not self.layers.positive)

    def set_polarity(self, positive: bool) -> None:
        """Make the next click one inside or one outside the object."""
        if self.layers is not None:
            self.layers.positive = positive
            self.use_points()

    def use_pick(self) -> None:
        """Make a click reopen a committed object, to change it."""
        self.pick.use()
        self.updated.emit()

    def reopen(self) -> None:
        """Reopen the object under the cursor."""
        self.pick.reopen_at(self.viewer.cursor.position)

    def use_points(self) -> None:
        """Make left clicks add points."""
        self.pick.leave()
        if self.layers is not None:
            self.layers.use_points()
            self.updated.emit()

    def use_box(self) -> None:
        """Make dragging draw a box."""
        self.pick.leave()
        if self.layers is not None:
            self.layers.use_box()
            self.updated.emit()

    def choose_candidate(self, index: int) -> None:
        """Show another candidate mask."""
        if 0 <= index < len(self.candidates) and index != self.chosen_candidate:
            self.session.execute(ChooseCandidate(self.frame, index))

    def next_candidate(self) -> None:
        """Show the next candidate mask, after the last the first."""
        if self.candidates:
            self.choose_candidate((self.chosen_candidate + 1) % len(self.candidates))

    def clear(self) -> None:
        """Remove the prompts on the frame in view."""
        if not self.draft.empty:
            self.session.execute(ClearDraft(self.frame))

    def undo(self) -> None:
        """Undo the last prompt, choice, clearing or commit."""
        self.session.undo()

    def redo(self) -> None:
        """Redo what was undone last."""
        self.session.redo()

    def commit(self) -> None:
        """Write the mask into the labels; waits for one that is on its way."""
        record, layers, shown = self._record, self.layers, self.shown
        if record is None or layers is None:
            return
        if shown is None:
            self._commit_when_answered = self.draft.predictable
            if self._commit_when_answered:
                text = 'Commits as soon as the mask is there…'
                self._set_status(Status(Stage.WORKING, text))
            return
        candidate = shown.prediction.candidate(self.chosen_candidate)
        try:
            command = record.commit_command(
                self.viewer, layers.preview, self.frame, candidate
            )
            if command is None:
                text = 'Not committed: the mask is empty or lies on other labels only.'
                self._set_status(Status(Stage.ERROR, text))
                return
            record.session.execute(command)
        except _LAYER_ERRORS as error:
            self._set_status(Status(Stage.ERROR, f'Not committed: {error}'))
            return
        text = f'Committed as label {command.label}. Click inside the next structure.'
        self._set_status(Status(Stage.WAITING, text))

    def close(self) -> None:
        """Let go of the viewer and the thread; layers with labels stay."""
        if self._closed:
            return
        self._closed = True
        self.flow.close()
        self.pick.close()
        self.viewer.layers.events.removed.disconnect(self._on_layer_removed)
        for event in self._views:
            event.disconnect(self._on_view_changed)
        self._leave_image()
        self._keeper.close()
        for record in self._records.values():
            record.set_target(None)
        self._records.clear()

    def _leave_image(self) -> None:
        if self.layers is not None:
            # Let go first, so that removing the layers does not bring them back.
            layers, self.layers = self.layers, None
            layers.close()
        if self._record is not None:
            self._record.image.events.data.disconnect(self._on_image_data)
            self._record.session.changed.disconnect(self._on_session_changed)
            self._record = None

    def _execute(self, commands: tuple[Command, ...]) -> None:
        if commands:
            self.session.execute(
                commands[0] if len(commands) == 1 else Several(commands)
            )

    def _on_edit(self) -> None:
        """Turn what the user did in the prompt layers into commands."""
        if self.layers is None or self._record is None:
            return
        before = self.session.state.drafts
        edit = edit_between(before, self.layers.read(), self._record.shape)
        self._reading_edit = True
        try:
            self._execute(edit.commands)
        finally:
            self._reading_edit = False
        if edit.outside:
            QTimer.singleShot(0, self._show_drafts)
            self.say('A prompt outside the image was ignored.')

    def _show_drafts(self) -> None:
        if self.layers is not None:
            self.layers.show_drafts(self.session.state.drafts)

    def _on_session_changed(
        self, before: AnnotationState, after: AnnotationState
    ) -> None:
        if self.layers is None or self._record is None:
            return
        self._record.forget_cleared()
        self._keeper.changed(self._record, before, after)
        if not self.layers.show_same(after.drafts):
            if self._reading_edit:
                # napari is still in the middle of its own edit of the layer.
                QTimer.singleShot(0, self._show_drafts)
            else:
                self._show_drafts()
        self._refresh_preview()

    def _refresh_preview(self) -> None:
        """Show the mask of the frame in view, asking for it if it is not there."""
        if self.layers is None or self._record is None:
            return
        if not self._record.in_plane(self.viewer.dims):
            self._forget_requests()
            self._set_status(OTHER_VIEW)
            return
        if self.shown is not None:
            candidate = self.shown.prediction.candidate(self.chosen_candidate)
            if candidate.has_mask:
                self._forget_requests()
                self._show(candidate)
                return
        if self.draft.predictable:
            self._request()
            return
        self._forget_requests()
        self.layers.show_mask(self.frame, None)
        self._set_status(FIRST_CLICK if self.draft.empty else ONLY_OUTSIDE)

    def _show(self, candidate: Candidate, milliseconds: float | None = None) -> None:
        if self.layers is None:
            return
        self.layers.show_mask(self.frame, candidate.mask)
        parts = [f'Ready: predicted overlap {candidate.score:.2f}']
        if len(self.candidates) > 1:
            number = self.chosen_candidate + 1
            parts.append(f'candidate {number} of {len(self.candidates)}')
        if milliseconds is not None:
            parts.append(f'{milliseconds:.0f} ms')
        ready = Status(Stage.READY, ', '.join(parts))
        self._set_status(ready if candidate.mask.any() else EMPTY_MASK)

    def _request(self) -> None:
        if self._record is not None:
            self._commit_when_answered = False
            self.flow.request(self._record, self.frame, self.draft)
            self._set_status(Status(Stage.WORKING, 'Predicting…'))

    def _forget_requests(self) -> None:
        self._commit_when_answered = False
        self.flow.forget()

    def _predict_again(self) -> None:
        for record in self._records.values():
            record.shown.clear()
        self._refresh_preview()

    def _on_progress(self, text: str) -> None:
        self._set_status(Status(Stage.WORKING, text))

    def _on_answer(self, answer: Answer) -> None:
        if answer.prediction is None:
            self._commit_when_answered = False
            self._set_status(Status(Stage.ERROR, answer.error))
            return
        record, frame, draft = answer.request.context
        record.shown[frame] = Shown(draft, answer.prediction)
        self.mapping = answer.mapping
        self._show(
            answer.prediction.candidate(self.chosen_candidate), answer.milliseconds
        )
        if self._commit_when_answered:
            self.commit()

    def _on_view_changed(self, event: Any = None) -> None:
        self._refresh_preview()

    def _on_image_data(self, event: Any = None) -> None:
        if self._record is not None:
            self._record.data_version += 1
            self._record.shown.clear()
            self._keeper.watch(self._record)
            self._refresh_preview()

    def _on_layer_removed(self, event: Any) -> None:
        # napari is still in the middle of removing it.
        if self.layers is not None and event.value in self.layers.layers:
            QTimer.singleShot(0, partial(self._restore, event.value))
        elif event.value in self._records:
            QTimer.singleShot(0, partial(self._drop_image, event.value))
        elif event.value == self.target_layer:
            self.set_target(None)

    def _restore(self, removed: Any) -> None:
        if self.layers is not None:
            self.layers.restore(removed)
            self._show_drafts()
            self._refresh_preview()
            self.use_points()

    def _drop_image(self, removed: Any) -> None:
        if removed in self._records and removed not in self.viewer.layers:
            if removed == self.image:
                self.set_image(None)
            record = self._records.pop(removed)
            self._keeper.forget(record)
            record.set_target(None)
            self.updated.emit()

    def say(self, text: str) -> None:
        """Show a sentence; the stage stays."""
        self._set_status(Status(self.status.stage, text))

    def _set_status(self, status: Status) -> None:
        self.status = status
        self.updated.emit()
