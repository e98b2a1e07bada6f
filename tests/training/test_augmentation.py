"""Augmentation moves image and masks together and leaves the padding alone."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_kdsam.model.torchvision_guard import import_segment_anything

import_segment_anything()

from napari_kdsam.training.augmentation import Augmentation, geometry  # noqa: E402
from napari_kdsam.training.augmentation.appearance import (  # noqa: E402
    CHANGES,
    Change,
    vary_appearance,
)
from napari_kdsam.training.data.catalogue import MODALITIES  # noqa: E402
from napari_kdsam.training.randomness import Draws  # noqa: E402

SIDE = 64
Size = tuple[int, int]


def disc(
    size: Size,
    radius: float | None = None,
    centre: Size | None = None,
    side: int = SIDE,
) -> tuple[torch.Tensor, torch.Tensor]:
    """A picture with a bright disc, and the disc's mask."""
    height, width = size
    rows = torch.arange(side)[:, None].float()
    columns = torch.arange(side)[None, :].float()
    row, column = centre or (height // 2, width // 2)
    away = (rows - row) ** 2 + (columns - column) ** 2
    inside = ((rows < height) & (columns < width)).float()
    mask = (away < (radius or min(size) / 4) ** 2).float() * inside
    pixels = (40 + 180 * mask) * inside
    return pixels.expand(1, 3, -1, -1).clone(), mask[None, None]


def draws(names: Sequence[str] = ('one',), seed: int = 0, step: int = 0) -> Draws:
    return Draws.of_names(seed, step, names)


def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, list[str], list[str]]:
    """Pixels, masks, sizes, modalities and names of eight images, with some texture."""
    sizes = [(40, SIDE), (SIDE, 50), (SIDE, SIDE), (33, SIDE)] * 2
    pairs = [disc(size, radius=6 + k) for k, size in enumerate(sizes)]
    pixels = torch.cat([pixels for pixels, _ in pairs])
    masks = torch.cat([mask for _, mask in pairs])
    generator = torch.Generator().manual_seed(0)
    texture = torch.rand(pixels.shape, generator=generator) * 30
    names = [f'image {k}' for k in range(len(sizes))]
    chosen = [MODALITIES[k % len(MODALITIES)] for k in range(len(sizes))]
    return pixels + texture * (pixels > 0), masks, torch.tensor(sizes), chosen, names


sizes = st.tuples(st.integers(20, SIDE), st.just(SIDE)) | st.tuples(
    st.just(SIDE), st.integers(20, SIDE)
)


@settings(deadline=None)
@given(size=sizes)
def test_the_whole_window_changes_nothing(size: Size) -> None:
    pixels, mask = disc(size)
    out, out_mask, out_size = geometry.apply_windows(
        pixels, mask, geometry.whole(torch.tensor([size]))
    )
    assert tuple(out_size[0].tolist()) == size
    assert torch.allclose(out, pixels, atol=1e-2)
    assert torch.allclose(out_mask, mask, atol=1e-4)


@settings(deadline=None)
@given(size=sizes, rows=st.booleans(), columns=st.booleans())
def test_flips_are_exact(size: Size, rows: bool, columns: bool) -> None:
    height, width = size
    pixels = torch.zeros(1, 3, SIDE, SIDE)
    pixels[..., :height, :width] = torch.rand(3, height, width) * 255
    windows = geometry.whole(torch.tensor([size]))._replace(
        flips=torch.tensor([[rows, columns]])
    )
    out, _, _ = geometry.apply_windows(pixels, pixels[:, :1] / 255, windows)
    axes = [axis for axis, chosen in ((2, rows), (3, columns)) if chosen]
    expected = pixels[..., :height, :width].flip(axes)
    assert torch.allclose(out[..., :height, :width], expected, atol=0.05)


@settings(deadline=None)
@given(size=sizes)
def test_a_quarter_turn_keeps_the_whole_image(size: Size) -> None:
    height, width = size
    pixels = torch.zeros(1, 3, SIDE, SIDE)
    pixels[..., :height, :width] = torch.rand(3, height, width) * 255
    plain = geometry.whole(torch.tensor([size]))
    windows = plain._replace(
        extent=plain.extent.flip(1), angle=torch.full_like(plain.angle, 90)
    )
    out, _, out_size = geometry.apply_windows(pixels, pixels[:, :1] / 255, windows)
    assert tuple(out_size[0].tolist()) == (width, height)
    expected = pixels[..., :height, :width].rot90(1, (2, 3))
    assert torch.allclose(out[..., :width, :height], expected, atol=0.1)


@settings(deadline=None)
@given(
    size=sizes, seed=st.integers(0, 999), modality=st.sampled_from(sorted(MODALITIES))
)
def test_the_mask_moves_with_the_image_and_stays_in_view(
    size: Size, seed: int, modality: str
) -> None:
    pixels, mask = disc(size)
    out, out_mask, out_size = geometry.vary_geometry(
        pixels, mask, torch.tensor([size]), [modality], 1.0, draws(seed=seed)
    )
    height, width = out_size[0].tolist()
    assert max(height, width) == SIDE
    assert out[..., height:, :].abs().sum() == 0
    assert out[..., :, width:].abs().sum() == 0
    # Counted before the image is resampled, which blurs its rim.
    assert out_mask.sum() >= 0.9 * 30
    # The disc is the only bright thing, so it and its mask must still agree.
    sure = (out_mask > 0.99) | (out_mask < 0.01)
    bright = out[:, :1] > 130
    assert torch.equal(bright[sure], (out_mask > 0.5)[sure])


def test_all_objects_of_an_image_move_together_and_an_empty_one_stays_empty() -> None:
    pixels, masks, sizes, modalities, names = batch()
    several = torch.cat([masks, pixels[:, :1] / 255, torch.zeros_like(masks)], dim=1)
    out, out_masks, _ = geometry.vary_geometry(
        pixels, several, sizes, modalities, 1.0, draws(names)
    )
    assert out_masks.shape == several.shape
    assert torch.allclose(out_masks[:, 1], out[:, 0] / 255, atol=1e-5)
    assert out_masks[:, 2].abs().sum() == 0
    alone = geometry.vary_geometry(pixels, masks, sizes, modalities, 1.0, draws(names))
    assert torch.allclose(out_masks[:, :1], alone[1])


def test_an_image_without_an_object_stays_whole() -> None:
    pixels, _, sizes, modalities, names = batch()
    empty = torch.zeros_like(pixels[:, :1])
    out, out_masks, out_sizes = geometry.vary_geometry(
        pixels, empty, sizes, modalities, 1.0, draws(names)
    )
    assert torch.equal(out_sizes, sizes)
    assert torch.allclose(out, pixels, atol=1e-2)
    assert out_masks.abs().sum() == 0


def moved_areas(radius: float, size: Size, side: int, count: int) -> torch.Tensor:
    """Areas of a disc after many draws, relative to its area before, by kind."""
    pixels, mask = disc(size, radius, side=side)
    names = [str(k) for k in range(count)]
    own = draws(names)
    plan = geometry.draw_plan(['ultrasound'] * count, 1.0, own)
    _, moved, _ = geometry.vary_geometry(
        pixels.expand(count, -1, -1, -1),
        mask.expand(count, -1, -1, -1),
        torch.tensor([size]).expand(count, -1),
        ['ultrasound'] * count,
        1.0,
        own,
    )
    return torch.stack([plan.close, plan.zoom, moved.sum((1, 2, 3)) / mask.sum()])


def test_close_ups_make_a_small_object_larger_and_zoom_outs_make_it_smaller() -> None:
    close, zoom, area = moved_areas(radius=9, size=(96, 128), side=128, count=120)
    closer = close > 0
    out = (close == 0) & (zoom > 1.2)
    assert 0.15 < closer.float().mean() < 0.45
    assert 0.05 < out.float().mean() < 0.3
    assert (area[closer] > 1).all()
    assert area[closer].median() > 3
    # No window is smaller than a quarter of the image.
    assert (area[closer] < 16 * 1.1).all()
    assert (area[out] < 0.95).all()
    assert area[out].min() < 0.4


def test_a_zoom_out_does_not_lose_an_object_below_thirty_pixels() -> None:
    _, zoom, area = moved_areas(radius=3.3, size=(SIDE, SIDE), side=SIDE, count=120)
    pixels = 37
    assert ((zoom > 1.6) & (area > 0.99)).any()
    assert (area * pixels >= 0.9 * 30).all()


def test_a_fine_pattern_is_averaged_when_it_is_shrunk_much() -> None:
    line = torch.arange(SIDE)
    stripes = ((line % 2) * 255.0).expand(1, 3, SIDE, SIDE).contiguous()
    plain = geometry.whole(torch.tensor([[SIDE, SIDE]]))
    windows = plain._replace(extent=plain.extent * 2.5)
    mask = torch.ones(1, 1, SIDE, SIDE)
    out, out_mask, _ = geometry.apply_windows(stripes, mask, windows, torch.tensor([0]))
    within = (out_mask > 0.99).expand_as(out)
    assert within.any()
    assert (out[within] - 127.5).abs().max() < 1


@pytest.mark.parametrize('change', CHANGES, ids=lambda c: c.apply.__name__)
@pytest.mark.parametrize('size', [(40, SIDE), (SIDE, 23), (SIDE, SIDE)])
def test_every_change_keeps_shape_and_depends_on_the_image_alone(
    change: Change, size: Size
) -> None:
    height, width = size
    pixels, _ = disc(size)
    images = pixels.expand(3, -1, -1, -1) / 255
    own = draws(['a', 'b', 'c'])
    lengths = torch.tensor([size] * 3)
    out = change.apply(images.clone(), lengths, own)
    assert out.shape == images.shape
    part = out[..., :height, :width]
    assert torch.isfinite(part).all()
    assert not torch.equal(part, images[..., :height, :width])
    assert not torch.equal(part[0], part[1])
    # Other companions, and anything on the padding, change nothing.
    soiled = images[1:].clone()
    soiled[..., height:, :] = 0.9
    soiled[..., :, width:] = 0.9
    fewer = change.apply(soiled, lengths[1:], own.of([1, 2]))
    assert torch.allclose(fewer[..., :height, :width], part[1:], atol=1e-5)


@pytest.mark.parametrize('modality', MODALITIES)
def test_appearance_keeps_range_and_padding(modality: str) -> None:
    pixels, _ = disc((40, SIDE))
    names = [str(k) for k in range(16)]
    out = vary_appearance(
        pixels.expand(16, -1, -1, -1),
        torch.tensor([[40, SIDE]] * 16),
        [modality] * 16,
        3.0,
        draws(names),
    )
    assert out.shape == (16, 3, SIDE, SIDE)
    assert out[..., 40:, :].abs().sum() == 0
    assert out.min() >= 0 and out.max() <= 255
    assert all(not torch.equal(one, pixels[0]) for one in out)


def test_ultrasound_stays_grey() -> None:
    pixels, _ = disc((SIDE, SIDE))
    names = [str(k) for k in range(20)]
    out = vary_appearance(
        pixels.expand(20, -1, -1, -1),
        torch.tensor([[SIDE, SIDE]] * 20),
        ['ultrasound'] * 20,
        3.0,
        draws(names),
    )
    # JPEG converts to luminance and back, which rounds.
    assert (out[:, 0] - out[:, 2]).abs().max() < 3


def test_photographs_of_other_things_are_never_upside_down_or_coloured() -> None:
    plan = geometry.draw_plan(['other'] * 200, 1.0, draws([str(k) for k in range(200)]))
    assert plan.flip_rows.sum() == 0
    assert 0.3 < plan.flip_columns.mean() < 0.7
    assert plan.angle.abs().max() <= 10
    special = [c.apply.__name__ for c in CHANGES if 'other' not in c.chances]
    assert 'colour_cast' in special and 'speckle' in special


def test_no_image_depends_on_the_others_of_its_batch() -> None:
    pixels, masks, lengths, modalities, names = batch()
    module = Augmentation(strength=1.5)
    for step in range(4):
        together = module(pixels, masks, lengths, modalities, draws(names, step=step))
        for k in (6, 1):
            alone = module(
                pixels[k : k + 1],
                masks[k : k + 1],
                lengths[k : k + 1],
                modalities[k : k + 1],
                draws(names[k : k + 1], step=step),
            )
            for one, all_of_them in zip(alone, together, strict=True):
                difference = one - all_of_them[k : k + 1]
                assert difference.abs().max() < 1e-2


def test_seed_and_step_decide_and_inputs_are_left_alone() -> None:
    pixels, masks, lengths, modalities, names = batch()
    before = pixels.clone(), masks.clone(), lengths.clone()
    module = Augmentation()
    results = [
        module(pixels, masks, lengths, modalities, draws(names, seed, step))
        for seed, step in ((5, 0), (5, 0), (5, 1), (6, 0))
    ]
    for one, other in zip(results[0], results[1], strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(results[0][0], results[2][0])
    assert not torch.equal(results[0][0], results[3][0])
    for one, other in zip(before, (pixels, masks, lengths), strict=True):
        assert torch.equal(one, other)


def test_both_parts_can_be_left_out() -> None:
    pixels, masks, lengths, modalities, names = batch()
    out = Augmentation(geometry=False, appearance=False)(
        pixels, masks, lengths, modalities, draws(names)
    )
    assert torch.equal(out[0], pixels)
    still = Augmentation(geometry=False)(
        pixels, masks, lengths, modalities, draws(names)
    )
    assert torch.equal(still[1], masks) and torch.equal(still[2], lengths)


def test_the_host_never_waits_for_the_device() -> None:
    pixels, masks, lengths, modalities, names = batch()
    # Tensors without data: whoever asks for a number or a place of one gets an error.
    nowhere = torch.device('meta')
    with pytest.raises((RuntimeError, NotImplementedError)):
        lengths.to(nowhere).max().item()
    for step in range(4):
        out = Augmentation(strength=2.0)(
            pixels.to(nowhere),
            masks.to(nowhere),
            lengths.to(nowhere),
            modalities,
            Draws.of_names(0, step, names, nowhere),
        )
        assert [one.shape for one in out] == [pixels.shape, masks.shape, lengths.shape]
