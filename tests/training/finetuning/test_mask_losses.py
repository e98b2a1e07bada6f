"""Losses on masks, their outlines and the choice among candidates; not forgetting."""

from __future__ import annotations

import pytest
import torch

from napari_kdsam.model.network import PromptableModel
from napari_kdsam.training.data.store import Squares
from napari_kdsam.training.finetuning.anchor import Anchor
from napari_kdsam.training.finetuning.losses import (
    band_of,
    outline_loss,
    ranking_loss,
)
from napari_kdsam.training.finetuning.mask_targets import mask_targets
from napari_kdsam.training.finetuning.simulated_prompts import (
    simulated_boxes,
    simulated_corrections,
    simulated_first_clicks,
)
from napari_kdsam.training.randomness import Draws
from napari_kdsam.training.squares import mirror_squares
from napari_kdsam.training.teachers.memory import VIEWS
from napari_kdsam.training.teachers.teacher import Teacher
from napari_kdsam.training.teachers.views import apply_view


def square_mask() -> torch.Tensor:
    mask = torch.zeros(1, 1, 32, 32)
    mask[..., 8:24, 8:24] = 1
    return mask


def test_the_band_follows_the_outline_on_both_sides_and_stays_on_the_image() -> None:
    inside = torch.ones(1, 1, 32, 32)
    inside[..., 20:] = 0
    band = band_of(square_mask(), inside)[0, 0]
    assert band[8, 12] == band[7, 12] == band[6, 12] == band[9, 12] == 1
    assert band[5, 12] == band[10, 12] == band[16, 16] == band[0, 0] == 0
    assert not band[:, 20:].any()


def test_an_outline_a_cell_off_costs_more_than_a_hole_far_from_it() -> None:
    mask, inside = square_mask(), torch.ones(1, 1, 32, 32)
    band = band_of(mask, inside)
    right = (mask - 0.5) * 20
    shifted = right.roll(1, 3)
    holed = right.clone()
    holed[..., 14:18, 14:18] = -10
    losses = [
        float(outline_loss(logits, mask, band)) for logits in (right, holed, shifted)
    ]
    assert losses[0] == pytest.approx(losses[1])
    assert losses[2] > losses[0] + 0.5


def test_a_mask_without_outline_costs_nothing() -> None:
    mask = torch.ones(1, 1, 32, 32)
    band = band_of(mask, mask)
    assert outline_loss(-10 * mask, mask, band).item() == 0


def test_ranking_asks_for_the_order_of_the_true_overlaps() -> None:
    overlaps = torch.tensor([[0.9, 0.5, 0.1]])
    right = ranking_loss(overlaps, overlaps)
    swapped = ranking_loss(overlaps.flip(1), overlaps)
    assert right.item() == pytest.approx(0, abs=1e-6)
    assert swapped > 1
    # Scores may all be too high: that is the other loss's business.
    assert ranking_loss(overlaps + 0.3, overlaps).item() == pytest.approx(0, abs=1e-5)


def test_prompts_targets_and_losses_ask_nothing_back_from_the_device() -> None:
    # Tensors of the meta device have no values: reading one raises.
    meta = torch.device('meta')
    squares = Squares(
        ['a', 'b'],
        ['other', 'other'],
        torch.empty(2, 3, 512, 512, device=meta),
        torch.empty(2, 1, 512, 512, device=meta),
        torch.empty(2, 2, dtype=torch.int64, device=meta),
        Draws.of_names(0, 0, ['a', 'b'], meta),
        [0, 1],
    )
    targets = mask_targets(squares)
    draws = squares.draws
    simulated_boxes(targets.extents, targets.sizes, draws, 0.1)
    simulated_first_clicks(targets.truth, draws)
    simulated_corrections(targets.truth, targets.truth, draws, 0)
    logits = torch.empty(2, 3, 256, 256, device=meta)
    band = band_of(targets.soft, targets.inside)
    outline_loss(logits, targets.soft, band)
    scores = torch.empty(2, 3, device=meta)
    targets.mean(ranking_loss(scores, scores))
    mirror_squares(squares.pixels, squares.sizes, torch.tensor([False, True]))
    with pytest.raises((RuntimeError, NotImplementedError)):
        targets.there.sum().item()


def test_a_mirrored_square_is_the_mirrored_image_in_it() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(1, 255, (2, 4, 5, 7), generator=generator)
    squares = torch.zeros(2, 4, 8, 8, dtype=torch.int64)
    squares[..., :5, :7] = images
    sizes = torch.tensor([[5, 7]] * 2)
    found = mirror_squares(squares, sizes, torch.tensor([False, True]))
    for number, view in enumerate(VIEWS):
        expected = apply_view(images[number].permute(1, 2, 0).numpy(), view)
        image = found[number, :, :5, :7]
        assert (image.permute(1, 2, 0).numpy() == expected).all(), view
        assert found[number].count_nonzero() == squares[number].count_nonzero()


class Frozen(Teacher):
    """A teacher whose embedding of anything is the given one."""

    def __init__(self, model: PromptableModel, embedding: torch.Tensor) -> None:
        super().__init__(model, 'frozen', 'frozen-1')
        self.embedding = embedding

    def embed_squares(self, pixels: torch.Tensor, sizes: torch.Tensor) -> torch.Tensor:
        return self.embedding[: len(pixels)]


def test_who_answers_as_the_anchor_does_pays_least_and_learns_from_it_otherwise(
    untrained: PromptableModel,
) -> None:
    torch.manual_seed(0)
    wanted = 0.1 * torch.randn(2, 256, 64, 64)
    squares = Squares(
        ['a', 'b'],
        ['other', 'other'],
        torch.rand(2, 3, 512, 512) * 255,
        torch.ones(2, 1, 512, 512),
        torch.tensor([[512, 400], [512, 512]]),
        Draws.of_names(0, 0, ['a', 'b']),
        [0, 1],
    )
    anchor = Anchor(Frozen(untrained, wanted), share=0.5)
    same = anchor.loss(untrained, squares, wanted)
    other = (wanted + 0.05).requires_grad_(True)
    changed = anchor.loss(untrained, squares, other)
    assert changed > same
    changed.backward()
    assert other.grad is not None
    assert other.grad[0].abs().sum() > 0
    # Half of the batch is compared, the other image is left alone.
    assert other.grad[1].abs().sum() == 0
