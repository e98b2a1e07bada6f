"""A drawn dermoscopy image: a pigmented lesion on skin."""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from napari_kdsam.phantoms._drawing import (
    Field,
    add_stroke,
    checked_shape,
    curve,
    one_region,
    photographed,
    pixel_grid,
    random_blob,
    smooth_noise,
    smooth_step,
    vignette,
)
from napari_kdsam.phantoms._phantom import Phantom

SKIN_TONES = np.array(
    [(0.88, 0.68, 0.60), (0.86, 0.66, 0.54), (0.84, 0.63, 0.58), (0.90, 0.74, 0.67)],
    dtype=np.float32,
)
# Absorption of red, green and blue light: melanin is brown, haemoglobin is red
MELANIN = np.array((0.60, 0.90, 1.22), dtype=np.float32)
HAEMOGLOBIN = np.array((0.12, 1.00, 0.80), dtype=np.float32)
BACKSCATTER = np.array((0.055, 0.045, 0.05), dtype=np.float32)
VEIL = np.array((0.40, 0.41, 0.46), dtype=np.float32)
HAIR = np.array((0.17, 0.11, 0.09), dtype=np.float32)


def dermoscopy_phantom(seed: int = 0, shape: tuple[int, int] = (450, 600)) -> Phantom:
    """Draw a dermoscopy phantom: a brown lesion on pink-tan skin, not a patient.

    The colours come from drawn maps of melanin and haemoglobin that absorb light; the
    lesion has a pigment network, globules, dark patches and a soft irregular border,
    with hairs, gel bubbles, vignetting, lens blur and grain on top.

    Parameters
    ----------
    seed : int
        Same seed and shape, same phantom.
    shape : tuple of int
        (height, width) in pixels, 64 or more each.

    Returns
    -------
    Phantom
        RGB image (H, W, 3) uint8 and lesion mask (H, W) bool. The mask ends where
        the pigment of the border has fallen to half.

    Raises
    ------
    ValueError
        If a side of `shape` is under 64 pixels.
    """
    shape = checked_shape(shape)
    rng = np.random.default_rng(seed)
    unit = min(shape) / 450
    margin = _lesion_margin(rng, shape, unit)
    melanin = _lesion_pigment(rng, margin, unit) + _skin_pigment(rng, shape, unit)
    blood = _blood(rng, margin, unit)
    tone = SKIN_TONES[rng.integers(len(SKIN_TONES))]
    passed = np.exp(-melanin[..., None] * MELANIN - blood[..., None] * HAEMOGLOBIN)
    scene = BACKSCATTER + (tone - BACKSCATTER) * passed
    haze = smooth_noise(rng, shape, 34 * unit) + 0.5 * smooth_noise(
        rng, shape, 9 * unit
    )
    veil = 0.45 * smooth_step(haze, 0.8, 2.2)
    veil *= smooth_step(margin, 12 * unit, 45 * unit)
    scene += veil[..., None] * (VEIL - scene)
    hair, sheen = _hairs(rng, shape, unit)
    scene += hair[..., None] * (HAIR - scene)
    scene += (0.3 * sheen)[..., None]
    light = 1 + 0.03 * smooth_noise(rng, shape, 160 * unit)
    light *= vignette(shape, float(rng.uniform(0.25, 0.5)))
    light *= 1 + _bubbles(rng, shape, unit)
    scene *= light[..., None]
    glints = smooth_step(smooth_noise(rng, shape, max(0.7, 1.1 * unit)), 3.6, 4.6)
    scene += (0.35 * glints)[..., None]
    return Phantom(
        name=f'dermoscopy phantom {seed}',
        image=photographed(rng, scene, max(0.4, 0.75 * unit), 0.009),
        mask=one_region(margin > 0),
        description='Drawn phantom of a pigmented skin lesion seen by dermoscopy.',
    )


def _lesion_margin(
    rng: np.random.Generator, shape: tuple[int, int], unit: float
) -> Field:
    """Return the distance to the lesion's border in pixels, positive inside."""
    height, width = shape
    radius = min(shape) * float(rng.uniform(0.21, 0.29))
    centre = (
        height / 2 + min(shape) * float(rng.uniform(-0.05, 0.05)),
        width / 2 + min(shape) * float(rng.uniform(-0.1, 0.1)),
    )
    blob = random_blob(rng, centre, radius, roughness=0.12, elongation=1.45)
    margin = blob.margin(*pixel_grid(shape))
    return np.asarray(margin + 2.4 * unit * smooth_noise(rng, shape, 5 * unit))


def _lesion_pigment(rng: np.random.Generator, margin: Field, unit: float) -> Field:
    """Return the lesion's melanin, 0 on the skin around and about 0.5 to 2.5 in it."""
    shape = (margin.shape[0], margin.shape[1])
    width = unit * (6.5 + 2.5 * smooth_noise(rng, shape, 60 * unit))
    width = np.clip(width, 2.5 * unit, 10 * unit)
    border = smooth_step(margin / width, -1, 1)
    base = float(rng.uniform(0.62, 0.85))
    pigment = base * (1 + 0.13 * smooth_noise(rng, shape, 30 * unit))
    pigment += 0.07 * smooth_noise(rng, shape, 1.6 * unit)
    pigment += 0.07 * smooth_noise(rng, shape, 4 * unit)
    # Darker towards the middle, in blotches that differ from one side to the other
    blotch = smooth_noise(rng, shape, 24 * unit) + 0.5 * smooth_noise(
        rng, shape, 8 * unit
    )
    inner = smooth_step(margin, 4 * unit, 40 * unit)
    pigment += 0.85 * inner * smooth_step(blotch, 0.1, 1.6)
    regression = smooth_step(smooth_noise(rng, shape, 22 * unit), 1.0, 2.2)
    pigment *= 1 - 0.45 * regression * inner
    zone = smooth_noise(rng, shape, 35 * unit)
    network = _pigment_network(rng, margin, unit)
    # The lines fade and thicken from place to place, and thin out at the border
    contrast = 0.5 + 0.2 * smooth_noise(rng, shape, 10 * unit)
    contrast *= 0.35 + 0.65 * smooth_step(margin, 0, 22 * unit)
    pigment += contrast * (network - 0.35) * smooth_step(zone, -1.0, 0.6)
    pigment += _globules(rng, margin, unit) * smooth_step(zone, 0.6, -0.6)
    return np.asarray(border * np.clip(pigment, 0.42, 2.4), np.float32)


def _pigment_network(rng: np.random.Generator, margin: Field, unit: float) -> Field:
    """Return 1 on the lines of a warped honeycomb, 0 in its holes."""
    shape = (margin.shape[0], margin.shape[1])
    pitch = max(3.0, float(rng.uniform(6.2, 8.5)) * unit)
    rows, cols = np.mgrid[-1 : shape[0] / pitch + 2, -1 : shape[1] / pitch + 2]
    cols = cols + 0.5 * (rows % 2)
    holes = np.stack([rows.ravel() * 0.87, cols.ravel()], axis=1)
    holes += rng.uniform(-0.36, 0.36, holes.shape)
    wanted = margin > -8 * unit
    where = np.argwhere(wanted).astype(np.float32) / pitch
    for axis in range(2):
        where[:, axis] += 0.35 * smooth_noise(rng, shape, 14 * unit)[wanted]
    near = cKDTree(holes).query(where, k=2, workers=1)[0]
    thickness = 0.34 + 0.12 * smooth_noise(rng, shape, 12 * unit)[wanted]
    lines = np.zeros(shape, np.float32)
    apart = (near[:, 1] - near[:, 0]) / np.clip(thickness, 0.15, None)
    lines[wanted] = 1 - smooth_step(apart, 0, 1.4)
    return np.asarray(ndimage.gaussian_filter(lines, 0.7 * unit), np.float32)


def _globules(rng: np.random.Generator, margin: Field, unit: float) -> Field:
    """Return the melanin of small round clods scattered over the lesion."""
    shape = (margin.shape[0], margin.shape[1])
    spots = np.zeros(shape, np.float32)
    candidates = np.argwhere(margin > 5 * unit)
    count = int(rng.integers(90, 160))
    for row, col in rng.choice(candidates, min(count, len(candidates))):
        place = np.array([[row, col]], dtype=np.float64)
        half = max(0.6, float(rng.gamma(6, 0.4)) * unit)
        add_stroke(spots, place, half, float(rng.uniform(0.3, 0.85)))
    return np.asarray(ndimage.gaussian_filter(spots, 0.7 * unit), np.float32)


def _skin_pigment(
    rng: np.random.Generator, shape: tuple[int, int], unit: float
) -> Field:
    """Return the melanin of the skin: mottling, criss-cross lines and pores."""
    skin = 0.05 + 0.025 * smooth_noise(rng, shape, 45 * unit)
    skin += 0.014 * smooth_noise(rng, shape, 4 * unit)
    skin += 0.012 * smooth_noise(rng, shape, 1.5 * unit)
    first = float(rng.uniform(0, math.pi))
    for angle in (first, first + float(rng.uniform(0.9, 1.4))):
        lines = smooth_noise(rng, shape, 10 * unit, 1.6 * unit, angle)
        skin += 0.014 * np.abs(lines) * (1 + 0.4 * smooth_noise(rng, shape, 30 * unit))
    pores = smooth_noise(rng, shape, max(0.8, 2.4 * unit))
    skin -= 0.05 * smooth_step(pores, 1.8, 3.2)
    return np.asarray(skin, np.float32)


def _blood(rng: np.random.Generator, margin: Field, unit: float) -> Field:
    """Return haemoglobin: blotchy redness, a flush at the lesion, thin vessels."""
    shape = (margin.shape[0], margin.shape[1])
    blood = 0.06 + 0.03 * smooth_noise(rng, shape, 55 * unit)
    blood += 0.015 * smooth_noise(rng, shape, 9 * unit)
    blood += 0.09 * smooth_step(margin, -45 * unit, 0)
    vessels = np.zeros(shape, np.float32)
    for _ in range(int(rng.integers(14, 26))):
        at = rng.uniform((0, 0), shape)
        heading = float(rng.uniform(0, 2 * math.pi))
        for _ in range(int(rng.integers(2, 5))):
            ends = []
            for _ in range(2):
                heading += float(rng.normal(0, 0.6))
                length = float(rng.uniform(6, 16)) * unit
                at = at + length * np.array((math.sin(heading), math.cos(heading)))
                ends.append(at)
            line = curve([2 * ends[0] - ends[1], ends[0], ends[1]])
            add_stroke(vessels, line, 0.7 * unit, float(rng.uniform(0.3, 0.9)))
    return np.asarray(blood + 0.22 * ndimage.gaussian_filter(vessels, 0.8 * unit))


def _hairs(
    rng: np.random.Generator, shape: tuple[int, int], unit: float
) -> tuple[Field, Field]:
    """Return the cover of the hairs and of the sheen along the thicker ones."""
    cover, sheen = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    heading = float(rng.uniform(0, 2 * math.pi))
    for _ in range(int(rng.integers(5, 13))):
        root = rng.uniform((0, 0), shape)
        turn = heading + float(rng.normal(0, 0.45))
        path = [root]
        for _ in range(2):
            length = float(rng.uniform(0.2, 0.5)) * 450 * unit
            path.append(path[-1] + length * np.array((math.sin(turn), math.cos(turn))))
            turn += float(rng.normal(0, 0.4))
        line = curve(path)
        half = float(rng.uniform(0.55, 1.35)) * unit
        taper = np.linspace(1, 0, len(line)) ** 0.35
        add_stroke(cover, line, half * taper + 0.1, float(rng.uniform(0.6, 0.92)))
        if half > unit:
            shifted = line - 0.3 * half
            add_stroke(sheen, shifted, 0.3 * half * taper, float(rng.uniform(0.2, 0.7)))
    return cover, sheen


def _bubbles(rng: np.random.Generator, shape: tuple[int, int], unit: float) -> Field:
    """Return the relative change of brightness at a few bubbles in the gel."""
    rows, cols = pixel_grid(shape)
    change = np.zeros(shape, np.float32)
    for _ in range(int(rng.integers(2, 7))):
        row, col = rng.uniform((0, 0), shape)
        radius = float(rng.uniform(3, 11)) * unit
        down, right = rows - np.float32(row), cols - np.float32(col)
        away = np.hypot(down, right)
        rim = np.exp(-(((away - radius) / (0.9 * unit + 0.06 * radius)) ** 2))
        lit = (down + right) / (1.5 * away + 1)
        change += rim * (0.12 - 0.28 * lit)
        change += 0.03 * (away < radius)
    return change
