"""Scores of the variants of an ablation, and their differences to a baseline."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from napari_kdsam.training.config import DataConfig
from napari_kdsam.training.data.samples import single_objects
from napari_kdsam.training.evaluation.runner import run_evaluation
from napari_kdsam.training.evaluation.significance import mean_with_interval
from napari_kdsam.training.recipe import limited, read_samples

# Column of the table: kind of prompt and score.
SCORES = {
    'box': ('box', 'dice'),
    'box ± 10 %': ('box_jittered', 'dice'),
    '1 click': ('clicks_1', 'dice'),
    'click off centre': ('click_off', 'dice'),
    '3 clicks': ('clicks_3', 'dice'),
    'NSD, box': ('box', 'nsd'),
    'area ratio, box': ('box', 'area_ratio'),
}
# By column, of each object by its name.
Scores = dict[str, dict[str, float]]


def scores_of(weights: Path, out: Path, options: argparse.Namespace) -> Scores:
    """Score a model on the first validation images of every data set.

    Parameters
    ----------
    weights : pathlib.Path
        A KD SAM checkpoint.
    out : pathlib.Path
        Folder of the scores; what is there is not asked again.
    options : argparse.Namespace
        With data, seen, new, limit and device.

    Returns
    -------
    dict
        By column of the table, the score of each object.
    """
    source = {'folder': options.data, 'data_sets': [*options.seen, *options.new]}
    data = DataConfig.model_validate({'sources': [source]})
    samples = single_objects(limited(read_samples(data, ['val']), options.limit))
    kinds = list(dict.fromkeys(kind for kind, _ in SCORES.values()))
    rows = run_evaluation(
        samples, [f'{out.name}={weights}'], out, device=options.device, kinds=kinds
    )
    found: Scores = {column: {} for column in SCORES}
    for row in rows:
        number = '' if row.object_number is None else f'#{row.object_number}'
        for column, (kind, score) in SCORES.items():
            if row.prompt == kind:
                name = f'{row.data_set}/{row.stem}{number}'
                found[column][name] = float(getattr(row, score))
    return found


def tables(
    found: Mapping[str, Scores], baseline: str, groups: Mapping[str, Sequence[str]]
) -> str:
    """A Markdown table for each group of data sets.

    Parameters
    ----------
    found : mapping of str to dict
        What `scores_of` gave for each variant.
    baseline : str
        The variant that the others are compared with, where it is there.
    groups : mapping of str to sequence of str
        Names of groups, and their data sets.

    Returns
    -------
    str
        Means over objects; below them the mean difference to the baseline on the same
        objects, with its 95 % interval.
    """
    lines = []
    for group, data_sets in groups.items():
        lines += ['', f'| {group} | {" | ".join(SCORES)} |']
        lines += ['|---|' + '--:|' * len(SCORES)]
        for name, own in found.items():
            cells = []
            for column in SCORES:
                scores = _of_sets(own[column], data_sets)
                cell = f'{mean_with_interval(list(scores.values())).value:.3f}'
                if name != baseline and baseline in found:
                    base = _of_sets(found[baseline][column], data_sets)
                    cell += f'<br>{_difference(scores, base)}'
                cells.append(cell)
            lines.append(f'| {name} | {" | ".join(cells)} |')
    return '\n'.join(lines)


def _of_sets(scores: Mapping[str, float], data_sets: Sequence[str]) -> dict[str, float]:
    return {k: v for k, v in scores.items() if k.split('/')[0] in data_sets}


def _difference(scores: Mapping[str, float], base: Mapping[str, float]) -> str:
    common = sorted(scores.keys() & base.keys())
    mean = mean_with_interval([scores[name] - base[name] for name in common])
    return f'{mean.value:+.3f} ({mean.low:+.3f} to {mean.high:+.3f})'
