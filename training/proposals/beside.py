"""Parts of images that show no object, to learn that there may be none."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from napari_kdsam.core.geometry import Mask, PaddedSquare, box_of_mask
from napari_kdsam.training.data.store import ImageStore
from napari_kdsam.training.proposals.targets import PixelBox

# A strip beside the target must show something to be an image of its own.
_LEAST_SHARE, _LEAST_SIDE = 0.2, 64


def strip_beside(mask: Mask) -> PixelBox | None:
    """Find the largest strip of an image that shows none of its mask.

    Parameters
    ----------
    mask : numpy.ndarray
        (H, W) bool, with an object.

    Returns
    -------
    tuple of int or None
        Half-open (row0, col0, row1, col1); None where the target leaves no strip worth
        looking at.
    """
    rows, columns = mask.shape
    box = box_of_mask(mask)
    if box is None:
        return None
    row0, col0, row1, col1 = box
    strips = (
        (0, 0, row0, columns),
        (row1, 0, rows, columns),
        (0, 0, rows, col0),
        (0, col1, rows, columns),
    )
    top, left, bottom, right = max(
        strips, key=lambda strip: (strip[2] - strip[0]) * (strip[3] - strip[1])
    )
    height, width = bottom - top, right - left
    if height * width < _LEAST_SHARE * mask.size or min(height, width) < _LEAST_SIDE:
        return None
    return top, left, bottom, right


class PartsBeside:
    """Strips beside the objects of a store's images, each in a square of its own.

    Parameters
    ----------
    store : ImageStore
        Of the images; it may move to another device later.
    share : float
        0..1: of how many of its images, evenly spaced.

    Attributes
    ----------
    rows : dict of int to int
        Place of an image in the store to that of its strip here.
    """

    def __init__(self, store: ImageStore, share: float) -> None:
        self._store = store
        self._strips: list[tuple[int, PixelBox]] = []
        self.rows: dict[int, int] = {}
        for place in range(len(store)):
            if int(place * share) == int((place + 1) * share):
                continue
            height, width = store.sizes[place].tolist()
            strip = strip_beside(
                np.asarray(store.objects[place, :height, :width].cpu()) > 0
            )
            if strip is not None:
                self.rows[place] = len(self._strips)
                self._strips.append((place, strip))

    def __len__(self) -> int:
        return len(self._strips)

    def squares(self, indices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Cut out and enlarge strips; see `SquareStore.squares`."""
        pixels, side = self._store.pixels, self._store.input_size
        cut = pixels.new_zeros(len(indices), 3, side, side)
        sizes = torch.zeros(len(indices), 2, dtype=torch.int64)
        for row, index in enumerate(indices.tolist()):
            place, (row0, col0, row1, col1) = self._strips[index]
            shape = PaddedSquare((row1 - row0, col1 - col0), side).scaled_shape
            strip = pixels[place, :, row0:row1, col0:col1]
            cut[row, :, : shape[0], : shape[1]] = functional.interpolate(
                strip[None].float(), shape, mode='bilinear', align_corners=False
            )[0].round()
            sizes[row] = torch.tensor(shape)
        return cut, sizes.to(pixels.device)

    def describe(self, index: int) -> str:
        """Name a strip, for messages."""
        return f'a part of {self._store.samples[self._strips[index][0]].name}'
