"""The folder that results go to: what is where in it, and what may be replaced."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from numpy.typing import NDArray

from napari_kdsam.batch.inputs import Reader, Source, image_key, is_url
from napari_kdsam.batch.label_files import (
    FRAMES,
    is_own,
    read_labels,
    read_record,
    read_stack_record,
    write_frame,
)
from napari_kdsam.batch.manifest import (
    MANIFEST,
    labels_of_images,
    write_manifest,
)
from napari_kdsam.batch.records import (
    OF_ANOTHER_IMAGE,
    THERE_ALREADY,
    FrameResult,
    Record,
    StackFrame,
    StackRecord,
    Status,
)
from napari_kdsam.core.choices import Existing, Export
from napari_kdsam.core.errors import ImageError, KDSAMError, first_of
from napari_kdsam.core.files import (
    NameTooLongError,
    atomic_path,
    part_path,
    sweep_parts,
)
from napari_kdsam.core.label_image import label_dtype
from napari_kdsam.core.names import folded, longest_name, printable
from napari_kdsam.io.formats import DICOM, NIFTI, format_of
from napari_kdsam.io.label_images import write_stack
from napari_kdsam.io.results import is_result
from napari_kdsam.segmentation.frame_labels import FrameLabels, NothingToDo, Outcome

_LOCK = '.napari-kdsam.lock'
# What may follow the stem of an input in the names of its results.
BATCH_ENDINGS = (
    '_labels.png',
    '_labels.tif',
    '_labels.json',
    '_labels.nii.gz',
    '_labels.dcm',
    FRAMES,
)
_LABELS_ENDING = re.compile(r'_labels\.(png|tif)$')
COCO_NAME = 'labels.coco.json'
_EXPORT_ENDINGS = {
    Export.nifti: ('_labels.nii.gz', NIFTI),
    Export.dicom_seg: ('_labels.dcm', DICOM),
}
NOT_REACHED = 'not reached; run again with --resume'


def lock_folder(folder: Path) -> FileLock:
    """Keep everyone else out of a folder of results; a process that dies lets go.

    Raises
    ------
    filelock.Timeout
        If somebody has locked it.
    OSError
        If it cannot be locked.
    """
    # It may be another thread that unlocks it.
    lock = FileLock(folder / _LOCK, thread_local=False)
    lock.acquire(timeout=0)
    return lock


def unlock_folder(lock: FileLock) -> None:
    """Let others into a folder that `lock_folder` has locked."""
    # While it is still held, so that nobody else's is taken away.
    Path(lock.lock_file).unlink(missing_ok=True)
    lock.release()


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
    earlier : tuple of str
        The same as earlier versions made it.
    """

    path: Path
    fingerprint: str = ''
    earlier: tuple[str, ...] = ()

    def labels_path(self, source: Source, frame: int) -> Path:
        """The label image of a frame."""
        if not source.is_stack:
            return self.path / f'{source.stem}_labels.png'
        return self.frames_folder(source) / f'frame_{frame:06d}.png'

    def frames_folder(self, source: Source) -> Path:
        """Where the frames of a stack wait to be put together."""
        return self.path / f'{source.stem}{FRAMES}'

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

    def export_path(self, source: Source, kind: Export) -> Path | None:
        """The labels of a source in a further form; None where there is none for it."""
        if kind not in _EXPORT_ENDINGS or is_url(source.location) or source.problem:
            return None
        ending, form = _EXPORT_ENDINGS[kind]
        path = Path(source.location)
        if not path.exists() or format_of(path) is not form:
            return None
        return self.path / f'{source.stem}{ending}'

    def targets(self, source: Source, also: Iterable[Export] = ()) -> list[Path]:
        """Every file and folder that the results of a source may be written to."""
        if source.problem:
            return []
        own = [self.result_path(source)]
        if source.is_stack:
            own += [self.stack_record_path(source), self.frames_folder(source)]
        exports = (self.export_path(source, kind) for kind in also)
        return [*own, *(path for path in exports if path is not None)]

    def check_names(self, targets: Iterable[Path]) -> str:
        """Why results cannot have these names; empty if they can."""
        room = longest_name(self.path)
        if all(len(os.fsencode(path.name)) <= room for path in targets):
            return ''
        return (
            f'The names of its results would be longer than the {room} bytes that a '
            'name may have here; give the image a shorter name.'
        )

    def guard(
        self, targets: Iterable[Path], existing: Existing, goes_on: bool = False
    ) -> None:
        """Refuse to write where something is that may not be replaced.

        Parameters
        ----------
        targets : iterable of pathlib.Path
            What would be written.
        existing : Existing
            ``fail`` refuses whatever is there, the others what no run has written.
        goes_on : bool
            Whether the command has ``--resume``.

        Raises
        ------
        BatchError
            Naming the files.
        """
        there = [path for path in targets if os.path.lexists(path)]
        strange = [path for path in there if not is_own(path)]
        if strange:
            were, it = ('were', 'they are') if len(strange) > 1 else ('was', 'it is')
            raise BatchError(
                f'{first_of([path.name for path in strange])} in {self.path} {were} '
                'not made by a batch or another command of napari-kdsam, or changed '
                f'since, so {it} not replaced; move or rename what is there, or choose '
                'another folder.'
            )
        if there and existing is Existing.fail:
            are = 'are' if len(there) > 1 else 'is'
            resume = '--resume to go on with them, ' if goes_on else ''
            raise BatchError(
                f'{first_of([path.name for path in there])} {are} in {self.path} '
                f'already; choose another folder, or add {resume}--existing skip to '
                'leave results alone, or --existing overwrite to replace them.'
            )

    def wrote(self, path: Path) -> bool:
        """Whether a file below the folder is a result, and no image of anybody."""
        return path.resolve().is_relative_to(self.path.resolve()) and is_own(path)

    @contextmanager
    def owned(self) -> Iterator[None]:
        """Keep other runs out; a process that dies lets go.

        Raises
        ------
        BatchError
            If another run writes here now.
        """
        try:
            lock = lock_folder(self.path)
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
            unlock_folder(lock)

    def sweep(self) -> None:
        """Remove what a killed process was writing."""
        for folder in (self.path, *self.path.glob(f'*{FRAMES}')):
            sweep_parts(folder)

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
            fingerprint=self.fingerprint,
            image=image_key(source.location),
            objects=outcome.objects,
            reason=printable(outcome.note),
        )
        try:
            write_frame(self.labels_path(source, frame), outcome.labels, record)
        except NameTooLongError as error:
            return FrameResult(source.location, frame, Status.failed, str(error))
        except ImageError as error:
            raise OutputError(str(error)) from error
        return FrameResult(
            source.location, frame, Status.done, outcome.note, outcome.objects
        )

    def is_done(self, source: Source, frame: int) -> bool:
        """Whether a frame's labels, made in the same way, are there."""
        return self.result_of(source, frame) is not None

    def result_of(self, source: Source, frame: int) -> FrameResult | None:
        """What became of a frame, by its labels here if they were made in the same way."""
        record = read_record(self.labels_path(source, frame))
        if record is None or self._difference(source, record) != '':
            return None
        return FrameResult(
            source.location, frame, Status.done, record.reason, record.objects
        )

    def labels_of(self, source: Source, frame: int) -> FrameLabels | None:
        """Read a frame's labels, if they were made in the same way.

        Raises
        ------
        ImageError
            If they are damaged.
        """
        path = self.labels_path(source, frame)
        record = read_record(path)
        if record is None or self._difference(source, record):
            return None
        return FrameLabels(read_labels(path), record.objects, record.reason)

    def known(self, source: Source, existing: Existing) -> Iterator[FrameResult]:
        """Results that are there already, as far as `existing` lets them be.

        Raises
        ------
        BatchError
            If there are some that cannot be gone on with.
        """
        if existing is Existing.skip:
            there = [p for p in self.targets(source) if os.path.lexists(p)]
            reason = self._left_alone(source, there[0]) if there else ''
            for frame in range(source.frame_count if there else 0):
                yield FrameResult(source.location, frame, Status.skipped, reason)
        if existing is not Existing.resume:
            return
        if source.is_stack and not os.path.exists(self.frames_folder(source)):
            stack = read_stack_record(self.stack_record_path(source))
            if stack is not None:
                self._check_same(source, self.stack_path(source).name, stack)
                yield from stack.results(source)
                return
        for frame in range(source.frame_count):
            path = self.labels_path(source, frame)
            if not os.path.exists(path):
                continue
            record = read_record(path)
            if record is None:
                raise BatchError(
                    f'{path.name} in {path.parent} was not made by a batch, so it '
                    'cannot be taken over; choose another folder, or --existing skip '
                    'or overwrite.'
                )
            self._check_same(source, path.name, record)
            yield FrameResult(
                source.location, frame, Status.done, record.reason, record.objects
            )

    def _left_alone(self, source: Source, path: Path) -> str:
        record: Record | StackRecord | None = read_record(path)
        if source.is_stack:
            record = read_stack_record(self.stack_record_path(source))
        key = image_key(source.location)
        if record is None or not record.image or record.image == key:
            return f'{path.name} {THERE_ALREADY}'
        return f'{path.name} {THERE_ALREADY}{OF_ANOTHER_IMAGE}'

    def _difference(self, source: Source, record: Record | StackRecord) -> str:
        """What labels were made with that is not so now; empty if all is."""
        if record.fingerprint not in (self.fingerprint, *self.earlier):
            return 'with another model, other prompts or other settings'
        key = image_key(source.location)
        if record.image and key and record.image != key:
            return f'of another image than {source.location}, or before it was changed'
        return ''

    def _check_same(
        self, source: Source, name: str, record: Record | StackRecord
    ) -> None:
        if difference := self._difference(source, record):
            raise BatchError(
                f'{name} was made {difference}, so it cannot be taken over; choose '
                'another folder, or --existing overwrite.'
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
        if all(result.status is Status.skipped for result in results):
            return
        shape = self._frame_shape(source, results)
        highest = max((item.label for r in results for item in r.objects), default=0)
        dtype = label_dtype(highest)

        def frames() -> Iterator[NDArray[Any] | None]:
            for result in results:
                done = result.status is Status.done
                labels = self.labels_path(source, result.frame)
                yield read_labels(labels) if done else None

        path = self.stack_path(source)
        write_stack(path, frames(), (len(results), *shape), dtype, 'batch')
        record = StackRecord(
            fingerprint=self.fingerprint,
            image=image_key(source.location),
            frames=tuple(
                StackFrame(
                    status=r.status, reason=printable(r.reason), objects=r.objects
                )
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

    def stems_before(self, locations: Iterable[str]) -> list[str]:
        """The stem that each image had in an earlier run; empty for none."""
        listed = labels_of_images(self.path / MANIFEST)
        known = {os.path.realpath(item): name for item, name in listed.items()}
        names = (known.get(os.path.realpath(item), '') for item in locations)
        return [_LABELS_ENDING.sub('', name) for name in names]

    def stems(
        self,
        own: Sequence[str],
        kept: Iterable[Path],
        endings: Sequence[str],
        before: Sequence[str] = (),
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
        before : sequence of str
            The stem that each had in an earlier run, which it keeps; empty for none.

        Returns
        -------
        list of str
            The input's own stem, or with ``_2``, ``_3``, ... where that would replace
            one of `kept` or the result of an earlier input.
        """
        place = cache(_folded_folder)
        here = place(self.path)
        taken = {
            folded(one.name)
            for path in kept
            # A link elsewhere may lead to a file in this folder.
            for one in (path, path.resolve())
            if place(one.parent) == here and not is_result(one)
        }
        stems = [''] * len(own)
        for index, stem in enumerate(before):
            names = {folded(f'{stem}{ending}') for ending in endings}
            if stem and not taken & names:
                stems[index] = stem
                taken |= names
        numbers: dict[str, int] = {}
        for index, name in enumerate(own):
            number = numbers.get(folded(name), 0)
            while not stems[index]:
                number += 1
                stem = name if number == 1 else f'{name}_{number}'
                names = {folded(f'{stem}{ending}') for ending in endings}
                if not taken & names:
                    stems[index] = stem
                    taken |= names
            numbers[folded(name)] = number
        return stems


def _folded_folder(folder: Path) -> str:
    # Some file systems do not tell A.png from a.png.
    return folded(str(folder.resolve()))
