"""Between the controller and the files in which sessions outlive the window."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from napari_kdsam.annotation.commands import Several
from napari_kdsam.widgets.annotator.autosave import Autosave, Offer

if TYPE_CHECKING:
    from napari.layers import Layer
    from napari.viewer import Viewer

    from napari_kdsam.annotation.state import AnnotationState
    from napari_kdsam.widgets.annotator.image_record import ImageRecord


class SessionKeeper:
    """Save the sessions of a viewer's images, and hold what can be restored.

    Parameters
    ----------
    on_offer : callable
        Called without arguments when an earlier session was found.
    on_failure : callable
        Called with a sentence when a session could not be saved.
    """

    def __init__(
        self, on_offer: Callable[[], None], on_failure: Callable[[str], None]
    ) -> None:
        self._on_offer = on_offer
        self._offers: dict[ImageRecord, Offer] = {}
        self._autosave = Autosave()
        self._autosave.found.connect(self._on_found)
        self._autosave.failed.connect(on_failure)

    def configure(self, on: bool, beside: bool) -> None:
        """Keep sessions in files or not, and beside the images where that is possible."""
        self._autosave.configure(on, beside)

    def watch(self, record: ImageRecord) -> None:
        """Keep the session of an image; again after its pixels have changed."""
        self._autosave.watch(record)

    def changed(
        self, record: ImageRecord, before: AnnotationState, after: AnnotationState
    ) -> None:
        """Save a session that has changed, at once if an object came or went."""
        self._autosave.changed(record, at_once=before.objects != after.objects)

    def offer(self, record: ImageRecord | None) -> Offer | None:
        """The earlier session of an image, if there is one to restore."""
        return self._offers.get(record) if record is not None else None

    def restore(self, record: ImageRecord, viewer: Viewer, below: Layer) -> None:
        """Bring back the objects and prompts of an earlier session, as one step.

        Raises
        ------
        ImageError
            If the labels cannot hold its objects; the offer stays.
        """
        offer = self._offers[record]
        target, above = None, 0
        saved = offer.saved.state
        if saved.objects:
            highest = max(saved.highest_number, *(o.label for o in saved.objects))
            target = record.ensure_target(viewer, below, highest)
            above = max(target.highest, record.session.state.highest_number)
            target.check_label(above + highest)
        commands = offer.saved.restoring(target, above)
        record.session.execute(Several(commands))
        del self._offers[record]
        self._autosave.adopt(record, offer)
        self._autosave.changed(record, at_once=True)

    def discard(self, record: ImageRecord) -> None:
        """Delete the earlier session."""
        self._autosave.discard(self._offers.pop(record))

    def forget(self, record: ImageRecord) -> None:
        """Save a last time the session of an image that is gone."""
        self._offers.pop(record, None)
        self._autosave.forget(record)

    def close(self) -> None:
        """Save a last time."""
        self._offers.clear()
        self._autosave.close()

    def _on_found(self, record: ImageRecord, offer: Offer) -> None:
        self._offers[record] = offer
        self._on_offer()
