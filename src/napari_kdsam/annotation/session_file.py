"""Annotation sessions as files, so that a crash or a closed window costs nothing.

Version 1 is JSON::

    {"format": 1, "image": "<content digest>", "shape": [300, 480, 640],
     "frame": [12], "classes": [{"id": 1, "name": "object", "color": "#00e5ff"}],
     "current_class": 1, "cleanup": {...},
     "drafts": [{"frame": [12], "points": [[row, col, true], ...],
                 "boxes": [[row0, col0, row1, col1]],
                 "scribbles": [[[[row, col], ...], true]],
                 "outlines": [[[[row, col], ...], true]],
                 "mask": {"box": [...], "mask": "<base64>"},
                 "candidate": 1, "number": 4}],
     "objects": [{"number": 1, "label": 1, "class": 1, "semantic": false,
                  "frame": [12], "score": 0.93, "draft": {...},
                  "box": [row0, col0, row1, col1], "mask": "<base64>"}]}

What is empty in a draft is left out; its number is that of the object it was reopened
from. A mask has one bit for each pixel of its box, row by row, the first pixel in the
highest bit, compressed with zlib. Nothing in the file names the image or where it came
from.
"""

from __future__ import annotations

import base64
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from platformdirs import user_data_path

from napari_kdsam.annotation.commands import (
    ChangeClass,
    Command,
    ReplaceDraft,
    SetClasses,
    SetCleanUp,
)
from napari_kdsam.annotation.label_commands import CommitObject, LabelTarget
from napari_kdsam.annotation.region import PixelRegion
from napari_kdsam.annotation.session_values import (
    SessionHeader,
    SessionValues,
    first_problem,
)
from napari_kdsam.annotation.state import (
    AnnotationState,
    CommittedObject,
    Draft,
    Outline,
    Scribble,
)
from napari_kdsam.core.errors import KDSAMError, excerpt, quoted
from napari_kdsam.core.files import write_json

SESSION_FORMAT = 1
SESSIONS_VARIABLE = 'NAPARI_KDSAM_SESSIONS'


class SessionFileError(KDSAMError, ValueError):
    """A session file that cannot be used."""


def sessions_folder() -> Path:
    """Folder of the session files.

    The environment variable ``NAPARI_KDSAM_SESSIONS`` overrides the default, the
    user's data directory.
    """
    chosen = os.environ.get(SESSIONS_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    return user_data_path('napari-kdsam', appauthor=False) / 'sessions'


@dataclass(frozen=True, eq=False)
class SavedSession:
    """What a session file holds.

    Attributes
    ----------
    image : str
        Digest of the image's content, from `digest_of_image`.
    shape : tuple of int
        (..., rows, columns) of the image.
    state : AnnotationState
    """

    image: str
    shape: tuple[int, ...]
    state: AnnotationState

    def restoring(
        self, target: LabelTarget | None, above: int = 0
    ) -> tuple[Command, ...]:
        """The commands that bring everything back, the objects first.

        Parameters
        ----------
        target : LabelTarget or None
            Where the objects' pixels go; needed if there are objects.
        above : int
            Added to every number and instance label, so that they stay apart from
            those already there.
        """
        state = self.state

        def renumbered(item: CommittedObject) -> CommittedObject:
            label = item.label if item.semantic else item.label + above
            return replace(item, number=item.number + above, label=label)

        objects = [
            CommitObject(target, renumbered(item), clears=False)
            for item in state.objects
            if target is not None
        ]

        def raised(draft: Draft) -> Draft:
            number, label = draft.number, draft.label
            return replace(
                draft, number=number and number + above, label=label and label + above
            )

        drafts = [
            ReplaceDraft(frame, raised(draft)) for frame, draft in state.drafts.items()
        ]
        return (
            SetClasses(state.classes),
            ChangeClass(state.current_class),
            SetCleanUp(state.cleanup),
            *objects,
            *drafts,
        )

    def labels(self) -> NDArray[np.unsignedinteger]:
        """The committed objects as a label array of the image's shape.

        Raises
        ------
        SessionFileError
            If it does not fit in memory.
        """
        highest = max((item.label for item in self.state.objects), default=0)
        dtype = np.uint32 if highest < 2**32 else np.uint64
        try:
            array = np.zeros(self.shape, dtype)
        except (MemoryError, ValueError) as error:
            sizes = ' x '.join(map(str, self.shape))
            raise SessionFileError(
                f'Labels of {excerpt(sizes)} pixels do not fit in memory; use a '
                'computer with more, if the image is really of that size.'
            ) from error
        for item in self.state.objects:
            row0, col0, row1, col1 = item.region.box
            part = array[item.frame][row0:row1, col0:col1]
            part[item.region.mask() & (part == 0)] = item.label
        return array


def write_session(path: Path, session: SavedSession) -> None:
    """Write a session file, complete or not at all.

    Raises
    ------
    SessionFileError
        If the name of a class is no text that can be read back.
    ImageError
        If it cannot be written.
    """
    state = session.state
    for item in state.classes:
        # Halves of characters can be written to JSON, but its readers refuse them.
        if not item.name.isascii() and item.name.encode('utf-8', 'ignore') != (
            item.name.encode('utf-8', 'surrogatepass')
        ):
            raise SessionFileError(
                f'The class {quoted(item.name)} has half a character in its name; '
                'rename it.'
            )
    content = {
        'format': SESSION_FORMAT,
        'image': session.image,
        'shape': list(session.shape),
        'frame': list(state.frame),
        'classes': [
            {'id': item.id, 'name': item.name, 'color': item.color}
            for item in state.classes
        ],
        'current_class': state.current_class,
        'cleanup': state.cleanup.to_dict(),
        'drafts': [
            {'frame': list(frame), **_draft_values(draft)}
            for frame, draft in state.drafts.items()
        ],
        'objects': [_object_values(item) for item in state.objects],
    }
    write_json(path, content)


def _draft_values(draft: Draft) -> dict[str, Any]:
    values = {
        'points': [[p.row, p.column, p.positive] for p in draft.points],
        'boxes': [list(box) for box in draft.boxes],
        'scribbles': _line_values(draft.scribbles),
        'outlines': _line_values(draft.outlines),
        'mask': draft.mask and _region_values(draft.mask),
        'candidate': draft.candidate,
        'number': draft.number,
        'label': draft.label,
    }
    return {key: value for key, value in values.items() if value not in (None, [])}


def _line_values(lines: Sequence[Scribble | Outline]) -> list[Any]:
    return [[[list(place) for place in line.places], line.positive] for line in lines]


def _region_values(region: PixelRegion) -> dict[str, Any]:
    packed = zlib.compress(region.packed, 1)
    return {
        'box': list(region.box),
        'mask': base64.b64encode(packed).decode('ascii'),
    }


# Objects do not change, and a session of a thousand is written after each commit.
@lru_cache(maxsize=8192)
def _object_values(item: CommittedObject) -> dict[str, Any]:
    return {
        'number': item.number,
        'label': item.label,
        'class': item.class_id,
        'semantic': item.semantic,
        'frame': list(item.frame),
        'score': item.score,
        'draft': _draft_values(item.draft),
        **_region_values(item.region),
    }


def read_session(path: Path, image: str | None = None) -> SavedSession:
    """Read a session file.

    Parameters
    ----------
    path : pathlib.Path
    image : str, optional
        Digest of the image it should belong to.

    Raises
    ------
    SessionFileError
        If the file cannot be read, is damaged, or belongs to another image.
    """
    try:
        content = path.read_bytes()
        version = SessionHeader.model_validate_json(content).format
        if version != SESSION_FORMAT:
            raise SessionFileError(
                f'{path.name} is a session of format {quoted(version)}, but this '
                f'version reads format {SESSION_FORMAT}; update napari-kdsam.'
            )
        values = SessionValues.model_validate_json(content)
        found = SavedSession(values.image, values.shape, values.state())
    except OSError as error:
        reason = error.strerror or 'the system gave no reason'
        raise SessionFileError(f'{path.name} cannot be read ({reason}).') from error
    except SessionFileError:
        raise
    except (ValueError, OverflowError, MemoryError, zlib.error, KDSAMError) as error:
        raise SessionFileError(
            f'{path.name} is damaged or no session file ({first_problem(error)}); '
            'nothing of it was used.'
        ) from error
    if image is not None and found.image != image:
        raise SessionFileError(
            f'{path.name} belongs to another image; open that image to go on with it.'
        )
    return found
