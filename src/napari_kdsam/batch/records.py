"""What became of each frame: kept within its label image, and listed in the manifest."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from napari_kdsam.core.errors import ImageError
from napari_kdsam.core.files import atomic_path
from napari_kdsam.io.label_images import label_dtype

MANIFEST = 'manifest.csv'
# Where a label image says what it is, so that picture and record cannot be parted.
_CHUNK = 'napari-kdsam'
_COLUMNS = (
    'image',
    'frame',
    'status',
    'reason',
    'objects',
    'score',
    'pixels',
    'names',
    'labels',
)


class Status(StrEnum):
    """How a frame ended."""

    done = 'done'
    failed = 'failed'
    skipped = 'skipped'


@dataclass(frozen=True)
class FoundObject:
    """An object in a frame.

    Attributes
    ----------
    label : int
        Its value in the label image.
    score : float
        Predicted IoU.
    pixels : int
        Labelled pixels.
    name : str
        What it probably is; empty where that is not known.
    """

    label: int
    score: float
    pixels: int
    name: str = ''

    def to_list(self) -> list[Any]:
        """Its fields for a record, the name only where there is one."""
        values: list[Any] = [self.label, self.score, self.pixels]
        return [*values, self.name] if self.name else values


@dataclass(frozen=True)
class FrameResult:
    """What became of one frame.

    Attributes
    ----------
    location : str
        Of its `Source`.
    frame : int
        Counted from 0.
    status : Status
    reason : str
        Why it failed or was skipped; for a frame that is done, what to look at.
    objects : tuple of FoundObject
    """

    location: str
    frame: int
    status: Status
    reason: str = ''
    objects: tuple[FoundObject, ...] = ()

    @property
    def score(self) -> float | None:
        """Lowest predicted IoU of its objects; None without any."""
        return min((item.score for item in self.objects), default=None)

    @property
    def pixels(self) -> int:
        """Labelled pixels."""
        return sum(item.pixels for item in self.objects)


@dataclass(frozen=True)
class Record:
    """What a finished label image says of itself.

    Attributes
    ----------
    fingerprint : str
        Of the model, prompts and settings that made it.
    objects : tuple of FoundObject
    reason : str
        See `FrameResult`.
    """

    fingerprint: str
    objects: tuple[FoundObject, ...] = field(default_factory=tuple)
    reason: str = ''

    def to_json(self) -> str:
        """Write as one line of JSON."""
        value = {
            'fingerprint': self.fingerprint,
            'objects': [item.to_list() for item in self.objects],
            'reason': self.reason,
        }
        return json.dumps(value, ensure_ascii=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Record | None:
        """Read what `to_json` wrote; None for anything else."""
        try:
            value = json.loads(text)
            objects = tuple(
                FoundObject(int(label), float(score), int(pixels), ''.join(name))
                for label, score, pixels, *name in value['objects']
            )
            return cls(str(value['fingerprint']), objects, str(value['reason']))
        except (ValueError, TypeError, KeyError):
            return None


def write_frame(path: Path, labels: NDArray[Any], record: Record) -> None:
    """Write a label image that carries its record.

    Parameters
    ----------
    path : pathlib.Path
        The PNG file; its folder is made if needed.
    labels : numpy.ndarray
        (H, W) whole numbers up to 65535, 0 for background.
    record : Record

    Raises
    ------
    ImageError
        If it cannot be written.
    """
    highest = int(labels.max(initial=0))
    if highest > np.iinfo(np.uint16).max:
        raise ImageError(f'{path.name} cannot hold {highest} labels in one frame.')
    carried = PngImagePlugin.PngInfo()
    carried.add_text(_CHUNK, record.to_json())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ImageError(
            f'The folder {path.parent.name} cannot be made ({error.strerror}).'
        ) from error
    picture = Image.fromarray(np.ascontiguousarray(labels, label_dtype(highest)))
    with atomic_path(path) as part:
        picture.save(part, format='PNG', pnginfo=carried)


def read_record(path: Path) -> Record | None:
    """Read the record of a label image; None if there is none, or no such image."""
    try:
        with Image.open(path) as picture:
            text = getattr(picture, 'text', {}).get(_CHUNK, '')
    except (OSError, SyntaxError, ValueError):
        return None
    return Record.from_json(text)


def read_labels(path: Path) -> NDArray[Any]:
    """Read a label image as (H, W) whole numbers.

    Raises
    ------
    ImageError
        If it is not there or damaged.
    """
    try:
        with Image.open(path) as picture:
            return np.asarray(picture)
    except (OSError, SyntaxError, ValueError) as error:
        raise ImageError(
            f'{path.name} is missing or damaged; run the batch again with --resume.'
        ) from error


def write_manifest(
    path: Path, results: Iterable[FrameResult], labels: Mapping[str, str]
) -> None:
    """List what became of every frame.

    Parameters
    ----------
    path : pathlib.Path
        The CSV file.
    results : iterable of FrameResult
        In the order of the rows.
    labels : mapping of str to str
        Location of each source to the name of its label file.

    Raises
    ------
    ImageError
        If it cannot be written.
    """
    with (
        atomic_path(path) as part,
        part.open('w', encoding='utf-8', newline='') as file,
    ):
        writer = csv.writer(file, lineterminator='\n')
        writer.writerow(_COLUMNS)
        for result in results:
            score = '' if result.score is None else f'{result.score:.4f}'
            done = result.status is Status.done
            writer.writerow(
                (
                    result.location,
                    result.frame,
                    result.status.value,
                    result.reason,
                    len(result.objects),
                    score,
                    result.pixels,
                    '; '.join(item.name for item in result.objects if item.name),
                    labels.get(result.location, '') if done else '',
                )
            )
