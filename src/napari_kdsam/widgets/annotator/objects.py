"""What turns masks into objects and objects back: commit, reopen, delete, reclassify."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from napari_kdsam.annotation.commands import (
    ChangeClass,
    ChangeOutput,
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
    RelabelObjects,
    ReopenObject,
)
from napari_kdsam.annotation.region import PixelChange, PixelRegion
from napari_kdsam.annotation.state import (
    AnnotationState,
    CommittedObject,
    ObjectClass,
    OverlapPolicy,
)
from napari_kdsam.core.errors import KDSAMError
from napari_kdsam.widgets.annotator.history_sync import HistorySync
from napari_kdsam.widgets.annotator.prediction import PredictionFlow
from napari_kdsam.widgets.annotator.prompt_tools import PromptTools
from napari_kdsam.widgets.annotator.status import OverlapQuestion, StatusKind
from napari_kdsam.widgets.annotator.workspace import Workspace

if TYPE_CHECKING:
    from napari_kdsam.annotation.cleanup import CleanUp
    from napari_kdsam.core.stack_index import FrameIndex
    from napari_kdsam.widgets.annotator.image_record import ImageRecord, Shown
    from napari_kdsam.widgets.annotator.prompt_layers import PromptLayers
    from napari_kdsam.widgets.shared.labels_writer import LabelsLayerTarget

OutputKind = Literal['instance', 'semantic']
NOTHING_THERE = 'There is no object here; click on a label of the labels layer.'
NOTHING_TO_WRITE = 'Not committed: the mask is empty or lies on other labels only.'
LAYER_ERRORS = (KDSAMError, OSError, ValueError, TypeError, IndexError)


@dataclass(frozen=True)
class _Policy:
    """How a mask is committed: the answer to the question, if any, and the setting."""

    overwrite: bool | None
    overlap: OverlapPolicy


def last_number(
    state: AnnotationState, target: LabelsLayerTarget, semantic: bool
) -> int:
    """The number after which those of new objects begin; it is their label, too.

    Labels of classes are no numbers of objects.
    """
    if semantic:
        return state.highest_number
    return max(target.highest, state.highest_number)


class ObjectActions:
    """Commit, reopen, delete and reclassify objects.

    Parameters
    ----------
    workspace : Workspace
    flow : PredictionFlow
        Says when masks that are to be committed have come.
    history : HistorySync
        Follows the layer that a commit makes.
    tools : PromptTools
    """

    def __init__(
        self,
        workspace: Workspace,
        flow: PredictionFlow,
        history: HistorySync,
        tools: PromptTools,
    ) -> None:
        self._workspace = workspace
        self._flow = flow
        self._history = history
        self._tools = tools
        # What a commit does while something else is in the making than a mask.
        self.instead: Callable[[bool | None], bool] | None = None

    @property
    def overlap(self) -> OverlapPolicy:
        """What happens to labels under a new mask."""
        return self._workspace.overlap

    @property
    def output(self) -> OutputKind:
        """Whether labels are of objects (``instance``) or of classes (``semantic``)."""
        workspace = self._workspace
        semantic = workspace.semantic
        if workspace.record is not None:
            semantic = workspace.session.state.semantic
        return 'semantic' if semantic else 'instance'

    def set_overlap(self, overlap: OverlapPolicy) -> None:
        """Change the policy; an object in the making is committed under the old one."""
        if overlap != self.overlap:
            self._bank()
            self._workspace.overlap = overlap
            self._workspace.updated.emit()

    def set_output(self, output: OutputKind) -> None:
        """Change the output, and the labels of all objects with it.

        An object in the making is committed first. Labels among which there are others
        stay as they are, and so does the output, which is said.
        """
        workspace, semantic = self._workspace, output == 'semantic'
        if output == self.output:
            return
        record = workspace.record
        if record is None:
            workspace.semantic = semantic
            return
        self._bank()
        items, others = _objects_in_labels(record)
        if items and others:
            workspace.fail(
                f'The output stays: "{workspace.target_layer}" has labels that are not '
                'of these objects, too; choose new labels, or another labels layer.'
            )
            return
        if record.target is None or not items:
            changed = self.execute(ChangeOutput(semantic))
        else:
            changed = self._relabel(record.target, items, semantic)
        if changed:
            workspace.semantic = semantic

    def _relabel(
        self,
        target: LabelsLayerTarget,
        items: tuple[CommittedObject, ...],
        semantic: bool,
    ) -> bool:
        try:
            target.check_label(max(i.labelled(semantic).label for i in items))
        except KDSAMError as error:
            self._workspace.fail(f'The output stays: {error}')
            return False
        done = self.execute(RelabelObjects(target, items, semantic))
        if done:
            named = 'of its class' if semantic else 'of its own'
            self._workspace.say(
                f'Each object has the label {named} now; undo changes back.'
            )
        return done

    def _bank(self) -> None:
        # A question that is open goes on waiting for its answer.
        if self._workspace.question is None and self._workspace.draft.predictable:
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
        asked, self._workspace.question = self._workspace.question, None
        if overwrite is None and asked is not None:
            overwrite = False
        if self.instead is not None:
            return self.instead(overwrite)
        policy = _Policy(overwrite, self.overlap)
        if self._workspace.shown is not None:
            return self._commit(policy)
        if self._workspace.draft.predictable:
            self._flow.when_masks_come(partial(self._commit, policy))
            text = 'Commits as soon as the mask is there…'
            self._workspace.set_status(StatusKind.WORKING, text)
        return False

    def _commit(self, policy: _Policy) -> bool:
        workspace = self._workspace
        record, shown = workspace.record, workspace.shown
        if record is None or shown is None or workspace.layers is None:
            return False
        if workspace.hindrance is not None:
            workspace.show_status(workspace.hindrance)
            return False
        overwrite = policy.overwrite
        if overwrite is None:
            overwrite = policy.overlap == 'overwrite'
            if policy.overlap == 'ask':
                workspace.question = self._question(record, shown)
                if workspace.question is not None:
                    workspace.say('Keep the other labels, or overwrite them?')
                    return False
        try:
            commands = self._commit_commands(record, workspace.layers, shown, overwrite)
            if not commands:
                workspace.fail(NOTHING_TO_WRITE)
                return False
            labels = [command.item.label for command in commands]
            record.session.execute(as_one(commands))
        except LAYER_ERRORS as error:
            workspace.fail(f'Not committed: {error}')
            return False
        self._history.follow(record)
        if not workspace.layers.positive:
            # The next object begins inside.
            self._tools.set_polarity(True)
        name = ', '.join(str(label) for label in labels)
        text = f'Committed as label {name}. Click inside the next structure.'
        workspace.set_status(StatusKind.WAITING, text)
        return True

    def _masks(
        self, record: ImageRecord, shown: Shown
    ) -> tuple[NDArray[np.bool_], ...]:
        return shown.masks(
            self._workspace.chosen_candidate, record.session.state.cleanup
        )

    def _question(self, record: ImageRecord, shown: Shown) -> OverlapQuestion | None:
        if record.target is None:
            return None
        there = record.target.frame(self._workspace.frame)
        union = np.logical_or.reduce(self._masks(record, shown))
        return OverlapQuestion.about(there[union])

    def _commit_commands(
        self,
        record: ImageRecord,
        layers: PromptLayers,
        shown: Shown,
        overwrite: bool,
    ) -> list[CommitObject]:
        state, frame = record.session.state, self._workspace.frame
        semantic = state.semantic
        masks = self._masks(record, shown)
        if not any(mask.any() for mask in masks):
            return []
        target = record.ensure_target(self._workspace.viewer, layers.preview)
        before = target.frame(frame)
        free = np.ones(before.shape, bool) if overwrite else before == 0
        draft = state.draft(frame)
        number = last_number(state, target, semantic) + 1
        commands: list[CommitObject] = []
        parts = objects_of(draft)
        candidates = shown.candidates(self._workspace.chosen_candidate)
        for part, mask, candidate in zip(parts, masks, candidates, strict=True):
            region = PixelRegion.of_mask(frame, mask & free)
            if region is None:
                continue
            free = free & ~mask
            own = part.number
            if own is None:
                own, number = number, number + 1
            label = state.current_class if semantic else part.label or own
            target.check_label(label)
            item = CommittedObject(
                own,
                label,
                frame,
                replace(part, number=None, label=None),
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
        if self.instead is not None and not self.commit():
            return False
        found = self.object_at(point)
        if found is None:
            return False
        item, target = found
        waiting = self._workspace.session.state.draft(item.frame)
        if not waiting.empty and self._workspace.shown is not None:
            # Prompts of another object on the frame would be lost: commit them first.
            if not self.commit():
                return False
            found = self.object_at(point)
            if found is None:
                return False
            item, target = found
        if not self.execute(ReopenObject(target, item)):
            return False
        self._tools.use_points()
        return True

    def delete_at(self, point: tuple[float, ...]) -> bool:
        """Delete the object at a world point; False, and said so, if there is none."""
        found = self.object_at(point)
        if found is None:
            return False
        item, target = found
        if not self.execute(DeleteObject(target, item)):
            return False
        self._workspace.say(f'Deleted label {item.label}; undo brings it back.')
        return True

    def reclassify_at(self, point: tuple[float, ...], class_id: int) -> bool:
        """Give the object at a world point another class."""
        found = self.object_at(point)
        if found is None:
            return False
        item, target = found
        label = class_id if item.semantic else item.label
        return self.execute(ReclassifyObject(target, item, class_id, label))

    def reclassify_current(self, point: tuple[float, ...]) -> None:
        """Give the object at a world point the class of the next object."""
        current = self._workspace.session.state.current_class
        if not self.reclassify_at(point, current):
            self._workspace.say(
                'There is no object under the cursor to give a class to.'
            )

    def load_mask_at(self, point: tuple[float, ...]) -> bool:
        """Start the draft from whatever label is at a world point, ours or not."""
        record = self._workspace.record
        place = record.frames.pixel_at(point) if record is not None else None
        if record is not None and record.target is not None and place is not None:
            frame, (row, column) = place
            labels = record.target.frame(frame)
            if labels[row, column] != 0:
                region = PixelRegion.of_mask(frame, labels == labels[row, column])
                return self.execute(LoadMask(frame, region))
        self._workspace.say('There is no label under the cursor to start from.')
        return False

    def refine(self) -> None:
        """Predict again from the mask shown, as SAM refines its own answers."""
        workspace = self._workspace
        record, shown = workspace.record, workspace.shown
        if record is None or shown is None or len(shown.predictions) != 1:
            workspace.say('Refining needs the mask of a single object; click first.')
            return
        region = PixelRegion.of_mask(workspace.frame, self._masks(record, shown)[0])
        if region is not None:
            self.execute(LoadMask(workspace.frame, region))

    def choose_class(self, class_id: int) -> None:
        """Give the next objects another class."""
        state = self._workspace.session.state
        known = {item.id for item in state.classes}
        if class_id in known and class_id != state.current_class:
            self.execute(ChangeClass(class_id))

    def use_class(self, number: int) -> None:
        """Give the next objects the class at a place in the list, from 1."""
        classes = self._workspace.session.state.classes
        if 1 <= number <= len(classes):
            self.choose_class(classes[number - 1].id)

    def next_class(self) -> None:
        """Give the next objects the next class, after the last the first."""
        state = self._workspace.session.state
        known = [item.id for item in state.classes]
        place = known.index(state.current_class) if state.current_class in known else -1
        self.choose_class(known[(place + 1) % len(known)])

    def set_classes(self, classes: tuple[ObjectClass, ...]) -> None:
        """Add, rename, recolour or remove classes."""
        record = self._workspace.record
        if record is not None and classes and classes != record.session.state.classes:
            self.execute(SetClasses(classes))

    def set_cleanup(self, cleanup: CleanUp) -> None:
        """Clean masks up in another way, the one in view at once."""
        record = self._workspace.record
        if record is not None and cleanup != record.session.state.cleanup:
            self.execute(SetCleanUp(cleanup))

    def on_painted(
        self, target: LabelsLayerTarget, changes: tuple[PixelChange, ...]
    ) -> None:
        """Take what was painted by hand into the history, so that undo finds it."""
        for record in self._workspace.records.values():
            if record.target is target:
                record.session.execute(PaintPixels(target, changes))

    def object_at(
        self, point: tuple[float, ...]
    ) -> tuple[CommittedObject, LabelsLayerTarget] | None:
        """The object at a world point, ours or not; None, and said so, without one."""
        record = self._workspace.record
        place = record.frames.pixel_at(point) if record is not None else None
        if record is not None and record.target is not None and place is not None:
            frame, (row, column) = place
            state, labels = record.session.state, record.target.frame(frame)
            item = state.object_at(frame, row, column)
            label = int(labels[row, column])
            if item is not None and item.label == label:
                return item, record.target
            if label > 0:
                region = PixelRegion.of_mask(frame, labels == label)
                assert region is not None
                return state.foreign_object(label, region), record.target
        self._workspace.say(NOTHING_THERE)
        return None

    def execute(self, command: Command) -> bool:
        """Do a command on the image; False, and said so, if it cannot be done."""
        record = self._workspace.record
        if record is None:
            return False
        try:
            record.session.execute(command)
        except LAYER_ERRORS as error:
            self._workspace.fail(f'Not done: {error}')
            return False
        return True


def _objects_in_labels(
    record: ImageRecord,
) -> tuple[tuple[CommittedObject, ...], bool]:
    """The objects whose labels are in the target, and whether it has other labels."""
    if record.target is None:
        return (), False
    found: list[CommittedObject] = []
    others = False
    on_frame: dict[FrameIndex, list[CommittedObject]] = {}
    for item in record.session.state.objects:
        on_frame.setdefault(item.frame, []).append(item)
    for frame in np.ndindex(*record.frames.leading_shape):
        rest = np.array(record.target.frame(frame))
        for item in on_frame.get(frame, ()):
            part = rest[item.region.slices]
            own = item.region.mask() & (part == item.label)
            if own.any():
                found.append(item)
            part[own] = 0
        others = others or bool(rest.any())
    return tuple(found), others
