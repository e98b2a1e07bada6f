"""Names of the classes of labels, in the features of a Labels layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari.layers import Labels

_LABEL, _CLASS = 'index', 'class'
_COLUMNS = {_LABEL, _CLASS}


def classes_of(layer: Labels | None) -> dict[int, str]:
    """Class names by label, of labels that have one."""
    features: Any = getattr(layer, 'features', None)
    if features is None or not set(features.columns) >= _COLUMNS:
        return {}
    known = features[features[_CLASS].notna() & features[_LABEL].notna()]
    names = zip(known[_LABEL], known[_CLASS].astype(str), strict=True)
    return {int(label): name for label, name in names if name}


def name_classes(layer: Labels, named: Mapping[int, str]) -> None:
    """Write class names by label into a layer, in place of those that are there.

    Features with columns of somebody else stay as they are.
    """
    import pandas as pd

    if set(layer.features.columns) - _COLUMNS:
        return
    rows = sorted(named.items())
    wanted = pd.DataFrame(
        {
            _LABEL: [0, *(label for label, _ in rows)],
            _CLASS: ['', *(name for _, name in rows)],
        }
    )
    if not wanted.equals(layer.features):
        layer.features = wanted
