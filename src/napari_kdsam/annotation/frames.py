"""Which frame of a stack comes next."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet


def next_unfinished(
    count: int, done: AbstractSet[int], current: int, step: int = 1
) -> int | None:
    """Find the next frame that is not done, going round at the end.

    Parameters
    ----------
    count : int
        Frames of the stack.
    done : set of int
        Places of those that are done.
    current : int
        Where to start; it is the last one to be looked at.
    step : int
        1 forwards, -1 backwards.

    Returns
    -------
    int or None
        None if every frame is done.
    """
    for distance in range(1, count + 1):
        place = (current + step * distance) % count
        if place not in done:
            return place
    return None


def neighbours(
    count: int,
    current: int,
    ahead: int = 2,
    behind: int = 1,
    *,
    direction: int = 1,
    leading_shape: Sequence[int] = (),
) -> list[int]:
    """List the frames that will be looked at next, the likeliest first.

    Parameters
    ----------
    count : int
        Frames of the stack.
    current : int
        Place of the frame in view.
    ahead, behind : int
        How many to list in the direction of travel and against it.
    direction : int
        1 if the user moves forwards, -1 if backwards.
    leading_shape : sequence of int
        Lengths of the leading axes; neighbours lie along the last of them.
    """
    length = leading_shape[-1] if leading_shape else count
    start = current - current % length if length else current
    found = []
    for distance in range(1, max(ahead, behind) + 1):
        for reach, way in ((ahead, direction), (behind, -direction)):
            place = current + way * distance
            if distance <= reach and start <= place < start + length:
                found.append(place)
    return found
