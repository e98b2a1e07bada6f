"""Measure what each choice in training is worth, at a size that two cores can run.

Every variant of stage 1 starts from the bundled trunk with untrained laterals and SAM's
own decoder, and trains the neck alone; stage 2 goes on from the plain MSE variant. All see
the same few images in the same order, far too few for good weights: the numbers say which
way a choice pushes early in training, not where it ends. Variants that are done are not run
again.

Usage: python benchmarks/ablation.py --out FOLDER [--only NAME ...] [--steps N]
with KDSAM_SHARED (data) and KDSAM_WEIGHTS (pretrained files) set.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from napari_kdsam import Predictor, Prompt, box_of_mask, load_model
from napari_kdsam.measure.scores import dice_and_iou
from napari_kdsam.model.checkpoint import read_tensors, save_kdsam
from napari_kdsam.training.config import TrainingConfig
from napari_kdsam.training.evaluation.clicks import next_click
from napari_kdsam.training.run import limited, read_samples, run_parts
from napari_kdsam.training.student import FRESH_LATERALS, starting_model

DATA_SETS = ['kvasir_seg', 'isic', 'busi', 'busbra', 'hc18']
# Weights bring each extra term to about the size of the MSE.
ENCODER_VARIANTS: dict[str, dict[str, Any]] = {
    'mse': {},
    'perceptual': {'perceptual_weight': 0.01},
    'cosine': {'cosine_weight': 0.02},
    'prompt': {'prompt_weight': 0.05},
    'ema': {'ema_decay': 0.95},
    'input-1024': {},
}
DECODER_VARIANTS: dict[str, dict[str, Any]] = {
    'decoder': {},
    'decoder-neck': {'neck_rate': 2e-4},
    'decoder-neck-trunk': {'neck_rate': 2e-4, 'trunk_rate': 1e-4},
}
PARENT = 'mse'
START = 'start.safetensors'


def write_start(path: Path) -> None:
    """Write the student that stage 1 starts from, unless it is there."""
    if path.is_file():
        return
    model = starting_model(Path(FRESH_LATERALS), None, 512)
    weights = Path(os.environ['KDSAM_WEIGHTS']) / 'sam_prompt_mask_decoder.safetensors'
    for name, part in (
        ('prompt_encoder', model.prompt_encoder),
        ('mask_decoder', model.mask_decoder),
    ):
        tensors = read_tensors(weights)
        own = {k.removeprefix(f'{name}.'): v for k, v in tensors.items() if name in k}
        part.load_state_dict(own)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_kdsam(model, path, {'name': 'ablation-start'})


def configuration(name: str, out: Path, steps: int, images: int) -> TrainingConfig:
    """The configuration of one variant; stage 2 goes on from `PARENT`."""
    weights = Path(os.environ['KDSAM_WEIGHTS'])
    common = {
        'steps': steps,
        'batch_size': 4,
        'warmup_steps': steps // 10,
        'appearance': False,
    }
    trunk = ['stem', 'layer1', 'layer2', 'layer3', 'layer4']
    values: dict[str, Any] = {
        'name': name,
        'out': out,
        'input_size': 1024 if name == 'input-1024' else 512,
        'data': {
            'sources': [{'folder': '${KDSAM_SHARED}/data', 'data_sets': DATA_SETS}],
            'train_limit': images,
            'val_limit': 4,
            'balance': 1.0,
        },
        'loop': {
            'accelerator': 'cpu',
            'checkpoint_every': 50,
            'validate_every': steps,
            'log_every': 1,
        },
    }
    if name in ENCODER_VARIANTS:
        values |= {
            'initial': out / START,
            'teacher': {
                'weights': weights / 'mobile_sam_encoder.onnx',
                'cache': out / 'teacher',
                'perceptual_weights': weights / 'vgg16_imagenet_features.safetensors',
            },
            'encoder': {
                **common,
                'neck_rate': 2e-3,
                'frozen': trunk,
                'perceptual_weight': 0.0,
                **ENCODER_VARIANTS[name],
            },
        }
    else:
        values |= {
            'initial': out / PARENT / 'encoder.safetensors',
            'decoder': {
                **common,
                'frozen': trunk[:3],
                'geometry': False,
                'cross_entropy_weight': 0.5,
                **DECODER_VARIANTS[name],
            },
        }
    return TrainingConfig.model_validate(values)


def scores_of(weights: Path, config: TrainingConfig, limit: int) -> dict[str, float]:
    """Mean box and click Dice over the first validation images of every set."""
    predictor = Predictor(load_model(weights, 'cpu'), cache_bytes=0)
    box_dice: dict[str, list[float]] = {}
    click_dice: dict[str, list[float]] = {}
    for sample in limited(read_samples(config.data, ['val']), limit):
        image, truth = sample.load()
        embedding = predictor.embed(image)
        click = next_click(np.zeros_like(truth), truth)
        assert click is not None
        row, column = click[0]
        by_box = predictor.predict(embedding, Prompt(box=box_of_mask(truth)))
        by_click = predictor.predict(
            embedding, Prompt(points=[(float(row), float(column))])
        )
        for found, kept in ((by_box, box_dice), (by_click, click_dice)):
            dice = dice_and_iou(found.mask, truth)[0]
            kept.setdefault(sample.data_set, []).append(dice)
    return {
        kind: float(np.mean([np.mean(values) for values in sets.values()]))
        for kind, sets in (('box', box_dice), ('click', click_dice))
    }


def run_variant(
    name: str, out: Path, steps: int, images: int, limit: int
) -> dict[str, Any]:
    """Train and score one variant, unless its result is there already."""
    result = out / f'{name}.json'
    if result.is_file():
        found: dict[str, Any] = json.loads(result.read_text())
        return found
    config = configuration(name, out, steps, images)
    part = 'encoder' if name in ENCODER_VARIANTS else 'decoder'
    (weights,) = run_parts(config, [part])
    found = {'variant': name, **scores_of(weights, config, limit)}
    logs = out / name / part / 'logs' / 'csv-from-0' / 'metrics.csv'
    if logs.is_file():
        found |= last_values(logs, ('val/mse', 'val/cosine_distance'))
    result.write_text(json.dumps(found))
    return found


def last_values(path: Path, columns: tuple[str, ...]) -> dict[str, float]:
    """The last value of each column of a CSV log that has one."""

    found = {}
    with path.open(encoding='utf-8', newline='') as file:
        for row in csv.DictReader(file):
            found |= {c: float(row[c]) for c in columns if row.get(c)}
    return found


def main() -> None:
    """Run the variants asked for and print the table of all that are done."""
    names = [*ENCODER_VARIANTS, *DECODER_VARIANTS]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument('--only', nargs='+', choices=names, default=names)
    parser.add_argument('--steps', type=int, default=120)
    parser.add_argument('--images', type=int, default=60, help='train images of a set')
    parser.add_argument('--limit', type=int, default=12, help='val images of a set')
    arguments = parser.parse_args()
    out = arguments.out.resolve()
    write_start(out / START)
    if any(name in ENCODER_VARIANTS for name in arguments.only):
        config = configuration('mse', out, arguments.steps, arguments.images)
        list(run_parts(config, ['cache-teacher']))
    for name in arguments.only:
        run_variant(name, out, arguments.steps, arguments.images, arguments.limit)
    print('| variant | val MSE | val cosine distance | box | 1 click |')
    print('|---|--:|--:|--:|--:|')
    for name in names:
        result = out / f'{name}.json'
        if not result.is_file():
            continue
        row = json.loads(result.read_text())
        print(
            f'| {name} | {row.get("val/mse", float("nan")):.5f} '
            f'| {row.get("val/cosine_distance", float("nan")):.3f} '
            f'| {row["box"]:.3f} | {row["click"]:.3f} |'
        )


if __name__ == '__main__':
    main()
