"""``napari-kdsam replay``: the labels of an annotator's session."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from napari_kdsam.cli.console import WRONG_USAGE, exit_on, make_folder, say
from napari_kdsam.cli.options import ExistingFiles, out_option
from napari_kdsam.core.choices import Existing, ExistingFile
from napari_kdsam.core.errors import KDSAMError


def replay(
    session: Annotated[
        Path,
        typer.Argument(
            metavar='SESSION.json',
            help='A session file of the annotator.',
            show_default=False,
        ),
    ],
    out: Annotated[
        Path,
        out_option(
            'The labels to write: .tif, or .png for a single image.',
            metavar='FILE.tif',
        ),
    ],
    existing: ExistingFiles = ExistingFile.fail,
) -> None:
    """Write the labels of an annotator's session without opening napari.

    The annotator keeps a session file for each image (see `napari-kdsam info` for the
    folder). Objects get the labels they had; open prompts are only counted.
    """
    from napari_kdsam.annotation.session_file import read_session
    from napari_kdsam.batch.output_folder import OutputFolder
    from napari_kdsam.io.label_images import write_labels

    with exit_on(KDSAMError, WRONG_USAGE):
        saved = read_session(session)
        make_folder(out.parent)
        folder = OutputFolder(out.parent)
        with folder.owned():
            if existing is ExistingFile.skip and os.path.lexists(out):
                say(f'{out}: skipped, it was there already')
                return
            folder.guard([out], Existing(existing))
            write_labels(out, saved.labels(), 'replay')
    open_frames = len(saved.state.drafts)
    left = (
        f'; open prompts on {open_frames} frame{"s" if open_frames > 1 else ""} are not in it'
        if open_frames
        else ''
    )
    say(f'{out}: {len(saved.state.objects)} objects{left}')
