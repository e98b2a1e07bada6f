"""A drawn colonoscopy image: a sessile polyp on the wall of a folded tube.

The bowel is a tube around the camera, in units of its radius. Its wall is the distance
``W(theta, z)`` from the tube's axis; the camera sits on the axis at ``z = 0``, so a ray
keeps one ``theta`` and meets the wall first where ``W / z`` first falls to the tangent
of its angle to the axis. That makes hidden surfaces a running minimum along ``z``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import fft, ndimage

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
)
from napari_kdsam.phantoms._phantom import Phantom

NEAREST, FARTHEST = 0.06, 12.0
STEEPEST = math.radians(86)
HALF_VIEW = math.radians(46)
MUCOSA = np.array((0.97, 0.43, 0.30), dtype=np.float32)
BLOOD = np.array((0.10, 0.75, 0.62), dtype=np.float32)


def endoscopy_phantom(seed: int = 0, shape: tuple[int, int] = (480, 576)) -> Phantom:
    """Draw a colonoscopy phantom: a sessile polyp in a folded bowel, not a patient.

    A small renderer lights a drawn tube with haustral folds, branching vessels and a
    polyp from two lamps beside the lens, so that shading, hidden parts, highlights
    and the dark lumen follow from the shape; the field of view has black corners.

    Parameters
    ----------
    seed : int
        Same seed and shape, same phantom.
    shape : tuple of int
        (height, width) in pixels, 64 or more each.

    Returns
    -------
    Phantom
        RGB image (H, W, 3) uint8 and mask (H, W) bool of the visible part of the polyp.

    Raises
    ------
    ValueError
        If a side of `shape` is under 64 pixels.
    """
    shape = checked_shape(shape)
    rng = np.random.default_rng(seed)
    wall = _draw_wall(rng, turns=int(fft.next_fast_len(9 * min(shape) // 5 + 140)))
    colour, polyp = _render(rng, wall)
    tilt = math.radians(float(rng.uniform(20, 34)))
    theta, slant = _view(shape, tilt, float(rng.uniform(0, 2 * math.pi)))
    at = [theta * polyp.shape[0] / (2 * math.pi), slant / STEEPEST * polyp.shape[1]]
    scene = np.stack([_sampled(channel, at) for channel in colour], axis=-1)
    lens = _field_of_view(rng, shape)
    scene *= lens[..., None]
    unit = min(shape) / 480
    return Phantom(
        name=f'endoscopy phantom {seed}',
        image=photographed(rng, scene, max(0.35, 0.7 * unit), 0.007),
        mask=one_region((_sampled(polyp, at) > 0.5) & (lens > 0.5)),
        description='Drawn phantom of a sessile polyp seen by colonoscopy.',
    )


@dataclass(frozen=True, eq=False)
class _Wall:
    """The bowel wall; fields have axes (theta, log z), textures (theta, z)."""

    depth: Field
    radius: Field
    polyp: Field
    redness: Field
    bumps: Field


def _draw_wall(rng: np.random.Generator, turns: int) -> _Wall:
    theta = np.linspace(0, 2 * math.pi, turns, endpoint=False, dtype=np.float32)[
        :, None
    ]
    depth = np.geomspace(NEAREST, FARTHEST, turns, dtype=np.float32)[None, :]
    place, size = float(rng.uniform(0.95, 1.2)), float(rng.uniform(0.34, 0.46))
    blob = random_blob(rng, (math.pi, place), size, 0.07, 5, 1.35)
    margin = 1 - blob.fraction(*np.broadcast_arrays(theta, depth))
    radius = 1 + 0.05 * np.cos(3 * theta + float(rng.uniform(0, 6)))
    radius = radius + 0.012 * smooth_noise(rng, (turns, turns), turns / 40)
    radius -= _folds(rng, theta, depth, place, size)
    bend = 0.55 * smooth_step(depth, 1.8, 7) * np.cos(theta - rng.uniform(-0.8, 0.8))
    radius *= 1 + bend
    dome = np.clip(margin * (2 - margin), 0, 1) ** 0.68
    lobes = 1 + 0.06 * smooth_noise(rng, (turns, turns), turns / 45)
    lobes += 0.018 * smooth_noise(rng, (turns, turns), turns / 110)
    radius -= float(rng.uniform(0.65, 0.95)) * size * dome * lobes
    return _Wall(
        depth=depth,
        radius=np.asarray(np.clip(radius, 0.08, None), np.float32),
        polyp=margin,
        redness=_vessels(rng, turns),
        bumps=_bumps(rng, turns),
    )


def _folds(
    rng: np.random.Generator, theta: Field, depth: Field, place: float, size: float
) -> Field:
    """Return how far the crescent-shaped haustral folds reach into the tube."""
    reach = np.zeros((theta.shape[0], depth.shape[1]), np.float32)
    away = 0.5 - 0.5 * np.cos(theta - math.pi)
    ledge = place + size + float(rng.uniform(0.45, 0.7))
    positions = [place - size - float(rng.uniform(0.1, 0.25))]
    while ledge < FARTHEST:
        positions.append(ledge)
        ledge += float(rng.uniform(0.5, 0.85)) * (0.8 + 0.12 * ledge)
    for position in positions:
        phase = rng.uniform(0, 2 * math.pi, 3).tolist()
        thickness = float(rng.uniform(0.08, 0.14)) * max(1.0, position / 3)
        strip = np.abs(depth[0] - position) < 0.17 + 3 * thickness
        middle = position + 0.10 * np.cos(theta + phase[0])
        middle = middle + 0.07 * np.cos(3 * theta + phase[1])
        height = 0.04 + 0.32 * smooth_step(np.cos(theta + phase[2]), -0.9, 0.7)
        if position < place:
            # A near fold in front of the polyp would hide it
            height = height * smooth_step(away, 0.25, 0.7)
        ridge = np.exp(-(np.abs((depth[:, strip] - middle) / thickness) ** 1.7))
        ridge *= height * float(rng.uniform(0.7, 1.1))
        reach[:, strip] = np.maximum(reach[:, strip], ridge)
    return np.asarray(reach, np.float32)


def _vessels(rng: np.random.Generator, turns: int) -> Field:
    """Return a (turns, turns) tile of branching vessels and blotchy redness."""
    tile = np.zeros((turns, turns), np.float32)
    unit = turns / 1250
    thickest = 1.8 * unit
    for _ in range(20):
        heading = float(rng.uniform(0, 2 * math.pi))
        branches = [(rng.uniform(0, turns, 2), heading, thickest)]
        while branches:
            at, heading, half = branches.pop()
            line = [at]
            for _ in range(int(rng.integers(3, 6))):
                step = float(rng.uniform(16, 34)) * unit
                heading += float(rng.normal(0, 0.38))
                at = at + step * np.array((math.sin(heading), math.cos(heading)))
                line.append(at)
            middles = [line[0], *((a + b) / 2 for a, b in pairwise(line[1:]))]
            bends = zip(pairwise(middles), line[1:-1], strict=True)
            path = np.concatenate([curve([a, b, c], step=0.8) for (a, c), b in bends])
            path[:, 0] %= turns
            # A trunk comes up from the depth of the wall, so it starts thin
            start = 0.0 if half == thickest else 1.0
            width = half * np.interp(np.linspace(0, 1, len(path)), (0, 0.6), (start, 1))
            strength = min(1.0, 0.25 + half / (2 * unit))
            add_stroke(tile, path, width, strength, wrap=True)
            if half > 0.55 * unit:
                for side in (-1, 1):
                    turn = side * float(rng.uniform(0.25, 0.8))
                    thinner = half * float(rng.uniform(0.6, 0.8))
                    branches.append((middles[-1], heading + turn, thinner))
    tile = ndimage.gaussian_filter(tile, 0.9 * unit, mode='wrap')
    tile *= np.clip(0.8 + 0.35 * smooth_noise(rng, tile.shape, 60 * unit), 0, 1.4)
    blotches = 0.10 * smooth_noise(rng, tile.shape, 55 * unit)
    blotches += 0.05 * smooth_noise(rng, tile.shape, 9 * unit)
    return np.asarray(0.95 * tile + blotches, np.float32)


def _bumps(rng: np.random.Generator, turns: int) -> Field:
    """Return a (turns, turns) tile of the fine relief of wet mucosa."""
    unit = turns / 1250
    relief = 0.007 * smooth_noise(rng, (turns, turns), 22 * unit)
    relief += 0.0040 * smooth_noise(rng, (turns, turns), 8 * unit)
    return relief + np.float32(0.0009) * smooth_noise(rng, (turns, turns), 3 * unit)


def _sampled(field: Field, at: list[Field], mode: str = 'nearest') -> Field:
    return np.asarray(ndimage.map_coordinates(field, at, order=1, mode=mode))


def _slopes(field: Field, pitch: float) -> tuple[Field, Field]:
    """Return the slopes of `field` along its rows' axis and its columns' axis."""
    down, right = np.gradient(field, pitch)
    return np.asarray(down, np.float32), np.asarray(right, np.float32)


def _first_hits(wall: _Wall, rays: int) -> Field:
    """Return where each ray meets the wall, as fractional indices along log z.

    Rows are theta, columns `rays` angles to the axis from 0 up to `STEEPEST`.
    """
    lowest = np.minimum.accumulate(wall.radius / wall.depth, axis=1)
    # Level stretches are hidden; a slight slope keeps the search strictly ordered
    lowest = np.log(lowest.astype(np.float64)) - 1e-12 * np.arange(lowest.shape[1])
    slants = np.log(np.tan((np.arange(rays) + 0.5) / rays * STEEPEST))
    index = np.arange(lowest.shape[1])
    hits = [np.interp(-slants, -row, index) for row in lowest]
    return np.asarray(hits, np.float32)


def _render(rng: np.random.Generator, wall: _Wall) -> tuple[list[Field], Field]:
    """Return red, green and blue and the polyp's cover, axes (theta, ray angle)."""
    turns = wall.radius.shape[0]
    hits = _first_hits(wall, rays=int(0.45 * turns))
    row = np.broadcast_to(np.arange(turns, dtype=np.float32)[:, None], hits.shape)
    at = [row, hits]
    pitch = 2 * math.pi / turns
    slope_theta, slope_log = _slopes(wall.radius, pitch)
    growth = math.log(FARTHEST / NEAREST) / (turns - 1)
    slope_z = np.asarray(slope_log * pitch / (growth * wall.depth), np.float32)
    z = np.exp(np.float32(growth) * hits) * np.float32(NEAREST)
    radius, margin = _sampled(wall.radius, at), _sampled(wall.polyp, at)
    on_tile = [row, np.asarray(z / pitch, np.float32)]
    relief_theta, relief_z = _slopes(wall.bumps, pitch)
    inside = smooth_step(margin, 0.0, 0.03)
    rough = 1 + 1.2 * inside
    normal = [
        -np.ones_like(z),
        _sampled(slope_theta, at) / radius
        + rough * _sampled(relief_theta, on_tile, 'grid-wrap'),
        _sampled(slope_z, at) + rough * _sampled(relief_z, on_tile, 'grid-wrap'),
    ]
    length = np.sqrt(sum(n * n for n in normal))
    hollow = ndimage.gaussian_filter(wall.radius, turns / 70, mode=('wrap', 'nearest'))
    shade = np.exp(-5.0 * np.clip(_sampled(wall.radius - hollow, at), 0, 0.2))
    shade *= 1 - 0.4 * np.exp(-np.abs(margin) / np.where(margin > 0, 0.05, 0.12))
    diffuse, shine = np.zeros_like(z), np.zeros_like(z)
    distance = np.hypot(radius, z)
    for side in (-1, 1):
        angle = row * pitch + 0.4
        offset = (0.13 * side * np.cos(angle), -0.13 * side * np.sin(angle), 0.0)
        toward = (offset[0] - radius, offset[1], -z)
        far = np.sqrt(sum(t * t for t in toward))
        facing = sum(n * t for n, t in zip(normal, toward, strict=True))
        facing = facing / (length * far)
        diffuse += (0.2 + 0.8 * np.clip(facing, 0, None)) / far**2
        eye = (-radius / distance, 0.0, -z / distance)
        half = [e + t / far for e, t in zip(eye, toward, strict=True)]
        gloss = sum(n * h for n, h in zip(normal, half, strict=True)) / length
        gloss = gloss / np.sqrt(sum(h * h for h in half))
        shine += np.clip(gloss, 0, 1) ** 260 / far**1.2
    redness = _sampled(wall.redness, on_tile, 'grid-wrap')
    tint = float(rng.uniform(0.05, 0.5))
    # Vessels end at the polyp, whose own surface is finely mottled
    pits = np.abs(smooth_noise(rng, (turns, hits.shape[1]), turns / 420))
    redness += inside * (tint + 0.12 * pits - 0.5 * redness)
    # The far end of the tube is not drawn, so let it sink into the dark
    light = diffuse * shade * smooth_step(z, 0.9 * FARTHEST, 4.0)
    gleam = smooth_step(shine, 0.35, 0.9) * smooth_step(np.abs(margin), 0.01, 0.06)
    channels = []
    # Light that has bounced between walls is red: the dim depths are redder
    gammas = (0.58, 0.67, 0.71)
    for albedo, absorption, gamma in zip(MUCOSA, BLOOD, gammas, strict=True):
        glow = light * albedo * np.exp(-absorption * redness)
        value = (1 - np.exp(-glow)) ** gamma
        channels.append(np.asarray(value + gleam * (0.97 - value), np.float32))
    return channels, np.asarray(margin > 0, np.float32)


def _view(shape: tuple[int, int], tilt: float, roll: float) -> tuple[Field, Field]:
    """Return theta (0 to 2 pi) and the angle to the tube's axis for every pixel.

    The lens is an equidistant fisheye, its axis `tilt` away from the tube's towards
    theta = pi, turned by `roll` about itself.
    """
    rows, cols = pixel_grid(shape)
    rows, cols = rows - (shape[0] - 1) / 2, cols - (shape[1] - 1) / 2
    angle = np.hypot(rows, cols) * (2 * HALF_VIEW / min(shape))
    spin = np.arctan2(rows, cols) - roll
    forward, side = np.cos(angle), np.sin(angle) * np.sin(spin)
    lean = np.sin(angle) * np.cos(spin)
    along = forward * math.cos(tilt) + lean * math.sin(tilt)
    outward = lean * math.cos(tilt) - forward * math.sin(tilt)
    theta = np.mod(np.arctan2(side, outward), 2 * math.pi)
    slant = np.clip(np.arccos(np.clip(along, -1, 1)), 0, STEEPEST)
    return np.asarray(theta, np.float32), np.asarray(slant, np.float32)


def _field_of_view(rng: np.random.Generator, shape: tuple[int, int]) -> Field:
    """Return the lit window: 1 inside, 0 in the black corners, soft in between."""
    rows, cols = pixel_grid(shape)
    down = np.abs(rows - (shape[0] - 1) / 2)
    right = np.abs(cols - (shape[1] - 1) / 2)
    half = min(shape) / 2
    wide = min(shape[1] / 2, 1.3 * half)
    tall = min(shape[0] / 2, 1.3 * half)
    edge = np.minimum(tall - 0.03 * half - down, wide - 0.03 * half - right)
    if rng.random() < 0.6:
        cut = float(rng.uniform(0.3, 0.45)) * half
        edge = np.minimum(edge, (tall + wide - cut - down - right) / math.sqrt(2))
    else:
        edge = np.minimum(edge, 1.12 * half - np.hypot(down, right))
    dim = 0.72 + 0.28 * smooth_step(np.hypot(down, right), 1.25 * half, 0.45 * half)
    return np.asarray(smooth_step(edge, -0.7, 1.5) * dim, np.float32)
