"""Going through a folder of images and their labels, in another dock."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari.viewer import Viewer

_PLUGIN, _WIDGET = 'napari-kdsam', 'Label a series of images'


def plugin_series(viewer: Viewer, images: Path, labels: Path) -> None:
    """Open the series of a folder of images, with the labels in another folder."""
    _, widget = viewer.window.add_plugin_dock_widget(_PLUGIN, _WIDGET)
    widget.open_folder(images, labels)
