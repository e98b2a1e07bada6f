"""``napari-kdsam train``: the stages, one by one or all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from napari_kdsam.cli.console import SOME_FAILED, WRONG_USAGE, exit_on
from napari_kdsam.core.errors import KDSAMError
from napari_kdsam.core.extras import require_training_extra

app = typer.Typer(
    help='Train KD SAM: distil the encoder, fine-tune the decoder, learn proposals.',
    no_args_is_help=True,
    rich_markup_mode=None,
)

_Config = Annotated[
    Path,
    typer.Option(
        '--config',
        '-c',
        metavar='FILE',
        help='A YAML file, or one of paper.yaml, default.yaml, cpu.yaml, smoke.yaml '
        'and proposals.yaml.',
        show_default=False,
    ),
]
_Out = Annotated[
    Path | None,
    typer.Option(metavar='DIR', help="Folder of all runs, instead of the file's."),
]
_Devices = Annotated[
    int | None, typer.Option(min=1, help="Devices of each node, instead of the file's.")
]
_Nodes = Annotated[
    int | None, typer.Option(min=1, help="Number of nodes, instead of the file's.")
]
_Strategy = Annotated[
    str | None,
    typer.Option(metavar='auto|ddp|fsdp', help='How devices share the work.'),
]


def _run(
    parts: tuple[str, ...],
    config: Path,
    out: Path | None,
    devices: int | None,
    nodes: int | None,
    strategy: str | None,
) -> None:
    overrides: dict[str, Any] = {
        'devices': devices,
        'nodes': nodes,
        'strategy': strategy,
    }
    with _explained():
        from napari_kdsam.training.config_file import read_config, with_overrides
        from napari_kdsam.training.recipe import run_parts

        settings = with_overrides(read_config(config), out, overrides)
        for path in run_parts(settings, parts):
            typer.echo(f'Written: {path}')


@contextmanager
def _explained() -> Iterator[None]:
    """Say in a sentence what went wrong: 2 where it is the settings, else 1."""
    with exit_on(KDSAMError, WRONG_USAGE):
        require_training_extra()
    from napari_kdsam.training.config import ConfigError

    with exit_on(KDSAMError, SOME_FAILED), exit_on(ConfigError, WRONG_USAGE):
        yield


@app.command('cache-teacher')
def cache_teacher(config: _Config, out: _Out = None) -> None:
    """Embed every training image with the teacher, once; goes on where it stopped."""
    _run(('cache-teacher',), config, out, None, None, None)


_EVERYTHING = """Everything the configuration describes, in order.

A run that was stopped, at whatever moment, goes on from its last checkpoint when
the same command is given again.
"""
_STAGES = {
    'encoder': "Stage 1: distil the teacher's embedding into the student's encoder.",
    'decoder': 'Stage 2: fine-tune the mask decoder on true masks.',
    'proposals': 'Stage 3: train the head that proposes boxes, on the frozen encoder.',
}


def _offer(name: str, parts: tuple[str, ...], text: str) -> None:
    """Offer the command that trains these parts of a configuration."""

    @app.command(name, help=text)
    def train(
        config: _Config,
        out: _Out = None,
        devices: _Devices = None,
        nodes: _Nodes = None,
        strategy: _Strategy = None,
    ) -> None:
        _run(parts, config, out, devices, nodes, strategy)


for _name, _text in _STAGES.items():
    _offer(_name, (_name,), _text)
_offer('all', ('cache-teacher', *_STAGES), _EVERYTHING)


@app.command()
def things(
    config: Annotated[
        Path,
        typer.Option(
            '--config',
            '-c',
            metavar='FILE',
            help='A YAML file, or things.yaml.',
            show_default=False,
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar='DIR', help="Folder to write, instead of the file's."),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(min=0, help='Begin no further shard after so many minutes.'),
    ] = None,
) -> None:
    """Make a data set of things of every kind, with masks by a second teacher.

    A run that was stopped goes on after its last shard when the same command is given
    again.
    """
    with _explained():
        from napari_kdsam.training.config import ThingsConfig
        from napari_kdsam.training.config_file import read_config_as
        from napari_kdsam.training.things.making import make_things

        settings = read_config_as(ThingsConfig, config)
        if out is not None:
            settings = settings.model_copy(update={'out': out})
        report = make_things(settings, minutes=minutes)
    typer.echo(f'{report.folder}: {report.describe()}')


@app.command()
def average(
    tuned: Annotated[Path, typer.Argument(help='Weights that were fine-tuned.')],
    start: Annotated[Path, typer.Argument(help='Weights that they started from.')],
    out: Annotated[Path, typer.Option(metavar='FILE', help='Where to write.')],
    share: Annotated[
        float, typer.Option(min=0, max=1, help='Share of the tuned weights.')
    ] = 0.7,
) -> None:
    """Average fine-tuned weights with their start, to forget less."""
    from napari_kdsam.training.averaging import average_weights

    with exit_on(KDSAMError, SOME_FAILED):
        typer.echo(f'Written: {average_weights(tuned, start, share, out)}')
