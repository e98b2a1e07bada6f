"""The record that every phantom comes in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage


@dataclass(frozen=True, eq=False)
class Phantom:
    """A drawn image with its exact ground truth; it shows no patient.

    Attributes
    ----------
    name : str
        Short name, unique for a modality and seed.
    image : numpy.ndarray
        uint8, (H, W, 3) for RGB, (H, W) for grey, (frames, H, W) for a grey cine.
    mask : numpy.ndarray
        bool, (H, W) or, for a cine, (frames, H, W): True on the target.
    description : str
        What is drawn, in a sentence.
    """

    name: str
    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    description: str

    @property
    def click(self) -> tuple[int, int]:
        """(row, column) of the most interior target pixel, in frame 0 of a cine.

        Raises
        ------
        ValueError
            If the mask is empty.
        """
        # A border of background, so that a target cut by the edge is not 'deep' there
        padded = np.pad(self._first_mask(), 1)
        depth = np.asarray(ndimage.distance_transform_edt(padded))[1:-1, 1:-1]
        row, col = np.unravel_index(int(np.argmax(depth)), depth.shape)
        return int(row), int(col)

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Half-open (row0, col0, row1, col1) around the target, in frame 0 of a cine.

        Raises
        ------
        ValueError
            If the mask is empty.
        """
        rows, cols = np.nonzero(self._first_mask())
        return (
            int(rows.min()),
            int(cols.min()),
            int(rows.max()) + 1,
            int(cols.max()) + 1,
        )

    def _first_mask(self) -> NDArray[np.bool_]:
        mask = self.mask[0] if self.mask.ndim == 3 else self.mask
        if not mask.any():
            raise ValueError(f'The mask of the phantom {self.name!r} is empty.')
        return mask
