"""Settings of training from a YAML file and the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from napari_kdsam.core.errors import excerpt
from napari_kdsam.training.config import ConfigError, TrainingConfig

CONFIG_FOLDER = Path(__file__).parent / 'configs'
_PROBLEMS_SHOWN = 3
Config = TypeVar('Config', bound=BaseModel)


def read_config(path: Path) -> TrainingConfig:
    """Read the configuration of a training in stages; see `read_config_as`."""
    return read_config_as(TrainingConfig, path)


def read_config_as(kind: type[Config], path: Path) -> Config:
    """Read a training configuration.

    Parameters
    ----------
    kind : type
        The pydantic model that checks it.
    path : pathlib.Path
        A YAML file, or the name of one that comes with the package, such as
        ``cpu.yaml``.

    Returns
    -------
    An instance of `kind`

    Raises
    ------
    ConfigError
        If there is no such file, it is not YAML, or a field is unknown, missing or
        wrong; the fields are named.
    """
    bundled = CONFIG_FOLDER / path.name
    if not path.is_file():
        if path.parent != Path() or not bundled.is_file():
            ready = ', '.join(sorted(p.name for p in CONFIG_FOLDER.glob('*.yaml')))
            raise ConfigError(f'There is no configuration {path}; ready ones: {ready}.')
        path = bundled
    try:
        content: Any = yaml.safe_load(path.read_text(encoding='utf-8'))
    except OSError as error:
        reason = error.strerror or 'unknown reason'
        raise ConfigError(f'{path.name} cannot be read ({reason}).') from error
    except Exception as error:
        # PyYAML makes values as it reads, and raises whatever that leads to.
        reason = excerpt(error) or type(error).__name__
        raise ConfigError(f'{path.name} is not readable YAML ({reason}).') from error
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        problems = [
            excerpt(f'{".".join(map(str, p["loc"])) or "the file"}: {p["msg"]}')
            for p in error.errors(include_input=False, include_url=False)
        ]
        more = len(problems) - _PROBLEMS_SHOWN
        text = '; '.join(problems[:_PROBLEMS_SHOWN])
        text += f'; and {more} more' if more > 0 else ''
        raise ConfigError(f'{path.name} cannot be used: {text}.') from error


def with_overrides(
    config: TrainingConfig, out: Path | None, loop: dict[str, Any]
) -> TrainingConfig:
    """Put the command line's values (those that are not None) over the file's.

    Raises
    ------
    ConfigError
        If a value is not one the field takes.
    """
    values = config.model_dump()
    values['loop'].update({k: v for k, v in loop.items() if v is not None})
    if out is not None:
        values['out'] = out
    try:
        return TrainingConfig.model_validate(values)
    except ValidationError as error:
        problem = error.errors()[0]
        raise ConfigError(f'--{problem["loc"][-1]}: {problem["msg"]}.') from error
