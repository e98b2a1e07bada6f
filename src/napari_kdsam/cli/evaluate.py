"""The command ``napari-kdsam evaluate``."""

from __future__ import annotations

from contextlib import ExitStack
from itertools import groupby
from pathlib import Path
from typing import Annotated

import typer

from napari_kdsam.cli.console import (
    SOME_FAILED,
    WRONG_USAGE,
    exit_on,
    make_folder,
    note,
)
from napari_kdsam.cli.options import Device, UsualOutFolder
from napari_kdsam.core.errors import ImageError, KDSAMError, first_of
from napari_kdsam.core.extras import require_training_extra


def evaluate(
    folder: Annotated[
        Path | None,
        typer.Argument(help='Folder with images/ and masks/; or give --data.'),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help='Folder of tar shards with an index.csv.')
    ] = None,
    split: Annotated[str, typer.Option(help='Split of the shards.')] = 'val',
    sets: Annotated[
        list[str] | None, typer.Option(help='Data set of the shards; all by default.')
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option(
            help='Model name or weights file, or NAME=PATH; the first is compared '
            'with the others.'
        ),
    ] = None,
    kinds: Annotated[
        list[str] | None,
        typer.Option(
            help='Kind of prompt: box, box_jittered, clicks_N, click_off or noc; all '
            'by default.'
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help='First images of each data set, by name.')
    ] = None,
    out: UsualOutFolder = Path('evaluation'),
    device: Device = 'auto',
    figures: Annotated[bool, typer.Option(help='Draw figures.')] = True,
    overwrite: Annotated[
        bool, typer.Option('--overwrite', help='Discard earlier results in --out.')
    ] = False,
) -> None:
    """Measure models on images with masks: boxes, clicks, tables and figures.

    Each structure of a mask is prompted by itself. A run that was stopped goes on
    where it stopped. Exits with 1 if an object could not be evaluated.
    """
    with exit_on(KDSAMError, WRONG_USAGE):
        require_training_extra()
    from napari_kdsam.batch.output_folder import OutputFolder
    from napari_kdsam.model.registry import DEFAULT_MODEL
    from napari_kdsam.training.data.samples import Sample, single_objects
    from napari_kdsam.training.data.shards import read_shards
    from napari_kdsam.training.evaluation.figures import draw_figures
    from napari_kdsam.training.evaluation.folder import samples_of_folder, unused_files
    from napari_kdsam.training.evaluation.results import (
        RESULTS,
        read_failures,
        refuse_strangers,
        write_rows,
    )
    from napari_kdsam.training.evaluation.runner import KINDS, run_evaluation
    from napari_kdsam.training.evaluation.segmenters import open_segmenter
    from napari_kdsam.training.evaluation.tables import (
        in_order,
        notes_of,
        write_report,
    )

    samples: list[Sample]
    names = models or [DEFAULT_MODEL]
    with ExitStack() as stack, exit_on(KDSAMError, WRONG_USAGE):
        if (folder is None) == (data is None):
            raise ImageError('Give either a folder with images/ and masks/, or --data.')
        if folder is not None:
            samples = samples_of_folder(folder)
            if unused := unused_files(folder):
                note(f'Left out, as no image or of no image: {first_of(unused)}')
        else:
            assert data is not None
            samples = read_shards(data, tuple(sets or ()), (split,))
        if limit is not None:
            grouped = groupby(samples, key=lambda sample: sample.data_set)
            samples = [sample for _, group in grouped for sample in list(group)[:limit]]
        samples = single_objects(samples)
        make_folder(out)
        stack.enter_context(OutputFolder(out).owned())
        refuse_strangers(out)
        rows = run_evaluation(
            samples,
            names,
            out,
            device=device,
            kinds=kinds or KINDS,
            overwrite=overwrite,
        )
        if rows:
            write_rows(out / RESULTS, rows)
            path = write_report(rows, out)
            typer.echo(path.read_text(encoding='utf-8'))
            if figures:
                notes = notes_of(out, in_order(row.model for row in rows))
                draw_figures(rows, samples, names, notes, out, device, open_segmenter)
        failures = read_failures(out)
    typer.echo(f'The results are in {out}.')
    if failures:
        typer.echo(
            f'{len(failures)} objects could not be evaluated; see {out}/failures.csv.',
            err=True,
        )
        raise typer.Exit(SOME_FAILED)
