"""What the annotator shows of its state; everything here only reads."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from napari_kdsam.annotation.history import AnnotationSession
from napari_kdsam.annotation.state import FIRST_CLASS, Draft
from napari_kdsam.core.stack_index import FrameIndex
from napari_kdsam.widgets.annotator.image_record import ImageRecord, Shown
from napari_kdsam.widgets.shared.labels_writer import labels_fitting

if TYPE_CHECKING:
    from napari.layers import Image, Labels
    from napari.viewer import Viewer

    from napari_kdsam.inference.predictor import Candidate
    from napari_kdsam.widgets.annotator.autosave import Offer
    from napari_kdsam.widgets.annotator.session_keeper import SessionKeeper


class AnnotationView:
    """The part of the controller that answers questions."""

    viewer: Viewer
    _record: ImageRecord | None
    _records: dict[Any, ImageRecord]
    keeper: SessionKeeper

    @property
    def record(self) -> ImageRecord | None:
        """What is kept of the image being annotated."""
        return self._record

    @property
    def records(self) -> Iterable[ImageRecord]:
        """What is kept of every image annotated so far."""
        return self._records.values()

    @property
    def image(self) -> Image | None:
        """The image layer being annotated."""
        return self._record.image if self._record else None

    @property
    def session(self) -> AnnotationSession:
        """The session of the image; an empty one without an image."""
        return self._record.session if self._record else AnnotationSession()

    @property
    def frame(self) -> FrameIndex:
        """Index of the frame in view along the image's leading axes."""
        return self._record.frames.at(self.viewer.dims.point) if self._record else ()

    @property
    def draft(self) -> Draft:
        """The prompts on the frame in view."""
        return self.session.state.draft(self.frame)

    @property
    def shown(self) -> Shown | None:
        """The prediction for the draft in view, if it is there and up to date."""
        shown = self._record.shown.get(self.frame) if self._record else None
        return shown if shown and shown.draft.same_prompts(self.draft) else None

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
    def can_commit(self) -> bool:
        """Whether there is a mask, or one is on its way."""
        return self.draft.predictable

    @property
    def target_layer(self) -> Labels | None:
        """The layer commits go to; None if the next commit makes a new one."""
        target = self._record.target if self._record else None
        return target.layer if target else None

    @property
    def offer(self) -> Offer | None:
        """Earlier work on the image that can be restored."""
        return self.keeper.offer(self._record)

    def possible_targets(self) -> list[Labels]:
        """Labels layers in the viewer that fit the image, without previews."""
        if self._record is None:
            return []
        return labels_fitting(self._record.image, self.viewer)
