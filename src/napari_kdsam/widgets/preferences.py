"""What the user prefers: napari's own preferences, or a file for older naparis."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from platformdirs import user_config_path
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from napari_kdsam.core.errors import KDSAMError
from napari_kdsam.core.files import write_json
from napari_kdsam.model.registry import DEFAULT_MODEL, list_models

PLUGIN = 'napari-kdsam'
# Not "shortcuts": napari's dialog takes that for its own page.
_KEYS = 'keys'
_ANNOTATOR = 'annotator'
_TYPING_MS = 500

# What panels call the choices, and napari's dialog with them.
OVERLAPS = {'Keep other labels': 'keep', 'Overwrite': 'overwrite', 'Ask': 'ask'}
OUTPUTS = {'A label for each object': 'instance', 'A label for each class': 'semantic'}
SAVE_AS = {
    'As suits the image': 'image',
    'PNG': 'png',
    'TIFF': 'tiff',
    'NIfTI': 'nifti',
    'PNG for each frame': 'png frames',
    'TIFF for each frame': 'tiff frames',
}
_IN_WORDS = {'overlap': OVERLAPS, 'output': OUTPUTS, 'save_as': SAVE_AS}

SaveAs = Literal['image', 'png', 'tiff', 'nifti', 'png frames', 'tiff frames']


class Preferences(BaseModel):
    """Defaults of the annotator.

    Attributes
    ----------
    model, device : str
        As for `load_model`.
    model_file : str
        A weights file in place of the model; empty for none.
    overlap : str
        What happens to labels under a new mask.
    output : str
        ``instance``: a label for each object; ``semantic``: one for each class.
    save_as : str
        Format of labels that are saved: ``image`` for one that suits the image's, or
        one file for each frame.
    autosave : bool
        Whether sessions are kept in files.
    sessions : str
        Where those files are.
    prefetch : bool
        Whether neighbouring frames are embedded when nothing else is to do.
    second_look : bool
        Whether small objects of large images are looked at again.
    embeddings : str
        Folder of an embedding store; empty for none.
    high_contrast : bool
        Whether masks are previewed as bright outlines.
    hover : bool
        Whether the mask that a click would give is shown under the mouse.
    keys : dict of str to str
        Action to key, for those that differ from the table of shortcuts.
    """

    model_config = ConfigDict(frozen=True, extra='forbid')

    model: str = Field(
        DEFAULT_MODEL,
        title='Model',
        description='Model to start with; "napari-kdsam models" tells which are here',
    )
    model_file: str = Field(
        '',
        title='Weights file',
        description='A weights file of your own to start with, in place of the model',
    )
    device: Literal['auto', 'cpu', 'cuda', 'mps'] = Field(
        'auto', title='Device', description='Where the model computes'
    )
    overlap: Literal['keep', 'overwrite', 'ask'] = Field(
        'keep',
        title='Overlap',
        description='What happens to labels under a new mask',
    )
    output: Literal['instance', 'semantic'] = Field(
        'instance',
        title='Output',
        description='What the numbers in the labels stand for',
    )
    save_as: SaveAs = Field(
        'image',
        title='Save labels as',
        description='Format of labels that are saved, in one file or one for each frame',
    )
    autosave: bool = Field(
        True,
        title='Autosave',
        description='Keep sessions in files, to be restored after a crash',
    )
    sessions: Literal['data directory', 'beside the image'] = Field(
        'data directory',
        title='Folder of sessions',
        description='Where autosave keeps its files',
    )
    prefetch: bool = Field(
        True,
        title='Prepare neighbouring frames',
        description='Encode the next frames when there is nothing else to do',
    )
    second_look: bool = Field(
        True,
        title='Second look',
        description='See small objects of large images again at full resolution',
    )
    embeddings: str = Field(
        '',
        title='Embedding store',
        description='Folder that "napari-kdsam embed" fills: images in it need no '
        'encoding',
    )
    high_contrast: bool = Field(
        False,
        title='High-contrast preview',
        description='Show masks as bright outlines',
    )
    hover: bool = Field(
        False,
        title='Hover preview',
        description='Show under the mouse the mask that a click would give',
    )
    keys: dict[str, str] = {}

    @property
    def first_model(self) -> str:
        """What to load first: a file or a name, as for `load_model`."""
        return self.model_file.strip() or self.model


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
        if isinstance(value, str):
            value = _IN_WORDS.get(name, {}).get(value, value)
        if name == 'keys' and isinstance(value, Mapping):
            unused = [key for key in value.values() if not isinstance(key, str)]
            value = {a: key for a, key in value.items() if isinstance(key, str)}
            warnings += [_not_used(name, key) for key in unused]
        try:
            Preferences(**{name: value})
        except ValidationError:
            warnings.append(_not_used(name, value))
        else:
            kept[name] = value
    return Preferences(**kept), warnings


def remember_format(save_as: SaveAs) -> None:
    """Save labels in this format from now on, also when napari is started again."""
    settings = _napari_settings()
    if settings is not None:
        getattr(settings, _ANNOTATOR).save_as = _words('save_as', save_as)
        return
    path = preferences_file()
    content, problems = _from_file(path)
    if not problems:
        with suppress(KDSAMError, OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, {**content, 'save_as': save_as})


def _not_used(name: str, value: object) -> str:
    if name not in Preferences.model_fields:
        return f'There is no preference {name!r}, so it is ignored.'
    return (
        f'The preference {name!r} cannot be {value!r}, so its default is used; choose '
        'another in the preferences.'
    )


def on_change(callback: Callable[[], None]) -> Callable[[], None]:
    """Call back when the user has changed preferences in napari's dialog.

    Parameters
    ----------
    callback : callable
        Called without arguments, on the main thread, once typing has paused.

    Returns
    -------
    callable
        Ends the calls. In a napari that has no preferences for plugins there are none.
    """
    from qtpy.QtCore import QTimer

    settings = _napari_settings()
    if settings is None:
        return lambda: None
    # napari reports each letter of a key that is being typed.
    pause = QTimer()
    pause.setSingleShot(True)
    pause.setInterval(_TYPING_MS)
    pause.timeout.connect(callback)

    def wait(event: Any = None) -> None:
        pause.start()

    def stop() -> None:
        settings.events.changed.disconnect(wait)
        pause.stop()

    settings.events.changed.connect(wait)
    return stop


def _napari_settings() -> Any:
    """napari's settings of this plugin, or None where it has none."""
    try:
        from napari.settings import get_plugin_settings
    except ImportError:
        return None
    try:
        return get_plugin_settings(PLUGIN)
    except KeyError:
        # napari does not know the manifest, as where the plugin is switched off.
        return None


def _stored() -> tuple[dict[str, Any], list[str]]:
    try:
        settings = _napari_settings()
    except Exception:  # noqa: BLE001 - a damaged file must not stop the plugin
        return {}, [
            "napari's preferences of plugins cannot be read, so the defaults are used."
        ]
    if settings is None:
        return _from_file(preferences_file())
    values = dict(getattr(settings, _ANNOTATOR).model_dump())
    # The defaults are those of the table of shortcuts, by way of the manifest.
    changed = getattr(settings, _KEYS).model_dump(exclude_defaults=True)
    values['keys'] = dict(changed)
    return values, []


def _from_file(path: Path) -> tuple[dict[str, Any], list[str]]:
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except FileNotFoundError:
        return {}, []
    except (OSError, ValueError, RecursionError):
        content = None
    if not isinstance(content, Mapping):
        reason = 'cannot be read, so the defaults are used; correct or delete it.'
        return {}, [f'{path} {reason}']
    return dict(content), []


def _words(name: str, value: str) -> str:
    """What napari's dialog calls a value."""
    return next(words for words, known in _IN_WORDS[name].items() if known == value)


def manifest_configurations(keys: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest's ``configurations``, so that they cannot drift from the model.

    Parameters
    ----------
    keys : mapping of str to mapping
        Action to the JSON schema of its key.
    """
    described: dict[str, Any] = {}
    schema = Preferences.model_json_schema()['properties']
    for name, field in schema.items():
        if name != 'keys':
            order = ('title', 'description', 'type', 'default', 'enum')
            described[name] = {part: field[part] for part in order if part in field}
    for name, words in _IN_WORDS.items():
        default = _words(name, described[name]['default'])
        described[name] |= {'default': default, 'enum': list(words)}
    # Which are on a computer, a manifest cannot know.
    described['model']['enum'] = [entry.name for entry in list_models()]
    return {
        _ANNOTATOR: {'title': 'Click to label', 'properties': described},
        _KEYS: {'title': 'Keys', 'properties': dict(keys)},
    }
