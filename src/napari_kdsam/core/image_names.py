"""Which image file is meant by a name that another file gives it."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import count

from napari_kdsam.core.errors import PromptError, excerpt, first_of


@dataclass(frozen=True)
class NameMatches:
    """Which names are of which images.

    Attributes
    ----------
    name_of : dict of str to str
        Location of an image to the name that is meant for it.
    unfound : tuple of str
        Names that are of no image.
    elsewhere : tuple of (str, str)
        Name and location of those that have the file name in common, but not the
        folders.
    """

    name_of: dict[str, str]
    unfound: tuple[str, ...]
    elsewhere: tuple[tuple[str, str], ...]


def name_parts(name: str) -> tuple[str, ...]:
    """Folders and file name of a path in any notation, in composed Unicode.

    Nothing is looked up on disk: ``.`` is left out, and so is what ``..`` goes back to.
    """
    parts: list[str] = []
    for part in unicodedata.normalize('NFC', name).replace('\\', '/').split('/'):
        if part == '..':
            del parts[-1:]
        elif part not in ('', '.'):
            parts.append(part)
    return tuple(parts)


def match_names(
    names: Iterable[str], locations: Sequence[str], source: str
) -> NameMatches:
    """Find the image that each name means.

    A name means the image whose path ends with it: ``a.png`` and ``p1/a.png`` both
    mean ``scans/p1/a.png``, which takes the longer one where both are there. Composed
    and decomposed letters are equal. A name with folders that no image lies in means
    the image of its file name, if there is but one of either.

    Parameters
    ----------
    names : iterable of str
        File names, or paths.
    locations : sequence of str
        Paths or URLs of images.
    source : str
        The file that the names are from, for messages.

    Raises
    ------
    PromptError
        If a name means several images, or several names are the same.
    """
    parts_of = {name: name_parts(name) for name in names}
    by_file: dict[str, list[str]] = {}
    for name, parts in parts_of.items():
        by_file.setdefault(''.join(parts[-1:]), []).append(name)
    paths = {location: name_parts(_absolute(location)) for location in locations}
    name_of: dict[str, str] = {}
    for location, path in paths.items():
        ends = [
            name
            for name in by_file.get(path[-1], ())
            if path[-len(parts_of[name]) :] == parts_of[name]
        ]
        longest = max((len(parts_of[name]) for name in ends), default=0)
        best = [name for name in ends if len(parts_of[name]) == longest]
        if len(best) > 1:
            raise PromptError(
                f'{source} has {excerpt(best[0])} and {excerpt(best[1])}, which are '
                'one name; keep one of them.'
            )
        if best:
            name_of[location] = best[0]
    _refuse_shared(name_of, paths, source)
    elsewhere = _by_file_name(by_file, name_of, paths)
    name_of.update((location, name) for name, location in elsewhere)
    found = set(name_of.values())
    unfound = tuple(name for name in parts_of if name not in found)
    return NameMatches(name_of, unfound, tuple(elsewhere))


def _refuse_shared(
    name_of: dict[str, str], paths: dict[str, tuple[str, ...]], source: str
) -> None:
    owners: dict[str, str] = {}
    for location, name in name_of.items():
        other = owners.setdefault(name, location)
        if paths[other] != paths[location]:
            both = _told_apart(paths[other], paths[location])
            raise PromptError(
                f'{excerpt(name)} in {source} may be {first_of(both)}; write the folder '
                'before the name.'
            )


def _by_file_name(
    by_file: dict[str, list[str]],
    name_of: dict[str, str],
    paths: dict[str, tuple[str, ...]],
) -> list[tuple[str, str]]:
    """Names and locations that have an only file name in common."""
    of_file: dict[str, set[tuple[str, ...]]] = {}
    for path in paths.values():
        of_file.setdefault(path[-1], set()).add(path)
    return [
        (by_file[path[-1]][0], location)
        for location, path in paths.items()
        if location not in name_of
        and len(by_file.get(path[-1], ())) == 1
        and len(of_file[path[-1]]) == 1
    ]


def _absolute(location: str) -> str:
    return location if '://' in location else os.path.abspath(location)


def _told_apart(one: tuple[str, ...], other: tuple[str, ...]) -> list[str]:
    """Ends of two paths, with as many folders as they differ by."""
    length = next(n for n in count(2) if one[-n:] != other[-n:])
    return ['/'.join(path[-length:]) for path in (one, other)]
