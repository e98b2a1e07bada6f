"""The drawn phantoms: reproducible, well formed, and true to their ground truth."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from scipy import ndimage

from napari_kdsam.phantoms import (
    Phantom,
    dermoscopy_phantom,
    endoscopy_phantom,
    ultrasound_phantom,
)

DRAWERS: dict[str, Callable[..., Phantom]] = {
    'dermoscopy': dermoscopy_phantom,
    'endoscopy': endoscopy_phantom,
    'ultrasound': ultrasound_phantom,
}
DEFAULT_SHAPES = {
    'dermoscopy': (450, 600),
    'endoscopy': (480, 576),
    'ultrasound': (500, 640),
}
MODALITIES = pytest.mark.parametrize('modality', DRAWERS)
SHAPES = pytest.mark.parametrize('shape', [(64, 64), (97, 151), (170, 71), (64, 240)])
SEEDS = pytest.mark.parametrize('seed', range(3))


@cache
def drawn(modality: str, seed: int = 0, shape: tuple[int, int] = (97, 151)) -> Phantom:
    return DRAWERS[modality](seed, shape)


@cache
def cine(seed: int = 0, frames: int = 8) -> Phantom:
    return ultrasound_phantom(seed, (150, 190), frames=frames)


def surround(mask: np.ndarray, image: np.ndarray) -> np.ndarray:
    """The lit pixels around `mask`, clear of its soft border."""
    grey = image if image.ndim == 2 else image.mean(axis=-1)
    near = ndimage.binary_dilation(mask, iterations=2)
    return ndimage.binary_dilation(mask, iterations=7) & ~near & (grey > 3)


def touches_the_border(mask: np.ndarray) -> bool:
    return bool(mask[[0, -1]].any() or mask[:, [0, -1]].any())


@MODALITIES
def test_the_same_seed_draws_the_same_phantom(modality: str) -> None:
    again = DRAWERS[modality](0, (97, 151))
    assert np.array_equal(drawn(modality).image, again.image)
    assert np.array_equal(drawn(modality).mask, again.mask)


@MODALITIES
def test_another_seed_draws_another_layout(modality: str) -> None:
    one, other = drawn(modality, 0).mask, drawn(modality, 1).mask
    assert (one ^ other).sum() > 0.1 * (one | other).sum()


@MODALITIES
def test_drawing_leaves_the_global_random_state_alone(modality: str) -> None:
    before = pickle.dumps(np.random.get_state())
    DRAWERS[modality](5, (64, 64))
    assert pickle.dumps(np.random.get_state()) == before


@MODALITIES
def test_the_default_shape_is_not_square_and_is_honoured(modality: str) -> None:
    phantom = DRAWERS[modality]()
    height, width = DEFAULT_SHAPES[modality]
    colours = () if modality == 'ultrasound' else (3,)
    assert phantom.image.shape == (height, width, *colours)
    assert phantom.mask.shape == (height, width)


@MODALITIES
@SHAPES
def test_any_shape_gives_eight_bit_images_and_boolean_masks(
    modality: str, shape: tuple[int, int]
) -> None:
    phantom = drawn(modality, 0, shape)
    assert phantom.image.dtype == np.uint8
    assert phantom.mask.dtype == np.bool_
    assert phantom.image.shape[:2] == phantom.mask.shape == shape


@MODALITIES
@SHAPES
def test_the_target_is_one_region_clear_of_the_image_border(
    modality: str, shape: tuple[int, int]
) -> None:
    mask = drawn(modality, 0, shape).mask
    assert ndimage.label(mask)[1] == 1
    assert not touches_the_border(mask)
    assert np.array_equal(mask, ndimage.binary_fill_holes(mask))


@MODALITIES
@SEEDS
def test_the_target_has_a_size_worth_segmenting(modality: str, seed: int) -> None:
    assert 0.008 < drawn(modality, seed).mask.mean() < 0.4


@MODALITIES
@SEEDS
def test_the_target_looks_different_from_what_surrounds_it(
    modality: str, seed: int
) -> None:
    phantom = drawn(modality, seed)
    ring = surround(phantom.mask, phantom.image)
    inside = phantom.image[phantom.mask].mean(axis=0)
    outside = phantom.image[ring].mean(axis=0)
    assert np.abs(inside - outside).max() > 12


@SEEDS
def test_the_skin_lesion_is_darker_and_browner_than_the_skin(seed: int) -> None:
    phantom = drawn('dermoscopy', seed)
    ring = surround(phantom.mask, phantom.image)
    inside = phantom.image[phantom.mask].mean(axis=0)
    outside = phantom.image[ring].mean(axis=0)
    assert np.all(inside < outside - 20)
    assert inside[0] / inside[2] > outside[0] / outside[2]


@pytest.mark.parametrize(('modality', 'blur'), [('dermoscopy', 1), ('ultrasound', 3)])
@SEEDS
def test_the_dark_region_a_threshold_finds_is_the_ground_truth(
    modality: str, blur: float, seed: int
) -> None:
    phantom = drawn(modality, seed, (200, 260))
    image, mask = phantom.image.reshape(200, 260, -1).mean(axis=-1), phantom.mask
    halfway = (image[mask].mean() + image[surround(mask, image)].mean()) / 2
    dark = ndimage.gaussian_filter(image, blur) < halfway
    dark &= ndimage.binary_dilation(mask, iterations=7)
    assert 2 * (dark & mask).sum() > 0.9 * (dark.sum() + mask.sum())


@SEEDS
def test_the_mucosa_is_red_and_the_corners_of_the_scope_are_black(seed: int) -> None:
    image = drawn('endoscopy', seed).image
    lit = image[image.max(axis=-1) > 40].mean(axis=0)
    assert lit[0] > 1.3 * lit[1] > 1.3 * lit[2]
    assert max(image[r, c].max() for r in (0, -1) for c in (0, -1)) < 10


@SEEDS
def test_outside_the_ultrasound_sector_it_is_black(seed: int) -> None:
    image = drawn('ultrasound', seed).image
    assert image[-1].max() == image[0].max() == 0
    assert 0.35 < (image > 0).mean() < 0.8


@SEEDS
def test_the_ultrasound_lesion_is_dark_on_its_surround(seed: int) -> None:
    phantom = drawn('ultrasound', seed)
    ring = surround(phantom.mask, phantom.image)
    assert phantom.image[phantom.mask].mean() < phantom.image[ring].mean() - 25


def test_tissue_in_the_ultrasound_has_the_contrast_of_speckle() -> None:
    phantom = ultrasound_phantom(0)
    ring = surround(phantom.mask, phantom.image)
    values = phantom.image[ring].astype(float)
    # Log-compressed Rayleigh speckle spreads by 5.6 dB, here 54 dB over 255 greys
    assert 18 < values.std() < 40
    # Nulls reach farther below the median than peaks reach above it
    low, middle, high = np.percentile(values, (1, 50, 99))
    assert middle - low > 1.2 * (high - middle)


@MODALITIES
@SEEDS
def test_the_click_is_the_most_interior_pixel_of_the_target(
    modality: str, seed: int
) -> None:
    phantom = drawn(modality, seed)
    depth = ndimage.distance_transform_edt(phantom.mask)
    assert phantom.mask[phantom.click]
    assert depth[phantom.click] == depth.max() > 3


@MODALITIES
@SEEDS
def test_the_box_is_tight_around_the_target(modality: str, seed: int) -> None:
    phantom = drawn(modality, seed)
    row0, col0, row1, col1 = phantom.box
    inside = phantom.mask[row0:row1, col0:col1]
    assert inside.sum() == phantom.mask.sum()
    for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]):
        assert edge.any()


def test_click_and_box_are_row_before_column_and_the_box_is_half_open() -> None:
    mask = np.zeros((20, 40), dtype=bool)
    mask[3:8, 21:32] = True
    phantom = Phantom('square', np.zeros((20, 40), np.uint8), mask, 'a test')
    assert phantom.box == (3, 21, 8, 32)
    assert phantom.click[0] == 5
    assert all(type(number) is int for number in (*phantom.click, *phantom.box))


def test_the_edge_of_the_image_counts_as_background_for_the_click() -> None:
    mask = np.zeros((20, 40), dtype=bool)
    mask[0:7, 10:30] = True
    assert Phantom('cut', np.zeros((20, 40), np.uint8), mask, 'a test').click[0] == 3


def test_a_phantom_with_an_empty_mask_has_no_click_and_no_box() -> None:
    blank = Phantom('blank', np.zeros((9, 9), np.uint8), np.zeros((9, 9), bool), '')
    with pytest.raises(ValueError, match='empty'):
        _ = blank.click
    with pytest.raises(ValueError, match='empty'):
        _ = blank.box


@MODALITIES
def test_every_phantom_says_that_it_is_drawn(modality: str) -> None:
    phantom = drawn(modality, 3)
    assert 'phantom' in phantom.name
    assert '3' in phantom.name
    assert 'drawn phantom' in phantom.description.lower()
    assert 'not a patient' in str(DRAWERS[modality].__doc__)


def test_a_cine_has_one_grey_frame_and_one_mask_per_frame() -> None:
    assert cine().image.shape == cine().mask.shape == (8, 150, 190)
    assert cine().image.dtype == np.uint8
    assert cine().mask.dtype == np.bool_


def test_the_lesion_moves_between_the_frames_of_a_cine_but_only_a_little() -> None:
    masks = cine().mask
    centres = np.array([ndimage.center_of_mass(mask) for mask in masks])
    steps = np.hypot(*np.diff(centres, axis=0).T)
    assert np.hypot(*(centres[7] - centres[0])) > 2
    assert steps.max() < 3
    for before, after in zip(masks[:-1], masks[1:], strict=True):
        assert 2 * (before & after).sum() > 0.85 * (before.sum() + after.sum())


@pytest.mark.parametrize('seed', [0, 1])
def test_the_lesion_stays_one_dark_region_from_one_end_of_the_breath_to_the_other(
    seed: int,
) -> None:
    phantom = cine(seed, 23)
    for image, mask in zip(phantom.image[::4], phantom.mask[::4], strict=True):
        assert ndimage.label(mask)[1] == 1
        assert not touches_the_border(mask)
        assert image[mask].mean() < image[surround(mask, image)].mean() - 25


def test_the_lesion_of_a_cine_grows_and_bends_as_it_moves() -> None:
    first, last = cine().mask[0], cine().mask[7]
    assert last.sum() > 1.05 * first.sum()
    # The first outline, moved and grown to the size of the last but not bent
    shrink = np.sqrt(first.sum() / last.sum())
    start, end = (np.array(ndimage.center_of_mass(mask)) for mask in (first, last))
    grown = ndimage.affine_transform(
        first.astype(float), [shrink, shrink], start - shrink * end, order=1
    )
    assert ((grown > 0.5) ^ last).sum() > 0.025 * last.sum()


def test_the_first_frame_of_a_cine_is_the_still_image() -> None:
    still = ultrasound_phantom(0, (150, 190))
    assert np.array_equal(cine().image[0], still.image)
    assert np.array_equal(cine().mask[0], still.mask)
    assert cine().click == still.click
    assert cine().box == still.box


def test_a_cine_of_one_frame_still_has_a_frame_axis() -> None:
    assert ultrasound_phantom(0, (64, 80), frames=1).image.shape == (1, 64, 80)


@MODALITIES
@pytest.mark.parametrize('shape', [(63, 200), (200, 63), (0, 64), (100,), (99, 99, 3)])
def test_a_shape_under_64_pixels_or_not_of_two_sides_is_refused(
    modality: str, shape: tuple[int, int]
) -> None:
    with pytest.raises(ValueError, match='at least 64 pixels'):
        DRAWERS[modality](0, shape)


@pytest.mark.parametrize('frames', [0, -3])
def test_a_cine_without_frames_is_refused(frames: int) -> None:
    with pytest.raises(ValueError, match='at least 1 frame'):
        ultrasound_phantom(0, (64, 64), frames=frames)


def test_drawing_needs_neither_torch_nor_qt_nor_napari() -> None:
    code = (
        'import sys, napari_kdsam.phantoms; '
        "bad = {'torch', 'qtpy', 'PyQt6', 'PySide6', 'napari'} & set(sys.modules); "
        'sys.exit(str(bad) if bad else 0)'
    )
    result = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
