"""Which folders were worked on, so that nobody has to choose them twice."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from platformdirs import user_config_path

from napari_kdsam.core.errors import KDSAMError
from napari_kdsam.core.files import write_json
from napari_kdsam.series.images import ImageChoice
from napari_kdsam.series.label_files import LABEL_FORMS, LabelForm
from napari_kdsam.widgets.preferences import PLUGIN

_MOST = 20


@dataclass(frozen=True)
class SeriesChoices:
    """What a series was opened with.

    Attributes
    ----------
    images : str
        Folder or list of images; empty for none.
    files : tuple of str
        The images themselves where they were those of layers; `images` is the folder
        that they are below.
    labels : str
        Folder of the labels.
    form : LabelForm
    likely_objects : bool
        Whether they are shown as a start.
    """

    images: str = ''
    labels: str = ''
    form: LabelForm = 'image'
    files: tuple[str, ...] = ()
    likely_objects: bool = False

    @property
    def choice(self) -> ImageChoice:
        """What a series is opened with."""
        return tuple(map(Path, self.files)) or Path(self.images)


def remembered(images: str = '', files: tuple[str, ...] = ()) -> SeriesChoices:
    """What was chosen for these images, or last; a folder beside them if they are new."""
    known = _read()
    if not images:
        return known[0] if known else SeriesChoices()
    for one in known:
        if (one.images, one.files) == (images, files):
            return one
    path = Path(images)
    beside = path if path.is_dir() else path.parent
    last = known[0] if known else SeriesChoices()
    labels = str(beside / 'labels')
    return SeriesChoices(images, labels, last.form, files, last.likely_objects)


def remember(choices: SeriesChoices) -> None:
    """Offer these choices first from now on; a disk that is full keeps the earlier."""
    of = choices.images, choices.files
    others = [one for one in _read() if (one.images, one.files) != of]
    path = _file()
    with suppress(KDSAMError, OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, [asdict(one) for one in [choices, *others][:_MOST]])


def _file() -> Path:
    return user_config_path(PLUGIN, appauthor=False) / 'series.json'


def _read() -> list[SeriesChoices]:
    try:
        found = [
            SeriesChoices(**{**item, 'files': tuple(item.get('files', ()))})
            for item in json.loads(_file().read_bytes())
        ]
    except (OSError, ValueError, TypeError, AttributeError):
        # Nothing is lost but a convenience.
        return []
    return [
        one
        for one in found
        if isinstance(one.images, str)
        and isinstance(one.labels, str)
        and one.form in LABEL_FORMS
        and isinstance(one.likely_objects, bool)
        and all(isinstance(file, str) for file in one.files)
    ]
