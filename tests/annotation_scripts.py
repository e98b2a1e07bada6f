"""A small stack to annotate without a window, and random steps on it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from napari_kdsam.annotation.commands import (
    AddPoint,
    ChooseCandidate,
    ClearDraft,
    Command,
    SetBoxes,
)
from napari_kdsam.annotation.history import AnnotationSession
from napari_kdsam.annotation.label_commands import CommitObject
from napari_kdsam.annotation.region import PixelRegion
from napari_kdsam.annotation.state import CommittedObject, PointPrompt

SHAPE = (3, 20, 30)


class ArrayTarget:
    """Labels in a plain array."""

    def __init__(self) -> None:
        self.data = np.zeros(SHAPE, np.uint16)

    def frame(self, frame):
        return self.data[frame]

    def write(self, indices, value):
        self.data[indices] = value


def disc(row: int, column: int, radius: int) -> np.ndarray:
    """(rows, columns) mask of a disc on a frame of the stack."""
    rows, columns = np.ogrid[: SHAPE[1], : SHAPE[2]]
    return (rows - row) ** 2 + (columns - column) ** 2 <= radius**2


frames = st.integers(0, SHAPE[0] - 1).map(lambda i: (i,))
points = st.builds(
    PointPrompt,
    st.integers(0, SHAPE[1] - 1).map(float),
    st.integers(0, SHAPE[2] - 1).map(float),
    st.booleans(),
)
steps = st.one_of(
    st.tuples(st.just('point'), frames, points),
    st.tuples(st.just('box'), frames, st.sampled_from([None, (1.0, 2.0, 9.0, 9.0)])),
    st.tuples(st.just('clear'), frames, st.none()),
    st.tuples(st.just('candidate'), frames, st.integers(0, 2)),
    st.tuples(st.just('commit'), frames, st.integers(2, 17)),
    st.tuples(st.just('undo'), st.none(), st.none()),
    st.tuples(st.just('redo'), st.none(), st.none()),
)


def command_for(
    step, session: AnnotationSession, target: ArrayTarget, number: int
) -> Command | None:
    """The command of a step that is no undo or redo; None if it has nothing to do."""
    kind, frame, value = step
    if kind == 'point':
        return AddPoint(frame, value)
    if kind == 'box':
        return SetBoxes(frame, () if value is None else (value,))
    if kind == 'clear':
        return ClearDraft(frame)
    if kind == 'candidate':
        return ChooseCandidate(frame, value)
    free = disc(value, value, 4) & (target.frame(frame) == 0)
    region = PixelRegion.of_mask(frame, free)
    if region is None:
        return None
    draft = replace(session.state.draft(frame), number=None)
    item = CommittedObject(number, number, frame, draft, number / 64, region)
    return CommitObject(target, item)
