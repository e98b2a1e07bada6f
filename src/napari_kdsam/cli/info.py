"""``napari-kdsam info``: versions, devices and the default model."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import typer

from napari_kdsam.cli.console import WRONG_USAGE, exit_on
from napari_kdsam.core.errors import KDSAMError

_PACKAGES = ('torch', 'torchvision', 'segment-anything', 'napari', 'pydicom')


def info() -> None:
    """Show versions, devices and the default model."""
    from napari_kdsam import __version__
    from napari_kdsam.annotation.session_file import sessions_folder
    from napari_kdsam.model.checkpoint import read_metadata
    from napari_kdsam.model.device import (
        available_devices,
        preferred_dtype,
        resolve_device,
    )
    from napari_kdsam.model.registry import DEFAULT_MODEL, find_model, models_folder

    device = resolve_device()
    entry = find_model(DEFAULT_MODEL)
    rows = {
        'napari-kdsam': __version__,
        'Python': platform.python_version(),
        **{name: _version_of(name) for name in _PACKAGES},
        'Devices': ', '.join(available_devices()),
        'Device used': str(device),
        'Precision': str(preferred_dtype(device)).removeprefix('torch.'),
        'Models folder': str(models_folder()),
        'Sessions folder': str(sessions_folder()),
        'Default model': f'{entry.name}: {entry.path.name}',
    }
    width = max(map(len, rows))
    for name, value in rows.items():
        typer.echo(f'{name:<{width}}  {value}')
    with exit_on(KDSAMError, WRONG_USAGE):
        metadata = read_metadata(entry.path).model_dump()
    for key, value in metadata.items():
        typer.echo(f'  {key:<{width - 2}}  {_one_line(value)}')


def _version_of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return 'not installed'


def _one_line(value: Any) -> str:
    """Show nested values of a checkpoint's header on one line."""
    if isinstance(value, dict):
        parts = ((key, _one_line(item), item) for key, item in value.items())
        return ', '.join(
            f'{key} ({text})' if isinstance(item, dict) else f'{key} {text}'
            for key, text, item in parts
        )
    if isinstance(value, list):
        return ' x '.join(_one_line(item) for item in value)
    return str(value)
