"""What is annotated now: the image in view, its prompt layers, and what is said of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psygnal import Signal
from qtpy.QtCore import QTimer

from napari_kdsam.annotation.history import AnnotationSession
from napari_kdsam.annotation.state import (
    FIRST_CLASS,
    AnnotationState,
    Draft,
    OverlapPolicy,
)
from napari_kdsam.core.stack_index import FrameIndex
from napari_kdsam.widgets.annotator.image_record import ImageRecord, Shown
from napari_kdsam.widgets.annotator.prompt_layers import PromptLayers
from napari_kdsam.widgets.annotator.status import (
    HIDDEN_IMAGE,
    NO_IMAGE,
    OTHER_VIEW,
    UNSEEN_IMAGE,
    OverlapQuestion,
    StatusKind,
    StatusLine,
)
from napari_kdsam.widgets.shared.labels_writer import labels_fitting
from napari_kdsam.widgets.shared.layer_marks import OURS

if TYPE_CHECKING:
    from napari.layers import Image, Labels, Layer, Shapes
    from napari.viewer import Viewer

    from napari_kdsam.inference.predictor import Candidate

# Turns of the event loop in which clicks that wait are taken, and the window is painted.
_TURNS = 3


class Workspace:
    """What every part of an annotator works on.

    Attributes
    ----------
    updated : psygnal.Signal
        Emitted whenever anything shown in the dock may have changed.
    records : dict of layer to ImageRecord
        What is kept of every image annotated so far.
    record : ImageRecord or None
        That of the image being annotated.
    layers : PromptLayers or None
        The prompt layers on it.
    contour : Shapes or None
        The layer on which the contour of an object is dragged now.
    status : StatusLine
    question : OverlapQuestion or None
        Waiting for an answer.
    overlap : str
        What happens to labels under a new mask: ``keep`` them, ``overwrite`` them, or
        ``ask`` each time.
    semantic : bool
        Whether labels of images that are annotated for the first time are those of
        classes.
    first_state : AnnotationState
        What images begin with that are annotated for the first time.
    unseen : bool
        Whether the image has come so lately that clicks may be meant for the one before.
    """

    updated = Signal()

    def __init__(self, viewer: Viewer) -> None:
        self.viewer = viewer
        self.records: dict[Layer, ImageRecord] = {}
        self.record: ImageRecord | None = None
        self.layers: PromptLayers | None = None
        self.contour: Shapes | None = None
        self.status = NO_IMAGE
        self.question: OverlapQuestion | None = None
        self.overlap: OverlapPolicy = 'keep'
        self.semantic = False
        self.first_state = AnnotationState()
        self.unseen = False
        self._turns = 0
        self._turn = QTimer()
        self._turn.setInterval(0)
        self._turn.timeout.connect(self._count_turn)

    def await_view(self) -> None:
        """Take no click that was made while the image was being brought."""
        self.unseen, self._turns = True, 0
        self._turn.start()

    def _count_turn(self) -> None:
        self._turns += 1
        if self._turns >= _TURNS:
            self._turn.stop()
            self.unseen = False

    @property
    def image(self) -> Image | None:
        """The image layer being annotated."""
        return self.record.image if self.record else None

    @property
    def session(self) -> AnnotationSession:
        """The session of the image; an empty one without an image."""
        return self.record.session if self.record else AnnotationSession()

    @property
    def frame(self) -> FrameIndex:
        """Index of the frame in view along the image's leading axes."""
        return self.record.frames.at(self.viewer.dims.point) if self.record else ()

    @property
    def hindrance(self) -> StatusLine | None:
        """Why clicks cannot be answered in this view; None where they can."""
        if self.record is None:
            return NO_IMAGE
        if not self.record.frames.in_plane(self.viewer.dims):
            return OTHER_VIEW
        return None if self.record.image.visible else HIDDEN_IMAGE

    @property
    def click_hindrance(self) -> StatusLine | None:
        """Why a click that is made now is not taken; None where it is."""
        return UNSEEN_IMAGE if self.unseen else self.hindrance

    @property
    def draft(self) -> Draft:
        """The prompts on the frame in view."""
        return self.session.state.draft(self.frame)

    @property
    def shown(self) -> Shown | None:
        """The prediction for the draft in view, if it is there and up to date."""
        shown = self.record.shown.get(self.frame) if self.record else None
        return shown if shown and shown.draft.same_prompts(self.draft) else None

    @property
    def in_hand(self) -> bool:
        """Whether clicks on the canvas reach one of the annotator's layers."""
        dragging = self.contour is not None
        if dragging and self.viewer.layers.selection.active == self.contour:
            return True
        return self.layers is not None and self.layers.in_hand

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """The candidate masks offered now; none for several objects at once."""
        shown = self.shown
        if shown is None or len(shown.predictions) > 1:
            return ()
        return shown.predictions[0].candidates

    @property
    def chosen_candidate(self) -> int:
        """Index of the candidate in the preview."""
        if self.shown is None or not self.candidates:
            return 0
        chosen = self.draft.candidate
        best = self.shown.predictions[0].best_index
        # A session file may name a candidate that another model does not offer.
        return best if chosen is None or chosen >= len(self.candidates) else chosen

    @property
    def class_color(self) -> str:
        """Colour of the class of the next object."""
        state = self.session.state
        for item in state.classes:
            if item.id == state.current_class:
                return item.color
        return FIRST_CLASS.color

    @property
    def target_layer(self) -> Labels | None:
        """The layer commits go to; None if the next commit makes a new one."""
        target = self.record.target if self.record else None
        return target.layer if target else None

    def possible_targets(self) -> list[Labels]:
        """Labels layers in the viewer that fit the image, without previews."""
        return labels_fitting(self.image, self.viewer) if self.image else []

    def labels_of_image(self) -> Labels | None:
        """The layer that a batch, or an annotator before, has made for the image."""
        taken = [
            record.target.layer for record in self.records.values() if record.target
        ]
        for layer in reversed(self.possible_targets()):
            named = self.image is not None and layer.name.startswith(
                f'{self.image.name} labels'
            )
            if named and layer.metadata.get(OURS) and layer not in taken:
                return layer
        return None

    def say(self, text: str) -> None:
        """Show a sentence; what the annotator is doing stays."""
        self.set_status(self.status.kind, text)

    def fail(self, text: str) -> None:
        """Show a sentence about what went wrong."""
        self.set_status(StatusKind.ERROR, text)

    def set_status(self, kind: StatusKind, text: str) -> None:
        """Show what the annotator is doing, and a sentence."""
        self.show_status(StatusLine(kind, text))

    def show_status(self, status: StatusLine) -> None:
        """Show a line in the dock."""
        self.status = status
        self.updated.emit()
