"""Follow objects through cines with truth: missed drift, false alarms, agreement.

The cines are those of `cines.py`. The object's truth on the first frame is the key frame.
What is followed counts as drifting from the first frame on which its Dice with the truth is
below 0.7, also where the object is gone. A flag at or before that frame catches the drift. A
flag on a frame that is still right, with no drift within the next four, is a false alarm: the
frame becomes a key frame and following goes on, as with *Accept*.

With `--between` the truth of two frames is given, and the frames between them are followed
from the first alone and from both.

Usage: python benchmarks/following.py [--model kdsam] [--frames 16] [--only NAME] [--between]
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from cines import Frame, cines

from napari_kdsam import Predictor, load_model
from napari_kdsam.core.geometry import Mask
from napari_kdsam.inference.drift import DriftLimits
from napari_kdsam.inference.propagation import propagate
from napari_kdsam.measure.scores import dice_and_iou

LOST = 0.7
AHEAD = 4
# Between two key frames each way is to be seen to its end.
NONE_LOST = DriftLimits(0, 1e9, 1e9, 0, -1, -1, 0)


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


def agreement(frame: Frame, mask: Mask | None) -> float:
    """Dice with the truth; 0 where the object is not found, or not there."""
    truth = frame[1]
    if mask is None or not truth.any():
        return 0.0
    return float(dice_and_iou(mask, truth)[0])


def follow(predictor: Predictor, frames: Sequence[Frame]) -> Outcome:
    """Follow the truth of the first frame until it is lost, going on after flags."""
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
            dice.append(agreement(frames[done.index], done.masks.get(1)))
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


def mean_between(
    predictor: Predictor, frames: Sequence[Frame], keys: Sequence[int]
) -> float:
    """Mean Dice of the frames inside the first and the last, followed from key frames."""
    inside = range(1, len(frames) - 1)
    found = propagate(
        predictor,
        lambda number: predictor.embed(frames[number][0]),
        {key: {1: frames[key][1]} for key in keys},
        inside,
        NONE_LOST,
    )
    return float(np.mean([agreement(frames[f.index], f.masks.get(1)) for f in found]))


def main() -> None:
    """Print a line for each cine, and the totals."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--model', default='kdsam')
    parser.add_argument('--frames', type=int, default=16)
    parser.add_argument('--only', default='', help='part of the names of cines')
    parser.add_argument('--between', action='store_true')
    options = parser.parse_args()
    predictor = Predictor(load_model(options.model))
    chosen = (one for one in cines(options.frames) if options.only in one[0])
    if options.between:
        print('| cine | mean Dice, from the first frame | from both |\n|---|--:|--:|')
        for name, frames in chosen:
            # What is gone in the end has no second key frame.
            if all(truth.any() for _, truth in frames):
                one = mean_between(predictor, frames, [0])
                both = mean_between(predictor, frames, [0, len(frames) - 1])
                print(f'| {name} | {one:.3f} | {both:.3f} |', flush=True)
        return
    print(
        '| cine | mean Dice while followed | lost at frame | flagged in time | false alarms |'
    )
    print('|---|--:|--:|---|--:|')
    outcomes = []
    for name, frames in chosen:
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
