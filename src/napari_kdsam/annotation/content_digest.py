"""Tell one image from another by its pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_kdsam.core.stack_index import FrameIndex, frame_at, frame_count

_DIGEST_FRAMES = 3


def digest_of_image(
    read_frame: Callable[[FrameIndex], NDArray[Any]], leading: Sequence[int]
) -> str:
    """Digest of an image's content: its extent and its first, middle and last frame.

    Parameters
    ----------
    read_frame : callable
        Returns the pixels of a frame.
    leading : sequence of int
        Lengths of the axes before rows and columns.

    Returns
    -------
    str
        32 hexadecimal digits.
    """
    total = hashlib.blake2b(digest_size=16)
    axes = tuple(leading)
    total.update(repr(axes).encode())
    count = frame_count(axes)
    numbers = np.linspace(0, count - 1, min(count, _DIGEST_FRAMES)).round()
    for number in dict.fromkeys(int(n) for n in numbers):
        pixels = np.ascontiguousarray(read_frame(frame_at(number, axes)))
        total.update(f'{pixels.dtype.str}{pixels.shape}'.encode())
        total.update(pixels.tobytes())
    return total.hexdigest()
