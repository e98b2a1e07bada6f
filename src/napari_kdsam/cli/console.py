"""What every command says on the terminal, and the exit codes it ends with."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from napari_kdsam.core.errors import ImageError, KDSAMError, NotWrittenError
from napari_kdsam.core.names import printable

if TYPE_CHECKING:
    from napari_kdsam.batch.records import FrameResult

DONE, SOME_FAILED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130
_PIPE_WIDTH = 200
_FILES_A_LINE = 10_000


def say(message: object) -> None:
    """Say in one line what was done, with nothing in it that a terminal obeys."""
    typer.echo(printable(str(message)))


def complain(message: object) -> None:
    """Say on standard error, in one line, what is wrong."""
    from rich.console import Console

    Console(stderr=True).print(
        f'Error: {printable(str(message))}',
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def note(message: str) -> None:
    """Say on standard error, in one line, what is worth a look."""
    typer.echo(f'Note: {printable(message)}', err=True)


@contextmanager
def exit_on(kind: type[KDSAMError], code: int) -> Iterator[None]:
    """Say what is wrong and end the command with `code` if an error is of `kind`.

    What cannot be written, as on a full disk, ends it as failures do, whatever `code`,
    and Ctrl+C where nothing else is made of it with the exit code for that.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        complain('Interrupted.')
        raise typer.Exit(INTERRUPTED) from error
    except kind as error:
        complain(error)
        full = isinstance(error, NotWrittenError)
        raise typer.Exit(SOME_FAILED if full else code) from error


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


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print cells as they are, in a table as wide as the terminal."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if not console.is_terminal:
        # A pipe has no width to fit; lines stay whole for other programs.
        console = Console(width=_PIPE_WIDTH)
    table = Table(*headers)
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    console.print(table)


@contextmanager
def file_progress(name: str) -> Iterator[Callable[[float, int], None]]:
    """Show a bar for one file on standard error; nothing if that is no terminal.

    Parameters
    ----------
    name : str
        What is being worked on.

    Yields
    ------
    callable
        To be called with the numbers of frames done and to do, the one at work in parts.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(
        console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task(escape(printable(name)), total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


@contextmanager
def looking_progress() -> Iterator[Callable[[int, int], None]]:
    """Show on standard error how many files have been found and looked at.

    Where that is no terminal, a line for every ten thousand.

    Yields
    ------
    callable
        To be called with the numbers of files looked at and found so far.
    """
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn

    console = Console(stderr=True)
    columns = SpinnerColumn(), TextColumn('{task.description}')
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task('looking for images')

        def on_step(looked_at: int, found: int) -> None:
            told = (
                f'{looked_at} of {found} files looked at'
                if looked_at
                else f'{found} files found'
            )
            progress.update(task, description=told)
            if not console.is_terminal and not (looked_at or found) % _FILES_A_LINE:
                typer.echo(told, err=True)

        yield on_step


@contextmanager
def batch_progress(total: int) -> Iterator[Callable[[FrameResult], None]]:
    """Show a bar for many files on standard error, and each failure as it happens.

    Parameters
    ----------
    total : int
        Frames to do.

    Yields
    ------
    callable
        To be called with the result of each frame.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    from napari_kdsam.batch.inputs import name_of
    from napari_kdsam.batch.records import Status

    console = Console(stderr=True)
    columns = (
        TextColumn('{task.description}'),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn('{task.fields[rate]}'),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task('frames', total=total, rate='')

        def on_result(result: FrameResult) -> None:
            speed = progress.tasks[0].speed
            rate = f'{speed:.1f}/s' if speed else ''
            progress.update(task, advance=1, rate=rate)
            if result.status is Status.failed:
                name = name_of(result.location)
                console.print(
                    printable(f'{name}, frame {result.frame}: {result.reason}'),
                    markup=False,
                    highlight=False,
                    soft_wrap=True,
                )

        yield on_result
