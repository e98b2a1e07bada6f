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
import json
import math
import os
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from platformdirs import user_data_path

from napari_kdsam.annotation.cleanup import CleanUp
from napari_kdsam.annotation.commands import (
    ChangeClass,
    Command,
    ReplaceDraft,
    SetClasses,
    SetCleanUp,
)
from napari_kdsam.annotation.label_commands import CommitObject, LabelTarget
from napari_kdsam.annotation.region import PixelRegion
from napari_kdsam.annotation.state import (
    AnnotationState,
    CommittedObject,
    Draft,
    ObjectClass,
    Outline,
    PointPrompt,
    Position,
    Scribble,
)
from napari_kdsam.core.errors import KDSAMError
from napari_kdsam.core.files import write_json
from napari_kdsam.core.stack_index import FrameIndex

FORMAT_VERSION = 1
# What any label image can hold, signed or not.
_HIGHEST = 2**63 - 1
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
        """The committed objects as a label array of the image's shape."""
        highest = max((item.label for item in self.state.objects), default=0)
        array = np.zeros(self.shape, np.uint32 if highest < 2**32 else np.uint64)
        for item in self.state.objects:
            row0, col0, row1, col1 = item.region.box
            part = array[item.frame][row0:row1, col0:col1]
            part[item.region.mask() & (part == 0)] = item.label
        return array


def write_session(path: Path, session: SavedSession) -> None:
    """Write a session file, complete or not at all.

    Raises
    ------
    ImageError
        If it cannot be written.
    """
    state = session.state
    content = {
        'format': FORMAT_VERSION,
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

    Returns
    -------
    SavedSession

    Raises
    ------
    SessionFileError
        If the file cannot be read, is damaged, or belongs to another image.
    """
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
        version = content['format']
        if version != FORMAT_VERSION:
            raise SessionFileError(
                f'{path.name} is a session of format {version!r}, but this version '
                f'reads format {FORMAT_VERSION}; update napari-kdsam.'
            )
        shape = tuple(_whole(value) for value in content['shape'])
        if len(shape) < 2 or min(shape) < 1:
            raise ValueError('the shape is not that of an image')
        drafts = {
            frame: _draft_of(values, frame, shape)
            for values in content['drafts']
            for frame in [_frame_of(values['frame'], shape)]
        }
        found = SavedSession(
            str(content['image']),
            shape,
            AnnotationState(
                MappingProxyType(drafts),
                tuple(_objects_of(content['objects'], shape)),
                _classes_of(content['classes']),
                _whole(content['current_class']),
                CleanUp.from_dict(content['cleanup']),
                # Nothing may have been looked at yet.
                _frame_of(content['frame'], shape) if content['frame'] else (),
            ),
        )
    except OSError as error:
        reason = error.strerror or 'the system gave no reason'
        raise SessionFileError(f'{path.name} cannot be read ({reason}).') from error
    except SessionFileError:
        raise
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
        zlib.error,
        KDSAMError,
    ) as error:
        raise SessionFileError(
            f'{path.name} is damaged or no session file ({error!r}); nothing of it '
            'was used.'
        ) from error
    if image is not None and found.image != image:
        raise SessionFileError(
            f'{path.name} belongs to another image; open that image to go on with it.'
        )
    return found


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f'{value!r} is not a whole number')
    return value


def _number(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f'{value!r} is not finite')
    return number


def _frame_of(values: Any, shape: tuple[int, ...]) -> FrameIndex:
    frame = tuple(_whole(value) for value in values)
    if len(frame) != len(shape) - 2:
        raise ValueError(f'frame {frame} does not fit the shape')
    if any(not 0 <= i < size for i, size in zip(frame, shape, strict=False)):
        raise ValueError(f'frame {frame} is outside the image')
    return frame


def _classes_of(listed: Any) -> tuple[ObjectClass, ...]:
    found = tuple(
        ObjectClass(_positive(item['id'], 'class'), str(item['name']), item['color'])
        for item in listed
    )
    if not found or len({item.id for item in found}) < len(found):
        raise ValueError('the classes are none, or not all different')
    if any(not re.fullmatch('#[0-9a-fA-F]{6}', item.color) for item in found):
        raise ValueError('a color is not #rrggbb')
    return found


def _draft_of(values: Mapping[str, Any], frame: FrameIndex, shape: Any) -> Draft:
    mask = values.get('mask')
    candidate, number = values.get('candidate'), values.get('number')
    label = values.get('label')
    boxes = []
    for sides in values.get('boxes', ()):
        row0, col0, row1, col1 = (_number(side) for side in sides)
        boxes.append((row0, col0, row1, col1))
    return Draft(
        tuple(
            PointPrompt(_number(row), _number(column), bool(positive))
            for row, column, positive in values.get('points', ())
        ),
        tuple(boxes),
        tuple(Scribble(*line) for line in _lines_of(values.get('scribbles', ()))),
        tuple(Outline(*line) for line in _lines_of(values.get('outlines', ()))),
        None if mask is None else _region_of(mask, frame, shape),
        None if candidate is None else _whole(candidate),
        None if number is None else _positive(number, 'number'),
        None if label is None else _positive(label, 'label'),
    )


def _lines_of(listed: Any) -> Iterator[tuple[tuple[Position, ...], bool]]:
    for places, positive in listed:
        placed = tuple((_number(row), _number(column)) for row, column in places)
        if not placed:
            raise ValueError('a line has no places')
        yield placed, bool(positive)


def _region_of(values: Any, frame: FrameIndex, shape: tuple[int, ...]) -> PixelRegion:
    row0, col0, row1, col1 = (_whole(side) for side in values['box'])
    if not (0 <= row0 < row1 <= shape[-2] and 0 <= col0 < col1 <= shape[-1]):
        raise ValueError('a mask is outside the image')
    wanted = -(-(row1 - row0) * (col1 - col0) // 8)
    raw = base64.b64decode(values['mask'], validate=True)
    # Never unpacks more than the mask can be, whatever the file says.
    bits = zlib.decompressobj().decompress(raw, wanted + 1)
    if len(bits) != wanted:
        raise ValueError('a mask does not fit its box')
    return PixelRegion(frame, (row0, col0, row1, col1), bits)


def _objects_of(listed: Any, shape: tuple[int, ...]) -> Iterator[CommittedObject]:
    numbers: set[int] = set()
    for values in listed:
        frame = _frame_of(values['frame'], shape)
        number = _positive(values['number'], 'number')
        if number in numbers:
            raise ValueError(f'two objects have the number {number}')
        numbers.add(number)
        yield CommittedObject(
            number,
            _positive(values['label'], 'label'),
            frame,
            _draft_of(values['draft'], frame, shape),
            _number(values['score']),
            _region_of(values, frame, shape),
            _positive(values['class'], 'class'),
            bool(values['semantic']),
        )


def _positive(value: Any, what: str) -> int:
    if not 1 <= _whole(value) <= _HIGHEST:
        raise ValueError(f'{value} is no {what}')
    return int(value)
