"""Cines with truth: drawn phantoms set in motion, and the heart that pydicom ships."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.draw import polygon2mask

from napari_kdsam.core.geometry import Mask
from napari_kdsam.phantoms import Phantom, endoscopy_phantom, ultrasound_phantom

Pixels = NDArray[np.uint8]
Frame = tuple[Pixels, Mask]
SHAPE = (320, 400)
# (row, column) corners of the left ventricle in pydicom's cine, by frame.
VENTRICLE = {
    0: '50,176 60,163 80,158 105,158 130,158 128,175 125,190 110,198 85,197 65,190',
    8: '50,172 60,162 90,160 140,160 143,180 138,200 110,205 85,202 62,190',
    12: '45,172 60,158 100,155 135,158 137,185 130,207 100,212 70,207 50,192',
    16: '45,175 60,158 100,153 128,158 124,178 128,203 100,212 70,205 52,192',
    20: '45,172 70,153 100,154 138,160 137,180 132,210 100,215 70,212 52,192',
    24: '48,175 65,157 100,156 128,160 126,185 110,203 85,205 62,195',
    29: '48,172 62,158 100,157 123,160 125,190 110,203 85,203 62,195',
}


def moved(still: Phantom, rows: Any, columns: Any, seed: int) -> Frame:
    """A still seen at other places, (H, W) each, with fresh speckle or grain."""
    places = [np.asarray(rows), np.asarray(columns)]
    image = still.image.astype(np.float32)
    planes = image[..., None] if image.ndim == 2 else image
    seen = np.stack(
        [
            ndimage.map_coordinates(planes[..., c], places, order=1, mode='nearest')
            for c in range(planes.shape[-1])
        ],
        -1,
    )
    mask = still.mask.astype(np.float32)
    truth = ndimage.map_coordinates(mask, places, order=1, mode='constant') > 0.5
    noise = np.random.default_rng(seed).standard_normal(truth.shape)
    seen = seen * (1 + 0.1 * ndimage.gaussian_filter(noise, 1.0)[..., None])
    pixels = np.clip(seen, 0, 255).astype(np.uint8)
    return (pixels[..., 0] if image.ndim == 2 else pixels), np.asarray(truth)


def beating(still: Phantom, frames: int, least: float) -> Iterator[Frame]:
    """The object shrinks to a share of its area and grows again, every 24 frames."""
    rows, columns = np.indices(still.mask.shape, dtype=np.float32)
    inside = np.nonzero(still.mask)
    down, right = rows - inside[0].mean(), columns - inside[1].mean()
    radius = math.sqrt(still.mask.sum() / math.pi)
    near = np.exp(-((np.hypot(down, right) / (1.7 * radius)) ** 2))
    for frame in range(frames):
        beat = (1 + math.cos(2 * math.pi * frame / 24)) / 2
        side = math.sqrt(least + (1 - least) * beat)
        away = (1 / side - 1) * near
        yield moved(still, rows + down * away, columns + right * away, frame)


def passing(
    still: Phantom,
    frames: int,
    shift: tuple[float, float] = (0, 0),
    turn: float = 0,
    zoom: float = 1,
    period: int = 0,
) -> Iterator[Frame]:
    """The camera goes there and back: shares of the sides, degrees, magnification."""
    height, width = still.mask.shape
    rows, columns = np.indices(still.mask.shape, dtype=np.float32)
    for frame in range(frames):
        way = math.sin(math.pi * frame / (period or frames - 1))
        angle, scale = math.radians(turn) * way, zoom**way
        down, right = (rows - height / 2) / scale, (columns - width / 2) / scale
        yield moved(
            still,
            height / 2
            + down * math.cos(angle)
            - right * math.sin(angle)
            - shift[0] * height * way,
            width / 2
            + down * math.sin(angle)
            + right * math.cos(angle)
            - shift[1] * width * way,
            frame,
        )


def cut(first: Sequence[Frame], second: Sequence[Frame], at: int) -> list[Frame]:
    """Another scene from a frame on, in which the object is not."""
    gone = [(pixels, np.zeros_like(mask)) for pixels, mask in second]
    return [*first[:at], *gone[at:]]


def shadowed(frames: Sequence[Frame]) -> Iterator[Frame]:
    """A shadow passes over the object; it counts while half of it is seen."""
    columns = np.nonzero(frames[0][1])[1]
    width = 0.75 * np.ptp(columns) + 6
    across = np.arange(frames[0][1].shape[1])
    for frame, (pixels, mask) in enumerate(frames):
        middle = columns.mean() + (frame - 16) * (np.ptp(columns) + 2 * width) / 16
        dark = 1 / (1 + np.exp((np.abs(across - middle) - width) / 3))
        seen = (mask * (1 - dark)).sum() > mask.sum() / 2
        yield (pixels * (1 - 0.93 * dark)).astype(np.uint8), mask & seen


def fading(frames: Sequence[Frame], start: int, length: int) -> Iterator[Frame]:
    """The object turns into the tissue beside it; it counts until 3/4 of it is gone."""
    for frame, (pixels, mask) in enumerate(frames):
        share = min(max((frame - start) / length, 0), 1)
        columns = np.nonzero(mask)[1]
        away = int(1.4 * np.ptp(columns))
        if columns.mean() < mask.shape[1] / 2:
            away = -away
        soft = ndimage.binary_dilation(mask, iterations=6).astype(np.float32)
        soft = share * ndimage.gaussian_filter(soft, 4)
        if pixels.ndim == 3:
            soft = soft[..., None]
        mixed = pixels * (1 - soft) + np.roll(pixels, away, axis=1) * soft
        yield mixed.astype(np.uint8), mask & (share <= 0.75)


def lifted(frames: Sequence[Frame], start: int) -> Iterator[Frame]:
    """The probe loses contact, or the lens touches the wall, within three frames.

    The object counts until 3/4 of it is gone.
    """
    for frame, (pixels, mask) in enumerate(frames):
        share = min(max((frame - start + 1) / 3, 0), 1)
        if pixels.ndim == 3:
            nothing = ndimage.gaussian_filter(pixels.astype(np.float32), (60, 60, 0))
        else:
            depth = np.arange(pixels.shape[0])[:, None] / pixels.shape[0]
            bands = 255 * np.exp(-6 * depth) * (0.6 + 0.4 * np.cos(60 * depth))
            grain = np.random.default_rng(frame).rayleigh(0.5, pixels.shape)
            nothing = np.clip(bands * grain, 0, 255)
        seen = pixels * (1 - share) + nothing * share
        yield seen.astype(np.uint8), mask & (share <= 0.75)


def twins(still: Phantom) -> Phantom:
    """The object twice, side by side; the left one counts."""
    half = still.mask.shape[1] // 2
    middle = int(np.nonzero(still.mask)[1].mean())
    start = min(max(middle - half // 2, 0), still.mask.shape[1] - half)
    part = slice(start, start + half)
    image = np.concatenate([still.image[:, part], still.image[:, part][:, ::-1]], 1)
    mask = still.mask[:, part]
    return replace(
        still, image=image, mask=np.concatenate([mask, np.zeros_like(mask)], 1)
    )


def heart(frames: int) -> list[Frame]:
    """Pydicom's cine with a ventricle drawn by hand; its outline is interpolated."""
    from napari_kdsam import sample_data

    pixels = np.asarray(sample_data.heart_ultrasound_cine()[0][0])[:frames]
    depths = {}
    for frame, corners in VENTRICLE.items():
        outline = [tuple(map(int, corner.split(','))) for corner in corners.split()]
        mask = polygon2mask(pixels.shape[1:3], outline)
        depth = ndimage.distance_transform_edt(mask)
        depths[frame] = depth - ndimage.distance_transform_edt(~mask)
    drawn = []
    for frame, image in enumerate(pixels):
        before = max(f for f in depths if f <= frame)
        after = min(f for f in depths if f >= frame)
        share = (frame - before) / max(after - before, 1)
        mask = (1 - share) * depths[before] + share * depths[after] > 0
        drawn.append((image, mask))
    return drawn


def cines(frames: int) -> Iterator[tuple[str, list[Frame]]]:
    """Every cine by name: what stays in view first, then what is lost."""
    lesions = {seed: ultrasound_phantom(seed, SHAPE) for seed in range(3, 10)}
    polyps = {seed: endoscopy_phantom(seed, SHAPE) for seed in range(1, 7)}
    yield 'heart of pydicom', heart(30)
    breathing = {}
    for seed in (1, 2):
        cine = ultrasound_phantom(seed, SHAPE, frames)
        breathing[seed] = list(zip(cine.image, cine.mask, strict=True))
        yield f'breathing {seed}', breathing[seed]
    beats = {
        seed: list(beating(lesions[seed], frames, least))
        for seed, least in ((3, 0.6), (4, 0.5), (7, 0.9))
    }
    yield 'beating, to 0.6', beats[3]
    yield 'beating, to 0.5', beats[4]
    slides = {
        seed: list(passing(lesions[seed], frames, (0.05, 0.15), 8)) for seed in (5, 8)
    }
    for seed, slide in slides.items():
        yield f'sliding lesion {seed}', slide
    for seed in (1, 2):
        near = list(passing(polyps[seed], frames, turn=15, zoom=1.8))
        yield f'polyp comes near {seed}', near
    passes = {
        seed: list(passing(polyps[seed], frames, (0.1, 0.15), 15, 1.2))
        for seed in (2, 4)
    }
    for seed, passed in passes.items():
        yield f'polyp passes {seed}', passed
    fast = list(passing(lesions[6], frames, (0.04, 0.1), period=6))
    yield 'fast lesion', fast
    yield 'fast polyp', list(passing(polyps[5], frames, (0.06, 0.12), 10, period=6))
    for seed in (5, 9):
        yield (
            f'twin lesions {seed}',
            list(passing(twins(lesions[seed]), frames, (0.03, 0.05))),
        )
    for seed in (3, 6):
        yield (
            f'polyp leaves {seed}',
            list(passing(polyps[seed], frames, (0.1, 1.0), period=40)),
        )
    for seed in (6, 9):
        yield (
            f'lesion leaves {seed}',
            list(passing(lesions[seed], frames, (0, 0.9), period=40)),
        )
    for seed in (5, 9):
        leaving = passing(twins(lesions[seed]), frames, (0, -0.5), period=40)
        yield f'twin leaves {seed}', list(leaving)
    yield 'cut of ultrasound 7 to 3', cut(beats[7], beats[3], 9)
    # The two lesions look alike: what is around them tells.
    still = list(beating(lesions[3], frames, 0.9))
    yield 'cut of ultrasound 7 to 3, late', cut(beats[7], still, 14)
    yield 'cut of ultrasound 3 to 4', cut(beats[3], beats[4], 9)
    yield 'cut of ultrasound 1 to 2', cut(breathing[1], breathing[2], 10)
    yield 'cut of ultrasound 5 to 8', cut(slides[5], slides[8], 8)
    yield 'cut of endoscopy 2 to 4', cut(passes[2], passes[4], 10)
    yield 'cut of endoscopy 4 to 2', cut(passes[4], passes[2], 7)
    yield 'shadow 7', list(shadowed(beats[7]))
    yield 'shadow 3', list(shadowed(beats[3]))
    yield 'lesion fades', list(fading(beats[7], 5, 8))
    yield 'polyp fades', list(fading(passes[4], 5, 8))
    yield 'probe lifted', list(lifted(beats[4], 7))
    yield 'lens at the wall', list(lifted(passes[2], 7))
