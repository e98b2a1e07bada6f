"""Data sets in the folders and file names their publishers ship."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from skimage.morphology import convex_hull_image

from napari_kdsam.core.errors import ImageError
from napari_kdsam.core.geometry import Mask
from napari_kdsam.core.intensity import IntensityMapping, check_image, to_eight_bit
from napari_kdsam.io.formats import read_single, stem_of
from napari_kdsam.io.label_images import read_mask
from napari_kdsam.measure.mask_folder import MaskFolder
from napari_kdsam.training.data.catalogue import modality_of
from napari_kdsam.training.data.samples import Pixels, Sample

_IMAGES = {'.png', '.jpg', '.jpeg', '.bmp', '.tif', '.tiff'}
_LEAST_OUTLINE = 20


@dataclass
class LayoutListing:
    """What a folder holds.

    Attributes
    ----------
    samples : list of Sample
        Not yet in any split.
    skipped : dict of str to str
        Why an image is no sample, by its name.
    """

    samples: list[Sample] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)


def read_rgb(path: Path) -> Pixels:
    """Read a picture as (H, W, 3) uint8, as a model is shown it but for its opacity."""
    image = check_image(read_single(path))
    # Publishers' opacity is a leftover, never a part of the picture.
    image = image[..., :3] if image.ndim == 3 else image
    image = to_eight_bit(image, IntensityMapping().resolve(image))
    return image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)


def read_outline(path: Path) -> Mask:
    """Read a drawn line: everything above half of its brightest value."""
    values = read_single(path)
    if values.ndim == 3:
        values = values[..., :3].max(axis=-1)
    return values > max(float(values.max()) / 2, 0.5)


@dataclass(frozen=True)
class _Pair:
    image: Path
    masks: tuple[Path, ...]

    def __call__(self) -> tuple[Pixels, Mask]:
        masks = [read_mask(path) > 0 for path in self.masks]
        if len({mask.shape for mask in masks}) > 1:
            raise ImageError(f'The masks of {self.image.name} differ in size.')
        return read_rgb(self.image), np.logical_or.reduce(masks)


@dataclass(frozen=True)
class _Outlined:
    image: Path
    outline: Path

    def __call__(self) -> tuple[Pixels, Mask]:
        return read_rgb(self.image), fill_ellipse(read_outline(self.outline))


def fill_ellipse(outline: Mask) -> Mask:
    """Fill a drawn ellipse (HC18), also one with gaps or cut by the image's border.

    Parameters
    ----------
    outline : numpy.ndarray
        (H, W) bool, the line.

    Returns
    -------
    numpy.ndarray
        (H, W) bool, line and inside.

    Raises
    ------
    ImageError
        If there is hardly any line.
    """
    if outline.sum() < _LEAST_OUTLINE:
        raise ImageError('The annotation is not the outline of an ellipse.')
    # An ellipse is convex, so its hull is the ellipse wherever the line has gaps.
    return np.asarray(convex_hull_image(outline))


def _pictures(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in _IMAGES and not path.name.startswith('.'):
            yield path


def _folder(root: Path, *names: str) -> Path:
    for name in names:
        if (root / name).is_dir():
            return root / name
    raise ImageError(f'{root} has no folder {" or ".join(names)}; is it this data set?')


def _paired(
    data_set: str,
    images: Iterable[Path],
    mask_of: Callable[[Path], Path | None],
    patients: dict[str, str] | None = None,
) -> LayoutListing:
    listing = LayoutListing()
    for image in images:
        stem = stem_of(image.name)
        try:
            mask = mask_of(image)
        except ImageError as error:
            listing.skipped[stem] = str(error)
            continue
        if mask is None:
            listing.skipped[stem] = f'{image.name} has no mask.'
            continue
        sample = Sample(
            data_set,
            '',
            stem,
            modality_of(data_set),
            (patients or {}).get(stem, ''),
            read=_Pair(image, (mask,)),
        )
        listing.samples.append(sample)
    return listing


def _by_stem(folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in _pictures(folder)}


def _kvasir_seg(root: Path) -> LayoutListing:
    masks = _by_stem(_folder(root, 'masks'))
    images = _pictures(_folder(root, 'images'))
    return _paired('kvasir_seg', images, lambda path: masks.get(path.stem))


def _isic(root: Path) -> LayoutListing:
    truths: dict[str, Path] = {}
    images: list[Path] = []
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        for path in _pictures(folder):
            if path.stem.endswith('_segmentation'):
                truths[path.stem.removesuffix('_segmentation')] = path
            elif path.stem.startswith('ISIC_') and 'superpixels' not in path.stem:
                images.append(path)
    if not images:
        raise ImageError(
            f'{root} has no folder with ISIC_*.jpg, such as ISIC-2017_Training_Data.'
        )
    return _paired('isic', images, lambda path: truths.get(path.stem))


def _hc18(root: Path) -> LayoutListing:
    folder = root if root.name == 'training_set' else _folder(root, 'training_set')
    sizes: dict[str, float] = {}
    for table in sorted(folder.parent.glob('training_set_pixel_size*.csv')):
        with table.open(encoding='utf-8', newline='') as file:
            for row in csv.reader(file):
                if len(row) > 1 and re.fullmatch(r'[\d.]+', row[1]):
                    sizes[Path(row[0]).stem] = float(row[1])
    listing = LayoutListing()
    for image in _pictures(folder):
        if image.stem.endswith('_Annotation'):
            continue
        outline = image.with_name(f'{image.stem}_Annotation{image.suffix}')
        patient = re.match(r'\d+', image.stem)
        if not outline.is_file() or patient is None:
            listing.skipped[image.stem] = f'{image.name} has no annotation.'
            continue
        listing.samples.append(
            Sample(
                'hc18',
                '',
                image.stem,
                modality_of('hc18'),
                patient.group(),
                sizes.get(image.stem),
                read=_Outlined(image, outline),
            )
        )
    return listing


def _busi(root: Path) -> LayoutListing:
    listing = LayoutListing()
    kinds = [root / kind for kind in ('benign', 'malignant', 'normal')]
    if not any(folder.is_dir() for folder in kinds):
        raise ImageError(f'{root} has none of the folders benign, malignant, normal.')
    for folder in (kind for kind in kinds if kind.is_dir()):
        files = _by_stem(folder)
        for stem, image in files.items():
            if re.search(r'_mask(_\d+)?$', stem):
                continue
            masks = [
                path
                for name, path in files.items()
                if re.fullmatch(rf'{re.escape(stem)}_mask(_\d+)?', name)
            ]
            if folder.name == 'normal':
                listing.skipped[stem] = f'{image.name} shows nothing to segment.'
            elif not masks:
                listing.skipped[stem] = f'{image.name} has no mask.'
            else:
                listing.samples.append(
                    Sample(
                        'busi',
                        '',
                        re.sub(r' \((\d+)\)$', r'_\1', stem),
                        modality_of('busi'),
                        read=_Pair(image, tuple(masks)),
                    )
                )
    return listing


def _busbra(root: Path) -> LayoutListing:
    masks = _by_stem(_folder(root, 'Masks'))
    patients: dict[str, str] = {}
    table = root / 'bus_data.csv'
    if table.is_file():
        with table.open(encoding='utf-8', newline='') as file:
            for row in csv.DictReader(file):
                patients[row.get('ID', '')] = row.get('Case', '')
    return _paired(
        'busbra',
        _pictures(_folder(root, 'Images')),
        lambda path: masks.get(path.stem.replace('bus_', 'mask_', 1)),
        # Without the table, the number in the name is the case.
        patients or {stem.replace('mask_', 'bus_', 1): stem[5:9] for stem in masks},
    )


def _plain(root: Path) -> LayoutListing:
    masks = MaskFolder(_folder(root, 'masks'))
    images = sorted(MaskFolder(_folder(root, 'images')).files)
    return _paired(root.name, images, lambda path: masks.mask_of(path.name))


_LAYOUTS: dict[str, Callable[[Path], LayoutListing]] = {
    'kvasir_seg': _kvasir_seg,
    'isic': _isic,
    'hc18': _hc18,
    'busi': _busi,
    'busbra': _busbra,
    'plain': _plain,
}


def read_layout(name: str, folder: Path) -> LayoutListing:
    """List the samples of a data set as its publisher ships it.

    Parameters
    ----------
    name : str
        ``kvasir_seg``, ``isic`` (2017 and 2018, task 1), ``hc18`` (outlines are
        filled), ``busi`` (an image's masks are merged), ``busbra`` or ``plain``
        (``images/`` and ``masks/``, paired as `MaskFolder` does).
    folder : pathlib.Path
        The unpacked data set.

    Raises
    ------
    ImageError
        If the folder is missing or is not laid out like that.
    """
    if name not in _LAYOUTS:
        raise ImageError(f'There is no layout {name!r}; use {", ".join(_LAYOUTS)}.')
    if not folder.is_dir():
        raise ImageError(f'There is no folder {folder}.')
    return _LAYOUTS[name](folder)
