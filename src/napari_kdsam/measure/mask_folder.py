"""Which mask in a folder belongs to which image, by their names."""

from __future__ import annotations

import re
from pathlib import Path

from napari_kdsam.core.errors import ImageError, first_of
from napari_kdsam.core.names import by_numbers, folded
from napari_kdsam.io.formats import SUFFIXES, format_of, stem_of
from napari_kdsam.io.image_file import reading

_MASK_ENDING = re.compile(r'[ _-](masks?|segmentation|seg|labels?|gt)$', re.IGNORECASE)


class MaskFolder:
    """The masks in a folder.

    A mask belongs to the image of the same name, whatever the file types, the case of
    letters and the Unicode form, also with ``mask``, ``masks``, ``segmentation``,
    ``seg``, ``label``, ``labels`` or ``gt`` at its end, after a space, ``_`` or ``-``.

    Parameters
    ----------
    folder : path-like
        Folders in it are not looked into, nor hidden files.

    Attributes
    ----------
    files : list of pathlib.Path
        Images, as name or content say, ordered by name, with numbers by their value.
    others : list of pathlib.Path
        What is in the folder besides them, in the same order.

    Raises
    ------
    ImageError
        If there is no such folder or it cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with reading(folder.name):
            if not folder.is_dir():
                raise ImageError(
                    f'There is no folder {folder.name}; choose another one.'
                )
            seen = [path for path in folder.iterdir() if path.name[0] != '.']
            seen.sort(key=lambda path: by_numbers(path.name))
        self.files: list[Path] = []
        self.others: list[Path] = []
        for path in seen:
            (self.files if _is_image(path) else self.others).append(path)
        self._by_name: dict[str, list[Path]] = {}
        for path in self.files:
            stem = _folded_stem(path.name)
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
        found = self._by_name.get(_folded_stem(name), [])
        if len(found) > 1:
            raise ImageError(
                f'{first_of([path.name for path in found])} in {self._folder.name} '
                'have one name; keep one of them.'
            )
        return found[0] if found else None


def _is_image(path: Path) -> bool:
    if path.name.lower().endswith(SUFFIXES):
        return True
    try:
        return (path.is_file() or path.is_dir()) and format_of(path) is not None
    except OSError:
        return False


def _folded_stem(name: str) -> str:
    return stem_of(folded(name))


def without_mask_ending(stem: str) -> str:
    """Cut from a name what says that it is a mask's."""
    return _MASK_ENDING.sub('', stem)
