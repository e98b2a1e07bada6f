"""Which mask in a folder belongs to which image, by their names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from napari_kdsam.core.errors import ImageError, first_of
from napari_kdsam.io.formats import SUFFIXES
from napari_kdsam.io.image_file import reading

_MASK_ENDING = re.compile(r'[ _-](masks?|segmentation|seg|labels?|gt)$', re.IGNORECASE)


class MaskFolder:
    """The masks in a folder.

    A mask belongs to the image of the same name, whatever the file types and the case
    of letters, also with ``mask``, ``masks``, ``segmentation``, ``seg``, ``label``,
    ``labels`` or ``gt`` at its end, after a space, ``_`` or ``-``.

    Parameters
    ----------
    folder : path-like
        Folders in it are not looked into, nor hidden files.
    suffixes : sequence of str
        Of the files to take, in lower case.

    Attributes
    ----------
    files : list of pathlib.Path
        Ordered by name, with numbers by their value.

    Raises
    ------
    ImageError
        If there is no such folder or it cannot be read.
    """

    def __init__(self, folder: Path, suffixes: Sequence[str] = SUFFIXES) -> None:
        self._folder, self._suffixes = folder, tuple(suffixes)
        with reading(folder.name):
            if not folder.is_dir():
                raise ImageError(
                    f'There is no folder {folder.name}; choose another one.'
                )
            self.files = sorted(
                (
                    path
                    for path in folder.iterdir()
                    if path.name.lower().endswith(self._suffixes)
                    and not path.name.startswith('.')
                ),
                key=_by_numbers,
            )
        self._by_name: dict[str, list[Path]] = {}
        for path in self.files:
            stem = self._stem(path.name)
            for name in {stem, without_mask_ending(stem)}:
                self._by_name.setdefault(name, []).append(path)

    def mask_of(self, name: str) -> Path | None:
        """The mask of an image; None if there is none.

        Parameters
        ----------
        name : str
            Of the image's file, with or without its suffix.

        Raises
        ------
        ImageError
            If there is more than one.
        """
        found = self._by_name.get(self._stem(name), [])
        if len(found) > 1:
            raise ImageError(
                f'{first_of([path.name for path in found])} in {self._folder.name} '
                'have one name; keep one of them.'
            )
        return found[0] if found else None

    def _stem(self, name: str) -> str:
        name = name.casefold()
        suffix = next(filter(name.endswith, self._suffixes), '')
        return name.removesuffix(suffix)


def without_mask_ending(stem: str) -> str:
    """Cut from a name what says that it is a mask's."""
    return _MASK_ENDING.sub('', stem)


def _by_numbers(path: Path) -> list[tuple[bool, int, str]]:
    """Sort numbers within a name by their value, so that 10 comes after 9."""
    parts = re.findall(r'\d+|\D+', path.name.casefold())
    return [
        (not part.isdecimal(), int(part) if part.isdecimal() else 0, part)
        for part in parts
    ]
