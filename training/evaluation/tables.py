"""Summary tables as CSV and Markdown."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

from napari_kdsam.core.files import atomic_path
from napari_kdsam.core.names import csv_cell
from napari_kdsam.training.data.catalogue import DATA_SETS, object_name
from napari_kdsam.training.evaluation.results import (
    PER_IMAGE,
    REPORT,
    SUMMARY,
    Row,
    read_notes,
)
from napari_kdsam.training.evaluation.significance import (
    Estimate,
    expected_calibration_error,
    mean_with_interval,
    median_with_interval,
    paired_comparison,
    significance_mark,
)

# (data set, class number or None): what has a line of its own.
Part = tuple[str, int | None]
_MORE, _LESS, _NEITHER = 1, -1, 0
_ECE, _CIRCUMFERENCE = 'ece', 'circumference_error_mm'


@dataclass(frozen=True)
class _Column:
    """A number of a table: a score of one kind of row, and how it is shown."""

    heading: str
    prompt: str
    score: str
    factor: float = 100
    digits: int = 1
    better: int = _MORE
    statistic: str = 'mean'

    def values(self, rows: Iterable[Row], part: Part, model: str) -> dict[str, float]:
        found = values_of(rows, part, model, self.prompt, self.score)
        if self.score == _CIRCUMFERENCE:
            # Too long and too short must not cancel.
            return {name: abs(value) for name, value in found.items()}
        return found

    def estimate(self, rows: Sequence[Row], part: Part, model: str) -> Estimate:
        if self.score == _ECE:
            return _calibration(rows, part, model)
        values = list(self.values(rows, part, model).values())
        if self.statistic == 'median':
            return median_with_interval(values)
        return mean_with_interval(values)


_PROMPTED = (
    _Column('Box', 'box', 'dice'),
    _Column('Box, jittered', 'box_jittered', 'dice'),
    _Column('1 click', 'clicks_1', 'dice'),
    _Column('1 click, off centre', 'click_off', 'dice'),
    _Column('3 clicks', 'clicks_3', 'dice'),
    _Column('5 clicks', 'clicks_5', 'dice'),
    _Column('NoC@85', 'noc_85', 'clicks', factor=1, better=_LESS),
    _Column('NoC@90', 'noc_90', 'clicks', factor=1, better=_LESS),
)
_OUTLINED = (
    _Column('HD95 (px)', 'box', 'hd95_px', factor=1, better=_LESS),
    _Column('NSD', 'box', 'nsd'),
    _Column('Area, box', 'box', 'area_ratio', 1, 2, _NEITHER, 'median'),
    _Column('Area, 1 click', 'clicks_1', 'area_ratio', 1, 2, _NEITHER, 'median'),
    _Column('Circumference, box (mm)', 'box', _CIRCUMFERENCE, 1, 1, _LESS),
    _Column('Circumference, 1 click (mm)', 'clicks_1', _CIRCUMFERENCE, 1, 1, _LESS),
    _Column('ECE', 'all', _ECE, 1, 3, _NEITHER, _ECE),
)
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


def title_of_part(part: Part) -> str:
    """How a line of tables and figures is called: the data set, and its structure."""
    data_set, number = part
    title = title_of(data_set)
    return title if number is None else f'{title}, {object_name(data_set, number)}'


def values_of(
    rows: Iterable[Row], part: Part, model: str, prompt: str, score: str
) -> dict[str, float]:
    """One score by object, for one part, model and kind of prompt, where it is known."""
    found = (
        (f'{row.split}/{row.stem}', getattr(row, score))
        for row in rows
        if (row.part, row.model, row.prompt) == (part, model, prompt)
    )
    return {name: float(value) for name, value in found if value is not None}


def _calibration(rows: Iterable[Row], part: Part, model: str) -> Estimate:
    # The rows of the number of clicks show answers that others have shown before.
    pairs = [
        (row.predicted_iou, row.iou)
        for row in rows
        if (row.part, row.model) == (part, model)
        and row.predicted_iou is not None
        and not row.prompt.startswith('noc_')
    ]
    error = expected_calibration_error(*zip(*pairs, strict=True)) if pairs else math.nan
    return Estimate(error, math.nan, math.nan, len(pairs))


def write_summary(rows: Sequence[Row], path: Path) -> None:
    """Write means, medians, intervals and paired tests as CSV, one line per number.

    Columns: data_set, object (empty where the masks have but one), model, prompt,
    score, statistic, value, low, high, count, and for each other model's comparison
    with the first: against, difference, p_value.

    Parameters
    ----------
    rows : sequence of Row
        Of every model; the first model is compared with each other.
    path : pathlib.Path
        The file to write.
    """
    columns = [
        'data_set',
        'object',
        'model',
        'prompt',
        'score',
        'statistic',
        'value',
        'low',
        'high',
        'count',
        'against',
        'difference',
        'p_value',
    ]
    models = in_order(row.model for row in rows)
    with (
        atomic_path(path) as part_file,
        part_file.open('w', encoding='utf-8', newline='') as file,
    ):
        writer = csv.writer(file, lineterminator='\n')
        writer.writerow(columns)
        for part, chosen in _by_part(rows).items():
            structure = '' if part[1] is None else object_name(part[0], part[1])
            for column in (*_PROMPTED, *_OUTLINED):
                ours = column.values(chosen, part, models[0])
                for model in models:
                    found = column.estimate(chosen, part, model)
                    if not found.count:
                        continue
                    line = [
                        csv_cell(part[0]),
                        csv_cell(structure),
                        csv_cell(model),
                        column.prompt,
                        column.score,
                        column.statistic,
                        *(_number(x) for x in (found.value, found.low, found.high)),
                        found.count,
                    ]
                    test = paired_comparison(ours, column.values(chosen, part, model))
                    if model != models[0] and test.count:
                        line += [
                            csv_cell(models[0]),
                            f'{test.difference:.6g}',
                            f'{test.p_value:.3g}',
                        ]
                    writer.writerow(line + [''] * (len(columns) - len(line)))


def _number(value: float) -> str:
    return '' if math.isnan(value) else f'{value:.6g}'


def _by_part(rows: Iterable[Row]) -> dict[Part, list[Row]]:
    """The rows of each part; parts of one data set beside each other, in order."""
    found: dict[Part, list[Row]] = {}
    for row in rows:
        found.setdefault(row.part, []).append(row)
    data_sets = in_order(data_set for data_set, _ in found)
    order = sorted(found, key=lambda part: (data_sets.index(part[0]), part[1] or 0))
    return {part: found[part] for part in order}


def parts_of(rows: Iterable[Row]) -> list[Part]:
    """The lines of a table: data sets in order, their structures by class number."""
    return list(_by_part(rows))


def _cell(found: Estimate, column: _Column, mark: str = '') -> str:
    if not found.count:
        return '—'
    value, low, high = (
        f'{column.factor * x:.{column.digits}f}'
        for x in (found.value, found.low, found.high)
    )
    shown = value if math.isnan(found.low) else f'{value} ({low} to {high})'
    return f'{shown} {mark}'.rstrip()


def _table(rows: Sequence[Row], columns: Sequence[_Column]) -> list[str]:
    """Lines of a Markdown table of those columns that have a value at all."""
    models, parts = in_order(row.model for row in rows), _by_part(rows)
    found = {
        (part, model): [column.estimate(chosen, part, model) for column in columns]
        for part, chosen in parts.items()
        for model in models
    }
    shown = [
        n for n in range(len(columns)) if any(line[n].count for line in found.values())
    ]
    headings = ' | '.join(columns[n].heading for n in shown)
    lines = [
        f'| Data set | Model | Objects | {headings} |',
        f'|---|---|--:|{"--:|" * len(shown)}',
    ]
    for (part, model), estimates in found.items():
        chosen = parts[part]
        count = len({row.place for row in chosen if row.model == model})
        if not count:
            continue
        cells = []
        for n in shown:
            mark = ''
            if model != models[0] and columns[n].better != _NEITHER:
                sides = [columns[n].values(chosen, part, m) for m in (models[0], model)]
                test = paired_comparison(*sides[:: columns[n].better])
                mark = significance_mark(test)
            cells.append(_cell(estimates[n], columns[n], mark))
        names = f'{title_of_part(part)} | {title_of(model)} | {count}'
        lines.append(f'| {names} | {" | ".join(cells)} |')
    if len({data_set for data_set, _ in parts}) > 1:
        for model in models:
            means = [
                _mean_of_sets({p: found[p, model][n] for p in parts}) for n in shown
            ]
            cells = [_cell(x, columns[n]) for x, n in zip(means, shown, strict=True)]
            if any(x.count for x in means):
                names = f'Mean of the sets | {title_of(model)} | '
                lines.append(f'| {names} | {" | ".join(cells)} |')
    return lines


def _mean_of_sets(found: Mapping[Part, Estimate]) -> Estimate:
    """Each data set counts alike, and so does each structure within it.

    Nothing where a data set lacks the number, which would make means of other sets.
    """
    by_set: dict[str, list[Estimate]] = {}
    for (data_set, _), estimate in found.items():
        by_set.setdefault(data_set, []).append(estimate)
    if not all(x.count for x in found.values()):
        return Estimate(math.nan, math.nan, math.nan, 0)
    mean = fmean(fmean(x.value for x in parts) for parts in by_set.values())
    return Estimate(mean, math.nan, math.nan, len(by_set))


def accuracy_table(rows: Sequence[Row]) -> str:
    """Markdown tables of accuracy, a line for each data set or structure and model.

    Parameters
    ----------
    rows : sequence of Row
        The first model is the one compared with the others.

    Returns
    -------
    str
        One table by kind of prompt and one of outlines, size and calibration, with
        95 % intervals; the marks say where the first model is better (+) or worse (−)
        than this one. Columns without any value are left out.
    """
    first = title_of(rows[0].model)
    prompted = (
        '\nMean Dice in %, mean clicks to an IoU of 0.85 and 0.90, each with its 95 % '
        'bootstrap interval. The click off centre is anywhere in the inner part of the '
        'object. +, ++, +++: '
        f'{first} is better than this model at p < 0.05, 0.01, 0.001 (−: worse; paired '
        'Wilcoxon signed-rank test, unadjusted).\n'
    )
    outlined = (
        '\nMean HD95 in pixels and mean NSD (2 px) in %, with the box; median area as a '
        "multiple of the truth's; mean absolute error of the fitted ellipse's "
        'circumference, where the size of a pixel is known; ECE: expected calibration '
        'error of the predicted IoU over all prompts (10 bins).\n'
    )
    parts = [*_table(rows, _PROMPTED), prompted, *_table(rows, _OUTLINED), outlined]
    return '\n'.join(parts)


def speed_of(rows: Iterable[Row], model: str) -> tuple[float, float | None]:
    """Median seconds to embed an image, and to answer a click (else a box)."""
    chosen = [row for row in rows if row.model == model]
    encode = median({row.place: row.encode_seconds for row in chosen}.values())
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
    write_summary(rows, out / SUMMARY)
    notes = notes_of(out, in_order(row.model for row in rows))
    path = out / REPORT
    text = f'{accuracy_table(rows)}\n{cost_table(rows, notes)}'
    with atomic_path(path) as part:
        part.write_text(text, encoding='utf-8')
    return path
