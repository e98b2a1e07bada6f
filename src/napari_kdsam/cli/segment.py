"""The work of ``napari-kdsam segment``: prompts from options, then file by file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

from napari_kdsam.core.choices import LabelFormat
from napari_kdsam.core.errors import ImageError, KDSAMError, PromptError
from napari_kdsam.core.prompts import ObjectPrompt, Point, Prompt, PromptSet
from napari_kdsam.io.formats import stem_of
from napari_kdsam.io.prompts import read_prompts

if TYPE_CHECKING:
    from napari_kdsam.batch.single_file import FileReport, Outputs, Segmenter

DONE, SOME_FAILED, WRONG_USAGE = 0, 1, 2


def complain(message: object) -> None:
    """Say on standard error, in one line, what is wrong."""
    Console(stderr=True).print(
        f'Error: {message}', markup=False, highlight=False, soft_wrap=True
    )


def segment_files(
    inputs: Sequence[Path],
    out: Path,
    *,
    points: Sequence[str],
    negatives: Sequence[str],
    boxes: Sequence[str],
    prompts_path: Path | None,
    overlay: bool,
    model_name: str,
    device: str,
    label_format: LabelFormat,
    frames: Sequence[int],
    second_look: bool = True,
) -> int:
    """Segment image files and say how it went.

    Parameters
    ----------
    inputs : sequence of pathlib.Path
        The image files; one given twice is done once.
    out : pathlib.Path
        Folder for the results, made if needed.
    points, negatives : sequence of str
        ``R,C`` inside and outside the object.
    boxes : sequence of str
        ``R0,C0,R1,C1``.
    prompts_path : pathlib.Path or None
        A prompts file; excludes points and boxes.
    overlay : bool
        Whether to draw overlays.
    model_name : str
        Model name or path of a weights file.
    device : str
        Device name.
    label_format : LabelFormat
        File format of the labels.
    frames : sequence of int
        Frames to segment, counted from 0; all if empty.
    second_look : bool
        Whether small objects of large images are looked at again.

    Returns
    -------
    int
        Exit code: 0 all done, 1 some input failed, 2 wrong usage, nothing done.
    """
    inputs = list({path.resolve(): path for path in inputs}.values())
    with ExitStack() as stack:
        try:
            prompts = prompts_from_options(points, negatives, boxes, prompts_path)
            for path in inputs:
                prompts.for_image(path.name)
            make_folder(out)
            # torch loads only once everything that needs no torch is right.
            from napari_kdsam.batch.output_folder import OutputFolder
            from napari_kdsam.batch.single_file import (
                SINGLE_ENDINGS,
                Outputs,
                Segmenter,
            )
            from napari_kdsam.model.loading import load_model

            folder = OutputFolder(out)
            stack.enter_context(folder.owned())
            model = load_model(model_name, device)
            segmenter = Segmenter(model, second_look=second_look)
        except KDSAMError as error:
            complain(error)
            return WRONG_USAGE
        kept = [*inputs, prompts_path] if prompts_path else inputs
        own = [stem_of(path.name) for path in inputs]
        summary, failed = [], 0
        for path, stem in zip(
            inputs, folder.stems(own, kept, SINGLE_ENDINGS), strict=True
        ):
            outputs = Outputs(out, stem, overlay, label_format)
            objects = prompts.for_image(path.name)
            try:
                report = _segment_file(segmenter, path, objects, outputs, frames)
            except (KDSAMError, MemoryError) as error:
                reason = _named(path.name, error)
                complain(reason)
                summary.append(f'{path.name}: failed ({reason.rstrip(".")})')
                failed += 1
            else:
                summary.append(_success(path.name, report))
    for line in summary:
        typer.echo(line)
    done = len(inputs) - failed
    typer.echo(f'{done} of {len(inputs)} images done; results are in {out}')
    return SOME_FAILED if failed else DONE


def make_folder(folder: Path) -> None:
    """Make a folder for results, with its parents.

    Raises
    ------
    ImageError
        If it cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ImageError(
            f'The folder {folder} cannot be made ({error.strerror}); choose another '
            'with --out.'
        ) from error
    if not os.access(folder, os.W_OK):
        raise ImageError(
            f'The folder {folder} may not be written to; choose another with --out.'
        )


@contextmanager
def frame_progress(name: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on standard error; nothing where that is not a terminal.

    Parameters
    ----------
    name : str
        What is being worked on.

    Yields
    ------
    callable
        To be called with the numbers of frames done and to do.
    """
    console = Console(stderr=True)
    with Progress(
        console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task(escape(name), total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _segment_file(
    segmenter: Segmenter,
    path: Path,
    objects: Sequence[ObjectPrompt],
    outputs: Outputs,
    frames: Sequence[int],
) -> FileReport:
    from napari_kdsam.io.formats import open_image

    with frame_progress(path.name) as on_frame, open_image(path) as image:
        return segmenter.segment(image, objects, outputs, frames, on_frame)


def prompts_from_options(
    points: Sequence[str],
    negatives: Sequence[str],
    boxes: Sequence[str],
    prompts_path: Path | None,
) -> PromptSet:
    """Read prompts from the options of a command.

    Raises
    ------
    PromptError
        If there are none, or they contradict each other.
    """
    if prompts_path is not None:
        if points or negatives or boxes:
            raise PromptError(
                'Give either --prompts or --point, --negative and --box, not both.'
            )
        return read_prompts(prompts_path)
    inside = [_point(text, '--point') for text in points]
    outside = [_point(text, '--negative') for text in negatives]
    corners = [_numbers(text, 4, '--box', 'R0,C0,R1,C1') for text in boxes]
    if not (inside or outside or corners):
        raise PromptError(
            'Say where the object is: give --point R,C, --box R0,C0,R1,C1 or '
            '--prompts FILE.json.'
        )
    if len(corners) > 1 and (inside or outside):
        raise PromptError(
            'Several boxes are several objects and cannot share points; use one --box, '
            'or a --prompts file.'
        )
    labels = [1] * len(inside) + [0] * len(outside)
    prompts = [
        Prompt([*inside, *outside], labels, (box[0], box[1], box[2], box[3]))
        for box in corners
    ] or [Prompt([*inside, *outside], labels)]
    return PromptSet(tuple(ObjectPrompt(prompt) for prompt in prompts))


def _point(text: str, option: str) -> Point:
    row, column = _numbers(text, 2, option, 'R,C')
    return row, column


def _numbers(text: str, count: int, option: str, form: str) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(',')]
    except ValueError:
        numbers = []
    if len(numbers) != count:
        raise PromptError(
            f'{option} takes {count} numbers {form} separated by commas, not {text!r}.'
        )
    return numbers


def _named(name: str, error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return f'{name} does not fit in memory; reduce it or cut it into parts.'
    message = str(error)
    return message if name in message else f'{name}: {message}'


def _success(name: str, report: FileReport) -> str:
    objects, frames = (
        len(report.record['objects']),
        len(report.record['result']['frames']),
    )
    counted = f'{objects} object{"s" * (objects != 1)}'
    if report.record['image']['frame_count'] > 1:
        counted += f' in {frames} frame{"s" * (frames != 1)}'
    files = ', '.join(path.name for path in report.written)
    return f'{name}: {counted}, {report.pixels} pixels -> {files}'
