"""The files of a batch: which there are, how many frames each has, and their pixels."""

from __future__ import annotations

import glob
import hashlib
import os
import re
import shutil
import tempfile
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from napari_kdsam.core.errors import ImageError, MissingExtraError, NotAnImageError
from napari_kdsam.io.dicom_dir import files_of_dicomdir, is_dicomdir
from napari_kdsam.io.formats import (
    JPEG,
    PNG,
    SUFFIXES,
    ZARR,
    format_of,
    open_for_segmenting,
    stem_of,
)
from napari_kdsam.io.image_file import ImageFile

_WILDCARDS = '*?['
_ANY_FOLDERS = '**'
_HERE = os.path.join(os.curdir, '')
# What systems put into folders beside the files of their users.
_LITTER = re.compile(
    r'\.DS_Store|\._.*|\.directory|Thumbs\.db|ehthumbs\.db|desktop\.ini|'
    r'__MACOSX|\.napari-kdsam\.lock|\..+\.part',
    re.IGNORECASE,
)
_OPEN_FILES = 4
_KEY_BYTES = 2**16
# Few, because each is a whole frame; more would not make the encoder faster.
_AHEAD = 3


@dataclass(frozen=True, slots=True)
class Source:
    """One image file of a batch.

    Attributes
    ----------
    location : str
        Path, or URL that fsspec understands.
    stem : str
        Start of the names of its results.
    frame_count : int
        Number of frames; 1 where the file cannot be opened, because it counts all the
        same.
    problem : str
        Why it cannot be opened; empty if it can.
    left_out : str
        Why it is no image of the batch; empty if it is one.
    """

    location: str
    stem: str
    frame_count: int = 1
    problem: str = ''
    left_out: str = ''

    @property
    def name(self) -> str:
        """File name without folder."""
        return name_of(self.location)

    @property
    def is_stack(self) -> bool:
        """Whether there is more than one frame."""
        return self.frame_count > 1


@dataclass(frozen=True, slots=True)
class Found:
    """What inputs stand for.

    Attributes
    ----------
    location : str
        Path or URL.
    left_out : str
        Why it is no image of the batch; empty if it may be one.
    problem : str
        Why it cannot be opened, as far as is known yet.
    """

    location: str
    left_out: str = ''
    problem: str = ''
    # Where links lead; empty where that is not known yet.
    real: str = field(default='', compare=False)

    @property
    def path(self) -> Path | None:
        """The file; None for a URL."""
        return None if is_url(self.location) else Path(self.location)


def is_url(location: str) -> bool:
    """Whether a location is for fsspec."""
    return '://' in location


def name_of(location: str) -> str:
    """File name of a path or URL, without folder."""
    if is_url(location):
        return location.rstrip('/').rsplit('/', 1)[-1]
    return os.path.basename(os.path.normpath(location))


def expand(
    inputs: Sequence[str], on_found: Callable[[], None] = lambda: None
) -> list[Found]:
    """Find the files that paths, folders, patterns and URLs stand for.

    Parameters
    ----------
    inputs : sequence of str
        Files, folders (searched with all folders in them), glob patterns and URLs
        that fsspec understands, also with patterns.
    on_found : callable
        Called for each file as it is found.

    Returns
    -------
    list of Found
        Each file once, whatever links lead to it: in the order given, within a folder
        or pattern by name. In folders also what is left out, with the reason.

    Raises
    ------
    ImageError
        If one of them stands for no file.
    MissingExtraError
        If there is a URL and fsspec is not installed.
    """
    found: dict[str, Found] = {}
    for text in inputs:
        matches = list(_expand(text, on_found))
        if all(item.left_out for item in matches):
            raise ImageError(
                f'{text} holds no image file that can be read; check its name, or the '
                'names of the files in it.'
            )
        for item in matches:
            found.setdefault(item.real or _identity(item.location), item)
    return list(found.values())


def _identity(location: str) -> str:
    return location if is_url(location) else os.path.realpath(location)


def _expand(text: str, on_found: Callable[[], None]) -> Iterable[Found]:
    if is_url(text):
        return map(Found, _expand_url(text))
    if _is_plain_folder(text):
        return _below(text, on_found)
    if os.path.lexists(text) or not any(mark in text for mark in _WILDCARDS):
        return files_named_by(text)
    matches = sorted(_matches(text))
    return [
        item
        for match in matches
        for item in (
            _below(match, on_found)
            if _is_plain_folder(match)
            else files_named_by(match)
        )
    ]


def files_named_by(location: str) -> list[Found]:
    """The files that a DICOMDIR names; any other file is itself.

    Raises
    ------
    ImageError
        If the DICOMDIR cannot be read.
    MissingExtraError
        If it is one, and pydicom is not installed.
    """
    if not is_dicomdir(Path(location)):
        return [Found(location)]
    missing = f'{name_of(location)} names it, but it is not there; copy the whole disc.'
    return [
        Found(str(path), problem='' if path.exists() else missing)
        for path in files_of_dicomdir(Path(location))
    ]


def _is_plain_folder(path: str) -> bool:
    """Whether a path is a folder of files, and no image that is a folder."""
    if not os.path.isdir(path) or ZARR.names(path):
        return False
    return format_of(Path(path)) is None


def _matches(pattern: str) -> list[str]:
    """What a pattern stands for, where ``**`` is any folders, each of them once.

    `glob` would follow links that lead back up for as long as a path can be.
    """
    parts = pattern.split(os.sep)
    if _ANY_FOLDERS not in parts:
        return glob.glob(pattern)
    place = parts.index(_ANY_FOLDERS)
    before, after = os.sep.join(parts[:place]), os.sep.join(parts[place + 1 :])
    start = before or (os.sep if place else os.curdir)
    tops = [top for top in glob.glob(start) if os.path.isdir(top)]
    folders = [folder.path for top in tops for folder in _walk(top)]
    if not after:
        return folders
    return [
        match
        for folder in folders
        for match in _matches(os.path.join(glob.escape(folder), after))
    ]


@dataclass(frozen=True)
class _Folder:
    """A folder that was come upon, and what is in it but folders.

    Attributes
    ----------
    path : str
    real : str
        Where links lead that lead to it.
    through_link : bool
        Whether a link leads to it.
    items : tuple of os.DirEntry
    problem : str
        Why it cannot be opened; empty if it can.
    """

    path: str
    real: str
    through_link: bool
    items: tuple[os.DirEntry[str], ...] = ()
    problem: str = ''


def _walk(top: str) -> Iterator[_Folder]:
    """A folder and all below it, each once; what links lead to comes last."""
    seen: set[tuple[int, int]] = set()
    waiting, links = deque([str(Path(top))]), deque[str]()
    while waiting or links:
        through_link = not waiting
        folder = (waiting or links).popleft()
        real = os.path.realpath(folder)
        try:
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as entries:
                found = [item for item in entries if not _LITTER.fullmatch(item.name)]
        except OSError as error:
            problem = f'The folder {folder} cannot be opened ({error.strerror}).'
            yield _Folder(folder, real, through_link, problem=problem)
            continue
        items = []
        for item in found:
            # The entry knows the kind; asking the system costs more than all the rest.
            may_be_folder = item.is_symlink() or item.is_dir()
            hidden, path = item.name.startswith('.'), _path_of(item)
            if may_be_folder and not hidden and _is_plain_folder(path):
                (links if item.is_symlink() else waiting).append(path)
            else:
                items.append(item)
        yield _Folder(folder, real, through_link, tuple(items))


def _path_of(item: os.DirEntry[str]) -> str:
    return item.path.removeprefix(_HERE)


def _below(top: str, on_found: Callable[[], None]) -> list[Found]:
    """All files below a folder by name; what links lead to comes after the others."""
    files: list[tuple[bool, Found]] = []
    for folder in _walk(top):
        linked = folder.through_link
        if folder.problem:
            files.append((linked, Found(folder.path, problem=folder.problem)))
        inside = os.path.join(folder.real, '')
        for item in folder.items:
            path, is_link = _path_of(item), item.is_symlink()
            real = _identity(path) if is_link else inside + item.name
            files.append((linked or is_link, _judged(path, item.name, real)))
            on_found()
    # A file is called by its own name rather than by that of a link to it.
    files.sort(key=lambda file: (file[0], file[1].location))
    once: dict[str, Found] = {}
    for _, file in files:
        once.setdefault(file.real or _identity(file.location), file)
    return sorted(once.values(), key=lambda file: file.location)


def _judged(path: str, name: str, real: str) -> Found:
    """A file, or an image that is a folder, as its name and content say."""
    if name.startswith('.'):
        return Found(path, 'left out: hidden, as its name begins with a dot', real=real)
    if name.lower().endswith(SUFFIXES):
        return Found(path, real=real)
    if not os.path.isfile(path) and not os.path.isdir(path):
        kind = (
            'a link that leads nowhere' if os.path.islink(path) else 'no regular file'
        )
        return Found(path, f'left out: {kind}', real=real)
    try:
        known = format_of(Path(path)) is not None
    except OSError as error:
        problem = f'It cannot be opened ({error.strerror}).'
        return Found(path, problem=problem, real=real)
    kind = '' if known else 'left out: not a kind of image that is read'
    return Found(path, kind, real=real)


def _expand_url(url: str) -> list[str]:
    system, path = _file_system(url)
    if not any(mark in path for mark in _WILDCARDS):
        return [url]
    return [system.unstrip_protocol(name) for name in sorted(system.glob(path))]


def _file_system(url: str) -> tuple[Any, str]:
    try:
        import fsspec
    except ImportError as error:
        raise MissingExtraError('Reading from a URL', 'batch') from error
    try:
        system, path = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise ImageError(f'{url} cannot be read ({error}).') from error
    return system, str(path)


def describe(location: str, stem: str) -> Source:
    """Find out how many frames a file has.

    A file that cannot be opened is described with its problem, so that the batch can
    name and count it.
    """
    # These hold one image, so they need not be opened to be counted.
    if PNG.names(location) or JPEG.names(location):
        return Source(location, stem)
    try:
        with Reader() as reader:
            return Source(location, stem, reader.open(location).frame_count)
    except NotAnImageError as error:
        return Source(location, stem, left_out=f'left out: {error}')
    except (ImageError, MissingExtraError) as error:
        return Source(location, stem, 1, str(error))


def image_key(location: str) -> str:
    """Tell an image file from others by its size, its start and its end.

    Returns
    -------
    str
        16 hexadecimal digits; empty for a folder, a URL, and what cannot be read.
    """
    if is_url(location):
        return ''
    try:
        status = os.stat(location)
        return _image_key(location, status.st_size, status.st_mtime_ns)
    except OSError:
        return ''


# Asked for every frame of a stack.
@lru_cache(maxsize=256)
def _image_key(location: str, size: int, _: int) -> str:
    digest = hashlib.blake2b(f'{size};'.encode(), digest_size=8)
    with open(location, 'rb') as file:
        digest.update(file.read(_KEY_BYTES))
        file.seek(max(0, size - _KEY_BYTES))
        digest.update(file.read(_KEY_BYTES))
    return digest.hexdigest()


def stem_for(location: str) -> str:
    """What the results of a file are called by, before doubles are told apart."""
    return stem_of(name_of(location))


def read_ahead(
    reader: Reader, items: Sequence[tuple[Source, int]]
) -> Iterator[tuple[Source, int, Future[NDArray[Any]]]]:
    """Read frames in a thread of its own, a few before they are asked for.

    Parameters
    ----------
    reader : Reader
        Used by the thread alone until the end.
    items : sequence of (Source, int)
        Source and frame.

    Yields
    ------
    tuple of (Source, int, Future)
        In the order of `items`; the future gives the pixels or raises.
    """
    ahead: deque[Future[NDArray[Any]]] = deque()
    upcoming = iter(items)
    with ThreadPoolExecutor(1, 'kdsam-read') as reading:
        try:
            for source, frame in items:
                while (
                    len(ahead) < _AHEAD and (item := next(upcoming, None)) is not None
                ):
                    ahead.append(reading.submit(reader.read, *item))
                yield source, frame, ahead.popleft()
        finally:
            for future in ahead:
                future.cancel()


class Reader:
    """Read frames of many files, keeping the last few files open.

    Not safe to use from several threads at once.
    """

    def __init__(self) -> None:
        self._open: OrderedDict[str, ImageFile] = OrderedDict()
        self._copies: Path | None = None

    def read(self, source: Source, frame: int) -> NDArray[Any]:
        """Decode one frame.

        Parameters
        ----------
        source : Source
        frame : int
            Counted from 0.

        Returns
        -------
        numpy.ndarray
            (H, W), (H, W, 3) or (H, W, 4).

        Raises
        ------
        ImageError
            If it cannot be read.
        """
        if source.problem:
            raise ImageError(source.problem)
        return self.open(source.location).frame(frame)

    def open(self, location: str) -> ImageFile:
        """Open a file, or find it open; it is closed when others have been opened."""
        image = self._open.pop(location, None)
        if image is None:
            image = open_for_segmenting(self._local(location))
            while len(self._open) >= _OPEN_FILES:
                self._open.popitem(last=False)[1].close()
        self._open[location] = image
        return image

    def _local(self, location: str) -> Path:
        if not is_url(location):
            return Path(location)
        system, path = _file_system(location)
        if self._copies is None:
            self._copies = Path(tempfile.mkdtemp(prefix='napari-kdsam-'))
        in_use = {self._copy_of(name) for name in self._open}
        for copy in self._copies.iterdir():
            if copy not in in_use:
                copy.unlink()
        copy = self._copy_of(location)
        try:
            system.get_file(path, str(copy))
        except Exception as error:
            # File systems raise whatever their service gives them.
            raise ImageError(f'{location} cannot be fetched ({error}).') from error
        return copy

    def _copy_of(self, location: str) -> Path:
        assert self._copies is not None
        digest = hashlib.blake2b(location.encode(), digest_size=8).hexdigest()
        return self._copies / f'{digest}-{name_of(location)}'

    def close(self) -> None:
        """Close every file, and delete the copies of remote ones."""
        for image in self._open.values():
            image.close()
        self._open.clear()
        if self._copies is not None:
            shutil.rmtree(self._copies, ignore_errors=True)
            self._copies = None

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
