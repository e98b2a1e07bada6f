"""Tell one image from another by its pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_kdsam.annotation.state import FrameIndex

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
    total.update(repr(tuple(leading)).encode())
    count = int(np.prod(leading, dtype=np.int64)) if leading else 1
    numbers = np.linspace(0, count - 1, min(count, _DIGEST_FRAMES)).round()
    for number in dict.fromkeys(int(n) for n in numbers):
        frame = np.unravel_index(number, tuple(leading)) if leading else ()
        pixels = np.ascontiguousarray(read_frame(tuple(int(i) for i in frame)))
        total.update(f'{pixels.dtype.str}{pixels.shape}'.encode())
        total.update(pixels.tobytes())
    return total.hexdigest()
