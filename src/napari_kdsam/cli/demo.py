"""``napari-kdsam demo``: see that the installation works."""

from __future__ import annotations

from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_kdsam.cli.console import (
    SOME_FAILED,
    WRONG_USAGE,
    complain,
    exit_on,
    file_progress,
    make_folder,
    print_table,
)
from napari_kdsam.cli.options import Device, UsualOutFolder
from napari_kdsam.core.choices import Existing
from napari_kdsam.core.errors import KDSAMError, MissingExtraError

if TYPE_CHECKING:
    from napari_kdsam.demo import DemoOutcome


def demo(
    out: UsualOutFolder = Path('demo-results'),
    view: Annotated[
        bool, typer.Option('--view', help='Open the results in napari afterwards.')
    ] = False,
    device: Device = 'auto',
) -> None:
    """Segment four real ultrasound images and four phantoms, and say how it went.

    The real images are anonymised examples that come with pydicom; the phantoms are
    drawn, so that Dice against their exact ground truth can be shown. Good numbers
    here say that the installation works, not how accurate it is on patients. Files of
    an earlier demonstration in the folder are replaced, and no others.
    """
    with ExitStack() as stack:
        with exit_on(KDSAMError, WRONG_USAGE):
            if view and find_spec('napari') is None:
                raise MissingExtraError('Showing the results in napari', 'all')
            make_folder(out)
            from napari_kdsam.batch.output_folder import OutputFolder
            from napari_kdsam.batch.single_file import FileSegmenter
            from napari_kdsam.demo import (
                files_written,
                phantom_cases,
                real_cases,
                result_of,
                run_case,
            )
            from napari_kdsam.model.loading import load_model

            real = real_cases()
            folder = OutputFolder(out)
            stack.enter_context(folder.owned())
            folder.guard(files_written(out, real), Existing.overwrite)
            cases = [*real, *phantom_cases(out)]
            segmenter = FileSegmenter(load_model(device=device))
        outcomes = []
        for case in cases:
            try:
                with file_progress(case.name) as on_frame:
                    outcomes.append(run_case(segmenter, case, out, on_frame))
            except KDSAMError as error:
                complain(f'{case.name}: {error}')
    headers = ['Image', 'What', 'Prompt', 'Score', 'Pixels', 'Dice', 'Time']
    print_table(headers, [_row(outcome) for outcome in outcomes])
    typer.echo(
        'Score: predicted IoU, the mean over frames. Dice: against the exact ground '
        'truth of the drawn phantoms. Time: reading, segmenting and writing.'
    )
    typer.echo(
        f'{len(outcomes)} of {len(cases)} images done; look at the *_overlay.png files '
        f'in {out}'
    )
    if view:
        from napari_kdsam.widgets import demo_view

        with exit_on(KDSAMError, WRONG_USAGE):
            demo_view.show([result_of(outcome) for outcome in outcomes])
    if len(outcomes) < len(cases):
        raise typer.Exit(SOME_FAILED)


def _row(outcome: DemoOutcome) -> list[str]:
    prompt, scores = outcome.case.prompt, outcome.report.scores
    parts = []
    if prompt.box is not None:
        parts.append('box')
    labels = list(prompt.labels or ())
    for label, name in ((1, 'click'), (0, 'click outside')):
        if labels.count(label):
            parts.append(name)
    return [
        outcome.case.name,
        outcome.case.what,
        ' + '.join(parts),
        f'{sum(scores) / len(scores):.2f}',
        str(outcome.report.pixels),
        '' if outcome.dice is None else f'{outcome.dice:.3f}',
        f'{outcome.seconds:.2f} s',
    ]
