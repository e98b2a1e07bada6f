"""Put the frames of a stack together once each has its end."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_kdsam.batch.inputs import Reader, Source
from napari_kdsam.batch.jobs import Job
from napari_kdsam.batch.records import (
    FoundObject,
    FrameResult,
    Status,
    read_labels,
)
from napari_kdsam.core.files import part_path, write_json
from napari_kdsam.io.label_images import label_dtype, write_stack


@dataclass(frozen=True)
class StackRecord:
    """What a finished stack says of its frames.

    Attributes
    ----------
    fingerprint : str
        See `Record`.
    frames : tuple of dict
        Status, reason and objects of each frame.
    """

    fingerprint: str
    frames: tuple[dict[str, Any], ...]

    def results(self, source: Source) -> Iterator[FrameResult]:
        """What became of each frame."""
        for number, frame in enumerate(self.frames[: source.frame_count]):
            objects = tuple(FoundObject(*values) for values in frame['objects'])
            yield FrameResult(
                source.location,
                number,
                Status(frame['status']),
                frame['reason'],
                objects,
            )


def read_stack_record(path: Path) -> StackRecord | None:
    """Read what `assemble` wrote beside a stack; None if there is no such thing."""
    try:
        value = json.loads(path.read_text(encoding='utf-8'))
        record = StackRecord(value['fingerprint'], tuple(value['frames']))
        for frame in record.frames:
            Status(frame['status'])
            _ = frame['reason'], [FoundObject(*values) for values in frame['objects']]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return record


def assemble(
    job: Job, source: Source, results: Sequence[FrameResult], not_reached: str
) -> None:
    """Make one TIFF of the frames of a stack, unless some were not reached.

    Frames without labels are empty in it; the manifest says why. The single frames go,
    unless some failed and may be tried again.

    Parameters
    ----------
    job : Job
    source : Source
    results : sequence of FrameResult
        One for each frame.
    not_reached : str
        The reason of frames that were not reached.

    Raises
    ------
    ImageError
        If it cannot be written, or a frame is missing.
    """
    folder = job.frames_folder(source)
    if not folder.is_dir() or any(r.reason == not_reached for r in results):
        return
    shape = _frame_shape(job, source, results)
    highest = max((item.label for r in results for item in r.objects), default=0)
    dtype = label_dtype(highest)

    def frames() -> Iterator[NDArray[Any]]:
        for result in results:
            if result.status is Status.done:
                yield read_labels(job.labels_path(source, result.frame))
            else:
                yield np.zeros(shape, dtype)

    write_stack(job.stack_path(source), frames(), (len(results), *shape), dtype)
    described = [
        {
            'status': result.status.value,
            'reason': result.reason,
            'objects': [item.to_list() for item in result.objects],
        }
        for result in results
    ]
    record = {'fingerprint': job.fingerprint, 'frames': described}
    write_json(job.stack_record_path(source), record)
    if not any(result.status is Status.failed for result in results):
        # Renamed first: a folder that is half deleted would look like one half done.
        going = part_path(folder)
        os.replace(folder, going)
        shutil.rmtree(going, ignore_errors=True)


def _frame_shape(
    job: Job, source: Source, results: Sequence[FrameResult]
) -> tuple[int, int]:
    for result in results:
        if result.status is Status.done:
            rows, columns = read_labels(job.labels_path(source, result.frame)).shape
            return rows, columns
    with Reader() as reader:
        rows, columns = reader.open(source.location).frame_shape[:2]
    return rows, columns
