"""Going through a folder of images and their labels, in another dock."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari_kdsam.widgets.shared.plugin_docks import plugin_dock

if TYPE_CHECKING:
    from napari.viewer import Viewer

_TITLE = 'Label a series of images'


def plugin_series(viewer: Viewer, images: Path, labels: Path) -> None:
    """Open the series of a folder of images, with the labels in another folder."""
    plugin_dock(viewer, _TITLE, front=True).open_folder(images, labels)
