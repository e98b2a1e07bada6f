"""Options that several commands share, and the prompts that some of them describe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_kdsam.core.choices import ExistingFile
from napari_kdsam.core.errors import PromptError

if TYPE_CHECKING:
    from napari_kdsam.core.prompts import Point, PromptSet


def out_option(text: str, *, metavar: str = 'DIR', show_default: bool = False) -> Any:
    """The option of where results go."""
    return typer.Option(
        '--out', '-o', metavar=metavar, help=text, show_default=show_default
    )


OutFolder = Annotated[
    Path, out_option('Folder for the results, made if it does not exist.')
]
UsualOutFolder = Annotated[
    Path, out_option('Folder for the results.', show_default=True)
]
ManyInputs = Annotated[
    list[str],
    typer.Argument(
        metavar='INPUT',
        help='Image files, folders, patterns in quotes, or URLs.',
        show_default=False,
    ),
]
ModelName = Annotated[
    str,
    typer.Option(
        '--model',
        metavar='NAME|PATH',
        help='A name from `models`, or the path of a weights file.',
    ),
]
Device = Annotated[
    str,
    typer.Option('--device', metavar='auto|cpu|cuda|mps', help='Where to compute.'),
]
Points = Annotated[
    list[str] | None,
    typer.Option(
        '--point', metavar='R,C', help='A point inside the object (repeatable).'
    ),
]
Negatives = Annotated[
    list[str] | None,
    typer.Option(
        '--negative', metavar='R,C', help='A point outside the object (repeatable).'
    ),
]
Boxes = Annotated[
    list[str] | None,
    typer.Option(
        '--box',
        metavar='R0,C0,R1,C1',
        help='A box around the object; several boxes are several objects.',
    ),
]
PromptsFile = Annotated[
    Path | None,
    typer.Option(
        '--prompts',
        metavar='FILE',
        help='Prompts from a JSON, CSV or COCO file, or from the JSON of an earlier '
        'result.',
        show_default=False,
    ),
]
SecondLook = Annotated[
    bool,
    typer.Option(
        '--second-look/--no-second-look',
        help='Look again, at full resolution, at small objects of large images.',
    ),
]
ExistingFiles = Annotated[
    ExistingFile,
    typer.Option(
        '--existing',
        help='What to do where a result is already: refuse all, leave it alone, or '
        'replace it. Files that no run wrote are never replaced.',
    ),
]
Workers = Annotated[
    int,
    typer.Option('--workers', min=1, metavar='N', help='Processes on this computer.'),
]


def prompts_from_options(
    points: Sequence[str] | None,
    negatives: Sequence[str] | None,
    boxes: Sequence[str] | None,
    file: Path | None,
) -> PromptSet:
    """Read the prompts that a command was given.

    Parameters
    ----------
    points, negatives : sequence of str or None
        ``R,C`` inside and outside the object.
    boxes : sequence of str or None
        ``R0,C0,R1,C1``.
    file : pathlib.Path or None
        A prompts file; excludes points and boxes.

    Raises
    ------
    PromptError
        If there are none, or they contradict each other.
    """
    from napari_kdsam.core.prompts import ObjectPrompt, Prompt, PromptSet
    from napari_kdsam.io.prompts import read_prompts

    if file is not None:
        if points or negatives or boxes:
            raise PromptError(
                'Give either --prompts or --point, --negative and --box, not both.'
            )
        return read_prompts(file)
    inside = [_point(text, '--point') for text in points or ()]
    outside = [_point(text, '--negative') for text in negatives or ()]
    corners = [_numbers(text, 4, '--box', 'R0,C0,R1,C1') for text in boxes or ()]
    if not (inside or outside or corners):
        raise PromptError(
            'Say where the object is: give --point R,C, --box R0,C0,R1,C1 or '
            '--prompts FILE.'
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
