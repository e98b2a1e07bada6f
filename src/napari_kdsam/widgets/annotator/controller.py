"""Between napari's layers, the annotation session and the inference thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from psygnal import Signal
from qtpy.QtCore import QTimer

from napari_kdsam.annotation.commands import (
    ChangeFrame,
    ChooseCandidate,
    ClearDraft,
    LoseObjects,
)
from napari_kdsam.annotation.history import AnnotationSession
from napari_kdsam.annotation.state import AnnotationState
from napari_kdsam.core.errors import KDSAMError, counted
from napari_kdsam.widgets.annotator.autosave import Autosave
from napari_kdsam.widgets.annotator.class_sync import ClassSync
from napari_kdsam.widgets.annotator.contour_edit import ContourEdit
from napari_kdsam.widgets.annotator.frames import FrameActions
from napari_kdsam.widgets.annotator.history_sync import HistorySync
from napari_kdsam.widgets.annotator.hover import HoverPreview
from napari_kdsam.widgets.annotator.image_record import ImageRecord
from napari_kdsam.widgets.annotator.keyboard_cursor import KeyboardCursor
from napari_kdsam.widgets.annotator.label_saver import LabelSaver
from napari_kdsam.widgets.annotator.layer_watch import LayerOwner, LayerWatch
from napari_kdsam.widgets.annotator.likely import LikelyObjects
from napari_kdsam.widgets.annotator.object_edits import ObjectEdits
from napari_kdsam.widgets.annotator.objects import LAYER_ERRORS, ObjectActions
from napari_kdsam.widgets.annotator.pick_tool import PickTool
from napari_kdsam.widgets.annotator.pointer import SignedPointer
from napari_kdsam.widgets.annotator.prediction import PredictionFlow
from napari_kdsam.widgets.annotator.prompt_layers import PromptLayers
from napari_kdsam.widgets.annotator.prompt_sync import PromptSync
from napari_kdsam.widgets.annotator.prompt_tools import PromptTools
from napari_kdsam.widgets.annotator.seen_image import SeenImage
from napari_kdsam.widgets.annotator.status import NO_IMAGE, NO_TOOL, StatusKind
from napari_kdsam.widgets.annotator.workspace import Workspace
from napari_kdsam.widgets.shared.connections import Connections
from napari_kdsam.widgets.shared.file_of_layer import otherwise_shown
from napari_kdsam.widgets.shared.image_frames import ImageFrames
from napari_kdsam.widgets.shared.inference_thread import (
    PredictorFactory,
    make_predictor,
)
from napari_kdsam.widgets.shared.key_bindings import KeyAction

if TYPE_CHECKING:
    from napari.layers import Image, Labels, Layer
    from napari.viewer import Viewer

# What taking up a layer can raise.
_UNSUITABLE = (KDSAMError, MemoryError, ValueError, TypeError, IndexError)


class AnnotationController(LayerOwner):
    """Everything the annotator does, without its buttons.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    predictor_factory : callable, optional
        Makes a predictor from a model's and a device's name.

    Attributes
    ----------
    help_wanted : psygnal.Signal
        Emitted when the user asks for the shortcuts.
    workspace : Workspace
        What is annotated now.
    flow : PredictionFlow
    tools : PromptTools
    objects : ObjectActions
    edits : ObjectEdits
    hover : HoverPreview
    pointer : SignedPointer
    contour : ContourEdit
    likely : LikelyObjects
    classes : ClassSync
    frames : FrameActions
    cursor : KeyboardCursor
    autosave : Autosave
    saver : LabelSaver
    prompts : PromptSync
    """

    help_wanted = Signal()

    def __init__(
        self,
        viewer: Viewer,
        predictor_factory: PredictorFactory = make_predictor,
    ) -> None:
        self._prompt_keys: Mapping[str, KeyAction] = {}
        self._closed = False
        self._prepared: tuple[Image, PromptLayers] | None = None
        self._high_contrast = False
        self.workspace = Workspace(viewer)
        self.flow = PredictionFlow(self.workspace, predictor_factory)
        self.prompts = PromptSync(self.workspace, self.flow)
        self.tools = PromptTools(self.workspace)
        self.frames = FrameActions(self.workspace, self.flow)
        self.cursor = KeyboardCursor(self.workspace)
        self.autosave = Autosave(self.workspace)
        self.saver = LabelSaver(self.workspace)
        self._history = HistorySync(self.workspace)
        self.classes = ClassSync(self.workspace)
        self.objects = ObjectActions(
            self.workspace, self.flow, self._history, self.tools
        )
        self.edits = ObjectEdits(self.workspace, self.objects)
        self.likely = LikelyObjects(self.workspace, self.flow, self._history.follow)
        self.hover = HoverPreview(self.workspace, self.flow)
        self.pointer = SignedPointer(self.workspace)
        self.contour = ContourEdit(self.workspace, self.objects, self.tools)
        self._pick = PickTool(self.workspace, self.objects, self.contour)
        self._watch = LayerWatch(self.workspace, self)
        self._seen = SeenImage(self.workspace, self._follow_view)
        self._view_events = Connections()
        self._view_events.connect(
            viewer.dims.events,
            ('current_step', 'ndisplay', 'order'),
            self._on_view_changed,
        )
        self._view_events.connect(
            viewer.layers.selection.events, ('active',), self._on_selected
        )

    def use_keys(
        self, on_prompts: Mapping[str, KeyAction], on_labels: Mapping[str, KeyAction]
    ) -> None:
        """Bind these keys on the prompt layers, and on the labels, of every image."""
        self._prompt_keys = self.contour.keys = on_prompts
        self._history.undo_keys = on_labels

    def choose_candidate(self, index: int) -> None:
        """Show another candidate mask."""
        workspace = self.workspace
        others = range(len(workspace.candidates))
        if index in others and index != workspace.chosen_candidate:
            workspace.session.execute(ChooseCandidate(workspace.frame, index))

    def next_candidate(self) -> None:
        """Show the next candidate mask, after the last the first."""
        count = len(self.workspace.candidates)
        if count:
            self.choose_candidate((self.workspace.chosen_candidate + 1) % count)

    def clear(self) -> None:
        """Remove the prompts on the frame in view, or leave a contour as it was."""
        if self.contour.is_open:
            self.contour.cancel()
        elif not self.workspace.draft.empty:
            self.workspace.session.execute(ClearDraft(self.workspace.frame))

    def undo(self) -> None:
        """Undo the last prompt, choice, clearing, commit, stroke or drag of a corner."""
        if self.contour.step_back():
            return
        self._step(self.workspace.session.undo)
        record = self.workspace.record
        if record is not None and record.target is not None:
            record.target.forget_undone()

    def redo(self) -> None:
        """Redo what was undone last."""
        self._step(self.workspace.session.redo)

    def show_help(self) -> None:
        """Ask for the list of shortcuts."""
        self.help_wanted.emit()

    def restore_session(self, place: int = 0) -> None:
        """Bring earlier work on the image back, by its place among the offers."""
        offers = self.autosave.offers
        if self.workspace.record is None or place >= len(offers):
            return
        try:
            self.autosave.restore(offers[place])
        except LAYER_ERRORS as error:
            self.workspace.fail(f'Not restored: {error}')
        self._history.follow(self.workspace.record)
        self.workspace.updated.emit()

    def delete_session(self, place: int = 0) -> None:
        """Delete earlier work on the image, by its place among the offers."""
        offers = self.autosave.offers
        if place < len(offers):
            self.autosave.delete(offers[place])
            self.workspace.updated.emit()

    def undelete_sessions(self) -> None:
        """Offer the earlier work that was deleted again."""
        self.autosave.undelete()
        self.workspace.updated.emit()

    def hide_sessions(self) -> None:
        """Offer no earlier work on the image now."""
        self.autosave.hide_offers()
        self.workspace.updated.emit()

    def set_image(self, image: Image | None, *, keep_layers: bool = False) -> None:
        """Annotate another image layer; drafts and commits of the earlier one stay.

        Parameters
        ----------
        image : napari.layers.Image or None
        keep_layers : bool
            Whether the prompt layers move to it, if they can.
        """
        workspace = self.workspace
        if image == workspace.image:
            return
        self.contour.finish()
        self.flow.forget()
        kept = workspace.layers if keep_layers and image is not None else None
        self._leave_image(kept)
        if image is None:
            workspace.show_status(NO_IMAGE)
        else:
            self._take_up(image, kept)

    def exchange_image(self, image: Image, exchange: Callable[[], object]) -> None:
        """Annotate another image in the same layer, from the beginning.

        Parameters
        ----------
        image : napari.layers.Image
            The one being annotated, of which nothing is kept but its session in a file.
        exchange : callable
            Puts the other image into the layer, and its labels into theirs.
        """
        self.contour.finish()
        kept = self.workspace.layers
        self.flow.forget()
        self._leave_image(kept)
        if kept is not None:
            kept.let_go()
        self.drop(image)
        try:
            exchange()
        finally:
            self._seen.show(image)
            self._take_up(image, kept)

    def _take_up(self, image: Image, kept: PromptLayers | None) -> None:
        workspace = self.workspace
        is_new = image not in workspace.records
        if is_new:
            state = replace(workspace.first_state, semantic=workspace.semantic)
            session = AnnotationSession(state)
            record = ImageRecord(image, self.objects.on_painted, session)
            workspace.records[image] = record
        record = workspace.records[image]
        workspace.record = record
        try:
            record.frames.check()
            if kept is not None and kept.move_to(image):
                workspace.layers, kept = kept, None
            else:
                layers = self._prepared_for(image) or self._new_layers(image)
                for _ in layers.show():
                    pass
                workspace.layers = layers
        except _UNSUITABLE as error:
            workspace.record = None
            workspace.fail(f'This layer cannot be annotated: {error}')
            return
        finally:
            if kept is not None:
                kept.close()
        if is_new and not record.session.state.semantic:
            # Labels of a batch are corrected where they are; they are of objects.
            self.set_target(workspace.labels_of_image())
        self._history.follow(record)
        self.classes.follow(record)
        self._show_contrast()
        # So that undo finds its way back to where the first object was made.
        record.session.execute(ChangeFrame(workspace.frame))
        image.events.data.connect(self._watch.on_image_data)
        image.events.visible.connect(self._on_view_changed)
        record.session.changed.connect(self._on_session_changed)
        self.prompts.show_drafts()
        self.tools.use_points()
        self.flow.refresh()
        self.flow.preload()
        self.autosave.watch(record)
        if warning := otherwise_shown(image):
            from napari.utils.notifications import show_warning

            show_warning(warning)

    def prepare(self, image: Image) -> Iterator[None]:
        """Add what `set_image` adds to the viewer, with pauses for the window."""
        with suppress(*_UNSUITABLE):
            # It says so when it is taken up.
            ImageFrames(image).check()
            self._prepared = image, self._new_layers(image)
            yield from self._prepared[1].show()

    def _new_layers(self, image: Image) -> PromptLayers:
        viewer = self.workspace.viewer
        return PromptLayers(viewer, image, self.prompts, self._prompt_keys)

    def _prepared_for(self, image: Image) -> PromptLayers | None:
        prepared, self._prepared = self._prepared, None
        if prepared is None:
            return None
        if prepared[0] is image and prepared[1].fits_image():
            return prepared[1]
        prepared[1].close()
        return None

    def show_image(self, image: Image | None, *, keep_layers: bool = False) -> None:
        """Annotate an image layer and make it the one that is seen; see `set_image`."""
        if image is not None:
            self._seen.show(image)
        self.set_image(image, keep_layers=keep_layers)

    def _follow_view(self, image: Image) -> None:
        """Annotate what is seen now, and say so."""
        self.set_image(image)
        self._seen.show_labels_of(image)
        if self.workspace.record is not None:
            self.workspace.say(f'Annotating “{image.name}” now, which is in view.')

    def renew_image(self) -> None:
        """Go on with other pixels of the same image."""
        if self.workspace.record is not None:
            self.autosave.watch(self.workspace.record)
            self.flow.refresh()

    def renew_layers(self) -> None:
        """Show everything again in a prompt layer that was made anew."""
        self._show_contrast()
        self.prompts.show_drafts()
        self.flow.refresh()
        self.tools.use_points()

    def set_high_contrast(self, high: bool) -> None:
        """Preview masks as bright outlines, or as tinted areas."""
        self._high_contrast = high
        self._show_contrast()

    def lose_labels(self, labels: Labels) -> None:
        """Let objects go with their layer, which was deleted; undo brings both back."""
        record = self.workspace.record
        if record is None:
            return
        count = len(record.session.state.objects)
        self.set_target(None)
        if count:
            self.autosave.keep_file(record)
            losing = LoseObjects(
                partial(self._bring_back, labels),
                partial(_remove, self.workspace.viewer, labels),
            )
            self._step(lambda: record.session.execute(losing))
            self.workspace.say(
                f'The labels layer was deleted, with {counted(count, "object")}; undo '
                'brings it back.'
            )

    def _bring_back(self, labels: Labels) -> None:
        layers, ours = self.workspace.viewer.layers, self.workspace.layers
        if labels not in layers:
            active = layers.selection.active
            below = layers.index(ours.preview) if ours is not None else len(layers)
            layers.insert(below, labels)
            layers.selection.active = active
        self.set_target(labels)

    def set_target(self, labels: Labels | None) -> None:
        """Commit to this layer; None for a new one at the next commit."""
        record = self.workspace.record
        if record is None or labels == self.workspace.target_layer:
            return
        try:
            record.set_target(labels)
        except LAYER_ERRORS as error:
            self.workspace.fail(f'These labels cannot be used: {error}')
        self._history.follow(record)
        self.classes.follow(record)
        self.workspace.updated.emit()

    def drop(self, image: Layer) -> None:
        """Keep nothing of an image any more; its session stays in its file."""
        record = self.workspace.records.pop(image, None)
        if record is not None:
            self.autosave.forget(record)
            record.set_target(None)
            self.workspace.updated.emit()

    def close(self) -> None:
        """Let go of the viewer and the thread; layers with labels stay."""
        if self._closed:
            return
        self._closed = True
        self.contour.finish()
        self.likely.close()
        self.hover.close()
        self.pointer.close()
        self.flow.close()
        self._pick.close()
        self.cursor.close()
        self._watch.close()
        self._seen.close()
        self._view_events.close()
        self._leave_image()
        if self._prepared is not None:
            self._prepared[1].close()
        self.autosave.close()
        self.saver.close()
        for record in self.workspace.records.values():
            record.set_target(None)
        self.workspace.records.clear()

    def _show_contrast(self) -> None:
        """Show the preview as the user wants it, also one that is new."""
        if self.workspace.layers is not None:
            self.workspace.layers.mask.use_high_contrast(self._high_contrast)

    def _step(self, step: Callable[[], object]) -> None:
        try:
            step()
        except LAYER_ERRORS as error:
            self.workspace.fail(f'Not done: {error}')
        # A state of before they were adopted may have come back.
        self.classes.adopt()

    def _leave_image(self, kept: PromptLayers | None = None) -> None:
        workspace = self.workspace
        self.cursor.close()
        if workspace.layers is not None:
            # Let go first, so that removing the layers does not bring them back.
            layers, workspace.layers = workspace.layers, None
            if layers is not kept:
                layers.close()
        if workspace.record is not None:
            events = workspace.record.image.events
            events.data.disconnect(self._watch.on_image_data)
            events.visible.disconnect(self._on_view_changed)
            workspace.record.session.changed.disconnect(self._on_session_changed)
            workspace.record = None
        self._history.close()
        self.classes.close()
        workspace.question = None
        self.prompts.stop()

    def _on_session_changed(
        self, before: AnnotationState, after: AnnotationState
    ) -> None:
        workspace = self.workspace
        if workspace.layers is None or workspace.record is None:
            return
        workspace.question = None
        workspace.record.forget_cleared()
        self.autosave.changed(workspace.record, before, after)
        self.classes.on_changed(workspace.record, before, after)
        self.prompts.follow(before, after)
        in_view = workspace.frame
        if after.frame != in_view and len(after.frame) == len(in_view):
            # Undo and redo show what they change; the view's change comes back here.
            self.frames.go_to(after.frame)
            return
        self.flow.refresh()

    def _on_view_changed(self, event: Any = None) -> None:
        workspace = self.workspace
        seen, in_view = workspace.session.state.frame, workspace.frame
        if workspace.record is not None and in_view != seen:
            workspace.question = None
            self.frames.note_direction(seen, in_view)
            workspace.session.execute(ChangeFrame(in_view))
            self.cursor.follow_frame()
        else:
            self.flow.refresh()

    def _on_selected(self, event: Any = None) -> None:
        # napari selects a layer while it is being added, and we select ours again.
        QTimer.singleShot(0, self._say_tool)

    def _say_tool(self) -> None:
        """Show which tool is in use, and say so if none is."""
        workspace = self.workspace
        if workspace.layers is None:
            return
        if workspace.in_hand:
            if workspace.status.text == NO_TOOL:
                self.flow.refresh()
        elif workspace.status.kind in (StatusKind.WAITING, StatusKind.READY):
            workspace.say(NO_TOOL)
        workspace.updated.emit()


def _remove(viewer: Viewer, labels: Labels) -> None:
    if labels in viewer.layers:
        viewer.layers.remove(labels)
