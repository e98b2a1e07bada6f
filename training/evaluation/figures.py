"""Figures of an evaluation, by matplotlib."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_kdsam.errors import MissingExtraError
from napari_kdsam.inference.geometry import box_of_mask
from napari_kdsam.io.writers import atomic_path
from napari_kdsam.training.data.samples import Sample
from napari_kdsam.training.evaluation.metrics import dice_and_iou
from napari_kdsam.training.evaluation.results import Row
from napari_kdsam.training.evaluation.tables import (
    in_order,
    speed_of,
    title_of,
    values_of,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from napari_kdsam.training.evaluation.segmenters import Segmenter

# Okabe and Ito's colours, told apart with any kind of colour vision.
_COLOURS = ('#0072B2', '#E69F00', '#009E73', '#CC79A7', '#D55E00', '#56B4E9', '#000000')
_TRUTH = '#F0E442'
_PROMPTS = {'box': 'box', 'clicks_1': '1 click', 'clicks_3': '3 clicks'}


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
    """Draw the spread of Dice by data set and model.

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
    data_sets = in_order(row.data_set for row in chosen)
    everything = in_order(row.model for row in rows)
    models = in_order(row.model for row in chosen)
    figure = _figure(max(5.0, 1.9 * len(data_sets)), 3.6)
    axes = figure.add_subplot()
    step = 0.8 / len(models)
    for number, model in enumerate(models):
        colour = colour_of(everything, model)
        shown = [
            list(values_of(chosen, d, model, prompt, 'dice').values())
            for d in data_sets
        ]
        parts = axes.boxplot(
            shown,
            positions=[
                i + (number - (len(models) - 1) / 2) * step
                for i in range(len(data_sets))
            ],
            widths=step * 0.8,
            patch_artist=True,
            manage_ticks=False,
            medianprops={'color': 'black', 'linewidth': 1.4},
            flierprops={'marker': '.', 'markersize': 3, 'markeredgecolor': colour},
            whiskerprops={'color': colour},
            capprops={'color': colour},
        )
        for patch in parts['boxes']:
            patch.set(facecolor=colour, edgecolor=colour, alpha=0.75)
        parts['boxes'][0].set_label(title_of(model))
    axes.set_xticks(range(len(data_sets)), [title_of(d) for d in data_sets])
    axes.set_ylabel(f'Dice ({_PROMPTS.get(prompt, prompt)})')
    axes.set_ylim(0, 1.02)
    _plain_axes(axes)
    figure.legend(loc='outside upper center', ncols=len(models), frameon=False)
    return _save(figure, path)


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
        # Each data set counts alike, whatever its size.
        means = [
            np.mean(list(values_of(chosen, d, model, prompt, 'dice').values()))
            for d in in_order(row.data_set for row in chosen)
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
    """For each data set, the images of median and of lowest Dice of one model."""
    picked: list[Row] = []
    chosen = [row for row in rows if row.model == model and row.prompt == prompt]
    for data_set in in_order(row.data_set for row in chosen):
        ranked = sorted(
            (row for row in chosen if row.data_set == data_set),
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
    by_image = {s.place: s for s in samples}
    names = [segmenter.name for segmenter in segmenters]
    wide = len(segmenters) + 1
    figure = _figure(2.1 * wide, 1.85 * len(picked) + 0.3)
    grid = figure.subplots(len(picked), wide, squeeze=False)
    for line, row in zip(grid, picked, strict=True):
        image, truth = by_image[row.image].load()
        box = box_of_mask(truth)
        assert box is not None
        top, left, bottom, right = (float(side) for side in box)
        sides = (top, left, bottom, right)
        _picture(line[0], image, truth, None, '', _TRUTH)
        line[0].set_ylabel(title_of(row.data_set), fontsize=9)
        for axes, segmenter in zip(line[1:], segmenters, strict=True):
            mask, _ = segmenter.segment(segmenter.embed(image), [], [], sides, None)
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
    """Draw every figure into ``figures/`` under `out`; the first model picks the cases.

    Returns
    -------
    list of pathlib.Path
    """
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
        if picked:
            path = folder / 'predictions.png'
            paths.append(draw_predictions(picked, samples, segmenters, path))
    return paths
