"""The file of a layer, and whether it is shown as everything else here reads it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari_kdsam.core.errors import KDSAMError

if TYPE_CHECKING:
    from napari.layers import Image, Layer

_PLUGIN = 'napari-kdsam'
# What the files of a stack are called, in a layer's metadata.
FRAME_NAMES = 'frame_names'


def image_file(image: Layer) -> Path | None:
    """The file or folder that a layer was opened from; None without one."""
    opened, own = image.source.path, image.metadata.get('source')
    several = len(image.metadata.get(FRAME_NAMES, ())) > 1
    if own and opened and Path(opened).is_dir() and not several:
        # A folder was opened, and the layer is of one file in it.
        opened = own
    source = opened or own
    if not source or '://' in str(source):
        return None
    path = Path(str(source)).absolute()
    return path if path.exists() else None


def otherwise_shown(layer: Image) -> str:
    """Warn of a picture that another reader of napari left lying or in other colours.

    Only the description of the file is read, no pixels.

    Parameters
    ----------
    layer : napari.layers.Image
        Of any origin.

    Returns
    -------
    str
        One sentence, or nothing if there is nothing to warn of.
    """
    from napari_kdsam.io.formats import format_of, open_image
    from napari_kdsam.io.orientation import UPRIGHT

    path = Path(layer.source.path or '')
    if layer.source.reader_plugin in (None, _PLUGIN) or layer.multiscale:
        return ''
    if not path.is_file():
        return ''
    known = format_of(path)
    # What needs an extra is no picture, and may be costly to open.
    if known is None or known.extra:
        return ''
    try:
        with open_image(path) as file:
            shape, orientation = file.shape, file.stored_orientation
    except KDSAMError:
        return ''
    if tuple(layer.data.shape) == shape and orientation == UPRIGHT:
        return ''
    return (
        f'{path.name} was opened by another reader of napari, which shows it otherwise '
        'than segment and batch read it, so that labels of one do not fit the other; '
        'open it again with the reader KD SAM.'
    )
