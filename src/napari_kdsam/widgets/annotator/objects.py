"""What turns masks into objects and objects back: commit, reopen, delete, reclassify."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_kdsam.annotation.commands import (
    ChangeClass,
    Command,
    LoadMask,
    SetClasses,
    SetCleanUp,
    as_one,
)
from napari_kdsam.annotation.draft_prompts import objects_of
from napari_kdsam.annotation.label_commands import (
    CommitObject,
    DeleteObject,
    PaintPixels,
    ReclassifyObject,
    ReopenObject,
)
from napari_kdsam.annotation.region import PixelChange, PixelRegion
from napari_kdsam.annotation.state import CommittedObject, ObjectClass
from napari_kdsam.core.errors import KDSAMError
from napari_kdsam.widgets.annotator.class_display import show_classes_on
from napari_kdsam.widgets.annotator.status import Stage, Status

if TYPE_CHECKING:
    from napari_kdsam.annotation.cleanup import CleanUp
    from napari_kdsam.widgets.annotator.image_record import ImageRecord, Shown
    from napari_kdsam.widgets.shared.labels_writer import LabelsLayerTarget

Overlap = Literal['keep', 'overwrite', 'ask']
Output = Literal['instance', 'semantic']
NOTHING_THERE = 'There is no object here that was committed with this tool.'
NOTHING_TO_WRITE = 'Not committed: the mask is empty or lies on other labels only.'
LAYER_ERRORS = (KDSAMError, OSError, ValueError, TypeError)


@dataclass(frozen=True)
class OverlapQuestion:
    """Asked before a commit that touches other labels.

    Attributes
    ----------
    pixels : int
        How many pixels of other labels the masks cover.
    labels : tuple of int
        The labels that have them.
    """

    pixels: int
    labels: tuple[int, ...]

    def describe(self) -> str:
        """One sentence for the window."""
        many = len(self.labels) > 1
        names = ', '.join(str(label) for label in self.labels[:5])
        more = '…' if len(self.labels) > 5 else ''
        return (
            f'The mask covers {self.pixels} pixels of label{"s" if many else ""} '
            f'{names}{more}. Keep {"them" if many else "it"}, or overwrite?'
        )


@dataclass(frozen=True)
class _Policy:
    """How a mask is committed: the answer to the question, if any, and the settings."""

    overwrite: bool | None
    overlap: Overlap
    output: Output


class ObjectActions:
    """Commit, reopen, delete and reclassify objects for a controller.

    Parameters
    ----------
    controller : AnnotationController

    Attributes
    ----------
    overlap : str
        What happens to labels under a new mask: ``keep`` them, ``overwrite`` them, or
        ``ask`` each time.
    output : str
        ``instance`` gives each object a label of its own, ``semantic`` that of its
        class.
    question : OverlapQuestion or None
        Waiting for an answer.
    """

    def __init__(self, controller: Any) -> None:
        self._controller = controller
        self.overlap: Overlap = 'keep'
        self.output: Output = 'instance'
        self.question: OverlapQuestion | None = None
        self._waiting: _Policy | None = None

    def set_overlap(self, overlap: Overlap) -> None:
        """Change the policy; an object in the making is committed under the old one."""
        if overlap != self.overlap:
            self._bank()
            self.overlap = overlap
            self._controller.updated.emit()

    def set_output(self, output: Output) -> None:
        """Change the output; an object in the making is committed under the old one."""
        if output != self.output:
            self._bank()
            self.output = output
            self._controller.updated.emit()

    def _bank(self) -> None:
        # A question that is open goes on waiting for its answer.
        if self.question is None and self._controller.draft.predictable:
            self.commit()

    def commit(self, *, overwrite: bool | None = None) -> bool:
        """Write the masks into the labels; whether it was done.

        Masks that are not there yet are committed when they are, under the policy of
        now.

        Parameters
        ----------
        overwrite : bool, optional
            Answer to the question, or None to follow the policy. A second commit
            while the question is open keeps the other labels.
        """
        asked, self.question = self.question, None
        if overwrite is None and asked is not None:
            overwrite = False
        policy = _Policy(overwrite, self.overlap, self.output)
        if self._controller.shown is not None:
            return self._commit(policy)
        if self._controller.draft.predictable:
            self._waiting = policy
            text = 'Commits as soon as the mask is there…'
            self._controller.set_status(Status(Stage.WORKING, text))
        return False

    def commit_waiting(self) -> None:
        """Commit the masks that have come, if that was asked for before."""
        # Masks of a drag come as well, and are not to be committed.
        if self._waiting is not None and self._controller.shown is not None:
            policy, self._waiting = self._waiting, None
            self._commit(policy)

    @property
    def waits(self) -> bool:
        """Whether a commit waits for masks that are on their way."""
        return self._waiting is not None

    def wait_no_longer(self) -> None:
        """Commit nothing that is still to come."""
        self._waiting = None

    def _commit(self, policy: _Policy) -> bool:
        controller = self._controller
        record, shown = controller.record, controller.shown
        if record is None or shown is None or controller.layers is None:
            return False
        overwrite = policy.overwrite
        if overwrite is None:
            overwrite = policy.overlap == 'overwrite'
            if policy.overlap == 'ask':
                self.question = self._question(record, shown)
                if self.question is not None:
                    controller.say(self.question.describe())
                    return False
        semantic = policy.output == 'semantic'
        try:
            commands = self._commit_commands(record, shown, overwrite, semantic)
            if not commands:
                controller.set_status(Status(Stage.ERROR, NOTHING_TO_WRITE))
                return False
            labels = [command.item.label for command in commands]
            record.session.execute(as_one(commands))
        except LAYER_ERRORS as error:
            controller.set_status(Status(Stage.ERROR, f'Not committed: {error}'))
            return False
        controller.history.follow(record)
        name = ', '.join(str(label) for label in labels)
        text = f'Committed as label {name}. Click inside the next structure.'
        controller.set_status(Status(Stage.WAITING, text))
        return True

    def _masks(
        self, record: ImageRecord, shown: Shown
    ) -> tuple[NDArray[np.bool_], ...]:
        return shown.masks(
            self._controller.chosen_candidate, record.session.state.cleanup
        )

    def _question(self, record: ImageRecord, shown: Shown) -> OverlapQuestion | None:
        if record.target is None:
            return None
        there = record.target.frame(self._controller.frame)
        union = np.logical_or.reduce(self._masks(record, shown))
        covered = there[union & (there != 0)]
        if covered.size == 0:
            return None
        labels = tuple(int(label) for label in np.unique(covered))
        return OverlapQuestion(int(covered.size), labels)

    def _commit_commands(
        self, record: ImageRecord, shown: Shown, overwrite: bool, semantic: bool
    ) -> list[CommitObject]:
        controller, state = self._controller, record.session.state
        frame = controller.frame
        masks = self._masks(record, shown)
        if not any(mask.any() for mask in masks):
            return []
        target = record.ensure_target(controller.viewer, controller.layers.preview)
        before = target.frame(frame)
        free = np.ones(before.shape, bool) if overwrite else before == 0
        draft = state.draft(frame)
        number = max(target.highest, state.highest_number) + 1
        if semantic:
            number = state.highest_number + 1
        commands: list[CommitObject] = []
        parts = objects_of(draft)
        candidates = shown.candidates(controller.chosen_candidate)
        for part, mask, candidate in zip(parts, masks, candidates, strict=True):
            region = PixelRegion.of_mask(frame, mask & free)
            if region is None:
                continue
            free = free & ~mask
            own = part.number
            if own is None:
                own, number = number, number + 1
            label = state.current_class if semantic else own
            target.check_label(label)
            item = CommittedObject(
                own,
                label,
                frame,
                replace(part, number=None),
                candidate.score,
                region,
                state.current_class,
                semantic,
            )
            under = before[region.slices][region.mask()]
            commands.append(
                CommitObject(
                    target, item, under if under.any() else 0, clears=not commands
                )
            )
        return commands

    def reopen_at(self, point: tuple[float, ...]) -> bool:
        """Reopen the object at a world point; False, and said so, if there is none."""
        found = self._object_at(point)
        if found is None:
            return False
        item, target = found
        waiting = self._controller.session.state.draft(item.frame)
        if not waiting.empty and self._controller.shown is not None:
            # Prompts of another object on the frame would be lost: commit them first.
            if not self.commit():
                return False
            found = self._object_at(point)
            if found is None:
                return False
            item, target = found
        if not self._execute(ReopenObject(target, item)):
            return False
        self._controller.use_points()
        return True

    def delete_at(self, point: tuple[float, ...]) -> bool:
        """Delete the object at a world point; False, and said so, if there is none."""
        found = self._object_at(point)
        if found is None:
            return False
        item, target = found
        if not self._execute(DeleteObject(target, item)):
            return False
        self._controller.say(f'Deleted label {item.label}; undo brings it back.')
        return True

    def reclassify_at(self, point: tuple[float, ...], class_id: int) -> bool:
        """Give the object at a world point another class."""
        found = self._object_at(point)
        if found is None:
            return False
        item, target = found
        label = class_id if item.semantic else item.label
        return self._execute(ReclassifyObject(target, item, class_id, label))

    def load_mask_at(self, point: tuple[float, ...]) -> bool:
        """Start the draft from whatever label is at a world point, ours or not."""
        controller = self._controller
        record: ImageRecord | None = controller.record
        place = record.frames.pixel_at(point) if record is not None else None
        if record is not None and record.target is not None and place is not None:
            frame, (row, column) = place
            labels = record.target.frame(frame)
            if labels[row, column] != 0:
                region = PixelRegion.of_mask(frame, labels == labels[row, column])
                return self._execute(LoadMask(frame, region))
        controller.say('There is no label under the cursor to start from.')
        return False

    def refine(self) -> None:
        """Predict again from the mask shown, as SAM refines its own answers."""
        controller = self._controller
        record, shown = controller.record, controller.shown
        if record is None or shown is None or len(shown.predictions) != 1:
            controller.say('Refining needs the mask of a single object; click first.')
            return
        region = PixelRegion.of_mask(controller.frame, self._masks(record, shown)[0])
        if region is not None:
            self._execute(LoadMask(controller.frame, region))

    def choose_class(self, class_id: int) -> None:
        """Give the next objects another class."""
        state = self._controller.session.state
        known = {item.id for item in state.classes}
        if class_id in known and class_id != state.current_class:
            self._execute(ChangeClass(class_id))

    def set_classes(self, classes: tuple[ObjectClass, ...]) -> None:
        """Add, rename, recolour or remove classes."""
        record = self._controller.record
        if record is not None and classes and classes != record.session.state.classes:
            self._execute(SetClasses(classes))

    def set_cleanup(self, cleanup: CleanUp) -> None:
        """Clean masks up in another way, the one in view at once."""
        record = self._controller.record
        if record is not None and cleanup != record.session.state.cleanup:
            self._execute(SetCleanUp(cleanup))

    def on_painted(
        self, target: LabelsLayerTarget, changes: tuple[PixelChange, ...]
    ) -> None:
        """Take what was painted by hand into the history, so that undo finds it."""
        for record in self._controller.records:
            if record.target is target:
                record.session.execute(PaintPixels(target, changes))

    def _object_at(
        self, point: tuple[float, ...]
    ) -> tuple[CommittedObject, LabelsLayerTarget] | None:
        record: ImageRecord | None = self._controller.record
        place = record.frames.pixel_at(point) if record is not None else None
        if record is not None and record.target is not None and place is not None:
            frame, (row, column) = place
            item = record.session.state.object_at(frame, row, column)
            if item and record.target.frame(frame)[row, column] == item.label:
                return item, record.target
        self._controller.say(NOTHING_THERE)
        return None

    def _execute(self, command: Command) -> bool:
        record = self._controller.record
        if record is None:
            return False
        try:
            record.session.execute(command)
        except LAYER_ERRORS as error:
            self._controller.set_status(Status(Stage.ERROR, f'Not done: {error}'))
            return False
        return True

    def show_classes(self, record: ImageRecord) -> None:
        """Write the classes of an image's objects into the features of its labels."""
        if record.target is not None:
            show_classes_on(record.target.layer, record.session.state, self.output)
