"""Follow objects through cines with truth: missed drift, false alarms, agreement.

The cines are drawn phantoms, still or set in motion, and the heart cine that pydicom ships,
with a left ventricle outlined by hand on eight frames and interpolated between them. The
object's truth on the first frame is the key frame. What is followed counts as drifting from
the first frame on which its Dice with the truth is below 0.7, also where the object is gone. A
flag at or before that frame catches the drift. A flag on a frame that is still right, with no
drift within the next four, is a false alarm: the frame becomes a key frame and following
goes on, as with *Continue from here*.

Usage: python benchmarks/following.py [--model kdsam] [--frames 30]
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.draw import polygon2mask

from napari_kdsam import Predictor, load_model
from napari_kdsam.core.geometry import Mask
from napari_kdsam.inference.propagation import propagate
from napari_kdsam.measure.scores import dice_and_iou
from napari_kdsam.phantoms import Phantom, endoscopy_phantom, ultrasound_phantom

Pixels = NDArray[np.uint8]
Frame = tuple[Pixels, Mask]
LOST = 0.7
AHEAD = 4
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


@dataclass(frozen=True)
class Outcome:
    """What became of a cine.

    Attributes
    ----------
    dice : list of float
        On the frames that were followed, up to drift or the end.
    drift : int or None
        First frame that was lost.
    caught : bool
        Whether it was flagged in time.
    false_alarms : int
    """

    dice: list[float]
    drift: int | None
    caught: bool
    false_alarms: int


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
) -> Iterator[Frame]:
    """The camera goes there and back: shares of the sides, degrees, magnification."""
    height, width = still.mask.shape
    rows, columns = np.indices(still.mask.shape, dtype=np.float32)
    for frame in range(frames):
        way = math.sin(math.pi * frame / (frames - 1))
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
    """Every cine by name."""
    yield 'heart of pydicom', heart(frames)
    for seed in (1, 2):
        cine = ultrasound_phantom(seed, SHAPE, frames)
        yield f'breathing {seed}', list(zip(cine.image, cine.mask, strict=True))
    lesions = [ultrasound_phantom(seed, SHAPE) for seed in range(3, 8)]
    polyps = [endoscopy_phantom(seed, SHAPE) for seed in range(1, 6)]
    yield 'beating, to 0.6', list(beating(lesions[0], frames, 0.6))
    yield 'beating, to 0.5', list(beating(lesions[1], frames, 0.5))
    yield 'sliding lesion', list(passing(lesions[2], frames, (0.05, 0.15), 8))
    yield 'polyp comes near', list(passing(polyps[0], frames, turn=15, zoom=1.8))
    yield 'polyp passes', list(passing(polyps[1], frames, (0.1, 0.15), 15, 1.2))
    yield 'polyp leaves', list(passing(polyps[2], frames, (0.1, 1.0)))
    yield 'lesion leaves', list(passing(lesions[3], frames, (0, 0.9)))
    still = list(beating(lesions[4], frames, 0.9))
    yield 'cut of ultrasound', cut(still, list(beating(lesions[0], frames, 0.9)), 14)
    others = list(passing(polyps[3], frames, (0.05, 0.05)))
    yield 'cut of endoscopy', cut(list(passing(polyps[4], frames)), others, 10)
    yield 'shadow', list(shadowed(still))


def follow(predictor: Predictor, frames: Sequence[Frame]) -> Outcome:
    """Follow the truth of the first frame until it is lost, going on after flags."""

    def agreement(number: int, mask: Mask | None) -> float:
        truth = frames[number][1]
        if mask is None or not truth.any():
            return 0.0
        return float(dice_and_iou(mask, truth)[0])

    key, mask = 0, frames[0][1]
    dice: list[float] = []
    early: list[int] = []
    while key < len(frames) - 1:
        flagged = False
        for done in propagate(
            predictor,
            lambda number: predictor.embed(frames[number][0]),
            {key: {1: mask}},
            range(key + 1, len(frames)),
        ):
            dice.append(agreement(done.index, done.masks.get(1)))
            if dice[-1] < LOST:
                caught = bool(done.drift) or any(
                    done.index - flag <= AHEAD for flag in early
                )
                false = [flag for flag in early if done.index - flag > AHEAD]
                return Outcome(dice, done.index, caught, len(false))
            if done.drift:
                early.append(done.index)
                key, mask, flagged = done.index, done.masks[1], True
        if not flagged:
            break
    return Outcome(dice, None, False, len(early))


def main() -> None:
    """Print a line for each cine, and the totals."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--model', default='kdsam')
    parser.add_argument('--frames', type=int, default=30)
    options = parser.parse_args()
    predictor = Predictor(load_model(options.model))
    print(
        '| cine | mean Dice while followed | lost at frame | flagged in time | false alarms |'
    )
    print('|---|--:|--:|---|--:|')
    outcomes = []
    for name, frames in cines(options.frames):
        outcome = follow(predictor, frames)
        outcomes.append(outcome)
        lost = '–' if outcome.drift is None else outcome.drift
        caught = '' if outcome.drift is None else 'yes' if outcome.caught else 'no'
        mean = np.mean(outcome.dice)
        print(
            f'| {name} | {mean:.3f} | {lost} | {caught} | {outcome.false_alarms} |',
            flush=True,
        )
    drifts = [outcome for outcome in outcomes if outcome.drift is not None]
    followed = sum(len(outcome.dice) for outcome in outcomes)
    alarms = sum(outcome.false_alarms for outcome in outcomes)
    print(
        f'\n{len(drifts)} lost, {sum(o.caught for o in drifts)} flagged in time; '
        f'{alarms} false alarms in {followed} frames.'
    )


if __name__ == '__main__':
    main()
