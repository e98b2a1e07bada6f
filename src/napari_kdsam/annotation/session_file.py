"""Annotation sessions as files, so that a crash or a closed window costs nothing.

Version 1 is JSON::

    {"format": 1, "image": "<content digest>", "shape": [300, 480, 640],
     "frame": [12], "classes": [{"id": 1, "name": "object", "color": "#00e5ff"}],
     "current_class": 1, "cleanup": {...}, "semantic": false, "overlap": "keep",
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
    ChangeOutput,
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
    ObjectClass,
    Outline,
    OverlapPolicy,
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
    overlap : str
        What was to happen to labels under a new mask.
    """

    image: str
    shape: tuple[int, ...]
    state: AnnotationState
    overlap: OverlapPolicy = 'keep'

    def restoring(
        self,
        target: LabelTarget | None,
        above: int = 0,
        beside: AnnotationState | None = None,
    ) -> tuple[Command, ...]:
        """The commands that bring everything back, the objects first.

        Objects whose own labels are there already, and no object's, are taken up as
        they are. Others get the pixels that have no label yet; those that find none
        are left out.

        Parameters
        ----------
        target : LabelTarget or None
            Where the objects' pixels go; needed if there are objects.
        above : int
            Added to every number and instance label, so that they stay apart from
            those already there.
        beside : AnnotationState, optional
            What is there now. If it has objects, its classes stay, those of one name
            are one class, and all labels are numbered as they are there.
        """
        state, semantic = self.state, self.state.semantic
        classes = state.classes
        class_ids = {item.id: item.id for item in classes}
        alone = beside is None or not beside.objects
        if beside is not None and not alone:
            semantic = beside.semantic
            classes, class_ids = _joined(beside.classes, classes)

        def renumbered(item: CommittedObject) -> CommittedObject:
            class_id = class_ids.get(item.class_id, item.class_id)
            label = class_id if item.semantic else item.label + above
            number = item.number + above
            item = replace(item, number=number, label=label, class_id=class_id)
            if alone or item.semantic == semantic:
                return item
            return item.labelled(semantic)

        def placed(item: CommittedObject, target: LabelTarget) -> CommitObject | None:
            there = _values(target, item.region)
            named_so = alone or not (semantic or item.semantic)
            if named_so and (there == item.label).all() and not _is_taken(item, beside):
                kept = replace(renumbered(item), label=item.label)
                return CommitObject(target, kept, item.label, clears=False)
            free = _free_part(target, item.region)
            if free is None:
                return None
            return CommitObject(
                target, replace(renumbered(item), region=free), clears=False
            )

        objects = [
            command
            for item in state.objects
            if target is not None
            for command in [placed(item, target)]
            if command is not None
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
            SetClasses(classes),
            ChangeClass(class_ids.get(state.current_class, state.current_class)),
            SetCleanUp(state.cleanup),
            ChangeOutput(semantic),
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


def _joined(
    own: tuple[ObjectClass, ...], others: tuple[ObjectClass, ...]
) -> tuple[tuple[ObjectClass, ...], dict[int, int]]:
    """Classes of both, those of one name once, and the new id of each of the others."""
    joined = list(own)
    ids: dict[int, int] = {}
    for item in others:
        same = next((known for known in joined if known.name == item.name), None)
        if same is None:
            taken = {known.id for known in joined}
            same = replace(item, id=max(taken) + 1) if item.id in taken else item
            joined.append(same)
        ids[item.id] = same.id
    return tuple(joined), ids


def _values(target: LabelTarget, region: PixelRegion) -> NDArray[Any]:
    """What the pixels of a region hold, one value each."""
    return np.asarray(target.frame(region.frame)[region.slices])[region.mask()]


def _is_taken(item: CommittedObject, beside: AnnotationState | None) -> bool:
    return beside is not None and any(
        item.region.minus(other.region) != item.region for other in beside.objects
    )


def _free_part(target: LabelTarget, region: PixelRegion) -> PixelRegion | None:
    there = np.asarray(target.frame(region.frame)[region.slices])
    return PixelRegion.of_mask(
        region.frame, region.mask() & (there == 0), region.box[:2]
    )


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
        'semantic': state.semantic,
        'overlap': session.overlap,
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
        found = SavedSession(values.image, values.shape, values.state(), values.overlap)
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
