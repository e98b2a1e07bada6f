"""Views of an image that are exact: flips and quarter turns, no resampling.

A teacher embeds each view once and the student sees the same pixels, so the cached
target always belongs to the student's input.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from napari_kdsam.training.distillation.teachers.squares import take

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


def view_squares(
    pixels: torch.Tensor,
    masks: torch.Tensor,
    sizes: torch.Tensor,
    views: Sequence[str],
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Flip or turn images that lie at the top left of padded squares.

    Parameters
    ----------
    pixels : torch.Tensor
        (B, 3, S, S), any dtype.
    masks : torch.Tensor
        (B, C, S, S), any dtype.
    sizes : torch.Tensor
        (B, 2) int64 (height, width) of the image parts.
    views : sequence of str
        B of `VIEWS`.

    Returns
    -------
    pixels, masks, sizes : torch.Tensor
        By the same conventions.

    Raises
    ------
    ValueError
        If there is no such view.
    """
    for view in views:
        check_view(view)
    # A quarter turn is a transposition and a flip.
    turned, upside, sideways = (
        torch.tensor([view in chosen for view in views]).to(
            pixels.device, non_blocking=True
        )
        for chosen in (
            ('rotate_90', 'rotate_270'),
            ('flip_rows', 'rotate_90', 'rotate_180'),
            ('flip_columns', 'rotate_270', 'rotate_180'),
        )
    )
    sizes = torch.where(turned[:, None], sizes.flip(-1), sizes)
    line = torch.arange(pixels.shape[-1], device=pixels.device)
    places = []
    for length, flipped in ((sizes[:, :1], upside), (sizes[:, 1:], sideways)):
        mirrored = torch.where(line < length, length - 1 - line, line)
        places.append(torch.where(flipped[:, None], mirrored, line))
    rows, columns = places
    found = []
    for tensor in (pixels, masks):
        across = tensor.transpose(-1, -2)
        turned_first = torch.where(turned[:, None, None, None], across, tensor)
        found.append(take(turned_first, rows, columns))
    return found[0], found[1], sizes
