"""Summary tables as CSV and Markdown."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from napari_kdsam.io.writers import atomic_path
from napari_kdsam.training.data.catalogue import DATA_SETS
from napari_kdsam.training.evaluation.results import PER_IMAGE, Row, read_notes
from napari_kdsam.training.evaluation.statistics import (
    Mean,
    mean_with_interval,
    paired_comparison,
    significance_mark,
)

# Heading, kind of row, score, digits, as percentage.
_COLUMNS: tuple[tuple[str, str, str, int, bool], ...] = (
    ('Box', 'box', 'dice', 1, True),
    ('Box, jittered', 'box_jittered', 'dice', 1, True),
    ('1 click', 'clicks_1', 'dice', 1, True),
    ('3 clicks', 'clicks_3', 'dice', 1, True),
    ('5 clicks', 'clicks_5', 'dice', 1, True),
    ('NoC@85', 'noc_85', 'clicks', 1, False),
    ('NoC@90', 'noc_90', 'clicks', 1, False),
    ('HD95 (px)', 'box', 'hd95_px', 1, False),
    ('NSD', 'box', 'nsd', 1, True),
)
_LESS_IS_BETTER = ('clicks', 'hd95_px')
_MODELS = {
    'kdsam': 'KD SAM',
    'mobile_sam': 'MobileSAM',
    'lite_medsam': 'LiteMedSAM',
    'sam2_tiny': 'SAM 2 tiny',
    'sam_vit_b': 'SAM ViT-B',
    'sam_vit_l': 'SAM ViT-L',
    'sam_vit_h': 'SAM ViT-H',
}


def title_of(name: str) -> str:
    """How a data set or model is written in tables and figures."""
    known = DATA_SETS.get(name)
    return known.title if known else _MODELS.get(name, name)


def in_order(values: Iterable[str]) -> list[str]:
    """Distinct values in order of first appearance."""
    return list(dict.fromkeys(values))


def values_of(
    rows: Iterable[Row], data_set: str, model: str, prompt: str, score: str
) -> dict[str, float]:
    """One score by image name, for one data set, model and kind of prompt."""
    return {
        f'{row.split}/{row.stem}': float(getattr(row, score))
        for row in rows
        if (row.data_set, row.model, row.prompt) == (data_set, model, prompt)
    }


def write_summary(rows: Sequence[Row], path: Path) -> None:
    """Write means, intervals and paired tests as CSV, one line per number.

    Columns: data_set, model, prompt, score, mean, low, high, images, and for each
    other model's comparison with the first: difference, p_value, against.

    Parameters
    ----------
    rows : sequence of Row
        Of every model; the first model is compared with each other.
    path : pathlib.Path
        The file to write.
    """
    columns = (
        'data_set,model,prompt,score,mean,low,high,images,against,difference,p_value'
    )
    models = in_order(row.model for row in rows)
    with atomic_path(path) as part, part.open('w', encoding='utf-8', newline='') as f:
        writer = csv.writer(f, lineterminator='\n')
        writer.writerow(columns.split(','))
        for data_set in in_order(row.data_set for row in rows):
            chosen = [row for row in rows if row.data_set == data_set]
            for _, prompt, score, _, _ in _COLUMNS:
                ours = values_of(chosen, data_set, models[0], prompt, score)
                for model in models:
                    values = values_of(chosen, data_set, model, prompt, score)
                    if not values:
                        continue
                    mean = mean_with_interval(list(values.values()))
                    numbers = [f'{x:.6g}' for x in (mean.value, mean.low, mean.high)]
                    line = [data_set, model, prompt, score, *numbers, mean.count]
                    test = paired_comparison(ours, values)
                    if model != models[0] and test.count:
                        line += [
                            models[0],
                            f'{test.difference:.6g}',
                            f'{test.p_value:.3g}',
                        ]
                    writer.writerow(line + [''] * (11 - len(line)))


def _cell(mean: Mean, digits: int, percent: bool, mark: str) -> str:
    if not mean.count:
        return '—'
    factor = 100 if percent else 1
    value, low, high = (factor * x for x in (mean.value, mean.low, mean.high))
    shown = f'{value:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})'
    return f'{shown} {mark}'.rstrip()


def accuracy_table(rows: Sequence[Row]) -> str:
    """Markdown table of accuracy, a line for each data set and model.

    Parameters
    ----------
    rows : sequence of Row
        The first model is the one compared with the others.

    Returns
    -------
    str
        Dice and NSD in percent, with 95 % intervals; the marks say where the first
        model is better (+) or worse (−) than this one.
    """
    models = in_order(row.model for row in rows)
    lines = [
        f'| Data set | Model | Images | {" | ".join(c[0] for c in _COLUMNS)} |',
        f'|---|---|--:|{"--:|" * len(_COLUMNS)}',
    ]
    for data_set in in_order(row.data_set for row in rows):
        chosen = [row for row in rows if row.data_set == data_set]
        for model in models:
            images = {row.image for row in chosen if row.model == model}
            if not images:
                continue
            cells = []
            for _, prompt, score, digits, percent in _COLUMNS:
                theirs = values_of(chosen, data_set, model, prompt, score)
                ours = values_of(chosen, data_set, models[0], prompt, score)
                mark = ''
                if model != models[0]:
                    sides = (
                        (theirs, ours) if score in _LESS_IS_BETTER else (ours, theirs)
                    )
                    mark = significance_mark(paired_comparison(*sides))
                mean = mean_with_interval(list(theirs.values()))
                cells.append(_cell(mean, digits, percent, mark))
            names = f'{title_of(data_set)} | {title_of(model)} | {len(images)}'
            lines.append(f'| {names} | {" | ".join(cells)} |')
    note = (
        '\nMean Dice and NSD (2 px) in %, mean clicks to an IoU of 0.85 and 0.90, mean '
        'HD95 in pixels, each with its 95 % bootstrap interval; HD95 and NSD with the '
        f'box. +, ++, +++: {title_of(models[0])} is better than this model at p < 0.05, '
        '0.01, 0.001 (−: worse; paired Wilcoxon signed-rank test, unadjusted).\n'
    )
    return '\n'.join(lines) + '\n' + note


def speed_of(rows: Iterable[Row], model: str) -> tuple[float, float | None]:
    """Median seconds to embed an image, and to answer a click (else a box)."""
    chosen = [row for row in rows if row.model == model]
    encode = median({row.image: row.encode_seconds for row in chosen}.values())
    for prompt in ('clicks_1', 'box'):
        answers = [row.seconds for row in chosen if row.prompt == prompt]
        if answers:
            return encode, median(answers)
    return encode, None


def cost_table(rows: Sequence[Row], notes: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown table of what each model costs.

    Parameters
    ----------
    rows : sequence of Row
        Of every model.
    notes : mapping
        By model, from `notes_of`.

    Returns
    -------
    str
    """
    lines = [
        '| Model | Parameters | Embed an image | Answer a prompt | Peak memory |',
        '|---|--:|--:|--:|--:|',
    ]
    for model in in_order(row.model for row in rows):
        about = notes.get(model, {})
        count, memory = about.get('parameters'), about.get('peak_memory_bytes')
        encode, answer = speed_of(rows, model)
        cells = [
            title_of(model),
            f'{count / 1e6:.1f} M' if count else '—',
            f'{encode * 1000:.0f} ms',
            f'{answer * 1000:.0f} ms' if answer is not None else '—',
            f'{memory / 2**30:.2f} GiB' if memory else '—',
        ]
        lines.append(f'| {" | ".join(cells)} |')
    return '\n'.join(lines) + '\n'


def notes_of(out: Path, models: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Read each model's sidecar."""
    return {m: read_notes(out / PER_IMAGE / f'{m}.json') for m in models}


def write_report(rows: Sequence[Row], out: Path) -> Path:
    """Write ``summary.csv`` and ``summary.md``.

    Parameters
    ----------
    rows : sequence of Row
        From `run_evaluation`.
    out : pathlib.Path
        Folder of the evaluation.

    Returns
    -------
    pathlib.Path
        The Markdown file.
    """
    write_summary(rows, out / 'summary.csv')
    notes = notes_of(out, in_order(row.model for row in rows))
    path = out / 'summary.md'
    text = f'{accuracy_table(rows)}\n{cost_table(rows, notes)}'
    with atomic_path(path) as part:
        part.write_text(text, encoding='utf-8')
    return path
