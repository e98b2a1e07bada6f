"""Save the labels of the image in view: beside it and under its name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import QFileDialog, QMessageBox

from napari_kdsam.core.errors import KDSAMError, excerpt
from napari_kdsam.core.stack_index import frame_at, frame_count
from napari_kdsam.io.formats import NIFTI, TIFF, stem_of
from napari_kdsam.io.results import MANUAL
from napari_kdsam.widgets.annotator.workspace import Workspace
from napari_kdsam.widgets.preferences import SaveAs
from napari_kdsam.widgets.shared.background import BackgroundWorker
from napari_kdsam.widgets.shared.file_of_layer import FRAME_NAMES, image_file
from napari_kdsam.widgets.shared.labels_file import write_labels_file

if TYPE_CHECKING:
    from napari.layers import Image

_SUFFIXES: dict[SaveAs, str] = {
    'png': '.png',
    'tiff': '.tif',
    'nifti': '.nii.gz',
    'png frames': '.png',
    'tiff frames': '.tif',
}
_FEWEST_DIGITS = 4
_FILES = 'Label images (*.png *.tif *.tiff *.nii *.nii.gz)'


@dataclass(frozen=True, eq=False)
class _Job:
    """What is to be written where, one path for each frame or one for all."""

    paths: tuple[Path, ...]
    data: Any
    attributes: dict[str, Any]
    per_frame: bool


class LabelSaver(QObject):
    """Write labels in a thread of its own; what it did not write, it replaces if told.

    Parameters
    ----------
    workspace : Workspace

    Attributes
    ----------
    save_as : str
        The format, as in `Preferences`.
    """

    # From the thread: the files that are there now, and a sentence.
    _ended = Signal(object, str, bool)

    def __init__(self, workspace: Workspace) -> None:
        super().__init__()
        self._workspace = workspace
        self.save_as: SaveAs = 'image'
        self._ours: dict[Path, tuple[int, int]] = {}
        self._elsewhere = False
        self._worker = BackgroundWorker('Saving')
        self._ended.connect(self._on_ended)

    def save(self) -> None:
        """Write the labels of the image in view, and say where."""
        workspace, layer = self._workspace, self._workspace.target_layer
        image = workspace.image
        if layer is None or image is None or layer not in workspace.viewer.layers:
            workspace.say('There are no labels to save yet: commit an object first.')
            return
        per_frame = self.save_as.endswith('frames') and layer.ndim > 2
        file = image_file(image)
        path = self._suggestion(image, file, layer.ndim)
        asked = file is None or self._elsewhere
        if asked:
            chosen = self._ask_for_name(path)
            if chosen is None:
                return
            path = chosen
        paths: tuple[Path, ...] = (path,)
        if per_frame:
            count = frame_count(layer.data.shape[:-2])
            paths = _frame_paths(path, count, image.metadata.get(FRAME_NAMES, ()))
        others = [one for one in paths if self._is_of_others(one)]
        # A name that was chosen in the dialog was asked for there already.
        if others and not (asked and not per_frame) and not self._may_replace(others):
            workspace.say('Not saved.')
            return
        self._elsewhere = False
        data = layer.data.copy() if isinstance(layer.data, np.ndarray) else layer.data
        job = _Job(paths, data, layer.as_layer_data_tuple()[1], per_frame)
        workspace.say('Saving…')
        self._worker.do(self._write, job)

    def close(self) -> None:
        """Finish what is being written, and say no more."""
        self._worker.close()

    def _suggestion(self, image: Image, file: Path | None, ndim: int) -> Path:
        # A layer may have any name, and a file may not.
        stem = stem_of(file.name) if file else Path(image.name.replace('/', '_')).name
        suffix = _SUFFIXES.get(self.save_as) or _suffix_like(file, ndim)
        return (file.parent if file else Path.home()) / f'{stem}_labels{suffix}'

    @staticmethod
    def _ask_for_name(path: Path) -> Path | None:
        chosen, _ = QFileDialog.getSaveFileName(None, 'Save labels', str(path), _FILES)
        if not chosen:
            return None
        return Path(chosen if Path(chosen).suffix else chosen + ''.join(path.suffixes))

    @staticmethod
    def _may_replace(others: Sequence[Path]) -> bool:
        more = f' and {len(others) - 1} more' if len(others) > 1 else ''
        answer = QMessageBox.question(
            None,
            'Save labels',
            f'{others[0].name}{more} in {others[0].parent} is there already, and was '
            'not saved from here just now. Replace it?',
        )
        return bool(answer == QMessageBox.StandardButton.Yes)

    def _is_of_others(self, path: Path) -> bool:
        now = _version(path)
        return now is not None and now != self._ours.get(path)

    def _write(self, job: _Job) -> None:
        written: list[Path] = []
        try:
            if job.per_frame:
                job.paths[0].parent.mkdir(parents=True, exist_ok=True)
            for place, path in enumerate(job.paths):
                labels = _frame(job.data, place) if job.per_frame else job.data
                write_labels_file(str(path), np.asarray(labels), job.attributes, MANUAL)
                written.append(path)
        except (KDSAMError, OSError, ValueError, MemoryError) as error:
            some = f'{len(written)} of {len(job.paths)} files saved. ' * bool(written)
            self._tell(written, f'{some}{excerpt(error)}', True)
        except Exception as error:  # noqa: BLE001 - lazy labels raise anything
            self._tell(written, f'Not saved: {excerpt(error)}', True)
        else:
            self._tell(written, _said(job), False)

    def _tell(self, written: list[Path], text: str, failed: bool) -> None:
        try:
            self._ended.emit(written, text, failed)
        except RuntimeError:
            # The window was closed, and Qt has deleted this object, in between.
            return

    def _on_ended(self, written: list[Path], text: str, failed: bool) -> None:
        for path in written:
            version = _version(path)
            if version is not None:
                self._ours[path] = version
        if failed:
            self._elsewhere = True
            self._workspace.fail(f'{text} Save again to choose another place.')
        else:
            self._workspace.say(text)


def _suffix_like(file: Path | None, ndim: int) -> str:
    if file is not None and NIFTI.names(file.name):
        return '.nii.gz' if file.name.lower().endswith('.gz') else '.nii'
    if ndim > 3:
        return '.nii.gz'
    is_tiff = file is not None and TIFF.names(file.name)
    return '.tif' if ndim > 2 or is_tiff else '.png'


def _frame_paths(path: Path, count: int, names: Sequence[str]) -> tuple[Path, ...]:
    """Files in a folder of their own, named as the frames' or numbered from 0."""
    stem = stem_of(path.name)
    suffix = path.name[len(stem) :]
    folder = path.with_name(stem)
    if len({stem_of(name).casefold() for name in names}) == count:
        return tuple(folder / f'{stem_of(name)}_labels{suffix}' for name in names)
    digits = max(_FEWEST_DIGITS, len(str(count - 1)))
    return tuple(folder / f'{stem}_{n:0{digits}d}{suffix}' for n in range(count))


def _frame(data: Any, place: int) -> Any:
    return data[frame_at(place, data.shape[:-2])]


def _version(path: Path) -> tuple[int, int] | None:
    """Equal as long as nobody writes to a file; None where there is none."""
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_mtime_ns, state.st_size


def _said(job: _Job) -> str:
    folder = job.paths[0].parent
    if job.per_frame:
        return f'Saved {len(job.paths)} files, one for each frame, in {folder}.'
    return f'Saved {job.paths[0].name} in {folder}.'
