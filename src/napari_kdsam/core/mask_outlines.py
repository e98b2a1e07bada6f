"""The lines around the parts of a mask, and around their holes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_kdsam.core.geometry import Mask

# (vertices, 2) float64 (row, column), pixel centres at integers; the first is the last.
Line = NDArray[np.float64]


def outlines_of(mask: Mask) -> list[list[Line]]:
    """Trace a mask half-way between pixels inside and outside.

    Parameters
    ----------
    mask : numpy.ndarray
        (rows, columns) bool.

    Returns
    -------
    list of list of numpy.ndarray
        For each part, of pixels that touch by sides, its outline and then those of its
        holes.
    """
    from scipy import ndimage
    from skimage.measure import find_contours

    parts, _ = ndimage.label(mask)
    found = []
    for number, place in enumerate(ndimage.find_objects(parts), start=1):
        alone = np.pad(parts[place] == number, 1).astype(np.float32)
        # Of the padding.
        corner = np.array([edge.start for edge in place]) - 1
        lines = [
            line + corner for line in find_contours(alone, 0.5, fully_connected='low')
        ]
        found.append(sorted(lines, key=area_within, reverse=True))
    return found


def area_within(line: Line) -> float:
    """Area within a closed line, in square pixels."""
    y, x = line.T
    return abs(float(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))) / 2
