"""Measure Dice on validation images and compare it with what the weights state.

Protocol: the first `--limit` validation images of each data set in name order, each
structure of a mask by itself; one that an image does not have is left out. The box is
the ground truth's own (first mask pixel to last mask pixel + 1). The click is the most
interior pixel of the ground truth; its mask is either the candidate with the highest
predicted IoU of SAM's three, or SAM's single-mask output.

Usage: python benchmarks/accuracy.py [--limit N] [--dtype auto|float32|bfloat16] ...
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_kdsam import Predictor, Prompt, box_of_mask, load_model
from napari_kdsam.core.errors import ImageError
from napari_kdsam.core.geometry import Mask, PaddedSquare
from napari_kdsam.core.sizes import PROMPT_SIDE
from napari_kdsam.inference.masks import mask_of_logits
from napari_kdsam.inference.predictor import ImageEmbedding
from napari_kdsam.measure.scores import dice_and_iou
from napari_kdsam.model.network import PromptableModel
from napari_kdsam.model.registry import MODELS_VARIABLE, find_model, models_folder
from napari_kdsam.training.data.catalogue import DATA_SETS
from napari_kdsam.training.data.samples import Sample, single_objects
from napari_kdsam.training.data.shards import read_shards
from napari_kdsam.training.evaluation.clicks import next_click
from napari_kdsam.training.evaluation.tables import Part, title_of_part

STATED_IMAGES = 97
TOLERANCE = 0.005
DTYPES = {'auto': None, 'float32': torch.float32, 'bfloat16': torch.bfloat16}


@dataclass
class Scores:
    """Dice of every object of one data set or structure, by kind of prompt."""

    box: list[float] = field(default_factory=list)
    click_best: list[float] = field(default_factory=list)
    click_single: list[float] = field(default_factory=list)


def default_data_folder() -> Path:
    """Folder of the tar shards, from ``KDSAM_SHARED`` or beside the repository."""
    beside = Path(__file__).resolve().parents[1].parent / 'shared'
    return Path(os.environ.get('KDSAM_SHARED') or beside) / 'data'


def first_samples(folder: Path, data_set: str, limit: int) -> list[Sample]:
    """List the first validation images of a data set in name order."""
    try:
        return read_shards(folder, (data_set,), ('val',))[:limit]
    except ImageError as error:
        raise SystemExit(f'{error} Give --data FOLDER.') from error


def interior_point(mask: Mask) -> tuple[float, float]:
    """(row, column) of the pixel farthest from the mask's border and the image's."""
    click = next_click(np.zeros_like(mask), mask)
    assert click is not None
    row, column = click[0]
    return float(row), float(column)


def single_mask(
    model: PromptableModel, embedding: ImageEmbedding, point: tuple[float, float]
) -> Mask:
    """Mask of one click from SAM's single-mask output, which `Predictor` does not use."""
    square = PaddedSquare(embedding.image_shape, PROMPT_SIDE)
    where = np.array([square.points_to_square([point])], np.float32)
    points = (
        torch.from_numpy(where).to(model.device),
        torch.ones(1, 1, device=model.device),
    )
    with torch.inference_mode():
        logits, _ = model.decode(embedding.features, points, multimask_output=False)
    return mask_of_logits(logits[0, 0].cpu().numpy(), embedding.image_shape)


def score_model(
    model: PromptableModel, folder: Path, limit: int, data_sets: tuple[str, ...]
) -> dict[Part, Scores]:
    """Score a model on every data set, with progress on standard error."""
    predictor = Predictor(model, cache_bytes=0)
    results: dict[Part, Scores] = {}
    for data_set in data_sets:
        started = time.perf_counter()
        samples = single_objects(first_samples(folder, data_set, limit))
        for sample in samples:
            results.setdefault((data_set, sample.object_number), Scores())
        for count, sample in enumerate(samples, start=1):
            try:
                image, truth = sample.load()
            except ImageError as error:
                print(f'\nLeft out: {error}', file=sys.stderr)
                continue
            scores = results[data_set, sample.object_number]
            box = box_of_mask(truth)
            embedding = predictor.embed(image)
            point = interior_point(truth)
            by_box = predictor.predict(embedding, Prompt(box=box)).mask
            by_click = predictor.predict(embedding, Prompt(points=[point])).mask
            scores.box.append(dice_and_iou(by_box, truth)[0])
            scores.click_best.append(dice_and_iou(by_click, truth)[0])
            scores.click_single.append(
                dice_and_iou(single_mask(model, embedding, point), truth)[0]
            )
            seconds = time.perf_counter() - started
            print(
                f'\r{model.identity.name} {data_set} {count} ({seconds:.0f} s)',
                end='',
                file=sys.stderr,
                flush=True,
            )
        print(file=sys.stderr)
    return results


def stated_dice(model: PromptableModel, part: Part, objects: int) -> float | None:
    """Box Dice that the checkpoint states for that many images of a data set."""
    data_set, number = part
    stated: Any = model.identity.metadata.get('val_box_dice', {})
    entry = stated.get(data_set, {}) if number is None else {}
    return float(entry['box_dice']) if entry.get('n') == objects else None


def table_rows(model: PromptableModel, results: dict[Part, Scores]) -> Iterator[str]:
    """Yield Markdown rows, one for each data set or structure and one for the mean.

    In the mean each data set counts alike, and so does each structure within it.
    """
    name = model.identity.name
    by_set: dict[str, list[list[float]]] = {}
    for part, scores in results.items():
        if not scores.box:
            continue
        means = [
            float(np.mean(x))
            for x in (scores.box, scores.click_best, scores.click_single)
        ]
        by_set.setdefault(part[0], []).append(means)
        stated = stated_dice(model, part, len(scores.box))
        said = difference = ''
        if stated is not None:
            said, difference = f'{stated:.4f}', f'{means[0] - stated:+.4f}'
            if abs(means[0] - stated) > TOLERANCE:
                difference += ' **differs**'
        yield (
            f'| {title_of_part(part)} | {len(scores.box)} | {name} | {means[0]:.4f} | '
            f'{said} | {difference} | {means[1]:.4f} | {means[2]:.4f} |'
        )
    of_sets = np.mean([np.mean(parts, axis=0) for parts in by_set.values()], axis=0)
    yield (
        f'| mean of sets | | {name} | {of_sets[0]:.4f} | | | {of_sets[1]:.4f} | '
        f'{of_sets[2]:.4f} |'
    )


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--limit', type=int, default=STATED_IMAGES, metavar='N')
    parser.add_argument('--device', default='auto')
    parser.add_argument('--dtype', choices=DTYPES, default='auto')
    parser.add_argument('--data', type=Path, default=default_data_folder())
    parser.add_argument(
        '--models',
        type=Path,
        default=models_folder(),
        help='folder with mobile_sam_encoder.onnx and its decoder',
    )
    parser.add_argument(
        '--weights', default='kdsam', help='name or file of the KD SAM to measure'
    )
    parser.add_argument(
        '--only', choices=('kdsam', 'mobile_sam'), help='measure one of the two models'
    )
    parser.add_argument(
        '--sets', nargs='+', choices=tuple(DATA_SETS), default=tuple(DATA_SETS)
    )
    return parser.parse_args()


def main() -> None:
    """Measure and print the table."""
    arguments = parse_arguments()
    dtype, data_sets = DTYPES[arguments.dtype], tuple(arguments.sets)
    os.environ[MODELS_VARIABLE] = str(arguments.models)
    chosen, notes = [], []
    if arguments.only != 'mobile_sam':
        chosen.append(arguments.weights)
    if arguments.only != 'kdsam':
        entry = find_model('mobile_sam')
        if entry.available:
            chosen.append(entry.name)
        else:
            notes.append(
                f'MobileSAM skipped: {entry.filename} and {entry.companion} are not in '
                'the folder given by --models or NAPARI_KDSAM_MODELS.'
            )
    rows: list[str] = []
    for name in chosen:
        model = load_model(name, arguments.device, dtype=dtype)
        notes.append(
            f'{model.identity.name}: {model.identity.architecture}, '
            f'{model.device.type}, {str(model.compute_dtype).removeprefix("torch.")}.'
        )
        results = score_model(model, arguments.data, arguments.limit, data_sets)
        rows.extend(table_rows(model, results))
    print(
        '| data set | objects | model | box Dice | stated | difference | '
        '1 click, best of 3 | 1 click, single mask |'
    )
    print('|---|---|---|---|---|---|---|---|')
    print('\n'.join(rows))
    print('\n' + '\n'.join(f'- {note}' for note in notes))


if __name__ == '__main__':
    main()
