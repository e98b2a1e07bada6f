"""Which sample belongs to which split, kept in files."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from napari_kdsam.core.errors import ImageError, first_of
from napari_kdsam.core.files import atomic_path
from napari_kdsam.core.names import csv_cell, text_of_cell
from napari_kdsam.training.data.samples import Sample

COLUMNS = ('data_set', 'stem', 'split')


def read_split(path: Path) -> dict[tuple[str, str], str]:
    """Read a split file.

    Parameters
    ----------
    path : pathlib.Path
        CSV with the columns data_set, stem and split.

    Returns
    -------
    dict
        Split by (data set, stem).

    Raises
    ------
    ImageError
        If the file is missing, lacks a column or names a sample twice with
        different splits.
    """
    if not path.is_file():
        raise ImageError(f'There is no split file {path}.')
    found: dict[tuple[str, str], str] = {}
    with path.open(encoding='utf-8', newline='') as file:
        reader = csv.DictReader(file)
        lacking = set(COLUMNS) - set(reader.fieldnames or ())
        if lacking:
            raise ImageError(f'{path} lacks the columns {", ".join(sorted(lacking))}.')
        for row in reader:
            key = text_of_cell(row['data_set']), text_of_cell(row['stem'])
            if found.setdefault(key, row['split']) != row['split']:
                raise ImageError(f'{path} puts {key[0]}/{key[1]} into two splits.')
    return found


def write_split(path: Path, samples: Sequence[Sample]) -> None:
    """Write the splits of samples; the file appears only when it is complete."""
    with (
        atomic_path(path) as part,
        part.open('w', encoding='utf-8', newline='') as file,
    ):
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        lines = sorted((s.data_set, s.stem, s.split) for s in samples)
        writer.writerows(map(csv_cell, line) for line in lines)


def assign_split(samples: Sequence[Sample], path: Path) -> list[Sample]:
    """Put each sample into the split that a file names.

    Raises
    ------
    ImageError
        If the file cannot be read or has no line for a sample.
    """
    splits = read_split(path)
    missing = [s.name for s in samples if (s.data_set, s.stem) not in splits]
    if missing:
        raise ImageError(f'{path} names no split for {first_of(missing)}.')
    return [replace(s, split=splits[s.data_set, s.stem]) for s in samples]


def make_split(
    samples: Sequence[Sample], val_fraction: float = 0.1, seed: int = 0
) -> list[Sample]:
    """Draw a validation split for each data set, never parting a patient's images.

    The result does not depend on the order of `samples`.

    Parameters
    ----------
    samples : sequence of Sample
        A sample without a patient counts as a patient of its own.
    val_fraction : float
        Share of each data set's patients that go to ``val``; at least one does where
        there are two or more.
    seed : int
        Chooses them.

    Returns
    -------
    list of Sample
        In the order of `samples`, with ``train`` or ``val`` as their split.
    """

    def group(sample: Sample) -> tuple[str, str, str]:
        own = ('patient', sample.patient) if sample.patient else ('stem', sample.stem)
        return (sample.data_set, *own)

    chosen: set[tuple[str, str, str]] = set()
    for data_set in sorted({s.data_set for s in samples}):
        groups = sorted({group(s) for s in samples if s.data_set == data_set})
        count = round(val_fraction * len(groups))
        if val_fraction > 0 and len(groups) > 1:
            count = min(max(count, 1), len(groups) - 1)
        generator = np.random.default_rng([seed, *data_set.encode()])
        order = generator.permutation(len(groups))
        chosen |= {groups[index] for index in order[:count]}
    return [replace(s, split='val' if group(s) in chosen else 'train') for s in samples]
