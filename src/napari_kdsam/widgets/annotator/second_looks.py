"""Second looks in the window: the mask in view gives way to a better one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_kdsam.widgets.annotator.image_record import Shown
from napari_kdsam.widgets.annotator.status import Stage

if TYPE_CHECKING:
    from napari_kdsam.widgets.shared.requests import Answer


class SecondLooks:
    """Ask for better masks than those in view, and show them if they still are.

    Parameters
    ----------
    controller : AnnotationController
    """

    def __init__(self, controller: Any) -> None:
        self._controller = controller

    def ask(self) -> None:
        """Ask for a second look at the masks in view, unless there was one."""
        controller = self._controller
        if controller.record is not None and controller.shown is not None:
            controller.flow.look_again(
                controller.record,
                controller.frame,
                controller.shown,
                controller.chosen_candidate,
            )

    def on_answer(self, answer: Answer) -> None:
        """Replace the masks in view, if they are those that were looked at again."""
        controller = self._controller
        record, frame, first = answer.request.context
        chosen = answer.request.candidate
        if (
            record is not controller.record
            or frame != controller.frame
            or first is not controller.shown
            or chosen != controller.chosen_candidate
            # What a question is about stays until it is answered.
            or controller.objects.question is not None
        ):
            return
        first.looked_again.add(chosen)
        if not answer.predictions:
            return
        thumbnails = tuple(answer.finished or first.thumbnails)
        better = Shown(first.draft, answer.predictions, thumbnails, first.looked_again)
        record.shown[frame] = better
        before = controller.status
        controller.show(better)
        if before.stage is not Stage.READY:
            # Something went wrong in the meantime, and is still to be read.
            controller.set_status(before)
