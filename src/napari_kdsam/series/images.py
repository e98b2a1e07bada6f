"""Which images a series has: those of a folder, or those that a text file lists."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from napari_kdsam.batch.inputs import expand
from napari_kdsam.core.errors import ImageError
from napari_kdsam.core.names import by_numbers, folded, printable
from napari_kdsam.io.formats import stem_of
from napari_kdsam.measure.mask_folder import without_mask_ending
from napari_kdsam.series.errors import SeriesError

_LIST_ENDINGS = ('.txt', '.csv')
# Labels whose usual name was taken.
_NUMBERED = re.compile(r'(_labels)_\d+$')


@dataclass(frozen=True)
class ListedImage:
    """An image of a series.

    Attributes
    ----------
    name : str
        See `SeriesEntry.name`.
    location : str
        Its whole path.
    stem : str
        What its labels are called by, with the folders that it lies in; unlike that of
        all other images.
    """

    name: str
    location: str
    stem: str

    @property
    def path(self) -> Path:
        """Its file."""
        return Path(self.location)


@dataclass(frozen=True)
class Listing:
    """The images of a series in their order.

    Attributes
    ----------
    root : pathlib.Path
        The folder of the series.
    images : tuple of ListedImage
        Numbers in names by their value. No file is opened for this.
    problems : tuple of str
        Sentences about folders that could not be looked into.
    """

    root: Path
    images: tuple[ListedImage, ...]
    problems: tuple[str, ...] = ()


# A folder or a list, or the files themselves.
ImageChoice = Path | tuple[Path, ...]


def list_images(choice: ImageChoice, output: Path) -> Listing:
    """Find the images of a series.

    Masks are left out: what lies in the folder of the labels, and a file that is named
    as an image beside it with an ending such as ``_mask``.

    Parameters
    ----------
    choice : pathlib.Path or tuple of pathlib.Path
        A folder, searched with the folders in it; a text file with a path on each line,
        from where the file is, which gives the order; or the files in their order.
    output : pathlib.Path
        The folder of the labels.

    Raises
    ------
    SeriesError
        If there is no image.
    """
    if isinstance(choice, tuple):
        if not choice:
            raise SeriesError('There is no file to label; choose a folder instead.')
        root = common_folder(choice)
        return _of_paths(root, [os.path.normpath(file.absolute()) for file in choice])
    choice = choice.absolute()
    try:
        if choice.is_dir():
            return _in_folder(choice, output.absolute())
        return _in_list(choice)
    except ImageError as error:
        raise SeriesError(str(error)) from error


def _in_folder(root: Path, output: Path) -> Listing:
    found = expand([str(root)])
    top, labels = os.path.join(root, ''), os.path.join(output, '')
    inside = output != root
    names: list[str] = []
    for item in found:
        if item.left_out or item.problem:
            continue
        if inside and item.location.startswith(labels):
            continue
        names.append(item.location.removeprefix(top))
    stems = [stem_of(folded(name)) for name in names]
    known = set(stems)
    names = [
        name
        for name, stem in zip(names, stems, strict=True)
        if not _is_mask(stem, known)
    ]
    if not names:
        raise SeriesError(
            f'{root} holds no image to label; choose the folder that the images are in.'
        )
    names.sort(key=lambda name: (name.count(os.sep) > 0, by_numbers(name)))
    problems = tuple(item.problem for item in found if item.problem)
    return Listing(root, _listed(root, names), problems)


def _is_mask(stem: str, known: set[str]) -> bool:
    stem = _NUMBERED.sub(r'\1', stem)
    image = without_mask_ending(stem)
    return image != stem and image in known


def _in_list(file: Path) -> Listing:
    if not file.name.lower().endswith(_LIST_ENDINGS):
        raise SeriesError(
            f'{file.name} is neither a folder nor a list of images; choose a folder, '
            'or a text file (.txt) with the path of an image on each line.'
        )
    try:
        lines = file.read_text(encoding='utf-8-sig').splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, 'strerror', None) or 'it is not UTF-8 text'
        raise SeriesError(f'{file.name} cannot be read ({reason}).') from error
    root = file.parent
    paths = [os.path.normpath(root / line.strip()) for line in lines if line.strip()]
    if not paths:
        raise SeriesError(f'{file.name} lists no image; write a path on each line.')
    return _of_paths(root, paths)


def common_folder(files: Sequence[Path]) -> Path:
    """The folder that some files, at least one, are in or below."""
    try:
        return Path(os.path.commonpath([file.absolute().parent for file in files]))
    except ValueError:
        # On several drives.
        return files[0].absolute().parent


def _of_paths(root: Path, paths: list[str]) -> Listing:
    names: dict[str, None] = {}
    for path in paths:
        inside = path.startswith(os.path.join(root, ''))
        names[os.path.relpath(path, root) if inside else path] = None
    return Listing(root, _listed(root, list(names)))


def _listed(root: Path, names: list[str]) -> tuple[ListedImage, ...]:
    stems = [_stem(name) for name in names]
    keys = [folded(stem) for stem in stems]
    top = os.path.join(root, '')
    count = Counter(keys)
    images: list[ListedImage] = []
    taken: set[str] = set()
    for name, stem, key in zip(names, stems, keys, strict=True):
        number, chosen = 1, stem
        if count[key] > 1:
            # a.png and a.jpg: the whole name tells them apart.
            stem = chosen = os.path.join(os.path.dirname(stem), os.path.basename(name))
            key = folded(chosen)
        while key in taken:
            number += 1
            chosen = f'{stem}_{number}'
            key = folded(chosen)
        taken.add(key)
        location = name if os.path.isabs(name) else top + name
        images.append(ListedImage(printable(name), location, chosen))
    return tuple(images)


def _stem(name: str) -> str:
    folder, slash, file = name.rpartition(os.sep)
    # Images of other folders have no place below that of the labels.
    return stem_of(file) if os.path.isabs(name) else folder + slash + stem_of(file)
