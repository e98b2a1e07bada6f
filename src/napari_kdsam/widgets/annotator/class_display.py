"""Show the classes of objects on the Labels layer: features and colours."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_kdsam.annotation.state import FIRST_CLASS, AnnotationState
from napari_kdsam.widgets.shared.layer_marks import COLORS_SET, OURS

if TYPE_CHECKING:
    from napari.layers import Labels

_COLUMNS = {'index', 'class'}
# Neighbours of one class are told apart by how light they are, 0..1.
_SHADES = (0.0, 0.2, -0.18, 0.32, -0.08)
_LIGHTEST, _DARKEST = 0.88, 0.22
_OTHERS = '#ffffff'
_MOST_COLORS = 2**16 - 1


def show_classes_on(layer: Labels, state: AnnotationState) -> None:
    """Write each label's class into the layer's features, unless they are others'.

    Layers of ours also take the classes' colours: as they are where a label is that of
    a class, and in another shade for each object where it is the object's own.

    Parameters
    ----------
    layer : napari.layers.Labels
    state : AnnotationState
    """
    import pandas as pd

    if set(layer.features.columns) - _COLUMNS:
        return
    named = {
        label: state.class_named(class_id)
        for label, class_id in _classes_of_labels(state).items()
    }
    # Several objects of one class share a label in semantic output.
    rows = sorted(named.items())
    wanted = pd.DataFrame(
        {
            'index': [0, *(label for label, _ in rows)],
            'class': ['', *(name for _, name in rows)],
        }
    )
    if not wanted.equals(layer.features):
        layer.features = wanted
    if layer.metadata.get(OURS):
        _use_colors(layer, _colors_of(state))


def _colors_of(state: AnnotationState) -> dict[int, str]:
    """The colour of each label that there is, or may be."""
    of_class = {item.id: item.color for item in state.classes}
    if state.semantic:
        return of_class
    return {
        label: _shade(of_class.get(class_id, FIRST_CLASS.color), label)
        for label, class_id in _classes_of_labels(state).items()
    }


def _classes_of_labels(state: AnnotationState) -> dict[int, int]:
    """The id of each label's class, also of labels of an earlier time."""
    return {
        **state.known_classes,
        **{item.label: item.class_id for item in state.objects},
    }


def _shade(color: str, number: int) -> str:
    hue, lightness, saturation = colorsys.rgb_to_hls(*_parts(color))
    lightness += _SHADES[(number - 1) % len(_SHADES)]
    lightness = min(max(lightness, _DARKEST), _LIGHTEST)
    shaded = colorsys.hls_to_rgb(hue, lightness, saturation)
    return '#' + ''.join(f'{round(255 * part):02x}' for part in shaded)


def _use_colors(layer: Labels, colors: dict[int, str]) -> None:
    if layer.metadata.get(COLORS_SET) != colors:
        layer.metadata[COLORS_SET] = colors
        layer.colormap = colormap_of(colors)


def colormap_of(colors: Mapping[int, str], others: str = _OTHERS) -> Any:
    """Make the colormap of a Labels layer.

    Parameters
    ----------
    colors : mapping of int to str
        The colour of each label, ``#rrggbb``.
    others : str
        The colour of labels without one.
    """
    from napari.utils.colormaps import CyclicLabelColormap

    # A table of all labels to the last: napari compiles a dictionary for seconds.
    shown = {label: color for label, color in colors.items() if label < _MOST_COLORS}
    table = np.ones((max(shown, default=0) + 2, 4), np.float32)
    table[0] = 0
    table[1:, :3] = _parts(others)
    for label, color in shown.items():
        table[label, :3] = _parts(color)
    return CyclicLabelColormap(colors=table)


def _parts(color: str) -> tuple[float, float, float]:
    """Red, green and blue, 0..1."""
    red, green, blue = (int(color[place : place + 2], 16) / 255 for place in (1, 3, 5))
    return red, green, blue
