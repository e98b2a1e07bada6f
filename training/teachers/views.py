"""Views of an image that are exact: flips and quarter turns, no resampling.

A teacher embeds each view once and the student sees the same pixels, so the cached
target always belongs to the student's input.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

VIEWS = (
    'identity',
    'flip_columns',
    'flip_rows',
    'rotate_90',
    'rotate_180',
    'rotate_270',
)
INVERSE_VIEW = {
    **{view: view for view in VIEWS},
    'rotate_90': 'rotate_270',
    'rotate_270': 'rotate_90',
}
_ACTIONS: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    'identity': lambda array: array,
    'flip_columns': lambda array: array[:, ::-1],
    'flip_rows': lambda array: array[::-1],
    'rotate_90': lambda array: np.rot90(array, 1),
    'rotate_180': lambda array: np.rot90(array, 2),
    'rotate_270': lambda array: np.rot90(array, 3),
}


def check_view(view: str) -> None:
    """Raise ValueError unless `view` is one of `VIEWS`."""
    if view not in _ACTIONS:
        raise ValueError(
            f'There is no view called {view!r}; use {", ".join(VIEWS[:-1])} or '
            f'{VIEWS[-1]}.'
        )


def apply_view(array: NDArray[Any], view: str) -> NDArray[Any]:
    """Flip or turn an image or a mask.

    Parameters
    ----------
    array : numpy.ndarray
        (H, W) or (H, W, C), any dtype.
    view : str
        One of `VIEWS`. ``flip_columns`` mirrors left and right, ``flip_rows`` top
        and bottom; rotations are counterclockwise as displayed, in degrees.

    Returns
    -------
    numpy.ndarray
        Of the same dtype, contiguous; (W, H[, C]) for ``rotate_90`` and
        ``rotate_270``. ``identity`` does not copy.

    Raises
    ------
    ValueError
        If there is no such view.
    """
    check_view(view)
    return np.ascontiguousarray(_ACTIONS[view](array))
