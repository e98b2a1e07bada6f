"""Measure what each choice in training is worth.

Every variant is trained for the same number of steps from the same start and scored on
held-back images: of data sets it was trained on (seen) and of data sets it never saw (new).
Stage 2 starts from the bundled weights; its baseline learns by Dice and cross entropy, and
each variant changes one thing. Stage 1 starts from the bundled trunk with untrained
laterals and SAM's own decoder, and learns the neck alone by the mean squared error; its
variants add a loss or double the input size. Differences to the baseline come with their
95 % intervals, image by image. What is done is kept in --out and not done again.

With --frozen-encoder stage 2 trains the mask decoder alone, and stage 1 is left out: the
cheap way on a computer without a GPU, with few --steps and --images.

Usage: python benchmarks/ablation.py --out FOLDER [--only NAME ...] [--steps N]
with KDSAM_SHARED (data) and KDSAM_WEIGHTS (pretrained files) set.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from ablation_scores import scores_of, tables

from napari_kdsam.model.checkpoint import read_tensors, save_kdsam
from napari_kdsam.model.registry import DEFAULT_MODEL, find_model
from napari_kdsam.training.averaging import average_weights
from napari_kdsam.training.config import TrainingConfig
from napari_kdsam.training.initial_weights import FRESH_LATERALS, starting_model
from napari_kdsam.training.recipe import run_parts

SEEN = ('kvasir_seg', 'isic', 'busi', 'busbra', 'hc18')
NEW = ('camus', 'ddti', 'mmotu', 'fh_ps_aop', 'ham10000', 'cvc_clinicdb', 'fuseg')
NO_CROPS, THINGS = 'no-crops', 'things'
BASELINE, PARENT = 'baseline', 'mse'
# What differs from the baseline's settings.
DECODER_VARIANTS: dict[str, dict[str, Any]] = {
    BASELINE: {},
    'outline': {'outline_weight': 0.2},
    'ranking': {'ranking_weight': 0.1},
    'anchor': {'anchor_weight': 0.15, 'anchor_share': 0.125},
    THINGS: {},
    NO_CROPS: {},
    'no-geometry': {'geometry': False},
    'no-ema': {'ema_decay': 0.0},
}
# Shares of the baseline's weights, the rest being the start's.
AVERAGES = {f'average-{share}': share for share in (0.5, 0.7, 0.85)}
# Weights bring each extra term to about the size of the mean squared error.
ENCODER_VARIANTS: dict[str, dict[str, Any]] = {
    PARENT: {},
    'perceptual': {'perceptual_weight': 0.01},
    'cosine': {'cosine_weight': 0.02},
    'prompt': {'prompt_weight': 0.05},
    'input-1024': {},
}
NAMES = [*DECODER_VARIANTS, *AVERAGES, *ENCODER_VARIANTS]
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


def configuration(name: str, options: argparse.Namespace) -> TrainingConfig:
    """The configuration of one variant."""
    sources: list[dict[str, Any]] = [
        {'folder': options.data, 'data_sets': list(options.seen)}
    ]
    if name == THINGS:
        sources.append({'folder': options.things})
    values: dict[str, Any] = {
        'name': name,
        'out': options.out,
        'input_size': 1024 if name == 'input-1024' else 512,
        'data': {
            'sources': sources,
            'train_limit': options.images,
            'val_limit': 2,
            'workers': os.cpu_count() or 1,
        },
        'loop': {
            'accelerator': options.accelerator,
            'compile': options.compile,
            'checkpoint_every': max(1, options.steps // 4),
            'validate_every': options.steps,
        },
    }
    common = {
        'steps': options.steps,
        'batch_size': options.batch_size,
        'warmup_steps': options.steps // 20,
    }
    part = encoder_part if name in ENCODER_VARIANTS else decoder_part
    return TrainingConfig.model_validate(values | part(name, common, options))


def encoder_part(
    name: str, common: dict[str, Any], options: argparse.Namespace
) -> dict[str, Any]:
    """Stage 1 of a variant."""
    weights = Path(os.environ['KDSAM_WEIGHTS'])
    return {
        'initial': options.out / START,
        'teacher': {
            'weights': options.teacher,
            'perceptual_weights': weights / 'vgg16_imagenet_features.safetensors',
            'batch_size': options.batch_size,
        },
        'encoder': {
            **common,
            'neck_rate': 2e-3,
            'frozen': ['stem', 'layer1', 'layer2', 'layer3', 'layer4'],
            'appearance': False,
            'perceptual_weight': 0.0,
            **ENCODER_VARIANTS[name],
        },
    }


def decoder_part(
    name: str, common: dict[str, Any], options: argparse.Namespace
) -> dict[str, Any]:
    """Stage 2 of a variant."""
    settings: dict[str, Any] = {
        **common,
        'neck_rate': 0.0 if options.frozen_encoder else 2e-4,
        'trunk_rate': 0.0 if options.frozen_encoder else 5e-5,
        'strength': 0.5,
        'cross_entropy_weight': 0.5,
        'ema_decay': 0.99,
        **DECODER_VARIANTS[name],
    }
    if settings.get('anchor_weight'):
        settings['anchor'] = options.teacher
    return {'initial': options.start, 'decoder': settings}


@contextmanager
def special_conditions(name: str) -> Iterator[None]:
    """What no setting changes: no close-ups, no zooming out, whole images."""
    if name != NO_CROPS:
        yield
        return
    from napari_kdsam.training.augmentation import geometry

    # Fails by name if a constant is no longer there.
    with mock.patch.multiple(
        geometry, _CLOSE_UPS=0.0, _ZOOM_OUTS=0.0, _ZOOM=(1.0, 1.0)
    ):
        yield


def weights_of(name: str, options: argparse.Namespace) -> Path:
    """Train one variant, going on where it stopped; or average it."""
    if name in AVERAGES:
        tuned = weights_of(BASELINE, options)
        out: Path = options.out / f'{name}.safetensors'
        start = options.start or Path(find_model(DEFAULT_MODEL).path)
        return average_weights(tuned, start, AVERAGES[name], out)
    part = 'encoder' if name in ENCODER_VARIANTS else 'decoder'
    finished: Path = options.out / name / f'{part}.safetensors'
    if (options.out / f'{name}.json').is_file() and finished.is_file():
        return finished
    if part == 'encoder':
        write_start(options.out / START)
    with special_conditions(name):
        (weights,) = run_parts(configuration(name, options), [part])
    return weights


def run_variant(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Train and score one variant, unless its scores are there already."""
    path: Path = options.out / f'{name}.json'
    if path.is_file():
        found: dict[str, Any] = json.loads(path.read_text(encoding='utf-8'))
        return found
    weights = weights_of(name, options)
    found = scores_of(weights, options.out / 'scores' / name, options)
    path.write_text(json.dumps(found), encoding='utf-8')
    return found


def chosen_names(options: argparse.Namespace) -> list[str]:
    """Which variants are run, those that the options rule out left out."""
    names = [name for name in NAMES if name in options.only]
    if options.things is None:
        names = [name for name in names if name != THINGS]
    if options.frozen_encoder:
        names = [name for name in names if name not in ENCODER_VARIANTS]
    return names


def check_options(options: argparse.Namespace) -> None:
    """Refuse to mix results of other options in one folder."""
    free = ('only', 'accelerator', 'compile', 'device', 'out')
    kept = {k: str(v) for k, v in vars(options).items() if k not in free}
    path = options.out / 'options.json'
    if path.is_file() and json.loads(path.read_text(encoding='utf-8')) != kept:
        raise SystemExit(f'{options.out} has results of other options: name another.')
    options.out.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(kept), encoding='utf-8')


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    shared, weights = (os.environ.get(f'KDSAM_{n}', '.') for n in ('SHARED', 'WEIGHTS'))
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument('--only', nargs='+', choices=NAMES, default=NAMES)
    parser.add_argument('--steps', type=int, default=600)
    parser.add_argument('--batch-size', type=int, default=32)
    parser.add_argument('--images', type=int, help='train images of a set; all')
    parser.add_argument('--limit', type=int, default=24, help='val images of a set')
    parser.add_argument('--data', type=Path, default=Path(shared) / 'data')
    parser.add_argument('--seen', nargs='+', default=SEEN, help='sets to train on')
    parser.add_argument('--new', nargs='*', default=NEW, help='sets to score alone')
    parser.add_argument('--things', type=Path, help='shards of other things')
    parser.add_argument('--start', type=Path, help='of stage 2; the bundled weights')
    parser.add_argument(
        '--teacher', type=Path, default=Path(weights) / 'mobile_sam_encoder.onnx'
    )
    parser.add_argument('--frozen-encoder', action='store_true')
    parser.add_argument('--accelerator', default='auto', help="Lightning's, to train")
    parser.add_argument('--device', default='auto', help='to score')
    parser.add_argument('--compile', action='store_true')
    options = parser.parse_args(arguments)
    options.out = options.out.resolve()
    return options


def main() -> None:
    """Run the variants asked for and print the tables of all that are done."""
    options = parsed()
    check_options(options)
    for name in chosen_names(options):
        run_variant(name, options)
    done = {
        name: json.loads((options.out / f'{name}.json').read_text(encoding='utf-8'))
        for name in NAMES
        if (options.out / f'{name}.json').is_file()
    }
    for baseline, others in (
        (BASELINE, [*DECODER_VARIANTS, *AVERAGES]),
        (PARENT, list(ENCODER_VARIANTS)),
    ):
        own = {name: done[name] for name in others if name in done}
        groups = {'seen': options.seen, 'new': options.new}
        if own:
            print(tables(own, baseline, groups))


if __name__ == '__main__':
    main()
