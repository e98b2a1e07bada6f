"""Simulated prompts of a whole batch: what an annotator would give.

Everything stays on the device of the masks, and no number is asked back from it.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from napari_kdsam.core.sizes import LOGITS_SIZE, PROMPT_SIDE
from napari_kdsam.training.finetuning.distance import depth_of
from napari_kdsam.training.randomness import Draws

STEP = PROMPT_SIDE // LOGITS_SIZE
_MOST_CLICKS = 8
_LOOSE_SHARE = 0.08
# Few corrections are the common case; long sequences cost decoder calls.
_CLICK_WEIGHTS = (0.4, 0.2, 0.12, 0.1, 0.06, 0.05, 0.04, 0.03)
# People click somewhere on what they mean, not at its middle.
_ANYWHERE_SHARE = 0.5
# Depth is measured on cells of 2 x 2 pixels: eight times as fast, and exact enough.
_CELL = 2
_OFFSETS = [(down, right) for down in range(_CELL) for right in range(_CELL)]
# A first click is at least about two pixels inside, where there is room.
_LEAST_DEPTH = 1.5


def number_of_clicks(generator: np.random.Generator) -> int:
    """Draw how many corrective clicks a step simulates, 1 to 8."""
    return int(generator.choice(np.arange(1, _MOST_CLICKS + 1), p=_CLICK_WEIGHTS))


def simulated_boxes(
    extents: torch.Tensor, sizes: torch.Tensor, draws: Draws, jitter: float
) -> torch.Tensor:
    """Boxes around objects, each side moved by up to `jitter` of the box's extent.

    Parameters
    ----------
    extents : torch.Tensor
        (B, 4) float (x0, y0, x1, y1) on the 256 grid, the exact boxes.
    sizes : torch.Tensor
        (B, 2) rows and columns of the image part of the 256 grid.
    draws : Draws
        Of the B images.
    jitter : float
        0 gives the exact boxes; half of the boxes get at most a quarter of it,
        because annotators draw most boxes tight, and one in twelve has a side or a
        corner far outside, as hasty boxes and those of masks with specks have.

    Returns
    -------
    torch.Tensor
        (B, 4) float32 (x0, y0, x1, y1) in the 1024 frame.
    """
    extent = (extents[:, 2:] - extents[:, :2]).repeat(1, 2)
    # Columns: how careful, whether loose, which row side, which column side, how many.
    chance = draws.uniform('box', 5)
    most = jitter * torch.where(chance[:, :1] < 0.5, 0.25, 1.0)
    moved = extents + draws.uniform('box sides', 4, low=-1, high=1) * most * extent
    if jitter > 0:
        far = draws.uniform('box loose', 4, low=0.2, high=1.5) * extent
        far = torch.cat([-far[:, :2], far[:, 2:]], dim=1)
        right, bottom = chance[:, 2] < 0.5, chance[:, 3] < 0.5
        sides = torch.stack([~right, ~bottom, right, bottom], dim=1)
        # x0, y0, x1, y1: the second and the fourth side are found along the rows.
        along_rows = torch.arange(4, device=sides.device) % 2 == 1
        kind = chance[:, 4:] * 3
        chosen = sides & ((kind >= 2) | ((kind >= 1) == along_rows))
        loose = chance[:, 1:2] < _LOOSE_SHARE
        moved = torch.where(loose & chosen, moved + far, moved)
    limit = sizes.flip(-1).repeat(1, 2).to(moved.dtype)
    moved = torch.minimum(moved.clamp_min(0), limit)
    small = (moved[:, 2:] - moved[:, :2] < 1).repeat(1, 2)
    return torch.where(small, extents, moved).float() * STEP


def simulated_first_clicks(truth: torch.Tensor, draws: Draws) -> torch.Tensor:
    """One click inside each mask: half at its middle, half anywhere well inside.

    Parameters
    ----------
    truth : torch.Tensor
        (B, 256, 256) bool; of an empty one the click means nothing.
    draws : Draws
        Of the B images.

    Returns
    -------
    torch.Tensor
        (B, 2) float32 (x, y) in the 1024 frame.
    """
    field = _DepthField(truth)
    chance = draws.uniform('first click', 1)
    return field.somewhere(_LEAST_DEPTH, chance, draws, 'first click')


def central_clicks(truth: torch.Tensor) -> torch.Tensor:
    """(B, 2) float32 (x, y): the most interior place of each (256, 256) mask."""
    return _DepthField(truth).deepest()


def inner_clicks(truth: torch.Tensor, draws: Draws) -> torch.Tensor:
    """(B, 2) float32 (x, y): any place in the inner part of each (256, 256) mask."""
    field = _DepthField(truth)
    return field.anywhere(0.25 * field.most[:, None, None], draws, 'inner click')


def simulated_corrections(
    found: torch.Tensor, truth: torch.Tensor, draws: Draws, number: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """One click on the largest error of each prediction.

    Parameters
    ----------
    found, truth : torch.Tensor
        (B, 256, 256) bool.
    draws : Draws
        Of the B images; half of the clicks land anywhere in the error's inner part.
    number : int
        Which correction of the step it is.

    Returns
    -------
    points : torch.Tensor
        (B, 2) float32 (x, y) in the 1024 frame.
    labels : torch.Tensor
        (B,) float32, 1 where the object was missed and 0 where too much was found.
    """
    purpose = f'correction {number}'
    missed, extra = truth & ~found, found & ~truth
    right = ~(missed | extra).any(-1).any(-1)
    # Where nothing is wrong a careful annotator may still confirm the object.
    missed = missed | (truth & right[:, None, None])
    inner, outer = _DepthField(missed), _DepthField(extra)
    inside = inner.most >= outer.most
    chance = draws.uniform(purpose, 1)
    right_place, wrong_place = (
        field.somewhere(field.most[:, None, None] / 2, chance, draws, purpose)
        for field in (inner, outer)
    )
    return torch.where(inside[:, None], right_place, wrong_place), inside.float()


class _DepthField:
    """How deep inside each mask a place is, on cells of 2 x 2 pixels."""

    def __init__(self, masks: torch.Tensor) -> None:
        self.masks = masks
        share = functional.avg_pool2d(masks[:, None].float(), _CELL)[:, 0]
        whole, any_part = share >= 0.5, share > 0
        thin = ~whole.any(-1).any(-1)
        self.cells = torch.where(thin[:, None, None], any_part, whole)
        self.depth = depth_of(self.cells)
        self.most = self.depth.amax((-2, -1))

    def deepest(self) -> torch.Tensor:
        return self._point(self.depth)

    def anywhere(
        self, least: float | torch.Tensor, draws: Draws, purpose: str
    ) -> torch.Tensor:
        """A random cell of at least this depth, or of the greatest there is."""
        if not isinstance(least, torch.Tensor):
            least = torch.full_like(self.most[:, None, None], least)
        least = torch.minimum(self.most[:, None, None], least)
        allowed = self.cells & (self.depth >= least)
        chance = draws.uniform(f'{purpose} place', *self.depth.shape[-2:])
        return self._point(torch.where(allowed, chance + 1, 0.0))

    def somewhere(
        self,
        least: float | torch.Tensor,
        chance: torch.Tensor,
        draws: Draws,
        purpose: str,
    ) -> torch.Tensor:
        """The deepest place, or `anywhere`, as the (B, 1) chance decides."""
        anywhere = self.anywhere(least, draws, purpose)
        return torch.where(chance < _ANYWHERE_SHARE, anywhere, self.deepest())

    def _point(self, field: torch.Tensor) -> torch.Tensor:
        """(x, y) in the 1024 frame of a pixel of the mask in the field's highest cell."""
        side = field.shape[-1]
        best = field.flatten(1).argmax(1)
        row, column = best // side * _CELL, best % side * _CELL
        image = torch.arange(len(best), device=best.device)
        place = torch.stack([column, row], dim=1)
        # A cell need not be full: take its first pixel that is.
        for down, right in reversed(_OFFSETS):
            here = torch.stack([column + right, row + down], dim=1)
            taken = self.masks[image, row + down, column + right]
            place = torch.where(taken[:, None], here, place)
        return (place.float() + 0.5) * STEP - 0.5
