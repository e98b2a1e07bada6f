"""The label images of a batch with their records, and what else a run has written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.PngImagePlugin import PngImageFile

from napari_kdsam.batch.manifest import MANIFEST, is_manifest
from napari_kdsam.batch.records import Record, StackRecord
from napari_kdsam.core.errors import ImageError
from napari_kdsam.core.files import MARK, PART
from napari_kdsam.core.label_image import label_dtype
from napari_kdsam.io.image_file import reading
from napari_kdsam.io.label_images import write_picture
from napari_kdsam.io.limits import check_promised_size
from napari_kdsam.io.results import is_replaceable, is_result

# Ends the name of the folder in which the frames of a stack wait.
FRAMES = '_labels_frames'


def is_own(path: Path) -> bool:
    """Whether a run wrote what is there, and nobody else has since."""
    if path.name == MANIFEST:
        return is_manifest(path)
    if path.is_dir():
        return path.name.endswith(FRAMES) and all(map(_is_frame, path.iterdir()))
    if path.suffix == '.json' and read_stack_record(path) is not None:
        return True
    return is_replaceable(path)


def _is_frame(path: Path) -> bool:
    return PART.fullmatch(path.name) is not None or is_result(path)


def write_frame(path: Path, labels: NDArray[Any], record: Record) -> None:
    """Write a label image that carries its record.

    Parameters
    ----------
    path : pathlib.Path
        The PNG file; its folder is made if needed.
    labels : numpy.ndarray
        (rows, columns) whole numbers up to 65535, 0 for background.
    record : Record

    Raises
    ------
    ImageError
        If it cannot be written.
    """
    highest = int(labels.max(initial=0))
    if highest > np.iinfo(np.uint16).max:
        raise ImageError(f'{path.name} cannot hold {highest} labels in one frame.')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ImageError(
            f'The folder {path.parent.name} cannot be made ({error.strerror}).'
        ) from error
    write_picture(
        path, labels.astype(label_dtype(highest), copy=False), record.to_json()
    )


@contextmanager
def _label_image(path: Path) -> Iterator[PngImageFile]:
    """Open a label image; whatever is wrong with it is an `ImageError`."""
    # Image.open would refuse what is larger than Pillow's own limit.
    with reading(path.name), PngImageFile(path) as picture:
        promised = picture.height, picture.width
        check_promised_size(path.name, *promised, path.stat().st_size)
        yield picture


def read_record(path: Path) -> Record | None:
    """Read the record of a label image; None if there is none, or no such image."""
    try:
        with _label_image(path) as picture:
            # The text is read with the pixels, so that of a file cut short is none.
            text = picture.text.get(MARK, '')
    except ImageError:
        return None
    return Record.from_json(text)


def read_stack_record(path: Path) -> StackRecord | None:
    """Read the record beside a stack of labels; None if there is no such thing."""
    try:
        return StackRecord.from_json(path.read_bytes())
    except OSError:
        return None


def read_labels(path: Path) -> NDArray[Any]:
    """Read a label image as (rows, columns) whole numbers.

    Raises
    ------
    ImageError
        If it is not there or damaged.
    """
    try:
        with _label_image(path) as picture:
            return np.asarray(picture)
    except ImageError as error:
        raise ImageError(
            f'{path.name} is missing or damaged; run the batch again with --resume.'
        ) from error
