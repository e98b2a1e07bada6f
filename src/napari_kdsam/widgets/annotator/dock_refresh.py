"""Bring the parts of the annotator's dock up to what the controller knows."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from napari_kdsam.core.ellipse import Ellipse, fit_ellipse
from napari_kdsam.widgets.annotator.cleanup_panel import describe_ellipse
from napari_kdsam.widgets.shared.transforms import pixel_size_of

if TYPE_CHECKING:
    from napari_kdsam.core.geometry import Mask
    from napari_kdsam.widgets.annotator.candidate_bar import CandidateBar
    from napari_kdsam.widgets.annotator.class_list import ClassList
    from napari_kdsam.widgets.annotator.cleanup_panel import CleanUpPanel
    from napari_kdsam.widgets.annotator.controller import AnnotationController
    from napari_kdsam.widgets.annotator.frame_strip import FrameStrip
    from napari_kdsam.widgets.annotator.status_bar import StatePanel


class DockRefresh:
    """The part of the dock that only shows."""

    controller: AnnotationController
    candidates: CandidateBar
    classes: ClassList
    cleanup: CleanUpPanel
    strip: FrameStrip
    status: StatePanel
    intensity_choice: Any
    _fitted: tuple[Mask | None, Ellipse | None] = (None, None)

    def refresh_candidates(self) -> None:
        """Show the candidates of a single click as pictures."""
        controller = self.controller
        shown = controller.shown
        if shown is None or len(controller.candidates) < 2 or not shown.thumbnails:
            self.candidates.clear()
        else:
            scores = [candidate.score for candidate in controller.candidates]
            self.candidates.show_candidates(
                shown.thumbnails,
                scores,
                controller.chosen_candidate,
                shown.predictions[0].best_index,
            )

    def refresh_classes(self) -> None:
        """Show classes and clean-up, with the ellipse in the preview."""
        state = self.controller.session.state
        counts = Counter(item.class_id for item in state.objects)
        self.classes.show_classes(state.classes, state.current_class, counts)
        if self.cleanup.value != state.cleanup:
            self.cleanup.value = state.cleanup
        text, record, shown = '', self.controller.record, self.controller.shown
        if state.cleanup.snap == 'ellipse' and record is not None and shown is not None:
            masks = shown.masks(self.controller.chosen_candidate, state.cleanup)
            # The dock is refreshed several times a click; the mask changes once.
            if masks[0] is not self._fitted[0]:
                self._fitted = masks[0], fit_ellipse(masks[0])
            ellipse = self._fitted[1]
            if ellipse is not None:
                text = describe_ellipse(ellipse, *pixel_size_of(record.image))
        self.cleanup.show_ellipse(text)

    def refresh_frames(self) -> None:
        """Show which frames are done."""
        frames = self.controller.frames
        self.strip.show_frames(frames.count, frames.done, frames.open, frames.current)

    def refresh_engine(self) -> None:
        """Show the model, its times and memory."""
        controller = self.controller
        if controller.mapping is not None:
            described = controller.mapping.describe()
            self.intensity_choice.tooltip = f'The model sees {described}'
        engine = controller.engine
        if engine is not None:
            self.status.show_engine(engine.model, engine.device)
            self.status.show_times(engine.encode_ms, controller.decode_ms)
            self.status.show_memory(engine.frames, engine.nbytes)
