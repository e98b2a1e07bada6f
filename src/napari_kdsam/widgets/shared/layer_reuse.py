"""Let a layer show what another was made with; adding one to the window takes longer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_kdsam.widgets.shared.layer_marks import COLORS_SET, HELD
from napari_kdsam.widgets.shared.transforms import copy_transform

if TYPE_CHECKING:
    from napari.layers import Image, Labels


def hold(layer: Image | Labels) -> None:
    """Mark a layer as one that something works on beyond the image in view."""
    layer.metadata[HELD] = True


def can_show(layer: Image | Labels, other: Image | Labels) -> bool:
    """Whether `layer` can show all that `other` does.

    Parameters
    ----------
    layer : napari.layers.Image or napari.layers.Labels
        In a viewer.
    other : napari.layers.Image or napari.layers.Labels
        In none.

    Returns
    -------
    bool
        Only for single images in memory, of one dtype and form of colour, and not for
        a layer that is held; see `hold`.
    """
    return (
        type(layer) is type(other)
        and not layer.metadata.get(HELD)
        and not layer.multiscale
        and not other.multiscale
        and layer.ndim == other.ndim == 2
        and isinstance(layer.data, np.ndarray)
        and isinstance(other.data, np.ndarray)
        and layer.data.dtype == other.data.dtype
        and layer.data.shape[2:] == other.data.shape[2:]
    )


def show_instead(layer: Image | Labels, other: Image | Labels) -> None:
    """Make a layer show another image, or other labels; the look that was chosen stays.

    Parameters
    ----------
    layer, other : napari.layers.Image or napari.layers.Labels
        As for `can_show`, which must hold; `other` is of no use afterwards.
    """
    from napari.layers import Labels

    if isinstance(layer, Labels):
        _forget(layer, other)
    layer.data = other.data
    copy_transform(other, layer)
    layer.name = other.name
    colors = layer.metadata.get(COLORS_SET)
    layer.metadata = dict(other.metadata)
    if colors is not None:
        # Whoever has set them sets those of the other's classes, if they differ.
        layer.metadata[COLORS_SET] = colors
    if not isinstance(layer, Labels):
        _set(layer, 'contrast_limits_range', other.contrast_limits_range)
        _set(layer, 'contrast_limits', other.contrast_limits)
    _set(layer, 'visible', True)


def _forget(layer: Labels, other: Any) -> None:
    """Forget what was painted, and with which label."""
    # The only public way to empty napari's own undo and redo.
    layer.editable = False
    layer.editable = True
    _set(layer, 'show_selected_label', False)
    _set(layer, 'selected_label', other.selected_label)
    if not layer.features.equals(other.features):
        layer.features = other.features


def _set(layer: Any, name: str, value: Any) -> None:
    # napari draws anew even for what stays as it is.
    if getattr(layer, name) != value:
        setattr(layer, name, value)
