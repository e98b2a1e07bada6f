"""What napari opens and saves through this plugin: images and label images."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from napari_kdsam.widgets.shared.file_layers import LayerData, layer_of
from napari_kdsam.widgets.shared.file_of_layer import FRAME_NAMES

AnyPath = str | os.PathLike[str]

_ONE_PATH = (str, os.PathLike)
_MOST_LAYERS = 50


def get_reader(
    path: AnyPath | Sequence[AnyPath],
) -> Callable[[Any], list[LayerData]] | None:
    """Offer to read a file, for napari.

    Parameters
    ----------
    path : path-like or sequence of path-like
        What is to be opened.

    Returns
    -------
    callable or None
        `read_layers` for a file of a kind that `open_image` reads, `read_sequence` for
        several pictures that are to be a stack, `read_folder` for a folder of images;
        None for anything else, and for what is not there.
    """
    from napari_kdsam.io.formats import format_of

    paths = [Path(one) for one in ([path] if isinstance(path, _ONE_PATH) else path)]
    if not paths or not all(one.exists() for one in paths):
        return None
    kinds = [format_of(one) for one in paths]
    if isinstance(path, _ONE_PATH):
        if kinds[0] is not None:
            return read_layers
        return read_folder if any(_images_in(paths[0])) else None
    # Volumes and videos are stacks already.
    pictures = all(kind is not None and not kind.extra for kind in kinds)
    return read_sequence if pictures else None


def read_layers(path: AnyPath) -> list[LayerData]:
    """Open a file as one layer, whose frames are read when they are looked at.

    Parameters
    ----------
    path : path-like
        A file that `get_reader` offers to read.

    Returns
    -------
    list of tuple
        An image layer, or a labels layer where the file says that it holds labels.
        Stacks are Dask arrays of a chunk for each frame. The scale is in millimetres
        along the axes whose spacing the file states, and pixels along the others.

    Raises
    ------
    ImageError
        If the file cannot be read.
    MissingExtraError
        If packages that its kind needs are not installed.
    """
    from napari_kdsam.io.formats import open_image

    return [layer_of(open_image(path), path)]


def read_sequence(paths: Sequence[AnyPath]) -> list[LayerData]:
    """Open pictures of one size as one layer, a frame for each file.

    Parameters
    ----------
    paths : sequence of path-like
        Files that `get_reader` offers to read, in the order of the frames.

    Returns
    -------
    list of tuple
        An image layer, as `read_layers` gives it.

    Raises
    ------
    ImageError
        If a file cannot be read, has several frames, or is of another size or type
        than the first.
    """
    from napari_kdsam.io.file_sequence import FileSequence

    files = [Path(path) for path in paths]
    data, attributes, kind = layer_of(FileSequence(files), files[0])
    attributes['metadata'][FRAME_NAMES] = [file.name for file in files]
    return [(data, attributes, kind)]


def read_folder(path: AnyPath) -> list[LayerData]:
    """Open the images in a folder: as one stack if they are of one size and type.

    Parameters
    ----------
    path : path-like
        A folder that `get_reader` offers to read. Label images that this package wrote
        are left out, and so is what cannot be read, with a notice.

    Returns
    -------
    list of tuple
        One layer with a frame for each file, or else one for each file.

    Raises
    ------
    ImageError
        If there is no image in it, or too many for a layer each.
    """
    from napari.utils.notifications import show_warning

    from napari_kdsam.core.errors import ImageError, KDSAMError, first_of
    from napari_kdsam.io.file_sequence import FileSequence
    from napari_kdsam.io.results import is_result

    folder = Path(path)
    images = [file for file in _images_in(folder) if not is_result(file)]
    if len(images) > 1:
        try:
            frames = FileSequence(images)
        except KDSAMError:
            # They differ, or one of them is damaged.
            pass
        else:
            data, attributes, kind = layer_of(frames, images[0])
            names = [image.name for image in images]
            attributes['metadata'][FRAME_NAMES] = names
            return [(data, {**attributes, 'name': folder.name}, kind)]
    if len(images) > _MOST_LAYERS:
        raise ImageError(
            f'The {len(images)} images in {folder.name} differ in size or type, and are '
            f'too many for a layer each; choose up to {_MOST_LAYERS} of the files.'
        )
    layers: list[LayerData] = []
    problems: list[str] = []
    for image in images:
        try:
            layers += read_layers(image)
        except KDSAMError as error:
            problems.append(str(error))
    if not layers:
        raise ImageError(
            f'There is no image in {folder.name} that can be opened; '
            f'{first_of(problems) or "it holds results only"}'
        )
    if problems:
        show_warning(f'Left out of {folder.name}: {first_of(problems)}')
    return layers


def _images_in(folder: Path) -> Iterator[Path]:
    """Files of a folder that may be opened, numbers in their names by size."""
    from napari_kdsam.core.names import by_numbers
    from napari_kdsam.io.formats import format_of

    if not folder.is_dir():
        return
    for path in sorted(folder.iterdir(), key=lambda one: by_numbers(one.name)):
        # A file that nobody may read is no image to offer.
        with suppress(OSError):
            if not path.name.startswith('.') and path.is_file() and format_of(path):
                yield path


def write_labels_layer(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Save a labels layer, for napari; see `write_labels_file`.

    Returns
    -------
    list of str
        The path.
    """
    import numpy as np

    from napari_kdsam.widgets.shared.labels_file import write_labels_file

    write_labels_file(path, np.asarray(data), attributes)
    return [path]
