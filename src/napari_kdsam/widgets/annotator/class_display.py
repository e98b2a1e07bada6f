"""Show the classes of objects on the Labels layer: features and colours."""

from __future__ import annotations

import colorsys
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_kdsam.annotation.state import FIRST_CLASS, AnnotationState
from napari_kdsam.widgets.shared.label_classes import classes_of, name_classes
from napari_kdsam.widgets.shared.layer_marks import COLORS_SET, OURS

if TYPE_CHECKING:
    from napari.layers import Labels

# Neighbours of one class are told apart by how light they are, 0..1.
_SHADES = (0.0, 0.2, -0.18, 0.32, -0.08)
_LIGHTEST, _DARKEST = 0.88, 0.22
_OTHERS = '#ffffff'
_MOST_COLORS = 2**16 - 1


def show_classes_on(
    layer: Labels, state: AnnotationState, gone: Collection[int] = ()
) -> None:
    """Write each label's class into the layer's features, unless they are others'.

    Layers of ours also take the classes' colours: as they are where a label is that of
    a class, and in another shade for each object where it is the object's own.

    Parameters
    ----------
    layer : napari.layers.Labels
    state : AnnotationState
    gone : collection of int
        Labels of objects that there were, whose classes go with them. Classes of labels
        that were made elsewhere stay.
    """
    named = {
        label: name for label, name in classes_of(layer).items() if label not in gone
    }
    named |= {
        label: state.class_named(class_id)
        for label, class_id in state.known_classes.items()
    }
    # Several objects of one class share a label in semantic output.
    named |= {item.label: state.class_named(item.class_id) for item in state.objects}
    name_classes(layer, named)
    if layer.metadata.get(OURS):
        _use_colors(layer, _colors_of(state, named))


def _colors_of(state: AnnotationState, named: Mapping[int, str]) -> dict[int, str]:
    """The colour of each label that there is, or may be."""
    if state.semantic:
        return {item.id: item.color for item in state.classes}
    of_class = {item.name: item.color for item in state.classes}
    return {
        label: _shade(of_class.get(name, FIRST_CLASS.color), label)
        for label, name in named.items()
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
