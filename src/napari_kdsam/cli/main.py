"""The command ``napari-kdsam``; each command loads what it needs when it runs."""

from __future__ import annotations

import io
import logging
import sys
import warnings
from typing import Any, cast

import typer

from napari_kdsam.cli import train
from napari_kdsam.cli.batch import batch
from napari_kdsam.cli.console import note
from napari_kdsam.cli.demo import demo
from napari_kdsam.cli.embed import embed
from napari_kdsam.cli.evaluate import evaluate
from napari_kdsam.cli.info import info
from napari_kdsam.cli.models import models
from napari_kdsam.cli.replay import replay
from napari_kdsam.cli.segment import segment
from napari_kdsam.core.errors import SoftMaskWarning

app = typer.Typer(
    name='napari-kdsam',
    help='One click on an ultrasound, dermoscopy or endoscopy image becomes a label.',
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    # Square brackets in the help are coordinates, not markup.
    rich_markup_mode=None,
)
for command in (segment, batch, embed, replay, models, demo, info, evaluate):
    app.command()(command)
app.add_typer(train.app, name='train')


def main() -> None:
    """Run the command line."""
    # Readers report oddities of a file they can read all the same.
    warnings.filterwarnings('ignore', module=r'(pydicom|tifffile|PIL|pylibjpeg)\b')
    usual = warnings.showwarning

    def show(
        message: Warning | str, category: type[Warning], *place: Any, **more: Any
    ) -> None:
        # What is said of a file is for its user, without a line of code.
        if issubclass(category, SoftMaskWarning):
            note(str(message))
        else:
            usual(message, category, *place, **more)

    warnings.showwarning = cast(Any, show)
    logging.getLogger('tifffile').setLevel(logging.CRITICAL)
    logging.getLogger('pydicom').setLevel(logging.CRITICAL)
    for stream in (sys.stdout, sys.stderr):
        # A name must not end a command where the terminal lacks a letter of it.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors='backslashreplace')
    app()
