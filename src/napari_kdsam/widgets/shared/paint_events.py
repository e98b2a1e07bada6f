"""What napari's own paint tools did, as changes of pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_kdsam.annotation.region import PixelChange, PixelRegion
from napari_kdsam.core.stack_index import FrameIndex


def changes_of_paint(atoms: Any, ndim: int) -> tuple[PixelChange, ...]:
    """Turn the value of a Labels layer's paint event into changes, one a frame.

    Parameters
    ----------
    atoms : sequence
        The event's value: what a stroke changed, step by step. A step is (indices,
        old values, new value) or, since napari 0.9, has ``slice_key``, ``mask``,
        ``old_values`` and ``new_value``.
    ndim : int
        Dimensions of the layer.
    """
    places, before, after = _pixels(atoms, ndim)
    if not len(places):
        return ()
    # A stroke may pass a pixel twice: its first old and its last new value count.
    _, first = np.unique(places, axis=0, return_index=True)
    _, last = np.unique(places[::-1], axis=0, return_index=True)
    places, before, after = places[first], before[first], after[::-1][last]
    leading = places[:, : ndim - 2]
    frames, which = np.unique(leading, axis=0, return_inverse=True)
    which = which.reshape(-1)
    changes = []
    for number, frame in enumerate(frames):
        mine = which == number
        changes.append(
            _change(
                tuple(int(index) for index in frame),
                places[mine][:, -2:],
                before[mine],
                after[mine],
            )
        )
    return tuple(changes)


def frames_of_paint(atoms: Any, ndim: int) -> frozenset[FrameIndex] | None:
    """Which frames a Labels layer's paint event changed.

    Parameters
    ----------
    atoms, ndim
        See `changes_of_paint`.

    Returns
    -------
    frozenset of tuple of int, or None
        None if the value is of a form that is not known.
    """
    try:
        places, _, _ = _pixels(atoms, ndim)
    except (TypeError, ValueError, AttributeError):
        return None
    frames = np.unique(places[:, : ndim - 2], axis=0)
    return frozenset(tuple(frame) for frame in frames.tolist())


def _pixels(
    atoms: Any, ndim: int
) -> tuple[NDArray[np.intp], NDArray[Any], NDArray[Any]]:
    """(N, ndim) places, (N,) old and (N,) new values of a whole stroke."""
    nothing = np.zeros(0, np.int64)
    steps = [(np.zeros((0, ndim), np.intp), nothing, nothing), *map(_step, atoms)]
    places, before, after = map(np.concatenate, zip(*steps, strict=True))
    return places, before, after


def _step(atom: Any) -> tuple[NDArray[np.intp], NDArray[Any], NDArray[Any]]:
    """(N, ndim) places, (N,) old and (N,) new values."""
    if hasattr(atom, 'slice_key'):
        starts = np.array([part.start or 0 for part in atom.slice_key], np.intp)
        old = np.asarray(atom.old_values)
        mask = np.ones(old.shape, bool) if atom.mask is None else atom.mask
        places = np.argwhere(mask) + starts
        before = old.reshape(-1)
        new = atom.new_value
    else:
        indices, old, new = atom
        places = np.stack([np.ravel(index) for index in indices], 1)
        before = np.ravel(old)
    after = np.broadcast_to(np.asarray(new), before.shape)
    return places, before, after.astype(np.int64)


def _change(
    frame: tuple[int, ...],
    places: NDArray[np.intp],
    before: NDArray[Any],
    after: NDArray[Any],
) -> PixelChange:
    corner = places.min(axis=0)
    inside = places - corner
    mask = np.zeros(inside.max(axis=0) + 1, bool)
    mask[tuple(inside.T)] = True
    region = PixelRegion.of_mask(frame, mask, (int(corner[0]), int(corner[1])))
    assert region is not None
    # The order of `PixelRegion.indices`: row by row.
    order = np.lexsort((places[:, 1], places[:, 0]))
    return PixelChange(region, before[order].astype(np.int64), after[order])
