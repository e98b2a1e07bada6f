"""From an image file and prompts to label, overlay and JSON files."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_kdsam import __version__
from napari_kdsam.core.choices import LabelFormat
from napari_kdsam.core.errors import ImageError, KDSAMError, PromptError
from napari_kdsam.core.files import MARK, write_json
from napari_kdsam.core.intensity import check_image, to_eight_bit
from napari_kdsam.core.label_image import label_dtype
from napari_kdsam.core.prompts import ObjectPrompt
from napari_kdsam.inference.predictor import Predictor
from napari_kdsam.io.formats import open_image
from napari_kdsam.io.image_file import ImageFile
from napari_kdsam.io.label_images import write_labels, write_picture, write_stack
from napari_kdsam.io.overlay import MAX_SIDE, contact_sheet, draw_overlay
from napari_kdsam.io.prompts import PROMPTS_FORMAT
from napari_kdsam.model.network import PromptableModel
from napari_kdsam.segmentation.methods import NumberedPrompt, Prompted

_SHEET_FRAMES, _SHEET_COLUMNS = 6, 3
_SHEET_TILE_SIDE = MAX_SIDE // _SHEET_COLUMNS - 8

# What label and overlay files say of themselves.
_MARK = 'segment'
# What may follow the stem of an input in the names of its results.
SINGLE_ENDINGS = ('_labels.png', '_labels.tif', '_overlay.png', '.json')


@dataclass(frozen=True)
class Outputs:
    """Where and how results are written.

    Attributes
    ----------
    folder : pathlib.Path
        An existing folder.
    stem : str
        Start of every file name.
    overlay : bool
        Whether to draw an overlay.
    label_format : LabelFormat
        ``auto`` writes PNG for one frame and TIFF for a stack.
    """

    folder: Path
    stem: str
    overlay: bool = False
    label_format: LabelFormat = LabelFormat.auto

    @property
    def overlay_path(self) -> Path:
        """The overlay's file."""
        return self.folder / f'{self.stem}_overlay.png'

    @property
    def record_path(self) -> Path:
        """The JSON file."""
        return self.folder / f'{self.stem}.json'

    def labels_path(self, suffix: str) -> Path:
        """The label image's file."""
        return self.folder / f'{self.stem}_labels{suffix}'

    def targets(self, image: Path) -> list[Path]:
        """The files that the results of an image are written to.

        Parameters
        ----------
        image : pathlib.Path
            Opened only if that decides between files of which one is there.
        """
        labels = [self.labels_path(suffix) for suffix in ('.png', '.tif')]
        if self.label_format is not LabelFormat.auto:
            labels = labels[self.label_format is LabelFormat.tiff :][:1]
        elif any(map(os.path.lexists, labels)):
            with suppress(KDSAMError), open_image(image) as opened:
                labels = labels[opened.is_stack :][:1]
        overlay = [self.overlay_path] if self.overlay else []
        return [*labels, *overlay, self.record_path]


@dataclass(frozen=True)
class FileReport:
    """What was done with one image file.

    Attributes
    ----------
    record : dict
        What the JSON file says.
    written : list of pathlib.Path
        The files, labels first.
    """

    record: dict[str, Any]
    written: list[Path]

    @property
    def scores(self) -> list[float]:
        """Predicted IoU of every object in every frame it is in."""
        return [entry['score'] for entry in self._entries()]

    @property
    def pixels(self) -> int:
        """Number of labelled pixels."""
        return sum(entry['pixels'] for entry in self._entries())

    def _entries(self) -> Iterator[dict[str, Any]]:
        for item in self.record['objects']:
            yield from item['result']['frames']


@dataclass
class _ObjectTally:
    """What was found for one object."""

    label: int
    prompt: ObjectPrompt
    frames: list[dict[str, Any]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        found = {'label': self.label, 'frames': self.frames}
        return {**self.prompt.to_dict(), 'result': found}


class FileSegmenter:
    """Segment image files with one loaded model.

    Parameters
    ----------
    model : PromptableModel
        From `load_model`.
    second_look : bool
        Whether small objects of large images are looked at again; see `look_again`.
    """

    def __init__(self, model: PromptableModel, *, second_look: bool = True) -> None:
        # Every frame is embedded once, so there is nothing to keep.
        self._predictor = Predictor(model, cache_bytes=0)
        self._second_look = second_look
        self._provenance = {**_provenance(model), 'second_look': second_look}

    def segment(
        self,
        image: ImageFile,
        objects: Sequence[ObjectPrompt],
        outputs: Outputs,
        frames: Sequence[int] = (),
        on_frame: Callable[[float, int], None] = lambda done, total: None,
    ) -> FileReport:
        """Segment an image file, one frame in memory at a time.

        Parameters
        ----------
        image : ImageFile
            Opened with `open_image`.
        objects : sequence of ObjectPrompt
            Object n gets label n, counted from 1; where objects overlap the earlier
            one keeps the pixels.
        outputs : Outputs
            Where results go.
        frames : sequence of int
            Frames to segment, counted from 0; all by default.
        on_frame : callable
            Called with the numbers of frames done and to do, the one at work in parts.

        Raises
        ------
        ImageError
            If a frame cannot be read or used, or a result cannot be written.
        PromptError
            If a prompt is outside the image, or for a frame that does not exist.
        """
        chosen = _frames_to_segment(image, objects, frames)
        suffix = _labels_suffix(image, chosen, outputs.label_format)
        run = _Run(
            self._predictor,
            self._second_look,
            image,
            objects,
            chosen,
            outputs.overlay,
            on_frame,
        )
        labels_path = outputs.labels_path(suffix)
        if not image.is_stack or suffix == '.png':
            write_labels(labels_path, run.labels_of(chosen[0]), _MARK)
        else:
            shape = (image.frame_count, *image.frame_shape[:2])
            dtype = label_dtype(len(objects))
            write_stack(labels_path, run.every_frame(), shape, dtype, _MARK)
        written = [labels_path]
        if outputs.overlay:
            write_picture(outputs.overlay_path, run.overlay(), _MARK)
            written.append(outputs.overlay_path)
        written.append(outputs.record_path)
        record = {
            'format': PROMPTS_FORMAT,
            'image': {
                'name': image.name,
                'shape': list(image.shape),
                'frame_count': image.frame_count,
                'spacing_mm': image.spacing,
            },
            'objects': [tally.to_dict() for tally in run.tallies],
            'result': {
                'files': [path.name for path in written],
                'frames': run.frame_records,
                **self._provenance,
            },
        }
        write_json(outputs.record_path, record)
        return FileReport(record, written)


class _Run:
    """The segmentation of one file: labels as they are made, and what was found."""

    def __init__(
        self,
        predictor: Predictor,
        second_look: bool,
        image: ImageFile,
        objects: Sequence[ObjectPrompt],
        chosen: Sequence[int],
        overlay: bool,
        on_frame: Callable[[float, int], None],
    ) -> None:
        self._predictor = predictor
        self._image, self._chosen, self._on_frame = image, chosen, on_frame
        self.tallies = [_ObjectTally(n, item) for n, item in enumerate(objects, 1)]
        self._method = Prompted(self._prompts_of, second_look, self._on_object)
        self.frame_records: list[dict[str, Any]] = []
        shown = np.linspace(0, len(chosen) - 1, min(len(chosen), _SHEET_FRAMES))
        self._shown = {chosen[round(n)] for n in shown} if overlay else set()
        self._tiles: list[NDArray[np.uint8]] = []

    def every_frame(self) -> Iterator[NDArray[Any] | None]:
        """Labels of every frame of the file; None for frames not chosen."""
        chosen = set(self._chosen)
        for index in range(self._image.frame_count):
            yield self.labels_of(index) if index in chosen else None

    def labels_of(self, index: int) -> NDArray[Any]:
        """Segment one frame; (H, W) labels."""
        array = check_image(self._image.frame(index))
        found = self._method.label(self._predictor, index, array)
        for item in found.objects:
            self.tallies[item.label - 1].frames.append(
                {'frame': index, 'score': item.score, 'pixels': item.pixels}
            )
        mapping = found.intensity
        assert mapping is not None
        self.frame_records.append(
            {'frame': index, 'intensity': [mapping.low, mapping.high]}
        )
        if index in self._shown:
            self._draw(index, to_eight_bit(array, mapping), found.labels)
        self._on_frame(len(self.frame_records), len(self._chosen))
        return found.labels

    def _on_object(self, done: int, total: int) -> None:
        self._on_frame(len(self.frame_records) + done / total, len(self._chosen))

    def _prompts_of(self, index: int) -> list[NumberedPrompt]:
        return [
            (tally.label, tally.prompt.prompt)
            for tally in self.tallies
            if tally.prompt.in_frame(index)
        ]

    def _draw(
        self, index: int, image8: NDArray[np.uint8], labels: NDArray[Any]
    ) -> None:
        prompts = [prompt for _, prompt in self._prompts_of(index)]
        several = len(self._shown) > 1
        self._tiles.append(
            draw_overlay(
                image8,
                labels,
                prompts,
                caption=f'frame {index}' if self._image.is_stack else '',
                max_side=_SHEET_TILE_SIDE if several else MAX_SIDE,
            )
        )

    def overlay(self) -> NDArray[np.uint8]:
        """The overlay of one frame, or a sheet of up to six."""
        return contact_sheet(self._tiles, _SHEET_COLUMNS)


def _frames_to_segment(
    image: ImageFile, objects: Sequence[ObjectPrompt], frames: Sequence[int]
) -> list[int]:
    count = image.frame_count
    for index in frames:
        if not 0 <= index < count:
            raise ImageError(
                f'{image.name} has no frame {index}; its frames are 0 to {count - 1}.'
            )
    for number, item in enumerate(objects, start=1):
        if item.frame is not None and item.frame >= count:
            raise PromptError(
                f'{image.name}: object {number} is for frame {item.frame}, but the '
                f'frames are 0 to {count - 1}.'
            )
    chosen = [
        index
        for index in sorted(set(frames) or range(count))
        if any(item.in_frame(index) for item in objects)
    ]
    if not chosen:
        raise PromptError(f'{image.name}: no object is prompted in the chosen frames.')
    return chosen


def _labels_suffix(
    image: ImageFile, chosen: Sequence[int], label_format: LabelFormat
) -> str:
    if label_format is LabelFormat.tiff:
        return '.tif'
    if label_format is LabelFormat.png and len(chosen) > 1:
        raise ImageError(
            f'{image.name} has {len(chosen)} frames to segment and a PNG file holds one; '
            'choose --format tiff or one --frame.'
        )
    if label_format is LabelFormat.auto and image.is_stack:
        return '.tif'
    return '.png'


def _provenance(model: PromptableModel) -> dict[str, Any]:
    """What made a result; says nothing about the computer's user or folders."""
    identity = model.identity
    digest = ''
    if identity.path:
        with Path(identity.path).open('rb') as file:
            digest = hashlib.file_digest(file, 'sha256').hexdigest()
    return {
        'model': {
            'name': identity.name,
            'architecture': identity.architecture,
            'input_size': model.input_size,
            'sha256': digest,
        },
        'versions': {
            MARK: __version__,
            'torch': version('torch'),
            'python': platform.python_version(),
        },
        'device': str(model.device),
        'dtype': str(model.compute_dtype).removeprefix('torch.'),
    }
