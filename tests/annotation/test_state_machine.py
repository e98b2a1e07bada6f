"""Random work on a stack: labels, objects, history and file always agree."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from annotation_scripts import SHAPE, ArrayTarget, disc, frames, points
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from napari_kdsam.annotation.cleanup import CleanUp
from napari_kdsam.annotation.commands import (
    AddPoint,
    ChangeClass,
    ChangeFrame,
    ChangeOutput,
    ChooseCandidate,
    ClearDraft,
    Command,
    CompositeCommand,
    LoadMask,
    MovePoint,
    RemovePoint,
    SetBoxes,
    SetClasses,
    SetCleanUp,
    SetOutlines,
    SetScribbles,
    TogglePoint,
)
from napari_kdsam.annotation.history import AnnotationSession
from napari_kdsam.annotation.label_commands import (
    CommitObject,
    DeleteObject,
    PaintPixels,
    PixelCommand,
    ReclassifyObject,
    RelabelObjects,
    ReopenObject,
)
from napari_kdsam.annotation.region import PixelChange, PixelRegion
from napari_kdsam.annotation.session_file import (
    SavedSession,
    read_session,
    write_session,
)
from napari_kdsam.annotation.state import (
    FIRST_CLASS,
    AnnotationState,
    CommittedObject,
    ObjectClass,
    Outline,
    Scribble,
)

CLASSES = (
    FIRST_CLASS,
    ObjectClass(2, 'polyp', '#ff8800'),
    ObjectClass(5, 'instrument', '#0088ff'),
)
class_ids = st.sampled_from([known.id for known in CLASSES])
rows, columns = st.integers(0, SHAPE[1] - 1), st.integers(0, SHAPE[2] - 1)
places = st.tuples(rows.map(float), columns.map(float))
discs = st.builds(disc, rows, columns, st.integers(1, 6))
boxes = st.tuples(rows, columns, st.integers(1, 9), st.integers(1, 9)).map(
    lambda b: (float(b[0]), float(b[1]), float(b[0] + b[2]), float(b[1] + b[3]))
)
lines = st.lists(places, min_size=1, max_size=4).map(tuple)
rings = st.lists(places, min_size=3, max_size=5).map(tuple)
signs = st.booleans()
scribbles = st.lists(st.builds(Scribble, lines, signs), max_size=2).map(tuple)
outlines = st.lists(st.builds(Outline, rings, signs), max_size=2).map(tuple)
anything = st.integers(0, 10_000)

prompt_changes = st.one_of(
    st.builds(AddPoint, frames, points),
    st.builds(SetBoxes, frames, st.lists(boxes, max_size=3).map(tuple)),
    st.builds(SetScribbles, frames, scribbles),
    st.builds(SetOutlines, frames, outlines),
    st.builds(ChooseCandidate, frames, st.integers(0, 2)),
    st.builds(ClearDraft, frames),
)
setting_changes = st.one_of(
    st.builds(ChangeClass, class_ids),
    st.lists(st.text(max_size=5), min_size=3, max_size=3).map(
        lambda names: SetClasses(
            tuple(replace(c, name=n) for c, n in zip(CLASSES, names, strict=True))
        )
    ),
    st.builds(
        SetCleanUp,
        st.builds(
            CleanUp,
            st.integers(0, 50),
            signs,
            signs,
            st.floats(0, 9),
            st.sampled_from(['none', 'convex', 'ellipse']),
        ),
    ),
)


def without_view(state: AnnotationState) -> AnnotationState:
    """The state but for the frame in view, which is no step of the history."""
    return replace(state, frame=())


def on(target: ArrayTarget, command: Command) -> Command:
    """The same command with the pixels of another array."""
    if isinstance(command, CompositeCommand):
        return CompositeCommand(tuple(on(target, part) for part in command.commands))
    if isinstance(command, PixelCommand):
        return replace(command, target=target)
    return command


class Annotating(RuleBasedStateMachine):
    """A user who does anything at all, in any order."""

    @initialize(
        semantic=signs,
        known=signs,
        first=st.lists(st.tuples(frames, discs), max_size=4),
    )
    def start(self, semantic, known, first) -> None:
        self.session, self.target = AnnotationSession(), ArrayTarget()
        self.done: list[Command] = []
        self.undone: list[Command] = []
        self.folder = tempfile.TemporaryDirectory()
        self.seen = [self.session.state]
        self.session.changed.connect(self.on_changed)
        if known:
            self.execute(SetClasses(CLASSES))
        if semantic:
            self.execute(ChangeOutput(True))
        for frame, mask in first:
            self.write_objects(frame, [mask], overwrite=False)

    def teardown(self) -> None:
        if hasattr(self, 'folder'):
            self.folder.cleanup()

    def on_changed(self, before: AnnotationState, after: AnnotationState) -> None:
        assert before is self.seen[-1]
        self.seen.append(after)

    @property
    def state(self) -> AnnotationState:
        return self.session.state

    @property
    def semantic(self) -> bool:
        return self.state.semantic

    def execute(self, command: Command) -> None:
        self.session.execute(command)
        if command.undoable:
            self.done.append(command)
            self.undone.clear()

    def picked(self, number: int) -> CommittedObject:
        return self.state.objects[number % len(self.state.objects)]

    def has_objects(self) -> bool:
        return bool(self.state.objects)

    def has_points(self) -> bool:
        return any(draft.points for draft in self.state.drafts.values())

    def point_at(self, number: int) -> tuple[tuple[int, ...], int]:
        there = [
            (frame, index)
            for frame, draft in self.state.drafts.items()
            for index in range(len(draft.points))
        ]
        return there[number % len(there)]

    @rule(command=prompt_changes)
    def draw(self, command) -> None:
        self.execute(command)

    @precondition(has_points)
    @rule(number=anything, kind=st.sampled_from([TogglePoint, RemovePoint, MovePoint]))
    def change_point(self, number, kind) -> None:
        to = (3.5, number % 30.0) if kind is MovePoint else ()
        self.execute(kind(*self.point_at(number), *to))

    @rule(frame=frames, mask=st.none() | discs)
    def load_mask(self, frame, mask) -> None:
        region = None if mask is None else PixelRegion.of_mask(frame, mask)
        self.execute(LoadMask(frame, region))

    def write_objects(self, frame, masks, overwrite: bool) -> bool:
        """Commit as the window does: one object for each mask, as one step."""
        before = self.target.frame(frame).copy()
        free = np.ones(before.shape, bool) if overwrite else before == 0
        draft = self.state.draft(frame)
        number = self.state.highest_number + 1
        if not self.semantic:
            number = max(number, int(self.target.data.max()) + 1)
        commands: list[CommitObject] = []
        for mask in masks:
            region = PixelRegion.of_mask(frame, mask & free)
            if region is None:
                continue
            free = free & ~mask
            # Several objects are all new, whatever the prompts came from.
            own = draft.number if len(masks) == 1 else None
            if own is None:
                own, number = number, number + 1
            item = CommittedObject(
                own,
                self.state.current_class if self.semantic else own,
                frame,
                replace(draft, number=None),
                0.5,
                region,
                self.state.current_class,
                self.semantic,
            )
            under = before[region.slices][region.mask()]
            commands.append(
                CommitObject(
                    self.target, item, under if under.any() else 0, not commands
                )
            )
        if commands:
            self.execute(
                commands[0] if len(commands) == 1 else CompositeCommand((*commands,))
            )
        return bool(commands)

    @rule(
        frame=frames,
        masks=st.lists(discs, min_size=1, max_size=2),
        overwrite=st.booleans(),
    )
    def commit(self, frame, masks, overwrite) -> None:
        if self.write_objects(frame, masks, overwrite):
            assert self.state.draft(frame).empty

    @precondition(has_objects)
    @rule(number=anything)
    def delete(self, number) -> None:
        self.execute(DeleteObject(self.target, self.picked(number)))

    @precondition(has_objects)
    @rule(number=anything)
    def reopen(self, number) -> None:
        item = self.picked(number)
        self.execute(ReopenObject(self.target, item))
        assert self.state.draft(item.frame).number == item.number
        assert self.state.current_class == item.class_id

    @precondition(lambda self: any(d.number for d in self.state.drafts.values()))
    @rule(frame=frames, mask=discs, overwrite=st.booleans())
    def commit_again(self, frame, mask, overwrite) -> None:
        number = self.state.draft(frame).number
        if self.write_objects(frame, [mask], overwrite) and number is not None:
            assert self.state.objects[-1].number == number

    @precondition(has_objects)
    @rule(number=anything, class_id=class_ids)
    def reclassify(self, number, class_id) -> None:
        item = self.picked(number)
        label = class_id if self.semantic else item.label
        self.execute(ReclassifyObject(self.target, item, class_id, label))

    @rule(semantic=signs)
    def change_output(self, semantic) -> None:
        self.execute(RelabelObjects(self.target, self.state.objects, semantic))
        for item in self.state.objects:
            assert item.label == (item.class_id if semantic else item.number)

    @rule(
        strokes=st.dictionaries(frames, discs, min_size=1, max_size=2), data=st.data()
    )
    def paint(self, strokes, data) -> None:
        known = [known.id for known in CLASSES] if self.semantic else [1, 2, 3, 40]
        label = st.sampled_from([0, *known])
        changes = []
        for frame, mask in strokes.items():
            region = PixelRegion.of_mask(frame, mask)
            before = self.target.data[region.indices()]
            after = data.draw(label)
            if data.draw(st.booleans()):
                after = np.where(np.arange(before.size) % 2, after, data.draw(label))
            changes.append(PixelChange(region, before, after))
            self.target.data[region.indices()] = after
        self.execute(PaintPixels(self.target, tuple(changes)))

    @rule(command=setting_changes)
    def change_settings(self, command) -> None:
        self.execute(command)

    @rule(frame=frames)
    def change_frame(self, frame) -> None:
        self.execute(ChangeFrame(frame))

    @precondition(lambda self: self.done)
    @rule(times=st.integers(1, 4))
    def undo(self, times) -> None:
        for _ in range(times):
            assert self.session.undo() == bool(self.done)
            if self.done:
                self.undone.append(self.done.pop())

    @precondition(lambda self: self.undone)
    @rule(times=st.integers(1, 4))
    def redo(self, times) -> None:
        for _ in range(times):
            assert self.session.redo() == bool(self.undone)
            if self.undone:
                self.done.append(self.undone.pop())

    @invariant()
    def only_what_was_undone_can_be_redone(self) -> None:
        assert self.session.can_undo == bool(self.done)
        assert self.session.can_redo == bool(self.undone)

    @invariant()
    def the_array_is_what_the_objects_say(self) -> None:
        drawn = SavedSession('', SHAPE, self.state).labels()
        np.testing.assert_array_equal(self.target.data, drawn)

    @invariant()
    def no_pixel_belongs_to_two_objects(self) -> None:
        owners = np.zeros(SHAPE, int)
        for item in self.state.objects:
            owners[item.region.indices()] += 1
            assert item.region.mask().any()
        assert owners.max() <= 1

    @invariant()
    def every_number_is_given_once(self) -> None:
        numbers = [item.number for item in self.state.objects]
        numbers += [d.number for d in self.state.drafts.values() if d.number]
        assert len(set(numbers)) == len(numbers)
        assert self.state.highest_number == max(numbers, default=0)

    @invariant()
    def replaying_what_was_not_undone_gives_the_same(self) -> None:
        target, session = ArrayTarget(), AnnotationSession()
        for command in self.done:
            session.execute(on(target, command))
        assert without_view(session.state) == without_view(self.state)
        np.testing.assert_array_equal(target.data, self.target.data)

    @invariant()
    def the_file_gives_everything_back(self) -> None:
        path = Path(self.folder.name) / 'session.json'
        write_session(path, SavedSession('digest', SHAPE, self.state))
        saved = read_session(path, 'digest')
        assert saved.state == self.state
        target, session = ArrayTarget(), AnnotationSession()
        session.execute(CompositeCommand(saved.restoring(target)))
        assert without_view(session.state) == without_view(self.state)
        np.testing.assert_array_equal(target.data, self.target.data)

    @invariant()
    def everything_can_be_undone_and_redone(self) -> None:
        state, labels = self.state, self.target.data.copy()
        for _ in self.done:
            assert self.session.undo()
        assert not self.session.can_undo
        assert without_view(self.state) == AnnotationState()
        assert not self.target.data.any()
        for _ in self.done:
            assert self.session.redo()
        assert self.session.can_redo == bool(self.undone)
        assert without_view(self.state) == without_view(state)
        np.testing.assert_array_equal(self.target.data, labels)
        self.session.execute(ChangeFrame(state.frame))


TestAnnotating = Annotating.TestCase
TestAnnotating.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None
)
