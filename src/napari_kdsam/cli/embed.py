"""``napari-kdsam embed``: fill an embedding store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_kdsam.cli.console import (
    DONE,
    INTERRUPTED,
    SOME_FAILED,
    WRONG_USAGE,
    batch_progress,
    complain,
    exit_on,
    looking_progress,
    say,
)
from napari_kdsam.cli.options import (
    Device,
    ManyInputs,
    ModelName,
    Workers,
    out_option,
)
from napari_kdsam.core.errors import KDSAMError, counted, first_of


def embed(
    inputs: ManyInputs,
    out: Annotated[
        Path, out_option('Folder of the embedding store, made if it does not exist.')
    ],
    model: ModelName = 'kdsam',
    device: Device = 'auto',
    workers: Workers = 1,
) -> None:
    """Compute embeddings once and keep them, for `batch --embeddings` and the viewer.

    A store is a zarr group with 2 MB for each frame. It may be filled by several
    processes at once and shared between users; a damaged embedding is made again.

    Exit code: 0 all embedded or there already, 1 some failed or the store could not be
    written, 2 wrong usage, 130 interrupted.
    """
    from napari_kdsam.batch.embed import embed_sources
    from napari_kdsam.batch.output_folder import OutputError
    from napari_kdsam.batch.processes import LostWorkersError
    from napari_kdsam.batch.records import Status
    from napari_kdsam.batch.runner import find_sources

    counts = dict.fromkeys(Status, 0)
    code, stopped = DONE, ''
    with exit_on(KDSAMError, WRONG_USAGE):
        with looking_progress() as on_step:
            found = find_sources(inputs, on_step=on_step)
        sources = [source for source in found if not source.left_out]
        if others := [source.name for source in found if source.left_out]:
            say(f'Left out, as they are no images to embed: {first_of(others)}')
        total = sum(source.frame_count for source in sources)
        with batch_progress(total) as on_result:
            try:
                for result in embed_sources(sources, out, model, device, workers):
                    on_result(result)
                    counts[result.status] += 1
            except KeyboardInterrupt:
                code, stopped = INTERRUPTED, 'Interrupted.'
            except (OutputError, LostWorkersError) as error:
                code, stopped = SOME_FAILED, str(error)
    left = total - sum(counts.values())
    typer.echo(
        f'{counted(total, "frame")}: {counts[Status.done]} embedded, '
        f'{counts[Status.skipped]} there already, {counts[Status.failed]} failed'
        f'{f", {left} not reached" if left else ""}; the store is {out}'
    )
    if stopped:
        complain(f'{stopped.rstrip(".")}; run the same command again to go on.')
    if code or counts[Status.failed]:
        raise typer.Exit(code or SOME_FAILED)
