"""The images that things are looked for in, chosen by a seed."""

from __future__ import annotations

import importlib.util
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from napari_kdsam.core.intensity import IntensityMapping, check_image, to_eight_bit
from napari_kdsam.io.formats import open_image
from napari_kdsam.training.config import ThingsConfig
from napari_kdsam.training.data.samples import ObjectMap, Pixels, Sample
from napari_kdsam.training.data.shards import read_shards

SPLITS = ('train', 'val')
# Of those in the packages themselves: photographs and clinical images that are large
# enough for parts of them, no textures, and none that look like another.
_BROUGHT: dict[str, tuple[str, ...]] = {
    'skimage': (
        'data/astronaut.png',
        'data/camera.png',
        'data/cell.png',
        'data/chelsea.png',
        'data/clock_motion.png',
        'data/coffee.png',
        'data/coins.png',
        'data/color.png',
        'data/hubble_deep_field.jpg',
        'data/ihc.png',
        'data/moon.png',
        'data/motorcycle_left.png',
        'data/page.png',
        'data/retina.jpg',
        'data/rocket.jpg',
        'data/text.png',
    ),
    'pydicom': (
        'data/test_files/693_J2KI.dcm',
        'data/test_files/examples_jpeg2k.dcm',
        'data/test_files/examples_overlay.dcm',
        'data/test_files/examples_palette.dcm',
        'data/test_files/examples_rgb_color.dcm',
        'data/test_files/examples_ybr_color.dcm',
    ),
}
# Every so-many-th of them is for validation, with all its crops.
_VAL_EVERY = 5
_LONGEST = 560
_CROP = 0.35, 0.7


@dataclass(frozen=True)
class Picture:
    """An image to look for things in.

    Attributes
    ----------
    split : str
        ``train`` or ``val``, as that of the image it is from.
    stem : str
        Unique in the set: that of the image with where it is from before it.
    patient : str
        Empty if not known; else with where it is from before it.
    pixel_size_mm : float or None
        Side of a pixel where known.
    read : callable
        Returns the (H, W, 3) uint8 RGB image and the (H, W) uint8 class numbers of what
        is labelled in it; raises `ImageError`.
    """

    split: str
    stem: str
    patient: str
    pixel_size_mm: float | None
    read: Callable[[], tuple[Pixels, ObjectMap]] = field(compare=False, repr=False)


def plan_pictures(config: ThingsConfig) -> dict[str, list[Picture]]:
    """Choose the pictures of each split, in an order in which any start is a fair mix.

    Parameters
    ----------
    config : ThingsConfig
        Names the sources and their weights.

    Returns
    -------
    dict
        Pictures by split.

    Raises
    ------
    ImageError
        If a data set is not in the folder or its index cannot be used.
    """
    counts = {'train': config.train_images, 'val': config.val_images}
    return {split: _planned(config, split, counts[split]) for split in SPLITS}


def _planned(config: ThingsConfig, split: str, count: int) -> list[Picture]:
    generator = np.random.default_rng([config.seed, SPLITS.index(split)])
    groups = [
        (
            [
                _of_sample(s)
                for s in _in_turn(config.folder, share.data_sets, split, generator)
            ],
            share.weight,
        )
        for share in config.shares
    ]
    brought = _brought_pictures(split, generator, _share(config, count))
    groups.append((brought, config.pictures_weight))
    return _mixed(groups, count)


def _share(config: ThingsConfig, count: int) -> int:
    total = sum(share.weight for share in config.shares) + config.pictures_weight
    return round(count * config.pictures_weight / total) if total else 0


def _mixed(groups: Sequence[tuple[list[Picture], float]], count: int) -> list[Picture]:
    """Take from the groups by weight: each time from the one that is furthest behind."""
    taken = [0] * len(groups)
    chosen: list[Picture] = []
    while len(chosen) < count:
        open_groups = [
            (taken[n] / weight, n)
            for n, (pictures, weight) in enumerate(groups)
            if weight > 0 and taken[n] < len(pictures)
        ]
        if not open_groups:
            break
        _, number = min(open_groups)
        chosen.append(groups[number][0][taken[number]])
        taken[number] += 1
    return chosen


def _in_turn(
    folder: Path, data_sets: Sequence[str], split: str, generator: np.random.Generator
) -> list[Sample]:
    """Samples of data sets in turn, in random order, another patient each time."""
    ranked: list[tuple[float, int, Sample]] = []
    for number, data_set in enumerate(data_sets):
        samples = read_shards(folder, [data_set], [split])
        seen: dict[str, int] = defaultdict(int)
        order: list[tuple[int, int, Sample]] = []
        for index in generator.permutation(len(samples)):
            patient = samples[index].patient or samples[index].stem
            order.append((seen[patient], len(order), samples[index]))
            seen[patient] += 1
        order.sort(key=lambda item: item[:2])
        ranked += [(place, number, item[2]) for place, item in enumerate(order)]
    return [item[2] for item in sorted(ranked, key=lambda item: item[:2])]


def _of_sample(sample: Sample) -> Picture:
    patient = f'{sample.data_set}-{sample.patient}' if sample.patient else ''
    stem = f'{sample.data_set}-{sample.stem}'
    return Picture(
        sample.split, stem, patient, sample.pixel_size_mm, sample.load_objects
    )


def _brought_pictures(
    split: str, generator: np.random.Generator, count: int
) -> list[Picture]:
    """Pictures of the packages in random order, whole at first, then parts of them."""
    files = [
        (f'{package}-{Path(name).stem}', path)
        for package, names in _BROUGHT.items()
        for name in names
        if (path := _file_of(package, name)) is not None
    ]
    mine = [
        (stem, path)
        for number, (stem, path) in enumerate(files)
        if (number % _VAL_EVERY == _VAL_EVERY - 1) == (split == 'val')
    ]
    generator.shuffle(mine)
    pictures: list[Picture] = []
    for index in range(count if mine else 0):
        stem, path = mine[index % len(mine)]
        turn = index // len(mine)
        # Drawn for whole pictures too, so that another count changes no crop.
        window = generator.random(3)
        pictures.append(
            Picture(
                split,
                f'{stem}-{turn}' if turn else stem,
                stem,
                None,
                partial(_read_brought, path, tuple(window) if turn else None),
            )
        )
    return pictures


def _file_of(package: str, name: str) -> Path | None:
    spec = importlib.util.find_spec(package)
    folders = () if spec is None else spec.submodule_search_locations or ()
    paths = [Path(folder) / name for folder in folders]
    return next((path for path in paths if path.is_file()), None)


def _read_brought(
    path: Path, window: tuple[float, ...] | None
) -> tuple[Pixels, ObjectMap]:
    with open_image(path) as file:
        array = check_image(np.asarray(file.frame()))
    image = to_eight_bit(array, IntensityMapping().resolve(array))
    colour = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
    if window is not None:
        colour = _cropped(colour, window)
    longest = max(colour.shape[:2])
    if longest > _LONGEST:
        picture = Image.fromarray(colour)
        picture.thumbnail((_LONGEST, _LONGEST), Image.Resampling.LANCZOS)
        colour = np.asarray(picture)
    return np.ascontiguousarray(colour), np.zeros(colour.shape[:2], np.uint8)


def _cropped(image: NDArray[np.uint8], window: tuple[float, ...]) -> NDArray[np.uint8]:
    size, top, left = window
    share = _CROP[0] + (_CROP[1] - _CROP[0]) * size
    rows, columns = (round(share * side) for side in image.shape[:2])
    row = round(top * (image.shape[0] - rows))
    column = round(left * (image.shape[1] - columns))
    return image[row : row + rows, column : column + columns]
