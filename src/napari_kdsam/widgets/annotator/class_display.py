"""Show the classes of objects on the Labels layer: features, and colours if semantic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_kdsam.annotation.state import AnnotationState
from napari_kdsam.widgets.shared.layer_marks import OURS

if TYPE_CHECKING:
    from napari.layers import Labels

_COLUMNS = {'index', 'class'}


def show_classes_on(layer: Labels, state: AnnotationState, output: str) -> None:
    """Write each label's class into the layer's features, unless they are others'.

    Parameters
    ----------
    layer : napari.layers.Labels
    state : AnnotationState
    output : str
        ``semantic`` layers of ours also take the classes' colours.
    """
    import pandas as pd

    if set(layer.features.columns) - _COLUMNS:
        return
    named = {item.label: state.class_named(item.class_id) for item in state.objects}
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
    if output == 'semantic' and layer.metadata.get(OURS):
        _use_colors(layer, {item.id: item.color for item in state.classes})


def _use_colors(layer: Labels, colors: dict[int, str]) -> None:
    from napari.utils.colormaps import DirectLabelColormap

    table: dict[Any, str] = {None: '#ffffff', 0: 'transparent', **colors}
    key = f'{OURS} colours'
    if layer.metadata.get(key) != colors:
        layer.metadata[key] = colors
        layer.colormap = DirectLabelColormap(color_dict=table)
