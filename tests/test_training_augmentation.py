"""Augmentation moves image and mask together and leaves the padding alone."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_kdsam.model.torchvision_guard import import_segment_anything

import_segment_anything()

from napari_kdsam.training.augmentation import Augmentation, geometry  # noqa: E402
from napari_kdsam.training.augmentation.appearance import (  # noqa: E402
    CHANGES,
    vary_appearance,
)

SIDE = 64
MODALITIES = sorted(CHANGES)


def square(height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A smooth picture with a disc, and the disc's mask."""
    rows = torch.arange(SIDE)[:, None].float()
    columns = torch.arange(SIDE)[None, :].float()
    disc = (rows - height / 2) ** 2 + (columns - width / 2) ** 2
    inside = ((rows < height) & (columns < width)).float()
    mask = (disc < (min(height, width) / 4) ** 2).float() * inside
    pixels = (40 + 180 * mask) * inside
    return pixels.expand(1, 3, -1, -1).clone(), mask[None, None]


sizes = st.tuples(st.integers(20, SIDE), st.just(SIDE)) | st.tuples(
    st.just(SIDE), st.integers(20, SIDE)
)


@given(size=sizes)
def test_the_whole_window_changes_nothing(size: tuple[int, int]) -> None:
    pixels, mask = square(*size)
    out, out_mask, out_size = geometry.apply_windows(
        pixels, mask, [geometry.whole(size)]
    )
    assert tuple(out_size[0].tolist()) == size
    assert torch.allclose(out, pixels, atol=1e-2)
    assert torch.allclose(out_mask, mask, atol=1e-4)


@given(size=sizes, rows=st.booleans(), columns=st.booleans())
def test_flips_are_exact(size: tuple[int, int], rows: bool, columns: bool) -> None:
    height, width = size
    pixels = torch.zeros(1, 3, SIDE, SIDE)
    pixels[..., :height, :width] = torch.rand(3, height, width) * 255
    plain = geometry.whole(size)
    window = geometry.Window(plain.centre, plain.extent, 0.0, rows, columns)
    out, _, _ = geometry.apply_windows(pixels, pixels[:, :1] / 255, [window])
    axes = [axis for axis, chosen in ((2, rows), (3, columns)) if chosen]
    expected = pixels[..., :height, :width].flip(axes)
    assert torch.allclose(out[..., :height, :width], expected, atol=0.05)


@settings(deadline=None)
@given(size=sizes, seed=st.integers(0, 999), modality=st.sampled_from(MODALITIES))
def test_the_mask_moves_with_the_image_and_stays_in_view(
    size: tuple[int, int], seed: int, modality: str
) -> None:
    torch.manual_seed(seed)
    pixels, mask = square(*size)
    out, out_mask, out_size = geometry.vary_geometry(
        pixels, mask, torch.tensor([size]), [modality], 1.0
    )
    height, width = out_size[0].tolist()
    assert max(height, width) == SIDE
    assert out[..., height:, :].abs().sum() == 0
    assert out[..., :, width:].abs().sum() == 0
    assert out_mask.sum() >= 30
    # The disc is the only bright thing, so it and its mask must still agree.
    sure = (out_mask > 0.99) | (out_mask < 0.01)
    bright = out[:, :1] > 130
    assert torch.equal(bright[sure], (out_mask > 0.5)[sure])


@pytest.mark.parametrize('modality', MODALITIES)
@pytest.mark.parametrize('number', range(16))
def test_every_change_keeps_range_shape_and_padding(modality: str, number: int) -> None:
    torch.manual_seed(number)
    pixels, _ = square(40, SIDE)
    for _, change in CHANGES[modality][number : number + 1]:
        part = change(pixels[..., :40, :] / 255)
        assert part.shape == (1, 3, 40, SIDE)
        assert torch.isfinite(part).all()
    out = vary_appearance(pixels, torch.tensor([[40, SIDE]]), [modality], 3.0)
    assert out[..., 40:, :].abs().sum() == 0
    assert out.min() >= 0 and out.max() <= 255
    assert not torch.equal(out, pixels)


def test_ultrasound_stays_grey() -> None:
    pixels, _ = square(SIDE, SIDE)
    for seed in range(20):
        torch.manual_seed(seed)
        out = vary_appearance(pixels, torch.tensor([[SIDE, SIDE]]), ['ultrasound'], 3.0)
        # JPEG converts to luminance and back, which rounds.
        assert (out[:, 0] - out[:, 2]).abs().max() < 3


def test_the_same_seed_gives_the_same_augmentation() -> None:
    pixels, mask = square(40, SIDE)
    results = []
    for _ in range(2):
        torch.manual_seed(5)
        module = Augmentation()
        results.append(module(pixels, mask, torch.tensor([[40, SIDE]]), ['endoscopy']))
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)
