"""The work of ``napari-kdsam models``, ``demo``, ``replay`` and ``info``."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from napari_kdsam.cli.segment import (
    DONE,
    SOME_FAILED,
    WRONG_USAGE,
    complain,
    frame_progress,
    make_folder,
)
from napari_kdsam.core.errors import KDSAMError, MissingExtraError
from napari_kdsam.model.registry import (
    DEFAULT_MODEL,
    ModelEntry,
    download_model,
    find_model,
    list_models,
    models_folder,
)

if TYPE_CHECKING:
    from napari_kdsam.demo import DemoOutcome

_PIPE_WIDTH = 200
_PACKAGES = ('torch', 'torchvision', 'segment-anything', 'napari', 'pydicom')


def _print_table(headers: list[str], rows: list[list[str]]) -> None:
    console = Console()
    if not console.is_terminal:
        # A pipe has no width to fit; lines stay whole for other programs.
        console = Console(width=_PIPE_WIDTH)
    table = Table(*headers)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)


def show_models(download: str | None) -> int:
    """Print the models, after downloading one if asked to.

    Parameters
    ----------
    download : str or None
        Name of the model to download.

    Returns
    -------
    int
        Exit code: 0, 1 if the download failed, 2 if there is no such model.
    """
    if download is not None:
        try:
            find_model(download)
        except KDSAMError as error:
            complain(error)
            return WRONG_USAGE
        try:
            path = download_model(download, progress=Console(stderr=True).is_terminal)
        except KDSAMError as error:
            complain(error)
            return SOME_FAILED
        typer.echo(f'{download} is in {path}')
    entries = list_models()
    _print_table(
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
    typer.echo(f'Models folder: {models_folder()}')
    return DONE


def _status(entry: ModelEntry) -> str:
    if not entry.available:
        return 'not here'
    return 'bundled' if entry.bundled else 'on this computer'


def replay_session(path: Path, out: Path) -> int:
    """Write the labels of a session file, and say what it held.

    Parameters
    ----------
    path : pathlib.Path
        The session file.
    out : pathlib.Path
        The label image to write.

    Returns
    -------
    int
        Exit code: 0 written, 2 the session or the place cannot be used.
    """
    from napari_kdsam.annotation.session_file import read_session
    from napari_kdsam.io.label_images import write_labels

    try:
        saved = read_session(path)
        make_folder(out.parent)
        write_labels(out, saved.labels())
    except KDSAMError as error:
        complain(error)
        return WRONG_USAGE
    open_frames = len(saved.state.drafts)
    left = (
        f'; open prompts on {open_frames} frame{"s" if open_frames > 1 else ""} are not in it'
        if open_frames
        else ''
    )
    typer.echo(f'{out}: {len(saved.state.objects)} objects{left}')
    return DONE


def run_demo(out: Path, device: str, *, view: bool) -> int:
    """Run the demonstration and print its table.

    Parameters
    ----------
    out : pathlib.Path
        Folder for the results, made if needed.
    device : str
        Device name.
    view : bool
        Whether to open the results in napari.

    Returns
    -------
    int
        Exit code: 0 all done, 1 some image failed, 2 something is missing.
    """
    try:
        if view and find_spec('napari') is None:
            raise MissingExtraError('Showing the results in napari', 'all')
        make_folder(out)
        from napari_kdsam.batch.single_file import Segmenter
        from napari_kdsam.demo import phantom_cases, real_cases, result_of, run_case
        from napari_kdsam.model.loading import load_model

        cases = [*real_cases(), *phantom_cases(out)]
        segmenter = Segmenter(load_model(device=device))
    except KDSAMError as error:
        complain(error)
        return WRONG_USAGE
    outcomes = []
    for case in cases:
        try:
            with frame_progress(case.name) as on_frame:
                outcomes.append(run_case(segmenter, case, out, on_frame))
        except KDSAMError as error:
            complain(f'{case.name}: {error}')
    headers = ['Image', 'What', 'Prompt', 'Score', 'Pixels', 'Dice', 'Time']
    _print_table(headers, [_demo_row(outcome) for outcome in outcomes])
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

        try:
            demo_view.show([result_of(outcome) for outcome in outcomes])
        except KDSAMError as error:
            complain(error)
            return WRONG_USAGE
    return DONE if len(outcomes) == len(cases) else SOME_FAILED


def _demo_row(outcome: DemoOutcome) -> list[str]:
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


def show_info() -> int:
    """Print versions, devices and what the default model says of itself.

    Returns
    -------
    int
        Exit code: 0, or 2 if the default model's file cannot be read.
    """
    from napari_kdsam import __version__
    from napari_kdsam.annotation.session_file import sessions_folder
    from napari_kdsam.model.checkpoint import read_metadata
    from napari_kdsam.model.device import (
        available_devices,
        preferred_dtype,
        resolve_device,
    )

    device = resolve_device()
    rows = [['napari-kdsam', __version__], ['Python', platform.python_version()]]
    rows += [[name, _version_of(name)] for name in _PACKAGES]
    rows += [
        ['Devices', ', '.join(available_devices())],
        ['Device used', str(device)],
        ['Precision', str(preferred_dtype(device)).removeprefix('torch.')],
        ['Models folder', str(models_folder())],
        ['Sessions folder', str(sessions_folder())],
    ]
    entry = find_model(DEFAULT_MODEL)
    rows.append(['Default model', f'{entry.name}: {entry.path.name}'])
    try:
        metadata = read_metadata(entry.path).model_dump()
    except KDSAMError as error:
        _print_lines(rows)
        complain(error)
        return WRONG_USAGE
    rows += [[f'  {key}', _summary(value)] for key, value in metadata.items()]
    _print_lines(rows)
    return DONE


def _print_lines(rows: list[list[str]]) -> None:
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        typer.echo(f'{name:<{width}}  {value}')


def _version_of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return 'not installed'


def _summary(value: Any) -> str:
    """Show nested values of a checkpoint's header on one line."""
    if isinstance(value, dict):
        parts = ((key, _summary(item), item) for key, item in value.items())
        return ', '.join(
            f'{key} ({text})' if isinstance(item, dict) else f'{key} {text}'
            for key, text, item in parts
        )
    if isinstance(value, list):
        return ' x '.join(_summary(item) for item in value)
    return str(value)
