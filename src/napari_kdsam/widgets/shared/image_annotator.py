"""What a dock that brings images one after the other needs of the annotator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from napari_kdsam.widgets.shared.plugin_docks import plugin_dock

if TYPE_CHECKING:
    from napari.layers import Image, Labels
    from napari.viewer import Viewer

_TITLE = 'Click to label'


class ImageAnnotator(Protocol):
    """Annotates the images that it is given; `AnnotatorWidget.guided` is one."""

    def offer_classes(self, names: Mapping[int, str]) -> None:
        """Offer classes from the next image on: id, where it is free, to name."""

    def show(
        self, image: Image, labels: Labels | None, names: Mapping[int, str]
    ) -> None:
        """Annotate an image; `labels` are those it has already.

        Classes, and what is done to masks, are those of the image before. `names` are
        the classes' of its labels.
        """

    def exchange(
        self,
        image: Image,
        labels: Labels,
        names: Mapping[int, str],
        exchange: Callable[[], object],
    ) -> bool:
        """As `show`, for another image and labels in the layers that are there.

        Parameters
        ----------
        image : napari.layers.Image
            The one being annotated, in which the other image will be.
        labels : napari.layers.Labels
        names : mapping of int to str
            Classes of the labels that will be there.
        exchange : callable
            Puts the others into these layers.

        Returns
        -------
        bool
            Whether that was done; not where the layers are in use otherwise.
        """

    def finish(self, image: Image, then: Callable[[], object]) -> None:
        """Commit the masks in view and call; where they cannot be, say why instead.

        Masks that are not there yet are committed when they are, unless the prompts
        change meanwhile.
        """

    def has_prompts(self, image: Image) -> bool:
        """Whether there are prompts that are not committed."""

    def labels_of(self, image: Image) -> Labels | None:
        """The layer that an image is committed to."""

    def classes_of(self, image: Image) -> dict[int, str]:
        """Label to the name of its class, of the objects made here."""

    def suggest(self, wanted: bool) -> None:
        """Show likely objects as a start, or no longer; labels only once accepted."""

    def forget_session(self, image: Image) -> None:
        """Keep no session of an image whose labels are all in a file."""

    def encode_ahead(self, image: Image) -> None:
        """Prepare for clicks on an image while there is nothing else to do."""


def plugin_annotator(viewer: Viewer) -> ImageAnnotator:
    """The annotator of a viewer; its panel is opened if it is not."""
    annotator: ImageAnnotator = plugin_dock(viewer, _TITLE).guided
    return annotator


def annotator_in_front(viewer: Viewer) -> ImageAnnotator:
    """As `plugin_annotator`, with its panel before those at its side."""
    annotator: ImageAnnotator = plugin_dock(viewer, _TITLE, front=True).guided
    return annotator
