"""What the proposal head is to show: boxes of all objects, as maps of centres."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from napari_kdsam.core.geometry import Mask
from napari_kdsam.model.proposal_head import HEATMAP_SIZE
from napari_kdsam.training.data.catalogue import object_name
from napari_kdsam.training.data.drawn import DATA_SET as DRAWN
from napari_kdsam.training.data.samples import Sample
from napari_kdsam.training.data.store import ImageStore

PixelBox = tuple[int, int, int, int]
UNNAMED = -1
# A box with this IoU or more has found its object.
FOUND = 0.5
# Smaller parts of a mask are specks of the drawing, not objects of their own.
_LEAST_OF_LARGEST = 0.1
# Peaks of the heatmap that are nearer than this many cells are one.
_APART = 2
# Width of a centre's Gaussian as a share of the box, as in "Objects as Points".
_WIDTH = 1 / 6
# Far less than two cells of a Gaussian differ by.
_TIE = 1e-6


def object_boxes(mask: Mask) -> list[PixelBox]:
    """Boxes of the objects in a mask, the largest first.

    Parameters
    ----------
    mask : numpy.ndarray
        (H, W) bool.

    Returns
    -------
    list of tuple of int
        Half-open (row0, col0, row1, col1) of each connected part that has at least a
        tenth of the pixels of the largest.
    """
    from skimage.measure import label, regionprops

    parts = sorted(regionprops(label(mask)), key=lambda part: -part.area)
    large = [p for p in parts if p.area >= _LEAST_OF_LARGEST * parts[0].area]
    return [
        (int(r0), int(c0), int(r1), int(c1))
        for r0, c0, r1, c1 in (p.bbox for p in large)
    ]


def box_overlap(first: Sequence[float], second: Sequence[float]) -> float:
    """IoU of two boxes (row0, col0, row1, col1)."""
    height = min(first[2], second[2]) - max(first[0], second[0])
    width = min(first[3], second[3]) - max(first[1], second[1])
    shared = max(0.0, height) * max(0.0, width)
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (first, second)]
    return shared / (sum(areas) - shared)


def class_name(sample: Sample, number: int) -> str:
    """What an object of a sample is called; empty for drawn pictures."""
    if sample.data_set == DRAWN:
        return ''
    return object_name(sample.data_set, number)


@dataclass(frozen=True, eq=False)
class ObjectBoxes:
    """Boxes of the objects of N images, at most K of each.

    Attributes
    ----------
    boxes : torch.Tensor
        (N, K, 4) float32 (row0, col0, row1, col1) as shares of the square's side.
    numbers : torch.Tensor
        (N, K) int64 class number in the image's mask, 0 where there is no box.
    kinds : torch.Tensor
        (N, K) int64 place in `classes`, `UNNAMED` for objects that have no name.
    classes : tuple of str
        Names; equal ones of different data sets are one class.
    """

    boxes: torch.Tensor
    numbers: torch.Tensor
    kinds: torch.Tensor
    classes: tuple[str, ...]

    @classmethod
    def of_store(
        cls, store: ImageStore, classes: Sequence[str] | None = None
    ) -> ObjectBoxes:
        """Find the boxes of a store that has not left the CPU.

        Of objects whose centres the heatmap cannot tell apart, the one with the lowest
        class number, or else the largest, stands for all.

        Parameters
        ----------
        store : ImageStore
            Its connected parts are objects, those of each class number by themselves.
        classes : sequence of str, optional
            Names; by default those of the objects that were found.
        """
        found = [_boxes_in(store, place) for place in range(len(store))]
        names = [
            [class_name(sample, number) for number, _ in own]
            for sample, own in zip(store.samples, found, strict=True)
        ]
        if classes is None:
            classes = sorted({name for own in names for name in own if name})
        most = max((len(own) for own in found), default=0)
        boxes = np.zeros((len(found), most, 4), np.float32)
        numbers = np.zeros((len(found), most), np.int64)
        kinds = np.full((len(found), most), UNNAMED, np.int64)
        places = {name: place for place, name in enumerate(classes)}
        for row, own in enumerate(found):
            for column, (number, box) in enumerate(own):
                boxes[row, column] = np.array(box) / store.input_size
                numbers[row, column] = number
                kinds[row, column] = places.get(names[row][column], UNNAMED)
        return cls(
            torch.from_numpy(boxes),
            torch.from_numpy(numbers),
            torch.from_numpy(kinds),
            tuple(classes),
        )

    def to(self, device: torch.device) -> ObjectBoxes:
        """The same on a device."""
        return ObjectBoxes(
            self.boxes.to(device),
            self.numbers.to(device),
            self.kinds.to(device),
            self.classes,
        )


def _boxes_in(store: ImageStore, place: int) -> list[tuple[int, PixelBox]]:
    rows, columns = store.sizes[place].tolist()
    objects, cover = (
        tensor[place, :rows, :columns].numpy()
        for tensor in (store.objects, store.cover)
    )
    found: list[tuple[int, PixelBox]] = []
    for number in store.numbers[place]:
        own = objects == number
        solid = own & (cover > 127)
        for box in object_boxes(solid if solid.any() else own):
            if all(_apart(box, other, store.input_size) for _, other in found):
                found.append((number, box))
    return found


def _apart(first: PixelBox, second: PixelBox, side: int) -> bool:
    offsets = [abs(first[k] + first[k + 2] - second[k] - second[k + 2]) for k in (0, 1)]
    return max(offsets) / 2 * HEATMAP_SIZE >= _APART * side


def mirror_boxes(boxes: torch.Tensor, widths: torch.Tensor) -> torch.Tensor:
    """Boxes in the images mirrored left and right.

    Parameters
    ----------
    boxes : torch.Tensor
        (B, K, 4) shares of the square's side.
    widths : torch.Tensor
        (B,) of the image parts, shares of the side.
    """
    row0, col0, row1, col1 = boxes.unbind(-1)
    return torch.stack(
        [row0, widths[:, None] - col1, row1, widths[:, None] - col0], dim=-1
    )


@dataclass(frozen=True, eq=False)
class CentreMaps:
    """What the head's maps should show.

    Attributes
    ----------
    heatmap : torch.Tensor
        (B, S, S) float: 1 in the cell of each box's centre, falling off as a Gaussian
        as wide as the box.
    boxes : torch.Tensor
        (B, 4, S, S) float: in each cell the box whose Gaussian is highest there.
    kinds : torch.Tensor
        (B, S, S) int64: that box's class.
    """

    heatmap: torch.Tensor
    boxes: torch.Tensor
    kinds: torch.Tensor


def centre_maps(
    boxes: torch.Tensor,
    kinds: torch.Tensor,
    present: torch.Tensor,
    side: int = HEATMAP_SIZE,
) -> CentreMaps:
    """Draw what the maps should show.

    Parameters
    ----------
    boxes : torch.Tensor
        (B, K, 4) float (row0, col0, row1, col1) as shares of the square, K at least 1.
    kinds : torch.Tensor
        (B, K) int64.
    present : torch.Tensor
        (B, K) bool, which of them count.
    side : int
        S, cells along a side of the heatmap.
    """
    line = torch.arange(side, device=boxes.device, dtype=torch.float32)
    low, high = boxes[..., :2], boxes[..., 2:]
    cells = ((low + high) / 2 * side).floor().clamp(0, side - 1)
    widths = ((high - low) * side * _WIDTH).clamp(min=0.5)
    # (B, K, 2, S): along rows and along columns.
    bells = torch.exp(-((line - cells[..., None]) ** 2) / (2 * widths[..., None] ** 2))
    each = bells[:, :, 0, :, None] * bells[:, :, 1, None, :] * present[..., None, None]
    order = torch.arange(boxes.shape[1], device=boxes.device)[:, None, None]
    owner = (each - _TIE * order).argmax(1)
    batch = torch.arange(len(boxes), device=boxes.device)[:, None, None]
    return CentreMaps(
        each.amax(1), boxes[batch, owner].movedim(-1, 1), kinds[batch, owner]
    )
