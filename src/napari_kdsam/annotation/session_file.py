"""Annotation sessions as files, so that a crash or a closed window costs nothing.

Version 1 is JSON::

    {"format": 1, "image": "<content digest>", "shape": [300, 480, 640],
     "drafts": [{"frame": [12], "points": [[row, col, true], ...],
                 "box": [row0, col0, row1, col1], "candidate": 1, "label": 4}],
     "objects": [{"label": 1, "frame": [12], "score": 0.93, "draft": {...},
                  "box": [row0, col0, row1, col1], "mask": "<base64>"}]}

The label of a draft is that of the object it was reopened from. A mask has one bit for each pixel of its box, row by row, the first pixel in the highest
bit, compressed with zlib. Nothing in the file names the image or where it came from.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from platformdirs import user_data_path

from napari_kdsam.annotation.commands import (
    Command,
    CommitObject,
    LabelTarget,
    ReplaceDraft,
)
from napari_kdsam.annotation.region import PixelRegion
from napari_kdsam.annotation.state import (
    AnnotationState,
    CommittedObject,
    Draft,
    FrameIndex,
    PointPrompt,
)
from napari_kdsam.errors import KDSAMError
from napari_kdsam.io.writers import write_json

FORMAT_VERSION = 1
SESSIONS_VARIABLE = 'NAPARI_KDSAM_SESSIONS'
_DIGEST_FRAMES = 3


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

    @property
    def highest_label(self) -> int:
        """The largest label of any object, also a reopened one; 0 if there is none."""
        drafts = self.state.drafts.values()
        labels = [item.label for item in self.state.objects]
        return max([*labels, *(draft.label or 0 for draft in drafts)], default=0)

    def restoring(
        self, target: LabelTarget | None, above: int = 0
    ) -> tuple[Command, ...]:
        """The commands that bring objects and prompts back, the objects first.

        Parameters
        ----------
        target : LabelTarget or None
            Where the objects' pixels go; needed if there are objects.
        above : int
            Added to every label, so that they stay apart from those already there.
        """
        objects = [
            CommitObject(o.label + above, o.region, target, o.score, o.draft)
            for o in self.state.objects
            if target is not None
        ]
        drafts = [
            ReplaceDraft(
                frame, replace(draft, label=draft.label and draft.label + above)
            )
            for frame, draft in self.state.drafts.items()
        ]
        return (*objects, *drafts)

    def labels(self) -> NDArray[np.uint32]:
        """The committed objects as a label array of the image's shape."""
        array = np.zeros(self.shape, np.uint32)
        for item in self.state.objects:
            row0, col0, row1, col1 = item.region.box
            part = array[item.frame][row0:row1, col0:col1]
            part[item.region.mask() & (part == 0)] = item.label
        return array


def digest_of_image(
    read_frame: Callable[[FrameIndex], NDArray[Any]], leading: Sequence[int]
) -> str:
    """Digest of an image's content: its extent and its first, middle and last frame.

    Parameters
    ----------
    read_frame : callable
        Returns the pixels of a frame.
    leading : sequence of int
        Lengths of the axes before rows and columns.

    Returns
    -------
    str
        32 hexadecimal digits.
    """
    total = hashlib.blake2b(digest_size=16)
    total.update(repr(tuple(leading)).encode())
    count = int(np.prod(leading, dtype=np.int64)) if leading else 1
    numbers = np.linspace(0, count - 1, min(count, _DIGEST_FRAMES)).round()
    for number in dict.fromkeys(int(n) for n in numbers):
        frame = np.unravel_index(number, tuple(leading)) if leading else ()
        pixels = np.ascontiguousarray(read_frame(tuple(int(i) for i in frame)))
        total.update(f'{pixels.dtype.str}{pixels.shape}'.encode())
        total.update(pixels.tobytes())
    return total.hexdigest()


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
        'drafts': [
            {'frame': list(frame), **_draft_values(draft)}
            for frame, draft in state.drafts.items()
        ],
        'objects': [_object_values(item) for item in state.objects],
    }
    write_json(path, content)


def _draft_values(draft: Draft) -> dict[str, Any]:
    values: dict[str, Any] = {
        'points': [[p.row, p.column, p.positive] for p in draft.points]
    }
    if draft.box is not None:
        values['box'] = list(draft.box)
    if draft.candidate is not None:
        values['candidate'] = draft.candidate
    if draft.label is not None:
        values['label'] = draft.label
    return values


# Objects do not change, and a session of a thousand is written after each commit.
@lru_cache(maxsize=8192)
def _object_values(item: CommittedObject) -> dict[str, Any]:
    packed = zlib.compress(item.region.packed, 1)
    return {
        'label': item.label,
        'frame': list(item.frame),
        'score': item.score,
        'draft': _draft_values(item.draft),
        'box': list(item.region.box),
        'mask': base64.b64encode(packed).decode('ascii'),
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
            _frame_of(values, shape): _draft_of(values) for values in content['drafts']
        }
        found = SavedSession(
            str(content['image']),
            shape,
            AnnotationState(
                MappingProxyType(drafts),
                tuple(_objects_of(content['objects'], shape)),
            ),
        )
    except OSError as error:
        reason = error.strerror or 'the system gave no reason'
        raise SessionFileError(f'{path.name} cannot be read ({reason}).') from error
    except (ValueError, KeyError, TypeError, AttributeError, zlib.error) as error:
        if isinstance(error, SessionFileError):
            raise
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


def _frame_of(values: Any, shape: tuple[int, ...]) -> FrameIndex:
    frame = tuple(_whole(value) for value in values['frame'])
    if len(frame) != len(shape) - 2:
        raise ValueError(f'frame {frame} does not fit the shape')
    if any(not 0 <= i < size for i, size in zip(frame, shape, strict=False)):
        raise ValueError(f'frame {frame} is outside the image')
    return frame


def _draft_of(values: Any) -> Draft:
    box = values.get('box')
    candidate, label = values.get('candidate'), values.get('label')
    points = tuple(
        PointPrompt(float(row), float(column), bool(positive))
        for row, column, positive in values['points']
    )
    if box is None:
        return Draft(points, None, candidate, label)
    row0, col0, row1, col1 = (float(side) for side in box)
    return Draft(points, (row0, col0, row1, col1), candidate, label)


def _objects_of(listed: Any, shape: tuple[int, ...]) -> Iterator[CommittedObject]:
    for values in listed:
        frame = _frame_of(values, shape)
        row0, col0, row1, col1 = (_whole(side) for side in values['box'])
        if not (0 <= row0 < row1 <= shape[-2] and 0 <= col0 < col1 <= shape[-1]):
            raise ValueError('an object is outside the image')
        wanted = -(-(row1 - row0) * (col1 - col0) // 8)
        raw = base64.b64decode(values['mask'], validate=True)
        # Never unpacks more than the mask can be, whatever the file says.
        bits = zlib.decompressobj().decompress(raw, wanted + 1)
        if len(bits) != wanted:
            raise ValueError('a mask does not fit its box')
        label = _whole(values['label'])
        if label < 1:
            raise ValueError(f'{label} is no label')
        box = (row0, col0, row1, col1)
        region = PixelRegion(frame, box, bits)
        draft = _draft_of(values['draft'])
        yield CommittedObject(label, frame, draft, float(values['score']), region)
