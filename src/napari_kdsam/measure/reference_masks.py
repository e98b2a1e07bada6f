"""A folder of reference masks as the array of labels it stands for."""

from __future__ import annotations

import math
import re
import weakref
from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_kdsam.core.errors import ImageError
from napari_kdsam.core.stack_index import flat_index
from napari_kdsam.io.formats import open_image, stem_of
from napari_kdsam.io.image_file import ImageFile
from napari_kdsam.io.label_images import mask_frame, read_mask
from napari_kdsam.measure.mask_folder import MaskFolder, without_mask_ending

# What napari adds to a layer whose name is taken.
_COPY_ENDING = re.compile(r' \[\d+\]$')


class ReferenceMasks:
    """Reference masks, read from their files when a frame is asked for.

    It is array-like: indexed with whole numbers and slices, it gives labels.

    Parameters
    ----------
    source : list of pathlib.Path or ImageFile
        A file for each frame, in their order, or one opened file with all of them.
    shape : tuple of int
        (..., rows, columns).

    Attributes
    ----------
    shape : tuple of int
    ndim : int
    dtype : numpy.dtype
        int64.
    """

    dtype = np.dtype(np.int64)

    def __init__(
        self, source: Sequence[Path] | ImageFile, shape: tuple[int, ...]
    ) -> None:
        self.shape, self.ndim = shape, len(shape)
        self._source = source
        # An opened file has one place that it reads from.
        self._lock = Lock()
        if isinstance(source, ImageFile):
            weakref.finalize(self, source.close)

    def __getitem__(self, index: Any) -> NDArray[np.int64]:
        index = index if isinstance(index, tuple) else (index,)
        count = self.ndim - 2
        first, rest = index[:count], index[count:]
        first += (slice(None),) * (count - len(first))
        chosen = [
            range(size)[part]
            for part, size in zip(first, self.shape[:count], strict=True)
        ]
        kept = [places for places in chosen if isinstance(places, range)]
        places = product(*(p if isinstance(p, range) else (p,) for p in chosen))
        sizes = tuple(len(places) for places in kept)
        frames = [self._frame(place)[rest] for place in places]
        if not frames:
            return np.zeros((*sizes, *self.shape[-2:]), self.dtype)[
                (slice(None),) * len(sizes) + rest
            ]
        return np.stack(frames).reshape(*sizes, *frames[0].shape)

    def __array__(self, dtype: Any = None, copy: Any = None) -> NDArray[Any]:
        return self[()].astype(dtype or self.dtype, copy=False)

    def _frame(self, place: tuple[int, ...]) -> NDArray[np.int64]:
        leading = self.shape[:-2]
        number = flat_index(place, leading)
        if isinstance(self._source, ImageFile):
            name = self._source.name
            with self._lock:
                labels = mask_frame(self._source, number)
        else:
            path = self._source[number]
            name = path.name
            labels = read_mask(path)
        if labels.shape != self.shape[-2:]:
            rows, columns = self.shape[-2:]
            raise ImageError(
                f'{name} has {labels.shape[0]} x {labels.shape[1]} pixels, but the '
                f'labels have {rows} x {columns}; choose the masks of these images.'
            )
        return labels


def open_reference(
    folder: Path, shape: Sequence[int], names: Iterable[str] = ()
) -> ReferenceMasks:
    """Find the masks in a folder that belong to some labels.

    The mask of one of the names comes first (see `MaskFolder`); for a stack it must
    hold as many frames. Otherwise a single image takes the only file there is, and a
    stack takes as many files as it has frames, in their order.

    `napari_kdsam.io.label_images.labels_of_mask` says how a mask is read as labels.

    Parameters
    ----------
    folder : pathlib.Path
        Folders in it are not looked into.
    shape : sequence of int
        (..., rows, columns) of the labels.
    names : iterable of str
        What the labels or their image may be called, the likeliest first.

    Raises
    ------
    ImageError
        If there is no such folder, or no mask or not as many as needed; when frames
        are asked for, if a mask cannot be read or is of another size.
    """
    shape = tuple(int(size) for size in shape)
    count = math.prod(shape[:-2])
    masks = MaskFolder(folder)
    files = masks.files
    if not files:
        raise ImageError(
            f'{folder.name} holds no image files; choose the folder that the masks '
            'are in.'
        )
    if count == 1 and len(files) == 1:
        return ReferenceMasks(files, shape)
    try:
        named = _named(masks, names)
    except ImageError:
        # A stack may be of files that are called alike.
        if count == 1:
            raise
        named = None
    if count == 1:
        if named is None:
            raise ImageError(
                f'None of the {len(files)} masks in {folder.name} is called like the '
                'labels or their image; rename the layer to the name of its mask.'
            )
        return ReferenceMasks([named], shape)
    for path in [named] if named else files if len(files) == 1 else ():
        file = open_image(path)
        if file.frame_count == count:
            return ReferenceMasks(file, shape)
        file.close()
    if len(files) != count:
        raise ImageError(
            f'{folder.name} holds {len(files)} masks for {count} frames; choose a '
            'folder with a mask for each frame and nothing else.'
        )
    return ReferenceMasks(files, shape)


def _named(masks: MaskFolder, names: Iterable[str]) -> Path | None:
    """The mask that one of the names leads to; labels may be called like a mask too."""
    for name in names:
        own = _COPY_ENDING.sub('', name)
        found = masks.mask_of(own) or masks.mask_of(without_mask_ending(stem_of(own)))
        if found is not None:
            return found
    return None
