"""``napari-kdsam models``: the models there are."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from napari_kdsam.cli.console import SOME_FAILED, WRONG_USAGE, exit_on, print_table
from napari_kdsam.core.errors import KDSAMError

if TYPE_CHECKING:
    from napari_kdsam.model.registry import ModelEntry


def models(
    download: Annotated[
        str | None,
        typer.Option(
            metavar='NAME',
            help='Download this model from its publisher first.',
            show_default=False,
        ),
    ] = None,
) -> None:
    """List the models, what each is and where its file is."""
    from napari_kdsam.model import registry

    if download is not None:
        with exit_on(KDSAMError, WRONG_USAGE):
            registry.find_model(download)
        with exit_on(KDSAMError, SOME_FAILED):
            path = registry.download_model(download, progress=sys.stderr.isatty())
        typer.echo(f'{download} is in {path}')
    entries = registry.list_models()
    print_table(
        ['Name', 'What', 'Parameters', 'Size', 'Licence', 'Status'],
        [
            [
                entry.name,
                entry.title,
                entry.parameters,
                f'{entry.megabytes} MB',
                entry.licence,
                _status(entry),
            ]
            for entry in entries
        ],
    )
    for entry in entries:
        verb = 'is' if entry.available else 'belongs'
        typer.echo(f'{entry.name} {verb} in {entry.path}')
    typer.echo(f'Models folder: {registry.models_folder()}')


def _status(entry: ModelEntry) -> str:
    if not entry.available:
        return 'not here'
    return 'bundled' if entry.bundled else 'on this computer'
