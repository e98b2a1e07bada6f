"""Make a data folder of things, shard by shard, going on where a run stopped."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import sys
import tarfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from napari_kdsam.core.errors import ImageError, KDSAMError, first_of
from napari_kdsam.core.files import atomic_path, write_json
from napari_kdsam.training.config import ThingsConfig
from napari_kdsam.training.data.shards import INDEX_FILE
from napari_kdsam.training.things.finding import find_things
from napari_kdsam.training.things.masks import paint
from napari_kdsam.training.things.pictures import SPLITS, Picture, plan_pictures
from napari_kdsam.training.things.teacher import ThingTeacher, open_thing_teacher

DATA_SET = 'things'
RECORD_FILE = 'things.json'
COLUMNS = (
    'dataset',
    'split',
    'stem',
    'shard',
    'width',
    'height',
    'source_width',
    'source_height',
    'patient',
    'pixel_mm',
    'objects',
)
NOTHING_CERTAIN = 'nothing certain was found'
_JPEG_QUALITY = 92


class ThingsError(KDSAMError):
    """A set of things that cannot be made."""


@dataclass
class ThingsReport:
    """What is in the folder after a run.

    Attributes
    ----------
    folder : pathlib.Path
        The data folder.
    images, objects : dict of str to int
        By split.
    left_out : dict of str to str
        The reason for each image without things, by its name.
    waiting : int
        Images not asked about yet.
    """

    folder: Path
    images: dict[str, int] = field(default_factory=dict)
    objects: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    waiting: int = 0

    @property
    def failed(self) -> dict[str, str]:
        """Those left out because they could not be read."""
        return {n: r for n, r in self.left_out.items() if r != NOTHING_CERTAIN}

    def describe(self) -> str:
        """A sentence or two for a log."""
        parts = [
            f'{self.objects[split]} things on {self.images[split]} {split} images'
            for split in self.images
        ]
        text = ' and '.join(parts) or 'No things'
        nothing = len(self.left_out) - len(self.failed)
        if nothing:
            text += f'; nothing certain on {nothing} more'
        if self.failed:
            reasons = [f'{name} ({reason})' for name, reason in self.failed.items()]
            text += f'; {len(self.failed)} failed: {first_of(reasons)}'
        if self.waiting:
            text += f'; {self.waiting} images wait for the next run'
        return text.rstrip('.') + '.'


@dataclass(frozen=True)
class _Batch:
    shard: str
    split: str
    pictures: Sequence[Picture]


def make_things(
    config: ThingsConfig,
    *,
    minutes: float | None = None,
    progress: bool = True,
    opener: Callable[[str, str], ThingTeacher] = open_thing_teacher,
) -> ThingsReport:
    """Ask the teacher about every picture of the plan and write what it is sure of.

    The folder can be trained on after each shard. Stopped at any moment, also by
    force, the same call goes on after the last shard, and what comes out is the same.

    Parameters
    ----------
    config : ThingsConfig
        What to make and where.
    minutes : float, optional
        Begin no further shard after so long.
    progress : bool
        Show a progress bar on standard error.
    opener : callable
        Opens the teacher by name and device.

    Raises
    ------
    ThingsError
        If the folder holds a set made with other settings, or nothing is asked for.
    ImageError
        If the source folder cannot be used or the disk is full.
    KDSAMError
        If the teacher cannot be opened.
    """
    started = time.monotonic()
    plan = plan_pictures(config)
    batches = _batches(plan, config.shard_images)
    if not batches:
        raise ThingsError('No images are asked for; raise train_images or val_images.')
    teacher = opener(str(config.teacher), config.device)
    config.out.mkdir(parents=True, exist_ok=True)
    record = _Record(config.out, _settings(config, teacher, plan))
    total = sum(len(batch.pictures) for batch in batches)
    with tqdm(total=total, desc=DATA_SET, disable=not progress, file=sys.stderr) as bar:
        for batch in batches:
            if record.has(batch.shard):
                bar.update(len(batch.pictures))
                continue
            if minutes is not None and time.monotonic() - started >= 60 * minutes:
                break
            record.add(batch.shard, *_made(batch, teacher, config, bar.update))
    return record.report(total)


def _batches(plan: dict[str, list[Picture]], size: int) -> list[_Batch]:
    """Shards of both splits in such an order that any start has a share of each."""
    placed: list[tuple[float, _Batch]] = []
    for split in SPLITS:
        pictures = plan[split]
        for number, start in enumerate(range(0, len(pictures), size)):
            part = pictures[start : start + size]
            name = f'{DATA_SET}-{split}-{number:03d}.tar'
            done = (start + len(part)) / len(pictures)
            placed.append((done, _Batch(name, split, part)))
    return [batch for _, batch in sorted(placed, key=lambda item: item[0])]


def _settings(
    config: ThingsConfig, teacher: ThingTeacher, plan: dict[str, list[Picture]]
) -> dict[str, Any]:
    names = '\n'.join(p.split + '/' + p.stem for s in SPLITS for p in plan[s])
    return {
        **config.settings(),
        'teacher': teacher.fingerprint,
        'images': hashlib.sha256(names.encode()).hexdigest(),
    }


def _made(
    batch: _Batch,
    teacher: ThingTeacher,
    config: ThingsConfig,
    step: Callable[[], object],
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Write a shard; returns its lines of the index and why others are left out."""
    rows: list[dict[str, Any]] = []
    left_out: dict[str, str] = {}
    with (
        atomic_path(config.out / batch.shard) as part,
        tarfile.open(part, 'w') as tar,
    ):
        for picture in batch.pictures:
            try:
                image, labelled = picture.read()
                things = find_things(
                    image,
                    labelled,
                    teacher,
                    config.finding,
                    np.random.default_rng([config.seed, *picture.stem.encode()]),
                )
            except ImageError as error:
                left_out[picture.stem] = str(error)
                tqdm.write(f'{picture.stem} failed: {error}', sys.stderr)
            else:
                if things:
                    _add(tar, f'{picture.stem}.jpg', image, quality=_JPEG_QUALITY)
                    _add(tar, f'{picture.stem}.mask.png', paint(things))
                    rows.append(_row(picture, batch.shard, image, len(things)))
                else:
                    left_out[picture.stem] = NOTHING_CERTAIN
            step()
    return rows, left_out


def _add(
    tar: tarfile.TarFile, name: str, array: NDArray[np.uint8], **options: Any
) -> None:
    buffer = io.BytesIO()
    kind = 'JPEG' if name.endswith('.jpg') else 'PNG'
    Image.fromarray(array).save(buffer, kind, **options)
    entry = tarfile.TarInfo(name)
    entry.size = buffer.tell()
    buffer.seek(0)
    tar.addfile(entry, buffer)


def _row(
    picture: Picture, shard: str, image: NDArray[np.uint8], objects: int
) -> dict[str, Any]:
    height, width = image.shape[:2]
    size = picture.pixel_size_mm
    return {
        'dataset': DATA_SET,
        'split': picture.split,
        'stem': picture.stem,
        'shard': shard,
        'width': width,
        'height': height,
        'source_width': width,
        'source_height': height,
        'patient': picture.patient,
        'pixel_mm': '' if size is None else size,
        'objects': objects,
    }


class _Record:
    """Which shards are done, in a file of its own; the index is made from it."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self._folder, self._path = folder, folder / RECORD_FILE
        self._shards: dict[str, dict[str, Any]] = {}
        self._settings = settings
        if self._path.is_file():
            content = _read(self._path)
            if content.get('settings') != settings:
                raise ThingsError(
                    f'{folder} holds things made with other settings, images or '
                    'weights; choose another folder or remove it.'
                )
            self._shards = content['shards']
            self._write_index()
        elif (folder / INDEX_FILE).exists():
            raise ThingsError(
                f'{folder} is a data folder of another kind; choose another folder.'
            )

    def has(self, shard: str) -> bool:
        """Whether a shard is recorded and there."""
        return shard in self._shards and (self._folder / shard).is_file()

    def add(
        self, shard: str, rows: list[dict[str, Any]], left_out: dict[str, str]
    ) -> None:
        """Record a shard that is written."""
        self._shards[shard] = {'rows': rows, 'left_out': left_out}
        write_json(self._path, {'settings': self._settings, 'shards': self._shards})
        self._write_index()

    def _rows(self) -> Iterator[dict[str, Any]]:
        for shard in sorted(self._shards):
            yield from self._shards[shard]['rows']

    def _write_index(self) -> None:
        with (
            atomic_path(self._folder / INDEX_FILE) as part,
            part.open('w', encoding='utf-8', newline='') as file,
        ):
            writer = csv.DictWriter(file, COLUMNS, lineterminator='\n')
            writer.writeheader()
            writer.writerows(self._rows())

    def report(self, total: int) -> ThingsReport:
        """Add up what is recorded, of `total` images."""
        report = ThingsReport(self._folder, waiting=total)
        for shard in self._shards.values():
            report.left_out.update(shard['left_out'])
        for row in self._rows():
            split = row['split']
            report.images[split] = report.images.get(split, 0) + 1
            report.objects[split] = report.objects.get(split, 0) + row['objects']
        report.waiting -= sum(report.images.values()) + len(report.left_out)
        return report


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
        if isinstance(content, dict) and isinstance(content.get('shards'), dict):
            return content
    except (OSError, ValueError):
        pass
    raise ThingsError(f'{path} cannot be read; remove {path.parent} and start anew.')
