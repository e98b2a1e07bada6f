"""Run models over images with simulated prompts."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from napari_kdsam.core.errors import KDSAMError
from napari_kdsam.core.geometry import Box, Mask, box_of_mask
from napari_kdsam.measure.scores import SURFACE_TOLERANCE, dice_and_iou
from napari_kdsam.training.data.samples import Sample
from napari_kdsam.training.evaluation.clicks import (
    generator_for,
    jittered_box,
    next_click,
    off_centre_click,
)
from napari_kdsam.training.evaluation.metrics import MaskScores, score_mask
from napari_kdsam.training.evaluation.results import (
    EvaluationError,
    Failure,
    ResultFile,
    Row,
    place_of,
    read_failures,
    write_failures,
)
from napari_kdsam.training.evaluation.segmenter import (
    BOX,
    CLICK,
    SegmentedMask,
    Segmenter,
)
from napari_kdsam.training.evaluation.segmenters import open_segmenter

KINDS = (
    'box',
    'box_jittered',
    'clicks_1',
    'click_off',
    'clicks_3',
    'clicks_5',
    'noc',
)
NOC_THRESHOLDS = (0.85, 0.90)
MAX_CLICKS = 20
JITTER = 0.1


@dataclass(frozen=True)
class Protocol:
    """What is asked of every model.

    Attributes
    ----------
    kinds : tuple of str
        Of `KINDS`, or ``clicks_N`` for another N.
    max_clicks : int
        Where the number of clicks stops.
    noc : tuple of float
        IoU thresholds of the number of clicks.
    jitter : float
        See `jittered_box`.
    surface_tolerance : float
        See `score_mask`.
    """

    kinds: tuple[str, ...] = KINDS
    max_clicks: int = MAX_CLICKS
    noc: tuple[float, ...] = NOC_THRESHOLDS
    jitter: float = JITTER
    surface_tolerance: float = SURFACE_TOLERANCE

    def __post_init__(self) -> None:
        for kind in self.kinds:
            count = kind.removeprefix('clicks_')
            if kind not in KINDS and not (kind != count and count.isdigit()):
                raise EvaluationError(
                    f'There is no kind of prompt called {kind!r}; choose of '
                    f'{", ".join(KINDS)}.'
                )
        if self.snapshots and max(self.snapshots) > self.max_clicks:
            raise EvaluationError(
                f'{max(self.snapshots)} clicks are asked for but at most '
                f'{self.max_clicks} are given; raise the maximum.'
            )

    @property
    def snapshots(self) -> tuple[int, ...]:
        """Numbers of clicks after which the mask is scored."""
        clicks = [kind for kind in self.kinds if kind.startswith('clicks_')]
        return tuple(int(kind.removeprefix('clicks_')) for kind in clicks)

    def rows_of(self, prompts: frozenset[str]) -> list[str]:
        """Kinds of the rows of one object for a model that understands `prompts`."""
        rows = [k for k in self.kinds if k.startswith('box') and BOX in prompts]
        if CLICK in prompts:
            rows += [kind for kind in self.kinds if kind == 'click_off']
            rows += [f'clicks_{count}' for count in self.snapshots]
            if 'noc' in self.kinds:
                rows += [f'noc_{round(100 * limit)}' for limit in self.noc]
        return rows


# Compared by identity, so that an answer can be looked up.
@dataclass(frozen=True, eq=False)
class _Timed:
    answer: SegmentedMask
    iou: float
    seconds: float


def run_evaluation(
    samples: Sequence[Sample],
    models: Sequence[str],
    out: Path,
    *,
    device: str = 'auto',
    max_clicks: int = MAX_CLICKS,
    noc: Sequence[float] = NOC_THRESHOLDS,
    kinds: Sequence[str] = KINDS,
    overwrite: bool = False,
    progress: bool = True,
    opener: Callable[[str, str], Segmenter] = open_segmenter,
) -> list[Row]:
    """Evaluate models on images, object by object, continuing where a run stopped.

    Writes ``per_image/MODEL.csv`` and ``.json`` under `out`, and ``failures.csv``
    if an object could not be evaluated.

    Parameters
    ----------
    samples : sequence of Sample
        The images with their masks; from `single_objects` where masks hold several
        structures, else they are prompted as one.
    models : sequence of str
        For `open_segmenter`.
    out : pathlib.Path
        Folder for the results, made if needed.
    device : str
        As for `load_model`.
    max_clicks : int
        Where the number of clicks stops.
    noc : sequence of float
        IoU thresholds of the number of clicks.
    kinds : sequence of str
        Of `KINDS`.
    overwrite : bool
        Start anew whatever is in `out`.
    progress : bool
        Show a progress bar on standard error.
    opener : callable
        Opens a model by name and device.

    Returns
    -------
    list of Row
        Of every object asked for that is done, model by model.

    Raises
    ------
    EvaluationError
        If there is nothing to do, two models have one name, or there are results
        made with other weights or settings or by an earlier version.
    KDSAMError
        If a model cannot be opened.
    """
    if not samples or not models:
        raise EvaluationError('Give at least one image and one model to evaluate.')
    protocol = Protocol(tuple(kinds), max_clicks, tuple(noc))
    wanted = {place_of(s) for s in samples}
    out.mkdir(parents=True, exist_ok=True)
    _refuse_models(models, device, opener)
    rows: list[Row] = []
    for model in models:
        _reset_peak_memory()
        segmenter = opener(model, device)
        found = _run_model(samples, segmenter, out, protocol, overwrite, progress)
        rows += [row for row in found if row.place in wanted]
    return rows


def _refuse_models(
    models: Sequence[str], device: str, opener: Callable[[str, str], Segmenter]
) -> None:
    # The last model must not turn out to be missing when the first has run for hours.
    seen: set[str] = set()
    for model in models:
        name = opener(model, device).name
        if name in seen:
            raise EvaluationError(
                f'Two models are called {name!r}; name one with NAME=PATH.'
            )
        seen.add(name)


def _run_model(
    samples: Sequence[Sample],
    segmenter: Segmenter,
    out: Path,
    protocol: Protocol,
    overwrite: bool,
    progress: bool,
) -> list[Row]:
    settings = {'weights': segmenter.fingerprint, **_plain(asdict(protocol))}
    prompts = protocol.rows_of(segmenter.prompts)
    results = ResultFile(out, segmenter.name, settings, prompts, overwrite)
    results.note(name=segmenter.name, parameters=segmenter.parameters)
    done, asked = results.places, {place_of(s) for s in samples}
    todo = [s for s in samples if place_of(s) not in done]
    failures = [
        f
        for f in read_failures(out)
        if f.model != segmenter.name or f.place not in asked
    ]
    write_failures(out, failures)
    for index, sample in enumerate(
        tqdm(todo, desc=segmenter.name, disable=not progress, file=sys.stderr)
    ):
        try:
            image, truth = sample.load()
            if index == 0:
                # The first call allocates and compiles; its time is nobody's.
                segmenter.embed(image)
            rows = evaluate_image(segmenter, sample, image, truth, protocol)
        except KDSAMError as error:
            place = place_of(sample)
            failures.append(Failure(*place, segmenter.name, str(error)))
            write_failures(out, failures)
            tqdm.write(f'{segmenter.name}: {sample.name} failed: {error}', sys.stderr)
            continue
        results.append(rows)
        if index % 50 == 0 or index == len(todo) - 1:
            results.note(peak_memory_bytes=_peak_memory())
    return results.rows


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


def evaluate_image(
    segmenter: Segmenter,
    sample: Sample,
    image: NDArray[np.uint8],
    truth: Mask,
    protocol: Protocol,
) -> list[Row]:
    """Put every kind of prompt to one model about one object.

    Parameters
    ----------
    segmenter : Segmenter
        The model.
    sample : Sample
        Where the image is from and which object it is about.
    image : numpy.ndarray
        (H, W, 3) uint8 RGB.
    truth : numpy.ndarray
        (H, W) bool, not empty.
    protocol : Protocol
        What to ask.

    Returns
    -------
    list of Row
        One for each of `Protocol.rows_of`, in that order.
    """
    shape = (truth.shape[0], truth.shape[1])
    around = box_of_mask(truth)
    assert around is not None
    top, left, bottom, right = (float(side) for side in around)
    box = (top, left, bottom, right)
    started = time.perf_counter()
    state = segmenter.embed(image)
    segmenter.sync()
    encode_seconds = time.perf_counter() - started
    scored: dict[_Timed, MaskScores] = {}

    def row(prompt: str, shown: _Timed, clicks: int, seconds: float) -> Row:
        # Several rows may show one mask; its distances are computed once.
        if shown not in scored:
            scored[shown] = score_mask(
                shown.answer.mask,
                truth,
                protocol.surface_tolerance,
                sample.pixel_size_mm,
            )
        return Row(
            *place_of(sample),
            segmenter.name,
            prompt,
            **asdict(scored[shown]),
            predicted_iou=shown.answer.predicted_iou,
            clicks=clicks,
            seconds=seconds,
            encode_seconds=encode_seconds,
        )

    prompts = protocol.rows_of(segmenter.prompts)
    rows = []
    for kind in (k for k in prompts if k.startswith('box')):
        sides = box
        if kind == 'box_jittered':
            rng = generator_for(sample.name)
            sides = jittered_box(box, protocol.jitter, rng, shape)
        shown = _ask(segmenter, state, truth, [], [], sides, None)
        rows.append(row(kind, shown, 0, shown.seconds))
    if 'click_off' in prompts:
        # Numbers of its own, so that it does not depend on the box.
        rng = generator_for(f'click_off {sample.name}')
        clicked_at = off_centre_click(truth, rng)
        shown = _ask(segmenter, state, truth, [clicked_at], [1], None, None)
        rows.append(row('click_off', shown, 1, shown.seconds))
    if len(rows) == len(prompts):
        return rows
    clicked = _click_sequence(segmenter, state, truth, protocol)
    for count in protocol.snapshots:
        upto = clicked[:count]
        seconds = sum(a.seconds for a in upto) / len(upto)
        rows.append(row(f'clicks_{count}', upto[-1], len(upto), seconds))
    if 'noc' in protocol.kinds:
        seconds = sum(a.seconds for a in clicked) / len(clicked)
        for limit in protocol.noc:
            reached = (n for n, a in enumerate(clicked, 1) if a.iou >= limit)
            needed = next(reached, protocol.max_clicks)
            shown = clicked[min(needed, len(clicked)) - 1]
            rows.append(row(f'noc_{round(100 * limit)}', shown, needed, seconds))
    return rows


def _ask(
    segmenter: Segmenter,
    state: Any,
    truth: Mask,
    points: Sequence[tuple[int, int]],
    labels: Sequence[int],
    box: Box | None,
    previous: Any,
) -> _Timed:
    asked = [(float(row), float(column)) for row, column in points]
    started = time.perf_counter()
    answer = segmenter.segment(state, asked, list(labels), box, previous)
    segmenter.sync()
    seconds = time.perf_counter() - started
    return _Timed(answer, dice_and_iou(answer.mask, truth)[1], seconds)


def _click_sequence(
    segmenter: Segmenter, state: Any, truth: Mask, protocol: Protocol
) -> list[_Timed]:
    counting = 'noc' in protocol.kinds
    enough = max(protocol.snapshots, default=1)
    limit = protocol.max_clicks if counting else enough
    goal = max(protocol.noc, default=0.0) if counting else 0.0
    mask, previous = np.zeros_like(truth), None
    points: list[tuple[int, int]] = []
    labels: list[int] = []
    answers: list[_Timed] = []
    best = 0.0
    while len(answers) < limit and not (len(answers) >= enough and best >= goal):
        click = next_click(mask, truth, points)
        if click is None:
            break
        points.append(click[0])
        labels.append(click[1])
        found = _ask(segmenter, state, truth, points, labels, None, previous)
        answers.append(found)
        mask, previous = found.answer.mask, found.answer.previous
        best = max(best, found.iou)
    return answers


def _reset_peak_memory() -> None:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    # Linux can forget the highest use so far, so that each model has its own.
    with contextlib.suppress(OSError):
        Path('/proc/self/clear_refs').write_text('5')


def _peak_memory() -> int | None:
    """Bytes: of the GPU where one is used, else of the process; None if unknown."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return int(torch.cuda.max_memory_allocated())
    with contextlib.suppress(OSError):
        for line in Path('/proc/self/status').read_text().splitlines():
            if line.startswith('VmHWM:'):
                return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:
        return None
    used = int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    return used if sys.platform == 'darwin' else used * 1024
