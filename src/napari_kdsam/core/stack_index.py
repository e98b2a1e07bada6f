"""A frame's index along the leading axes of a stack, and its place when counted."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FrameIndex = tuple[int, ...]


def frame_count(leading: tuple[int, ...]) -> int:
    """Frames of a stack with these leading axes; 1 for a single image."""
    return int(np.prod(leading, dtype=np.int64))


def flat_index(frame: FrameIndex, leading: tuple[int, ...]) -> int:
    """A frame's place in the stack, the last leading axis running fastest."""
    return int(np.ravel_multi_index(frame, leading)) if leading else 0


def frame_at(flat: int, leading: tuple[int, ...]) -> FrameIndex:
    """Index along the leading axes of the frame at a place in the stack."""
    if not leading:
        return ()
    return tuple(int(index) for index in np.unravel_index(flat, leading))


def indices_on(
    frame: FrameIndex, rows: NDArray[np.intp], columns: NDArray[np.intp]
) -> tuple[NDArray[np.intp], ...]:
    """Index arrays of pixels of a frame, one for each axis of the stack."""
    leading = (np.full(rows.shape, index, np.intp) for index in frame)
    return (*leading, rows, columns)
