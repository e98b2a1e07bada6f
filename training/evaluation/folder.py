"""A plain folder with ``images/`` and ``masks/`` as samples."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_kdsam.core.errors import ImageError
from napari_kdsam.core.intensity import (
    IntensityMapping,
    check_image,
    to_eight_bit,
)
from napari_kdsam.core.names import printable
from napari_kdsam.io.formats import read_single, stem_of
from napari_kdsam.io.label_images import read_mask
from napari_kdsam.measure.mask_folder import MaskFolder
from napari_kdsam.training.data.samples import Sample

IMAGES, MASKS = 'images', 'masks'


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
        pixels = check_image(read_single(self.image))
        pixels = to_eight_bit(pixels, IntensityMapping().resolve(pixels))
        return pixels, read_mask(self.mask) > 0


def samples_of_folder(folder: Path) -> list[Sample]:
    """List the pairs of ``images/`` and ``masks/``.

    Which mask belongs to which image is up to `MaskFolder`.

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
        If a folder is missing, no image has a mask, or two images, or two masks of an
        image, have one name.
    """
    folder = Path(folder)
    for name in (IMAGES, MASKS):
        if not (folder / name).is_dir():
            raise ImageError(
                f'{folder} has no folder {name!r}; put the images in {IMAGES} and the '
                f'masks in {MASKS}.'
            )
    images: dict[str, Path] = {}
    for path in MaskFolder(folder / IMAGES).files:
        other = images.setdefault(stem_of(path.name), path)
        if other is not path:
            raise ImageError(
                f'{other.name} and {path.name} in {folder / IMAGES} have one name; '
                'keep one of them.'
            )
    masks = MaskFolder(folder / MASKS)
    pairs = {stem: _Pair(path, masks.mask_of(stem)) for stem, path in images.items()}
    if not any(pair.mask for pair in pairs.values()):
        raise ImageError(
            f'No image in {folder / IMAGES} has a mask of its name in {folder / MASKS}.'
        )
    name = printable(folder.resolve().name)
    return [
        # Tables name images by their stems, also by those that are not UTF-8.
        Sample(name, 'val', printable(stem), read=pair)
        for stem, pair in sorted(pairs.items())
    ]


def unused_files(folder: Path) -> list[str]:
    """Name what is in both folders and belongs to no sample.

    Parameters
    ----------
    folder : pathlib.Path
        As for `samples_of_folder`.

    Returns
    -------
    list of str
        Such as ``masks/a.png``: masks without an image, and what is no image.

    Raises
    ------
    ImageError
        As `samples_of_folder`.
    """
    images, masks = MaskFolder(folder / IMAGES), MaskFolder(folder / MASKS)
    used = {masks.mask_of(stem_of(path.name)) for path in images.files}
    unpaired = [path for path in masks.files if path not in used]
    others = [*images.others, *unpaired, *masks.others]
    return [f'{path.parent.name}/{path.name}' for path in others]
