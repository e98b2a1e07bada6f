"""NPY files, mapped into memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from napari_kdsam.core.errors import ImageError
from napari_kdsam.io.image_file import ArrayFile, ImageFile, layout_of, reading

_NPY_MARK = b'\x93NUMPY'


def open_npy(path: Path) -> ImageFile:
    """Open an NPY file without ever unpickling.

    Parameters
    ----------
    path : pathlib.Path
        The file.

    Raises
    ------
    ImageError
        If it is not an NPY file, is damaged, holds Python objects, or has a shape
        that `layout_of` refuses.
    """
    with reading(path.name):
        with path.open('rb') as file:
            if file.read(len(_NPY_MARK)) != _NPY_MARK:
                raise ImageError(
                    f'{path.name} is not an NPY array, whatever its name says; save '
                    'it with numpy.save.'
                )
        shape, dtype = _npy_header(path)
        if dtype.hasobject:
            raise ImageError(
                f'{path.name} holds Python objects, which could run code when read; '
                'save the image as numbers.'
            )
        layout = layout_of(path.name, shape)
        array = np.load(path, mmap_mode='r', allow_pickle=False)
        return ArrayFile(path.name, array, layout)


def _npy_header(path: Path) -> tuple[tuple[int, ...], np.dtype[Any]]:
    with path.open('rb') as file:
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        else:
            shape, _, dtype = np.lib.format.read_array_header_2_0(file)
    return shape, dtype
