"""A plain folder with ``images/`` and ``masks/`` as samples."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_kdsam.core.errors import ImageError
from napari_kdsam.core.intensity import (
    IntensityMapping,
    check_image,
    to_eight_bit,
)
from napari_kdsam.io.formats import SUFFIXES, open_image, stem_of
from napari_kdsam.training.data.samples import Sample

IMAGES, MASKS = 'images', 'masks'
_MASK_ENDING = re.compile(r'[_-](mask|segmentation|seg|label|gt)$', re.IGNORECASE)


@dataclass(frozen=True)
class _Pair:
    image: Path
    mask: Path | None

    def __call__(self) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        if self.mask is None:
            raise ImageError(
                f'{self.image.name} has no mask; put one of the same name, or with '
                f'_mask or _segmentation added, in {MASKS}.'
            )
        pixels = check_image(_read(self.image))
        pixels = to_eight_bit(pixels, IntensityMapping().resolve(pixels))
        mask = np.squeeze(_read(self.mask))
        if mask.ndim == 3:
            # A mask saved as colour: any channel but opacity.
            mask = mask[..., :3].max(axis=-1)
        # JPEG leaves faint noise around zero, so halfway is the border.
        return pixels, mask > mask.max() / 2


def _read(path: Path) -> NDArray[Any]:
    with open_image(path) as file:
        return file.frame()


def samples_of_folder(folder: Path) -> list[Sample]:
    """List the pairs of ``images/`` and ``masks/``.

    A mask belongs to the image of the same name, whatever its file type, also with
    ``_mask``, ``_segmentation``, ``_seg``, ``_label`` or ``_gt`` at its end.

    Parameters
    ----------
    folder : pathlib.Path
        With both folders.

    Returns
    -------
    list of Sample
        In name order, one for each image; that of an image without a mask says so
        when it is loaded, so that it is reported as a failure.

    Raises
    ------
    ImageError
        If a folder is missing, there is no image, no image has a mask, or two files
        have one name.
    """
    folder = Path(folder)
    for name in (IMAGES, MASKS):
        if not (folder / name).is_dir():
            raise ImageError(
                f'{folder} has no folder {name!r}; put the images in {IMAGES} and the '
                f'masks in {MASKS}.'
            )
    images = _by_stem(folder / IMAGES, is_mask=False)
    masks = _by_stem(folder / MASKS, is_mask=True)
    if not images.keys() & masks.keys():
        raise ImageError(
            f'No image in {folder / IMAGES} has a mask of its name in {folder / MASKS}.'
        )
    return [
        Sample(
            folder.resolve().name,
            'val',
            stem,
            read=_Pair(path, masks.get(stem)),
        )
        for stem, path in sorted(images.items())
    ]


def _by_stem(folder: Path, is_mask: bool) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith('.') or path.suffix.lower() not in SUFFIXES:
            continue
        stem = stem_of(path.name)
        if is_mask:
            stem = _MASK_ENDING.sub('', stem)
        if stem in found:
            raise ImageError(
                f'{found[stem].name} and {path.name} in {folder} have one name; keep '
                'one of them.'
            )
        found[stem] = path
    return found
