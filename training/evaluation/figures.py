"""Figures of an evaluation, by matplotlib."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_kdsam.core.errors import MissingExtraError
from napari_kdsam.core.files import atomic_path
from napari_kdsam.core.geometry import box_of_mask
from napari_kdsam.measure.scores import dice_and_iou
from napari_kdsam.training.data.samples import Sample
from napari_kdsam.training.evaluation.results import Row, place_of
from napari_kdsam.training.evaluation.tables import (
    in_order,
    parts_of,
    speed_of,
    title_of,
    title_of_part,
    values_of,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from napari_kdsam.training.evaluation.segmenter import Segmenter

# Okabe and Ito's colours, told apart with any kind of colour vision.
_COLOURS = ('#0072B2', '#E69F00', '#009E73', '#CC79A7', '#D55E00', '#56B4E9', '#000000')
_TRUTH = '#F0E442'
_PROMPTS = {
    'box': 'box',
    'clicks_1': '1 click',
    'click_off': '1 click, off centre',
    'clicks_3': '3 clicks',
}
# More beside each other could not be read on a page.
_PARTS_A_LINE = 6


def _figure(width: float, height: float) -> Figure:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError('Drawing figures', 'training') from error
    figure = Figure(figsize=(width, height), layout='constrained')
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as part:
        figure.savefig(part, format='png', dpi=130, facecolor='white')
    return path


def _plain_axes(axes: Any) -> None:
    axes.spines[['top', 'right']].set_visible(False)
    axes.grid(axis='y', color='#dddddd', linewidth=0.7)
    axes.set_axisbelow(True)


def colour_of(models: Sequence[str], model: str) -> str:
    """The colour of a model, the same in every figure of these models."""
    return _COLOURS[list(models).index(model) % len(_COLOURS)]


def draw_box_plots(rows: Sequence[Row], path: Path, prompt: str = 'box') -> Path:
    """Draw the spread of Dice by data set, structure and model.

    Parameters
    ----------
    rows : sequence of Row
        Of every model.
    path : pathlib.Path
        The PNG file to write.
    prompt : str
        Which kind of row.

    Returns
    -------
    pathlib.Path
        `path`.
    """
    chosen = [row for row in rows if row.prompt == prompt]
    parts, models = parts_of(chosen), in_order(row.model for row in chosen)
    colours = [colour_of(in_order(row.model for row in rows), m) for m in models]
    lines = math.ceil(len(parts) / _PARTS_A_LINE)
    # Lines of equal length, so that a box is as wide in each.
    a_line = math.ceil(len(parts) / lines)
    figure = _figure(max(5.0, 1.9 * a_line), 2.9 * lines + 0.7)
    for number, axes in enumerate(figure.subplots(lines, 1, squeeze=False)[:, 0]):
        shown = parts[number * a_line : (number + 1) * a_line]
        for index, (model, colour) in enumerate(zip(models, colours, strict=True)):
            values = [
                list(values_of(chosen, part, model, prompt, 'dice').values())
                for part in shown
            ]
            side = 0.8 / len(models)
            shift = (index - (len(models) - 1) / 2) * side
            _boxes(axes, values, shift, side * 0.8, colour, title_of(model))
        axes.set_xticks(range(len(shown)), [_in_two(title_of_part(p)) for p in shown])
        axes.set_ylabel(f'Dice ({_PROMPTS.get(prompt, prompt)})')
        axes.set(xlim=(-0.5, a_line - 0.5), ylim=(0, 1.02))
        _plain_axes(axes)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc='outside upper center',
        ncols=len(models),
        frameon=False,
    )
    return _save(figure, path)


def _boxes(
    axes: Any,
    values: Sequence[Sequence[float]],
    shift: float,
    width: float,
    colour: str,
    label: str,
) -> None:
    drawn = axes.boxplot(
        values,
        positions=[place + shift for place in range(len(values))],
        widths=width,
        patch_artist=True,
        manage_ticks=False,
        medianprops={'color': 'black', 'linewidth': 1.4},
        flierprops={'marker': '.', 'markersize': 3, 'markeredgecolor': colour},
        whiskerprops={'color': colour},
        capprops={'color': colour},
    )
    for patch in drawn['boxes']:
        patch.set(facecolor=colour, edgecolor=colour, alpha=0.75)
    drawn['boxes'][0].set_label(label)


def _in_two(title: str) -> str:
    """A structure below its data set, so that neighbours do not run into each other."""
    return title.replace(', ', '\n')


def draw_trade_off(
    rows: Sequence[Row],
    notes: Mapping[str, Mapping[str, Any]],
    path: Path,
    prompt: str = 'box',
) -> Path:
    """Draw accuracy against the time to embed an image; area is parameters.

    Parameters
    ----------
    rows : sequence of Row
        Of every model.
    notes : mapping
        By model, from `tables.notes_of`.
    path : pathlib.Path
        The PNG file to write.
    prompt : str
        Which kind of row.

    Returns
    -------
    pathlib.Path
        `path`.
    """
    models = in_order(row.model for row in rows)
    shown = in_order(row.model for row in rows if row.prompt == prompt)
    figure = _figure(5.6, 3.6)
    axes = figure.add_subplot()
    for number, model in enumerate(shown):
        above = number % 2 == 0
        chosen = [r for r in rows if r.model == model and r.prompt == prompt]
        # Each part counts alike, whatever its size.
        means = [
            np.mean(list(values_of(chosen, part, model, prompt, 'dice').values()))
            for part in parts_of(chosen)
        ]
        accuracy, seconds = float(np.mean(means)), speed_of(rows, model)[0]
        count = notes.get(model, {}).get('parameters')
        area = 12 * count / 1e6 if count else 120
        axes.scatter(
            [seconds * 1000],
            [accuracy],
            s=min(max(area, 60), 2500),
            color=colour_of(models, model),
            alpha=0.75,
            edgecolor='white',
        )
        size = f', {count / 1e6:.1f} M' if count else ''
        axes.annotate(
            title_of(model) + size,
            (seconds * 1000, accuracy),
            xytext=(0, 16 if above else -16),
            textcoords='offset points',
            ha='center',
            va='bottom' if above else 'top',
            fontsize=9,
        )
    from matplotlib.ticker import LogLocator, NullLocator

    axes.set_xscale('log')
    # Labels at every digit of a decade would run into each other.
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter('{x:.0f}')
    axes.set_xlabel('Time to embed an image (ms)')
    axes.set_ylabel(f'Mean Dice ({_PROMPTS.get(prompt, prompt)})')
    axes.margins(0.25, 0.45)
    _plain_axes(axes)
    axes.grid(axis='x', which='both', color='#eeeeee', linewidth=0.6)
    return _save(figure, path)


def typical_and_worst(
    rows: Sequence[Row], model: str, prompt: str = 'box'
) -> list[Row]:
    """For each part, the objects of median and of lowest Dice of one model."""
    picked: list[Row] = []
    chosen = [row for row in rows if row.model == model and row.prompt == prompt]
    for part in parts_of(chosen):
        ranked = sorted(
            (row for row in chosen if row.part == part),
            key=lambda row: (row.dice, row.stem),
        )
        picked += [ranked[len(ranked) // 2], ranked[0]][: len(ranked)]
    return picked


def draw_predictions(
    picked: Sequence[Row],
    samples: Sequence[Sample],
    segmenters: Sequence[Segmenter],
    path: Path,
) -> Path:
    """Draw images with the truth's and each model's outline, prompted by the box.

    Parameters
    ----------
    picked : sequence of Row
        From `typical_and_worst`, one line of pictures each.
    samples : sequence of Sample
        Where the images are.
    segmenters : sequence of Segmenter
        The models, one column each.
    path : pathlib.Path
        The PNG file to write.

    Returns
    -------
    pathlib.Path
        `path`.
    """
    by_place = {place_of(s): s for s in samples}
    names = [segmenter.name for segmenter in segmenters]
    wide = len(segmenters) + 1
    figure = _figure(2.1 * wide, 1.85 * len(picked) + 0.3)
    grid = figure.subplots(len(picked), wide, squeeze=False)
    for line, row in zip(grid, picked, strict=True):
        image, truth = by_place[row.place].load()
        box = box_of_mask(truth)
        assert box is not None
        top, left, bottom, right = (float(side) for side in box)
        sides = (top, left, bottom, right)
        _picture(line[0], image, truth, None, '', _TRUTH)
        line[0].set_ylabel(_in_two(title_of_part(row.part)), fontsize=9)
        for axes, segmenter in zip(line[1:], segmenters, strict=True):
            state = segmenter.embed(image)
            mask = segmenter.segment(state, [], [], sides, None).mask
            label = f'{dice_and_iou(mask, truth)[0]:.3f}'
            colour = colour_of(names, segmenter.name)
            _picture(axes, image, truth, mask, label, colour)
    for axes, text in zip(grid[0], ('Truth', *map(title_of, names)), strict=True):
        axes.set_title(text, fontsize=9)
    return _save(figure, path)


def _picture(
    axes: Any,
    image: NDArray[np.uint8],
    truth: NDArray[np.bool_],
    mask: NDArray[np.bool_] | None,
    label: str,
    colour: str,
) -> None:
    axes.imshow(image)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    _outline(axes, truth, _TRUTH, 1.2)
    if mask is not None:
        _outline(axes, mask, colour, 1.6)
    if label:
        axes.text(
            0.03,
            0.04,
            label,
            transform=axes.transAxes,
            color='white',
            fontsize=9,
            bbox={'facecolor': 'black', 'alpha': 0.65, 'pad': 1.5, 'linewidth': 0},
        )


def _outline(axes: Any, mask: NDArray[np.bool_], colour: str, width: float) -> None:
    if mask.any():
        # Padding closes outlines that run along the edge of the image.
        padded = np.pad(mask.astype(float), 1)
        rows, columns = (
            np.arange(-1, mask.shape[0] + 1),
            np.arange(-1, mask.shape[1] + 1),
        )
        axes.contour(columns, rows, padded, [0.5], colors=[colour], linewidths=width)
        axes.set(xlim=(-0.5, mask.shape[1] - 0.5), ylim=(mask.shape[0] - 0.5, -0.5))


def draw_figures(
    rows: Sequence[Row],
    samples: Sequence[Sample],
    models: Sequence[str],
    notes: Mapping[str, Mapping[str, Any]],
    out: Path,
    device: str,
    opener: Callable[[str, str], Segmenter],
) -> list[Path]:
    """Draw every figure into ``figures/`` under `out`; the first model picks the cases."""
    folder = out / 'figures'
    paths = []
    for prompt in ('box', 'clicks_1'):
        if any(row.prompt == prompt for row in rows):
            name = folder / f'dice_{prompt}.png'
            paths.append(draw_box_plots(rows, name, prompt))
    if any(row.prompt == 'box' for row in rows):
        paths.append(draw_trade_off(rows, notes, folder / 'trade_off.png'))
        segmenters = [opener(model, device) for model in models]
        picked = typical_and_worst(rows, segmenters[0].name)
        for data_set in in_order(row.data_set for row in picked):
            of_set = [row for row in picked if row.data_set == data_set]
            path = folder / 'predictions' / f'{data_set}.png'
            paths.append(draw_predictions(of_set, samples, segmenters, path))
    return paths
