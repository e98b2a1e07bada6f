"""One image with its mask, wherever it is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from napari_kdsam.errors import ImageError

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]

MODALITIES = ('ultrasound', 'dermoscopy', 'endoscopy', 'other')
MODALITY_OF = {
    'kvasir_seg': 'endoscopy',
    'isic': 'dermoscopy',
    'busi': 'ultrasound',
    'busbra': 'ultrasound',
    'hc18': 'ultrasound',
}


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
        One of `MODALITIES`; chooses the augmentation.
    patient : str
        Empty where the publisher does not say.
    pixel_size_mm : float or None
        Side of a pixel where known.
    read : callable
        Returns ((H, W, 3) uint8 RGB image, (H, W) bool mask). Must be picklable, so
        that data loader workers can call it.
    """

    data_set: str
    split: str
    stem: str
    modality: str = 'other'
    patient: str = ''
    pixel_size_mm: float | None = None
    read: Callable[[], tuple[Pixels, Mask]] = field(
        kw_only=True, compare=False, repr=False
    )

    @property
    def name(self) -> str:
        """``data_set/stem``, for messages, logs and tables."""
        return f'{self.data_set}/{self.stem}'

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
            (H, W) bool.

        Raises
        ------
        ImageError
            If a file is missing or unreadable, the sizes differ or the mask is empty.
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
        if not mask.any():
            raise ImageError(f'{self.name}: the mask is empty.')
        if image.ndim == 2:
            image = np.repeat(image[..., None], 3, axis=2)
        return image, mask
