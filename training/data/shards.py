"""Tar shards in WebDataset layout: ``STEM.jpg`` beside ``STEM.mask.png``."""

from __future__ import annotations

import csv
import io
import os
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from napari_kdsam.core.errors import ImageError
from napari_kdsam.training.data.catalogue import modality_of
from napari_kdsam.training.data.samples import Pixels, Sample

INDEX_FILE = 'index.csv'
_IMAGE, _MASK = '.jpg', '.mask.png'
# A mask has 8 bits, and 0 is none.
_MOST_OBJECTS = 255


@dataclass(frozen=True)
class _ShardMember:
    shard: Path
    stem: str

    def __call__(self) -> tuple[Pixels, NDArray[np.uint8]]:
        image = Image.open(io.BytesIO(_bytes_of(self.shard, self.stem + _IMAGE)))
        mask = Image.open(io.BytesIO(_bytes_of(self.shard, self.stem + _MASK)))
        # A palette or a bit is no class number; everything above 0 is the object then.
        numbers = mask if mask.mode in ('L', 'P') else mask.convert('L')
        return np.array(image.convert('RGB')), np.asarray(numbers, np.uint8)


def _bytes_of(shard: Path, name: str) -> bytes:
    places = _members(shard, os.getpid())
    if name not in places:
        raise ImageError(f'{name} is not in {shard.name}.')
    start, length = places[name]
    with shard.open('rb') as file:
        file.seek(start)
        return file.read(length)


# The process is part of the key, so that forked workers never share a reader.
@lru_cache(maxsize=64)
def _members(shard: Path, _process: int) -> dict[str, tuple[int, int]]:
    with tarfile.open(shard) as tar:
        return {
            item.name: (item.offset_data, item.size) for item in tar if item.isreg()
        }


def read_shards(
    folder: Path,
    data_sets: Sequence[str] = (),
    splits: Sequence[str] = ('train',),
    *,
    required: bool = True,
) -> list[Sample]:
    """List the pairs of a folder of shards by its ``index.csv``.

    Parameters
    ----------
    folder : pathlib.Path
        With ``index.csv`` (columns dataset, split, stem, shard; optional patient,
        pixel_mm, objects) and the shards it names.
    data_sets : sequence of str
        Which data sets, in this order; all by default.
    splits : sequence of str
        Which splits, as the index names them.
    required : bool
        Whether a data set without an image in these splits is an error.

    Returns
    -------
    list of Sample
        In name order within each data set.

    Raises
    ------
    ImageError
        If the index is missing, lacks a column or has a value that cannot be used, or
        nothing was asked for that is there.
    """
    path = Path(folder) / INDEX_FILE
    if not path.is_file():
        raise ImageError(
            f'There is no {INDEX_FILE} in {folder}: it is not a data folder.'
        )
    found: dict[str, list[Sample]] = {}
    with path.open(encoding='utf-8', newline='') as file:
        reader = csv.DictReader(file)
        lacking = {'dataset', 'split', 'stem', 'shard'} - set(reader.fieldnames or ())
        if lacking:
            raise ImageError(f'{path} lacks the columns {", ".join(sorted(lacking))}.')
        for row in reader:
            name = row['dataset']
            if row['split'] not in splits or (data_sets and name not in data_sets):
                continue
            size = row.get('pixel_mm') or ''
            found.setdefault(name, []).append(
                Sample(
                    name,
                    row['split'],
                    row['stem'],
                    modality_of(name),
                    row.get('patient') or '',
                    float(size) if size else None,
                    _count_of_objects(row, path),
                    read=_ShardMember(Path(folder) / row['shard'], row['stem']),
                )
            )
    missing = [name for name in data_sets if name not in found]
    if required and (missing or not found):
        raise ImageError(
            f'{path} lists no {" or ".join(splits)} images of '
            f'{", ".join(missing) or "any data set"}.'
        )
    ordered = [name for name in data_sets or found if name in found]
    return [s for name in ordered for s in sorted(found[name], key=lambda s: s.stem)]


def _count_of_objects(row: dict[str, str], index: Path) -> int:
    text = row.get('objects') or '1'
    if not text.isdigit() or not 1 <= int(text) <= _MOST_OBJECTS:
        raise ImageError(
            f'{index}: {row["dataset"]}/{row["stem"]} announces {text!r} objects; write '
            f'a number from 1 to {_MOST_OBJECTS}.'
        )
    return int(text)
