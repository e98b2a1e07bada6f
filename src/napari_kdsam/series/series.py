"""A series of images with its labels: resumed, saved, and never shared by two windows."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from napari_kdsam.batch.inputs import image_key
from napari_kdsam.batch.output_folder import lock_folder, unlock_folder
from napari_kdsam.core.errors import (
    ImageError,
    KDSAMError,
    NotAnImageError,
    NotWrittenError,
    counted,
)
from napari_kdsam.core.files import sweep_parts
from napari_kdsam.core.names import folded
from napari_kdsam.io.formats import stem_of
from napari_kdsam.io.results import is_result
from napari_kdsam.measure.mask_folder import without_mask_ending
from napari_kdsam.series.entries import FILTERS, ImageStatus, SeriesEntry
from napari_kdsam.series.errors import SeriesError
from napari_kdsam.series.images import ImageChoice, list_images
from napari_kdsam.series.label_files import (
    LABEL_SUFFIXES,
    LabelForm,
    LabelsOfImage,
    can_be_empty,
    read_label_file,
    suffix_for,
    write_label_file,
)
from napari_kdsam.series.table import TABLE, read_table, write_table

# What is being saved waits here, so that a kill leaves the old file or the new one.
_SAVING = '.napari-kdsam-saving'
_INTENDED = 'intended.csv'


@dataclass(frozen=True, eq=False)
class Start:
    """What an image begins with.

    Attributes
    ----------
    labels : numpy.ndarray or None
        (..., rows, columns); None where there are none.
    classes : dict of int to str
        Label to the name of its class.
    notice : str
        What the user should know of them; empty for nothing.
    """

    labels: NDArray[Any] | None = None
    classes: dict[int, str] | None = None
    notice: str = ''


class Series:
    """Images in their order, what is known of each, and their labels.

    Everything but `entry`, `find`, `counts` and `note` may take a while. One thread may
    read while another one saves.

    Parameters
    ----------
    choice : ImageChoice
        As for `list_images`.
    output : pathlib.Path
        The folder of the labels, made if needed.
    form : LabelForm
        How labels of images that have none yet are written.

    Attributes
    ----------
    images : tuple of ListedImage
    form : LabelForm
    notices : list of str
        Sentences on what is otherwise than it was left.

    Raises
    ------
    SeriesError
        If there is no image, the folder of the labels cannot be used, or another
        window works on it.
    """

    def __init__(
        self, choice: ImageChoice, output: Path, form: LabelForm = 'image'
    ) -> None:
        self.output, self.form = output.absolute(), form
        listing = list_images(choice, self.output)
        self.root, self.images = listing.root, listing.images
        self.notices = list(listing.problems)
        self._places = {image.name: place for place, image in enumerate(self.images)}
        self._saving = self.output / _SAVING
        self._changing = RLock()
        self._masks: dict[str, dict[str, list[Path]]] = {}
        self._lock = self._locked()
        try:
            sweep_parts(self.output)
            self._entries = read_table(self.output / TABLE)
            self._recover()
            self._follow_renamed()
            self._notice_missing()
        except OSError as error:
            self.close()
            raise self._unusable(error) from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let another window work on it."""
        if self._lock.is_locked:
            unlock_folder(self._lock)

    def entry(self, index: int) -> SeriesEntry:
        """What is known of an image."""
        name = self.images[index].name
        return self._entries.get(name) or SeriesEntry(name)

    def find(self, chosen: str = 'All', text: str = '') -> list[int]:
        """Places of the images that a filter of `FILTERS` and a text leave."""
        wanted = FILTERS[chosen]
        places: Iterable[int] = range(len(self.images))
        if not wanted(SeriesEntry('')):
            # Of what nothing is known none is meant.
            places = sorted(self._known())
        if chosen != 'All':
            places = [place for place in places if wanted(self.entry(place))]
        if text:
            return [place for place in places if self.entry(place).matches(text)]
        return list(places)

    def counts(self) -> Counter[ImageStatus]:
        """How many images there are of each status."""
        known = self._known()
        found = Counter(self.entry(place).status for place in known)
        found[ImageStatus.new] += len(self.images) - len(known)
        return found

    def classes(self) -> dict[int, str]:
        """Names of the classes in use, by numbers.

        The numbers are the labels where each name has one label throughout, as in
        labels of classes; otherwise 1, 2, 3 in the order of the images.
        """
        pairs: dict[tuple[int, str], None] = {}
        for place in sorted(self._known()):
            pairs |= dict.fromkeys(self.entry(place).classes.items())
        names = list(dict.fromkeys(name for _, name in pairs))
        of_labels = dict(list(pairs))
        if len(pairs) == len(of_labels) == len(names):
            return of_labels
        return dict(enumerate(names, start=1))

    def _known(self) -> list[int]:
        """Places of the images that something is known of."""
        with self._changing:
            return [
                self._places[name] for name in self._entries if name in self._places
            ]

    def first_to_do(self) -> int:
        """Place of the first image that nothing was done with; else the first of all."""
        return next(iter(self.find('To do')), 0)

    def check_image(self, index: int) -> Path:
        """The file of an image that is there and no result.

        Raises
        ------
        SeriesError
            If the whole folder is not there.
        ImageError
            If it is not there.
        NotAnImageError
            If it holds labels.
        """
        path = self.images[index].path
        if not self.root.is_dir():
            raise SeriesError(
                f'The folder {self.root} is no longer there; bring it back, such as by '
                'plugging in its disk, and go on.'
            )
        if not path.exists():
            raise ImageError(f'{path} is no longer there; bring it back, or go on.')
        if is_result(path):
            raise NotAnImageError(f'{path.name} holds labels, not an image.')
        return path

    def start_of(self, index: int, shape: tuple[int, ...]) -> Start:
        """Read the labels that an image has already.

        Parameters
        ----------
        index : int
        shape : tuple of int
            (..., rows, columns) of the image.

        Returns
        -------
        Start
            Also of another tool's labels, which `save` leaves where they are.
        """
        entry, image = self.entry(index), self.images[index]
        path = self.output / entry.labels if entry.labels else None
        if path is None or not path.exists():
            return self._start_of_others(index, shape)
        try:
            found = read_label_file(path, image.path.name, shape)
        except KDSAMError as error:
            # They are of an earlier image of that name, and stay.
            self._change(index, digest='')
            return Start(notice=f'The labels {path.name} were not opened: {error}')
        notice = ''
        if digest_of_file(path) != entry.digest:
            notice = (
                f'{path.name} was changed by something else: it is the start here, and '
                'stays as it is.'
            )
        elif entry.image_key and entry.image_key != key_of_image(image.path):
            notice = f'{image.path.name} has changed since it was labelled.'
        return Start(found.labels, {**entry.classes, **found.classes}, notice)

    def save(
        self, index: int, made: LabelsOfImage, *, no_lesion: bool = False
    ) -> SeriesEntry:
        """Write the labels of an image, and note what became of it.

        A process that is killed meanwhile leaves the earlier file or this one, and the
        table says which when the series is opened again.

        Parameters
        ----------
        index : int
        made : LabelsOfImage
        no_lesion : bool
            Whether labels without objects mean that there is nothing to label.

        Raises
        ------
        KDSAMError
            If something cannot be written; what was there stays.
        """
        image, before = self.images[index], self.entry(index)
        objects = np.unique(made.labels[made.labels > 0])
        path = self._target(index, made.labels.ndim)
        empty = ImageStatus.no_lesion if no_lesion else ImageStatus.new
        intended = replace(
            before,
            status=ImageStatus.done if objects.size else empty,
            reason='',
            objects=int(objects.size),
            classes={int(n): made.classes[n] for n in objects if n in made.classes},
            labels=os.path.relpath(path, self.output),
            image_key=key_of_image(image.path),
        )
        try:
            self._saving.mkdir(exist_ok=True)
            path.parent.mkdir(parents=True, exist_ok=True)
            if objects.size or can_be_empty(path.name):
                self._replace(path, made, image.path, intended)
            else:
                if self._is_own(before):
                    path.unlink()
                self._put(replace(intended, labels='', digest=''))
            self.store()
            shutil.rmtree(self._saving, ignore_errors=True)
        except OSError as error:
            raise NotWrittenError(
                f'{path.name} could not be written ({error.strerror}); free some space '
                'or choose a folder you may write to.'
            ) from error
        return self.entry(index)

    def note(self, index: int, **changes: Any) -> SeriesEntry:
        """Remember something of an image, in memory until `store`.

        Parameters
        ----------
        index : int
        **changes
            Fields of `SeriesEntry`.
        """
        return self._change(index, **changes)

    def store(self) -> None:
        """Write the table.

        Raises
        ------
        NotWrittenError
            If it cannot be written.
        """
        with self._changing:
            listed = [self.entry(place) for place in sorted(self._known())]
            others = [
                one for name, one in self._entries.items() if name not in self._places
            ]
        entries = [entry for entry in [*listed, *others] if not entry.untouched]
        write_table(self.output / TABLE, entries)

    def _locked(self) -> FileLock:
        try:
            self.output.mkdir(parents=True, exist_ok=True)
            return lock_folder(self.output)
        except Timeout as error:
            raise SeriesError(
                f'Another window or run works with the labels in {self.output} now; '
                'close it first, or choose another folder for the labels.'
            ) from error
        except OSError as error:
            raise self._unusable(error) from error

    def _unusable(self, error: OSError) -> SeriesError:
        return SeriesError(
            f'The folder {self.output} cannot be used for labels ({error.strerror}); '
            'choose one that you may write to.'
        )

    def _replace(
        self, path: Path, made: LabelsOfImage, image: Path, intended: SeriesEntry
    ) -> None:
        """Put the labels in their place, after noting what that will mean."""
        part = self._saving / path.name
        numbers = write_label_file(part, made, image)
        classes = {numbers.get(n, n): name for n, name in intended.classes.items()}
        intended = replace(intended, classes=classes, digest=digest_of_file(part))
        write_table(self._saving / _INTENDED, [intended])
        os.replace(part, path)
        self._put(intended)

    def _recover(self) -> None:
        """Note what a process that was killed had saved last, and sweep up after it."""
        if not self._saving.is_dir():
            return
        for entry in read_table(self._saving / _INTENDED).values():
            path = self.output / entry.labels
            if path.exists() and digest_of_file(path) == entry.digest:
                self._entries[entry.name] = entry
                self.store()
        shutil.rmtree(self._saving, ignore_errors=True)

    def _follow_renamed(self) -> None:
        """Let images that have another name now keep what is known of them."""
        gone = {
            entry.image_key: entry
            for name, entry in self._entries.items()
            if name not in self._places and entry.image_key
        }
        count = len(self._entries.keys() - self._places.keys())
        if gone:
            sizes = {key.partition('-')[0] for key in gone}
            for image in self.images:
                if image.name in self._entries or _size_of(image.path) not in sizes:
                    continue
                entry = gone.pop(key_of_image(image.path), None)
                if entry is not None:
                    self._entries[image.name] = replace(entry, name=image.name)
                    del self._entries[entry.name]
                    count -= 1
        if count:
            are = 'is' if count == 1 else 'are'
            self.notices.append(
                f'{counted(count, "image")} of an earlier time {are} no longer there; '
                'what is known of them, and their labels, stay.'
            )

    def _notice_missing(self) -> None:
        """Let images whose labels are gone be done again."""
        missing = 0
        for image in self.images:
            entry = self._entries.get(image.name)
            if entry is None or not entry.labels:
                continue
            if not os.path.exists(self.output / entry.labels):
                missing += 1
                self._entries[image.name] = replace(
                    entry, status=ImageStatus.new, objects=0, labels='', digest=''
                )
        if missing:
            self.notices.append(
                f'The labels of {counted(missing, "image")} are no longer there, so '
                'they are to do again.'
            )

    def _start_of_others(self, index: int, shape: tuple[int, ...]) -> Start:
        """Labels of another tool: in the folder of the labels, or beside the image."""
        image = self.images[index]
        notices: list[str] = []
        for path in self._masks_of(index):
            try:
                found = read_label_file(path, image.path.name, shape)
            except KDSAMError as error:
                notices.append(f'{path.name} was not opened: {error}')
                continue
            return Start(
                found.labels,
                dict(found.classes),
                f'{path.name} is the start here, and stays as it is.',
            )
        return Start(notice=' '.join(notices))

    def _masks_of(self, index: int) -> Sequence[Path]:
        image = self.images[index]
        folder, stem = os.path.split(image.stem)
        beside = image.path.parent
        found: list[Path] = []
        for place in dict.fromkeys((self.output / folder, beside)):
            masks = self._masks_in(place)
            found += masks.get(folded(stem), [])
        images = {listed.path for listed in self.images} if found else set()
        return [path for path in dict.fromkeys(found) if path not in images]

    def _masks_in(self, folder: Path) -> dict[str, list[Path]]:
        """Files that may be masks, by the folded stems of their images; read once."""
        key = str(folder)
        if key not in self._masks:
            masks: dict[str, list[Path]] = {}
            try:
                names = sorted(os.listdir(folder))
            except OSError:
                names = []
            beside = folder != self.output and not folder.is_relative_to(self.output)
            for name in names:
                if not name.lower().endswith(LABEL_SUFFIXES) or name.startswith('.'):
                    continue
                stem = stem_of(folded(name).removesuffix('.json'))
                bare = without_mask_ending(stem)
                # Beside the images only a name with an ending is a mask's.
                if bare != stem or not beside:
                    masks.setdefault(bare, []).append(folder / name)
            self._masks[key] = masks
        return self._masks[key]

    def _target(self, index: int, ndim: int) -> Path:
        """Where the labels of an image go: their own file, or a name that is free."""
        entry, image = self.entry(index), self.images[index]
        if self._is_own(entry):
            return self.output / entry.labels
        suffix = suffix_for(self.form, image.path, ndim)
        number, path = 1, self.output / f'{image.stem}_labels{suffix}'
        while os.path.lexists(path):
            number += 1
            path = self.output / f'{image.stem}_labels_{number}{suffix}'
        return path

    def _is_own(self, entry: SeriesEntry) -> bool:
        """Whether the labels of an image are as this series wrote them."""
        path = self.output / entry.labels
        return bool(
            entry.labels and path.is_file() and digest_of_file(path) == entry.digest
        )

    def _change(self, index: int, **changes: Any) -> SeriesEntry:
        with self._changing:
            return self._put(replace(self.entry(index), **changes))

    def _put(self, entry: SeriesEntry) -> SeriesEntry:
        with self._changing:
            self._entries[entry.name] = entry
        return entry


def key_of_image(path: Path) -> str:
    """Tell an image file from others by its size, its start and its end.

    Returns
    -------
    str
        The size in bytes, and `image_key`; empty for a folder or what is not there.
    """
    key = image_key(str(path)) if path.is_file() else ''
    return f'{_size_of(path)}-{key}' if key else ''


def _size_of(path: Path) -> str:
    try:
        return str(path.stat().st_size)
    except OSError:
        return ''


def digest_of_file(path: Path) -> str:
    """BLAKE2b of a file, 32 hexadecimal digits."""
    with path.open('rb') as file:
        made = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16))
    return made.hexdigest()
