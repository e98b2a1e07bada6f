"""What the user prefers: napari's own preferences, or a file for older naparis."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from platformdirs import user_config_path
from pydantic import BaseModel, ConfigDict, ValidationError

from napari_kdsam.model.registry import DEFAULT_MODEL
from napari_kdsam.widgets.shortcuts import SHORTCUTS

PLUGIN = 'napari-kdsam'
# Not "shortcuts": napari's dialog takes that for its own page.
_KEYS = 'keys'
_ANNOTATOR = 'annotator'


class Preferences(BaseModel):
    """Defaults of the annotator.

    Attributes
    ----------
    model, device : str
        As for `load_model`.
    overlap : str
        What happens to labels under a new mask.
    output : str
        ``instance``: a label for each object; ``semantic``: one for each class.
    autosave : bool
        Whether sessions are kept in files.
    sessions : str
        Where those files are.
    prefetch : bool
        Whether neighbouring frames are embedded when nothing else is to do.
    high_contrast : bool
        Whether masks are previewed as bright outlines.
    keys : dict of str to str
        Action to key, for those that differ from the table of shortcuts.
    """

    model_config = ConfigDict(frozen=True, extra='forbid')

    model: str = DEFAULT_MODEL
    device: Literal['auto', 'cpu', 'cuda', 'mps'] = 'auto'
    overlap: Literal['keep', 'overwrite', 'ask'] = 'keep'
    output: Literal['instance', 'semantic'] = 'instance'
    autosave: bool = True
    sessions: Literal['data directory', 'beside the image'] = 'data directory'
    prefetch: bool = True
    high_contrast: bool = False
    keys: dict[str, str] = {}


def preferences_file() -> Path:
    """The JSON file that serves naparis without preferences for plugins."""
    return user_config_path(PLUGIN, appauthor=False) / 'preferences.json'


def load_preferences() -> tuple[Preferences, list[str]]:
    """Read the preferences.

    Returns
    -------
    preferences : Preferences
        With the default wherever a value cannot be used.
    warnings : list of str
        A sentence for everything that could not be used.
    """
    values, warnings = _stored()
    kept: dict[str, Any] = {}
    for name, value in values.items():
        try:
            Preferences(**{name: value})
        except ValidationError:
            warnings.append(
                f'The preference {name!r} has no use for {value!r}; the default is used.'
            )
        else:
            kept[name] = value
    return Preferences(**kept), warnings


def _stored() -> tuple[dict[str, Any], list[str]]:
    try:
        from napari.settings import get_plugin_settings
    except ImportError:
        return _from_file(preferences_file())
    try:
        settings = get_plugin_settings(PLUGIN)
    except Exception as error:  # noqa: BLE001 - a damaged file must not stop the plugin
        if isinstance(error, KeyError):
            # The plugin is not installed by its manifest, as in a checkout.
            return {}, []
        return {}, [f"napari's preferences cannot be read ({error})."]
    values = dict(getattr(settings, _ANNOTATOR).model_dump())
    chosen = dict(getattr(settings, _KEYS).model_dump())
    defaults = {s.action: s.key for s in SHORTCUTS}
    values['keys'] = {
        name: key for name, key in chosen.items() if key != defaults.get(name)
    }
    return values, []


def _from_file(path: Path) -> tuple[dict[str, Any], list[str]]:
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except FileNotFoundError:
        return {}, []
    except (OSError, ValueError) as error:
        return {}, [f'{path.name} cannot be read ({error}); defaults are used.']
    if not isinstance(content, Mapping):
        return {}, [f'{path.name} is no set of named values; defaults are used.']
    return dict(content), []


def manifest_configurations() -> dict[str, Any]:
    """The manifest's ``configurations``, so that they cannot drift from the model."""
    described: dict[str, Any] = {}
    schema = Preferences.model_json_schema()['properties']
    for name, field in schema.items():
        if name == 'keys':
            continue
        entry = {
            'title': name.replace('_', ' ').capitalize(),
            'description': _DESCRIPTIONS[name],
            'type': field['type'],
            'default': field['default'],
        }
        if 'enum' in field:
            entry['enum'] = field['enum']
        described[name] = entry
    keys = {
        s.action: {'title': s.title, 'type': 'string', 'default': s.key}
        for s in SHORTCUTS
    }
    return {
        _ANNOTATOR: {'title': 'Click to label', 'properties': described},
        _KEYS: {'title': 'Keys', 'properties': keys},
    }


_DESCRIPTIONS = {
    'model': 'Model to start with: a name from "napari-kdsam models", or a file',
    'device': 'Where the model computes',
    'overlap': 'What happens to labels under a new mask',
    'output': 'A label for each object (instance) or for each class (semantic)',
    'autosave': 'Keep sessions in files, to be restored after a crash',
    'sessions': 'Where the files of sessions are',
    'prefetch': 'Encode neighbouring frames when nothing else is to do',
    'high_contrast': 'Show masks as bright outlines',
}
