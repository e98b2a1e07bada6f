"""The labels of a batch in forms that keep the place of an image in the body."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_kdsam.batch.inputs import Source
from napari_kdsam.batch.label_files import read_labels, read_stack_record
from napari_kdsam.batch.output_folder import COCO_NAME, OutputFolder
from napari_kdsam.batch.records import FrameResult, Status
from napari_kdsam.batch.runner import Summary
from napari_kdsam.core.choices import Existing, Export, ExportOptions
from napari_kdsam.core.errors import ImageError, KDSAMError, first_of
from napari_kdsam.io.coco import LabelledImage, write_coco
from napari_kdsam.io.image_file import reading
from napari_kdsam.io.results import is_replaceable


def export(
    output: OutputFolder,
    summary: Summary,
    kinds: Sequence[Export],
    options: ExportOptions = ExportOptions(),  # noqa: B008 - it is frozen
) -> list[str]:
    """Write the labels of finished files in further forms, beside the others.

    NIfTI is written for NIfTI images (``STEM_labels.nii.gz``, with their affine),
    DICOM-SEG for DICOM images (``STEM_labels.dcm``, linked to them), COCO for all in one
    file. Other images are left out of the first two.

    A stack with failed frames would look finished in any of these forms, so that it is
    left out, unless `ExportOptions.incomplete` asks for it: then its files are called
    ``STEM_labels_incomplete`` and the COCO file ``labels_incomplete.coco.json``.

    Parameters
    ----------
    output : OutputFolder
    summary : Summary
        Of the finished batch.
    kinds : sequence of Export
    options : ExportOptions

    Returns
    -------
    list of str
        A sentence for each file that could not be written.
    """
    problems = []
    finished = [s for s in summary.sources if _labels_path(output, s) is not None]
    failed = {
        source.location: frames
        for source in finished
        if (frames := _failed_frames(output, summary, source))
    }
    for kind in kinds:
        if kind is Export.coco:
            problems += _export_coco(output, summary, finished, failed, options)
            continue
        for source in finished:
            try:
                missing = failed.get(source.location, [])
                _export_one(output, source, kind, missing, options)
            except KDSAMError as error:
                problems.append(f'{source.name}: {error}')
    return problems


def _failed_frames(output: OutputFolder, summary: Summary, source: Source) -> list[int]:
    """Frames of a stack that have no labels because something went wrong."""
    if not source.is_stack:
        return []
    results = summary.of(source)
    # What was there already is skipped in this run, whatever had become of it.
    record = read_stack_record(output.stack_record_path(source))
    if record is not None:
        results += record.results(source)
    return sorted({r.frame for r in results if r.status is Status.failed})


def _said(frames: Sequence[int]) -> str:
    several = len(frames) > 1
    named = first_of([str(frame) for frame in frames])
    return f'frame{"s" * several} {named} failed'


def _target(
    target: Path, missing: Sequence[int], options: ExportOptions
) -> Path | None:
    """Where a form of a stack goes; None if it is to be left as it is.

    Raises
    ------
    ImageError
        If it is not written, because frames failed or a file is there.
    """
    if missing and not options.incomplete:
        there = (
            f' (the {target.name} in {target.parent} is of an earlier run)'
            if os.path.lexists(target)
            else ''
        )
        raise ImageError(
            f'{target.name} is not written, because {_said(missing)}{there}; mend that '
            'and add --resume, or add --export-incomplete.'
        )
    if missing:
        target = _incomplete(target)
    if not os.path.lexists(target):
        return target
    if options.existing is Existing.skip:
        return None
    if missing and not is_replaceable(target):
        raise ImageError(
            f'{target.name} is there already and no run wrote it; move it elsewhere.'
        )
    return target


def _incomplete(target: Path) -> Path:
    """What a file is called that lacks frames."""
    start, mark, ending = target.name.rpartition('labels')
    return target.with_name(f'{start}{mark}_incomplete{ending}')


def _export_coco(
    output: OutputFolder,
    summary: Summary,
    finished: Sequence[Source],
    failed: Mapping[str, Sequence[int]],
    options: ExportOptions,
) -> list[str]:
    problems, target = [], output.path / COCO_NAME
    chosen = finished
    if not options.incomplete:
        chosen = [source for source in finished if source.location not in failed]
        problems = [
            f'{source.name}: it is not in {COCO_NAME}, because '
            f'{_said(failed[source.location])}; mend that and add --resume, or add '
            '--export-incomplete.'
            for source in finished
            if source.location in failed
        ]
    missing = [n for frames in failed.values() for n in frames]
    try:
        path = _target(target, missing if options.incomplete else [], options)
        if path is not None:
            write_coco(path, _labelled(output, summary, chosen))
    except KDSAMError as error:
        problems.append(str(error))
    return problems


def _labels_path(output: OutputFolder, source: Source) -> Path | None:
    path = output.result_path(source)
    return path if path.is_file() else None


def _labels(output: OutputFolder, source: Source) -> NDArray[Any]:
    path = _labels_path(output, source)
    assert path is not None
    if not source.is_stack:
        return read_labels(path)
    with reading(path.name):
        return np.asarray(tifffile.imread(path))


def _export_one(
    output: OutputFolder,
    source: Source,
    kind: Export,
    missing: Sequence[int],
    options: ExportOptions,
) -> None:
    usual = output.export_path(source, kind)
    target = None if usual is None else _target(usual, missing, options)
    if target is None:
        return
    labels = _labels(output, source)
    if kind is Export.nifti:
        from napari_kdsam.io.nifti import write_nifti_labels

        write_nifti_labels(target, labels, like=source.location, mark=True)
    elif labels.any():
        from napari_kdsam.io.dicom_seg import write_dicom_seg

        write_dicom_seg(
            target,
            labels,
            source.location,
            with_patient=options.with_patient,
            missing=_said(missing) if missing else '',
        )


def _labelled(
    output: OutputFolder, summary: Summary, sources: Sequence[Source]
) -> Iterator[LabelledImage]:
    for source in sources:
        if not source.is_stack:
            names = _names(summary.results[source.location, 0])
            yield LabelledImage(source.name, _labels(output, source), names)
            continue
        path = output.stack_path(source)
        with reading(path.name), tifffile.TiffFile(path) as tiff:
            for frame, page in enumerate(tiff.pages):
                result = summary.results[source.location, frame]
                if result.status is Status.done:
                    yield LabelledImage(
                        source.name, page.asarray(), _names(result), frame
                    )


def _names(result: FrameResult) -> dict[int, str]:
    return {item.label: item.name for item in result.objects if item.name}
