"""Several files, each with one picture, as the frames of one stack."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from napari_kdsam.core.errors import ImageError
from napari_kdsam.io.formats import open_image
from napari_kdsam.io.image_file import FrameLayout, ImageFile


class FileSequence(ImageFile):
    """Pictures of one size and type, opened one at a time.

    Parameters
    ----------
    paths : sequence of pathlib.Path
        The files, in the order of the frames.

    Raises
    ------
    ImageError
        If a file cannot be read, has several frames, or is of another size or type
        than the first.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = list(paths)
        with open_image(paths[0]) as first:
            shape, dtype = first.frame_shape, first.dtype
        for path in paths:
            with open_image(path) as image:
                if image.is_stack:
                    raise ImageError(
                        f'{path.name} has {image.frame_count} frames; open it alone.'
                    )
                if (image.frame_shape, image.dtype) != (shape, dtype):
                    raise ImageError(
                        f'{path.name} is {image.frame_shape} of {image.dtype}, but '
                        f'{paths[0].name} is {shape} of {dtype}; pictures of one size '
                        'and type make a stack.'
                    )
        super().__init__(paths[0].name, FrameLayout(len(paths), shape), dtype)

    def _read(self, index: int) -> NDArray[Any]:
        with open_image(self._paths[index]) as image:
            return image.frame()
