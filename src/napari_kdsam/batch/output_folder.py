"""The folder that results go to: what is where in it, and what may be replaced."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from napari_kdsam.batch.inputs import Reader, Source
from napari_kdsam.batch.manifest import MANIFEST, write_manifest
from napari_kdsam.batch.records import (
    FrameResult,
    Record,
    StackFrame,
    StackRecord,
    Status,
)
from napari_kdsam.core.choices import Existing
from napari_kdsam.core.errors import ImageError, KDSAMError
from napari_kdsam.core.files import PART, atomic_path, part_path
from napari_kdsam.core.label_image import label_dtype
from napari_kdsam.io.label_images import write_stack
from napari_kdsam.segmentation.frame_labels import FrameLabels, NothingToDo, Outcome

# Where a label image says what it is, so that picture and record cannot be parted.
_CHUNK = 'napari-kdsam'
_LOCK = '.napari-kdsam.lock'
# What may follow the stem of an input in the names of its results.
BATCH_ENDINGS = (
    '_labels.png',
    '_labels.tif',
    '_labels.json',
    '_labels.nii.gz',
    '_labels.dcm',
    '_labels_frames',
)
NOT_REACHED = 'not reached; run again with --resume'


class BatchError(KDSAMError):
    """A batch that cannot begin."""


class OutputError(KDSAMError):
    """Results cannot be written, so going on makes no sense."""


@dataclass(frozen=True)
class OutputFolder:
    """Where a run writes, and what it finds there.

    A label image carries its record; the frames of a stack wait in a folder of their
    own until each has its end, and become one TIFF with a record beside it.

    Attributes
    ----------
    path : pathlib.Path
        An existing folder.
    fingerprint : str
        Of all that decides what the labels are; results of another one are not
        taken over.
    """

    path: Path
    fingerprint: str = ''

    def labels_path(self, source: Source, frame: int) -> Path:
        """The label image of a frame."""
        if not source.is_stack:
            return self.path / f'{source.stem}_labels.png'
        return self.frames_folder(source) / f'frame_{frame:06d}.png'

    def frames_folder(self, source: Source) -> Path:
        """Where the frames of a stack wait to be put together."""
        return self.path / f'{source.stem}_labels_frames'

    def stack_path(self, source: Source) -> Path:
        """The labels of a whole stack."""
        return self.path / f'{source.stem}_labels.tif'

    def stack_record_path(self, source: Source) -> Path:
        """What became of the frames of a finished stack."""
        return self.path / f'{source.stem}_labels.json'

    def result_path(self, source: Source) -> Path:
        """The file with the labels of a source, once it is finished."""
        return (
            self.stack_path(source) if source.is_stack else self.labels_path(source, 0)
        )

    @contextmanager
    def owned(self) -> Iterator[None]:
        """Keep other runs out; a process that dies lets go.

        Raises
        ------
        BatchError
            If another run writes here now.
        """
        lock = FileLock(self.path / _LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise BatchError(
                f'Another run writes to {self.path} now; wait for its end or choose '
                'another folder.'
            ) from error
        except OSError as error:
            raise BatchError(
                f'The folder {self.path} cannot be locked ({error.strerror}); choose '
                'another.'
            ) from error
        try:
            yield
        finally:
            # While it is still held, so that nobody else's is taken away.
            (self.path / _LOCK).unlink(missing_ok=True)
            lock.release()

    def sweep(self) -> None:
        """Remove what a killed process was writing."""
        for folder in (self.path, *self.path.glob('*_labels_frames')):
            for item in folder.iterdir():
                if PART.fullmatch(item.name) and item.is_dir():
                    shutil.rmtree(item, ignore_errors=True)
                elif PART.fullmatch(item.name):
                    item.unlink(missing_ok=True)

    def keep(self, source: Source, frame: int, outcome: Outcome) -> FrameResult:
        """Write what a frame came to, if that is labels.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        if isinstance(outcome, NothingToDo):
            return FrameResult(source.location, frame, Status.skipped, str(outcome))
        if isinstance(outcome, KDSAMError):
            return FrameResult(source.location, frame, Status.failed, str(outcome))
        record = Record(
            fingerprint=self.fingerprint, objects=outcome.objects, reason=outcome.note
        )
        try:
            write_frame(self.labels_path(source, frame), outcome.labels, record)
        except ImageError as error:
            raise OutputError(str(error)) from error
        return FrameResult(
            source.location, frame, Status.done, outcome.note, outcome.objects
        )

    def is_done(self, source: Source, frame: int) -> bool:
        """Whether a frame's labels, made in the same way, are there."""
        record = read_record(self.labels_path(source, frame))
        return record is not None and record.fingerprint == self.fingerprint

    def labels_of(self, source: Source, frame: int) -> FrameLabels | None:
        """Read a frame's labels, if they were made in the same way.

        Raises
        ------
        ImageError
            If they are damaged.
        """
        path = self.labels_path(source, frame)
        record = read_record(path)
        if record is None or record.fingerprint != self.fingerprint:
            return None
        return FrameLabels(read_labels(path), record.objects, record.reason)

    def known(self, source: Source, existing: Existing) -> Iterator[FrameResult]:
        """Results that are there already, as far as `existing` lets them be.

        Raises
        ------
        BatchError
            If there are some that it does not allow for.
        """
        if source.is_stack and not self.frames_folder(source).exists():
            stack = read_stack_record(self.stack_record_path(source))
            if stack is not None:
                yield from self._known_stack(source, stack, existing)
                return
        for frame in range(source.frame_count):
            path = self.labels_path(source, frame)
            if not path.exists():
                continue
            record = read_record(path)
            if existing is Existing.resume and record is not None:
                self._check_same(path.name, record.fingerprint)
                yield FrameResult(
                    source.location, frame, Status.done, record.reason, record.objects
                )
            elif (left := self._left_alone(path, existing)) is not None:
                yield FrameResult(source.location, frame, Status.skipped, left)

    def _known_stack(
        self, source: Source, stack: StackRecord, existing: Existing
    ) -> Iterator[FrameResult]:
        path = self.stack_path(source)
        if existing is Existing.resume:
            self._check_same(path.name, stack.fingerprint)
            yield from stack.results(source)
        elif (left := self._left_alone(path, existing)) is not None:
            for frame in range(source.frame_count):
                yield FrameResult(source.location, frame, Status.skipped, left)

    @staticmethod
    def _left_alone(path: Path, existing: Existing) -> str | None:
        if existing is Existing.overwrite:
            return None
        if existing is Existing.skip:
            return f'{path.name} was there already'
        if existing is Existing.resume:
            raise BatchError(
                f'{path.name} in {path.parent} was not made by a batch, so it cannot '
                'be taken over; choose another folder, or --existing skip or overwrite.'
            )
        raise BatchError(
            f'{path.name} is in {path.parent} already; add --resume to go on with it, '
            'or --existing skip or overwrite.'
        )

    def _check_same(self, name: str, fingerprint: str) -> None:
        if fingerprint != self.fingerprint:
            raise BatchError(
                f'{name} was made with another model, other prompts or other settings, '
                'so it cannot be taken over; choose another folder, or --existing '
                'overwrite.'
            )

    def assemble(self, source: Source, results: Sequence[FrameResult]) -> None:
        """Make one TIFF of the frames of a stack, unless some were not reached.

        Frames without labels are empty in it; the manifest says why. The single frames
        go, unless some failed and may be tried again.

        Parameters
        ----------
        source : Source
        results : sequence of FrameResult
            One for each frame.

        Raises
        ------
        ImageError
            If it cannot be written, or a frame is missing.
        """
        folder = self.frames_folder(source)
        if not folder.is_dir() or any(r.reason == NOT_REACHED for r in results):
            return
        shape = self._frame_shape(source, results)
        highest = max((item.label for r in results for item in r.objects), default=0)
        dtype = label_dtype(highest)

        def frames() -> Iterator[NDArray[Any]]:
            for result in results:
                if result.status is Status.done:
                    yield read_labels(self.labels_path(source, result.frame))
                else:
                    yield np.zeros(shape, dtype)

        write_stack(self.stack_path(source), frames(), (len(results), *shape), dtype)
        record = StackRecord(
            fingerprint=self.fingerprint,
            frames=tuple(
                StackFrame(status=r.status, reason=r.reason, objects=r.objects)
                for r in results
            ),
        )
        with atomic_path(self.stack_record_path(source)) as part:
            part.write_text(record.to_json(), encoding='ascii')
        if not any(result.status is Status.failed for result in results):
            # Renamed first: a folder that is half deleted would look like one half done.
            going = part_path(folder)
            os.replace(folder, going)
            shutil.rmtree(going, ignore_errors=True)

    def _frame_shape(
        self, source: Source, results: Sequence[FrameResult]
    ) -> tuple[int, int]:
        for result in results:
            if result.status is Status.done:
                path = self.labels_path(source, result.frame)
                rows, columns = read_labels(path).shape
                return rows, columns
        with Reader() as reader:
            rows, columns = reader.open(source.location).frame_shape[:2]
        return rows, columns

    def write_manifest(
        self, sources: Iterable[Source], results: Iterable[FrameResult]
    ) -> None:
        """List what became of every frame; see `manifest.write_manifest`."""
        names = {source.location: self.result_path(source).name for source in sources}
        write_manifest(self.path / MANIFEST, results, names)

    def stems(
        self, own: Sequence[str], kept: Iterable[Path], endings: Sequence[str]
    ) -> list[str]:
        """Choose a stem for each input so that nothing that is not ours is replaced.

        Parameters
        ----------
        own : sequence of str
            What each input is called, in the user's order.
        kept : iterable of pathlib.Path
            Files that must stay as they are: inputs, prompts.
        endings : sequence of str
            What may follow a stem in the name of a result.

        Returns
        -------
        list of str
            The input's own stem, or with ``_2``, ``_3``, ... where that would replace
            one of `kept` or the result of an earlier input.
        """
        folded = cache(_folded_folder)
        here = folded(self.path)
        taken = {
            path.name.casefold()
            for path in kept
            if folded(path.parent) == here and not _made_by_a_batch(path)
        }
        numbers: dict[str, int] = {}
        stems = []
        for name in own:
            number = numbers.get(name.casefold(), 0)
            while True:
                number += 1
                stem = name if number == 1 else f'{name}_{number}'
                names = {f'{stem}{ending}'.casefold() for ending in endings}
                if not taken & names:
                    break
            numbers[name.casefold()] = number
            taken |= names
            stems.append(stem)
        return stems


def _folded_folder(folder: Path) -> str:
    # Some file systems do not tell A.png from a.png.
    return str(folder.resolve()).casefold()


def _made_by_a_batch(path: Path) -> bool:
    if path.suffix == '.tif':
        return read_stack_record(path.with_suffix('.json')) is not None
    return read_record(path) is not None


def write_frame(path: Path, labels: NDArray[Any], record: Record) -> None:
    """Write a label image that carries its record.

    Parameters
    ----------
    path : pathlib.Path
        The PNG file; its folder is made if needed.
    labels : numpy.ndarray
        (rows, columns) whole numbers up to 65535, 0 for background.
    record : Record

    Raises
    ------
    ImageError
        If it cannot be written.
    """
    highest = int(labels.max(initial=0))
    if highest > np.iinfo(np.uint16).max:
        raise ImageError(f'{path.name} cannot hold {highest} labels in one frame.')
    carried = PngImagePlugin.PngInfo()
    carried.add_text(_CHUNK, record.to_json())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ImageError(
            f'The folder {path.parent.name} cannot be made ({error.strerror}).'
        ) from error
    picture = Image.fromarray(np.ascontiguousarray(labels, label_dtype(highest)))
    with atomic_path(path) as part:
        picture.save(part, format='PNG', pnginfo=carried)


def read_record(path: Path) -> Record | None:
    """Read the record of a label image; None if there is none, or no such image."""
    try:
        with Image.open(path) as picture:
            text = getattr(picture, 'text', {}).get(_CHUNK, '')
    except (OSError, SyntaxError, ValueError):
        return None
    return Record.from_json(text)


def read_stack_record(path: Path) -> StackRecord | None:
    """Read the record beside a stack of labels; None if there is no such thing."""
    try:
        return StackRecord.from_json(path.read_bytes())
    except OSError:
        return None


def read_labels(path: Path) -> NDArray[Any]:
    """Read a label image as (rows, columns) whole numbers.

    Raises
    ------
    ImageError
        If it is not there or damaged.
    """
    try:
        with Image.open(path) as picture:
            return np.asarray(picture)
    except (OSError, SyntaxError, ValueError) as error:
        raise ImageError(
            f'{path.name} is missing or damaged; run the batch again with --resume.'
        ) from error
