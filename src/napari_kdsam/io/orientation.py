"""How the rows and columns of a file lie in the upright picture."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

UPRIGHT = 1
# Orientation of TIFF 6.0 and EXIF (tag 274): what makes the stored array upright,
# (rows and columns swapped, then rows reversed, then columns reversed).
_STEPS = {
    UPRIGHT: (False, False, False),
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}
_NUMBERS = {steps: number for number, steps in _STEPS.items()}
# Of the longer element: what rounding leaves of a quarter turn.
_SLANT = 0.01


def upright(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Turn and mirror a stored picture.

    Parameters
    ----------
    pixels : numpy.ndarray
        (rows, columns) or (rows, columns, channels).
    orientation : int
        1 to 8 as in TIFF 6.0 and EXIF; anything else changes nothing.
    """
    swap, rows, columns = _STEPS.get(orientation, _STEPS[UPRIGHT])
    turned = np.swapaxes(pixels, 0, 1) if swap else pixels
    return turned[:: -1 if rows else 1, :: -1 if columns else 1]


def upright_shape(shape: tuple[int, ...], orientation: int) -> tuple[int, ...]:
    """Shape that `upright` gives."""
    swap, _, _ = _STEPS.get(orientation, _STEPS[UPRIGHT])
    return (shape[1], shape[0], *shape[2:]) if swap else shape


def orientation_of_matrix(a: float, b: float, c: float, d: float) -> int | None:
    """Name what a display matrix does to pictures, as TIFF and EXIF number it.

    Parameters
    ----------
    a, b, c, d : float
        Of ISO/IEC 14496-12: a pixel at column p and row q goes to column a p + c q and
        row b p + d q.

    Returns
    -------
    int or None
        1 to 8; None where the matrix turns by something else than quarters. A matrix
        that leaves nothing of the picture means nothing and is 1.
    """
    straight, swapped = max(abs(a), abs(d)), max(abs(b), abs(c))
    if a * d == b * c:
        return UPRIGHT
    if min(straight, swapped) > _SLANT * max(straight, swapped):
        return None
    if straight > swapped:
        return _NUMBERS[False, d < 0, a < 0]
    return _NUMBERS[True, b < 0, c < 0]
