"""The files of the image layers that are open."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_kdsam.core.errors import first_of
from napari_kdsam.io.formats import format_of
from napari_kdsam.widgets.shared.file_of_layer import FRAME_NAMES, image_file
from napari_kdsam.widgets.shared.layer_choice import image_layers

if TYPE_CHECKING:
    from napari.layers import Image, Layer
    from napari.viewer import Viewer


@dataclass(frozen=True)
class LayerFiles:
    """What a series can be made of.

    Attributes
    ----------
    files : tuple of pathlib.Path
        In the order of the layers, each once.
    notices : tuple of str
        Sentences on layers that are left out, and on labels.
    """

    files: tuple[Path, ...]
    notices: tuple[str, ...]


def files_of_layers(viewer: Viewer) -> LayerFiles:
    """Find the files of the image layers, bottom to top."""
    from napari.layers import Labels

    files: dict[Path, None] = {}
    without, of_several = [], []
    for layer in image_layers(viewer):
        file = image_file(layer)
        if file is None:
            without.append(layer.name)
        elif _is_of_several(layer, file):
            of_several.append(layer.name)
        else:
            files[file] = None
    notices = []
    if without:
        notices.append(
            f'Not from a file, so left out: {first_of(without)}; save such a layer and '
            'open the file instead.'
        )
    if of_several:
        notices.append(
            f'Of several files, so left out: {first_of(of_several)}; choose their '
            'folder instead.'
        )
    open_labels = (
        layer
        for layer in viewer.layers
        if isinstance(layer, Labels) and _of(layer, files)
    )
    if any(open_labels):
        notices.append(
            'Labels that are open stay as they are; those that are saved beside their '
            'image are the start.'
        )
    return LayerFiles(tuple(files), tuple(notices))


def hide_layers_of(viewer: Viewer, files: Iterable[Path]) -> None:
    """Hide the layers of some files, and their labels, so that a series is seen."""
    opened = [layer for layer in viewer.layers if image_file(layer) is not None]
    # A series may be of many thousand files.
    known = set(files) if opened else set()
    for layer in opened:
        if _of(layer, known):
            layer.visible = False


def _of(layer: Layer, files: Iterable[Path]) -> bool:
    file = image_file(layer)
    return file is not None and file in files


def _is_of_several(layer: Image, file: Path) -> bool:
    return len(layer.metadata.get(FRAME_NAMES, ())) > 1 or format_of(file) is None
