"""The annotator as another dock sees it, which brings one image after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from napari_kdsam.annotation.classes import with_known_classes
from napari_kdsam.annotation.state import AnnotationState
from napari_kdsam.core.errors import first_of

if TYPE_CHECKING:
    from napari.layers import Image, Labels

    from napari_kdsam.widgets.annotator.controller import AnnotationController


class GuidedAnnotator:
    """An `ImageAnnotator`.

    Parameters
    ----------
    controller : AnnotationController
    """

    def __init__(self, controller: AnnotationController) -> None:
        self._controller = controller
        self._workspace = controller.workspace
        self._offered: Mapping[int, str] = {}

    def offer_classes(self, names: Mapping[int, str]) -> None:
        self._offered = names

    def show(
        self, image: Image, labels: Labels | None, names: Mapping[int, str]
    ) -> None:
        self._pass_classes_on(names)
        self._controller.show_image(image, keep_layers=True)
        self._begin_with(labels)

    def exchange(
        self,
        image: Image,
        labels: Labels,
        names: Mapping[int, str],
        exchange: Callable[[], object],
    ) -> bool:
        workspace = self._workspace
        others = [
            record
            for record in workspace.records.values()
            if record.image is not image
            and record.target is not None
            and record.target.layer is labels
        ]
        if others or image is not workspace.image:
            return False
        self._pass_classes_on(names)
        self._controller.exchange_image(image, exchange)
        self._begin_with(labels)
        return True

    def _pass_classes_on(self, names: Mapping[int, str]) -> None:
        workspace = self._workspace
        first = workspace.first_state
        if workspace.record is not None:
            state = workspace.session.state
            first = replace(
                AnnotationState(),
                classes=state.classes,
                current_class=state.current_class,
                cleanup=state.cleanup,
            )
        workspace.first_state = with_known_classes(first, self._offered, names)
        self._offered = {}

    def _begin_with(self, labels: Labels | None) -> None:
        workspace, controller = self._workspace, self._controller
        controller.set_target(labels)
        if workspace.record is not None:
            controller.classes.show(workspace.record)
        workspace.await_view()
        if controller.frames.prefetching:
            controller.flow.prefetch([workspace.frame])

    def finish(self, image: Image, then: Callable[[], object]) -> None:
        workspace, controller = self._workspace, self._controller
        record = workspace.records.get(image)
        if record is None:
            then()
            return
        if record is not workspace.record:
            # The user has turned to another image in between.
            controller.show_image(image)
        if controller.contour.is_open and not controller.objects.commit():
            # It was said what is in the way.
            return
        if workspace.draft.predictable:
            act = partial(self._commit_then, image, then)
            if workspace.shown is None:
                controller.flow.when_masks_come(act)
                workspace.say('Goes on as soon as the mask is there…')
            else:
                act()
            return
        if drafts := record.session.state.drafts:
            places = [str(record.frames.flat_index(frame)) for frame in drafts]
            where = f' on frame {first_of(places)}' if record.frames.count > 1 else ''
            workspace.fail(
                f'There are prompts{where} that are not committed; commit or clear '
                'them first.'
            )
            return
        then()

    def _commit_then(self, image: Image, then: Callable[[], object]) -> None:
        if self._controller.objects.commit():
            self.finish(image, then)

    def has_prompts(self, image: Image) -> bool:
        record = self._workspace.records.get(image)
        if record is None:
            return False
        dragging = record is self._workspace.record and self._controller.contour.is_open
        return dragging or bool(record.session.state.drafts)

    def labels_of(self, image: Image) -> Labels | None:
        record = self._workspace.records.get(image)
        target = record.target if record is not None else None
        return target.layer if target is not None else None

    def classes_of(self, image: Image) -> dict[int, str]:
        record = self._workspace.records.get(image)
        if record is None:
            return {}
        state = record.session.state
        return {item.label: state.class_named(item.class_id) for item in state.objects}

    def suggest(self, wanted: bool) -> None:
        self._controller.likely.suggest(wanted)

    def forget_session(self, image: Image) -> None:
        record = self._workspace.records.get(image)
        if record is not None:
            self._controller.autosave.discard(record)

    def encode_ahead(self, image: Image) -> None:
        if self._controller.frames.prefetching:
            self._controller.flow.encode_ahead(image)
