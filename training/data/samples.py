"""One image with its mask, wherever it is kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_kdsam.core.errors import ImageError
from napari_kdsam.core.geometry import Mask
from napari_kdsam.training.data.catalogue import object_name

Pixels = NDArray[np.uint8]
ObjectMap = NDArray[np.uint8]


@dataclass(frozen=True)
class Sample:
    """An image and its mask, read when asked for.

    Attributes
    ----------
    data_set : str
        Such as ``kvasir_seg``, ``isic``, ``busi``, ``busbra`` or ``hc18``.
    split : str
        ``train`` or ``val``.
    stem : str
        The file's name without its ending; unique within the data set.
    modality : str
        One of `catalogue.MODALITIES`; chooses the augmentation.
    patient : str
        Empty where the publisher does not say.
    pixel_size_mm : float or None
        Side of a pixel where known.
    objects : int
        How many structures the mask holds, each by its class number from 1.
    object_number : int or None
        The one of them that this sample is about; None for all.
    read : callable
        Returns the (H, W, 3) uint8 RGB image and the (H, W) mask: bool, or uint8 with
        class numbers where `objects` is more than 1. Must be picklable, so that data
        loader workers can call it.
    """

    data_set: str
    split: str
    stem: str
    modality: str = 'other'
    patient: str = ''
    pixel_size_mm: float | None = None
    objects: int = 1
    object_number: int | None = None
    read: Callable[[], tuple[Pixels, NDArray[Any]]] = field(
        kw_only=True, compare=False, repr=False
    )

    @property
    def name(self) -> str:
        """``data_set/stem``, for messages, logs and tables; ``#NUMBER`` of one object."""
        number = '' if self.object_number is None else f'#{self.object_number}'
        return f'{self.data_set}/{self.stem}{number}'

    @property
    def place(self) -> tuple[str, str, str]:
        """(data set, split, stem): equal only for one and the same image."""
        return self.data_set, self.split, self.stem

    def load(self) -> tuple[Pixels, Mask]:
        """Read and check the pair.

        Returns
        -------
        image : numpy.ndarray
            (H, W, 3) uint8 RGB.
        mask : numpy.ndarray
            (H, W) bool: the object `object_number`, or all objects.

        Raises
        ------
        ImageError
            If a file is missing or unreadable, the sizes differ, the mask has a class
            number that was not announced, or there is nothing of the object.
        """
        image, objects = self.load_objects()
        if self.object_number is None:
            return image, objects > 0
        mask = objects == self.object_number
        if not mask.any():
            what = object_name(self.data_set, self.object_number)
            raise ImageError(f'{self.name}: the mask has no {what}.')
        return image, mask

    def load_objects(self) -> tuple[Pixels, ObjectMap]:
        """Read and check the image and all its objects.

        Returns
        -------
        image : numpy.ndarray
            (H, W, 3) uint8 RGB.
        objects : numpy.ndarray
            (H, W) uint8: 0 for none, else the class number, 1 to `objects`; not every
            announced number need be there.

        Raises
        ------
        ImageError
            As `load`.
        """
        try:
            image, mask = self.read()
        except ImageError:
            raise
        except Exception as error:  # decoders raise errors of every kind
            raise ImageError(f'{self.name} cannot be read ({error}).') from error
        if image.shape[:2] != mask.shape:
            raise ImageError(
                f'{self.name}: the image has {image.shape[0]} x {image.shape[1]} pixels '
                f'but the mask {mask.shape[0]} x {mask.shape[1]}.'
            )
        objects = (mask > 0 if self.objects == 1 else mask).astype(np.uint8)
        if not objects.any():
            raise ImageError(f'{self.name}: the mask is empty.')
        if objects.max() > self.objects:
            raise ImageError(
                f'{self.name}: the mask has the class number {objects.max()}, but '
                f'{self.objects} structures are announced; mend the index or the mask.'
            )
        if image.ndim == 2:
            image = np.repeat(image[..., None], 3, axis=2)
        return image, objects


def single_objects(samples: Sequence[Sample]) -> list[Sample]:
    """Make a sample of its own of each structure, to be prompted by itself.

    Parameters
    ----------
    samples : sequence of Sample
        Those with one structure stay as they are.

    Returns
    -------
    list of Sample
        In order, the structures of an image by their class numbers.
    """
    return [
        replace(sample, object_number=number) if sample.objects > 1 else sample
        for sample in samples
        for number in range(1, sample.objects + 1)
    ]
