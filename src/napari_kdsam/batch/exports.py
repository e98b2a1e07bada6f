"""The labels of a batch in forms that keep the place of an image in the body."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_kdsam.batch.inputs import Source
from napari_kdsam.batch.label_files import read_labels
from napari_kdsam.batch.output_folder import COCO_NAME, OutputFolder
from napari_kdsam.batch.records import FrameResult, Status
from napari_kdsam.batch.runner import Summary
from napari_kdsam.core.choices import Existing, Export
from napari_kdsam.core.errors import KDSAMError
from napari_kdsam.io.coco import LabelledImage, write_coco
from napari_kdsam.io.image_file import reading


def export(
    output: OutputFolder,
    summary: Summary,
    kinds: Sequence[Export],
    existing: Existing = Existing.overwrite,
) -> list[str]:
    """Write the labels of finished files in further forms, beside the others.

    NIfTI is written for NIfTI images (``STEM_labels.nii.gz``, with their affine),
    DICOM-SEG for DICOM images (``STEM_labels.dcm``, linked to them), COCO for all in one
    file. Other images are left out of the first two.

    Parameters
    ----------
    output : OutputFolder
    summary : Summary
        Of the finished batch.
    kinds : sequence of Export
    existing : Existing
        ``skip`` leaves files alone that are there already; others were refused or may
        be replaced.

    Returns
    -------
    list of str
        A sentence for each file that could not be written.
    """
    problems = []
    finished = [s for s in summary.sources if _labels_path(output, s) is not None]
    for kind in kinds:
        try:
            if kind is Export.coco:
                target = output.path / COCO_NAME
                if existing is not Existing.skip or not os.path.lexists(target):
                    write_coco(target, _labelled(output, summary, finished))
                continue
        except KDSAMError as error:
            problems.append(str(error))
            continue
        for source in finished:
            try:
                _export_one(output, source, kind, existing)
            except KDSAMError as error:
                problems.append(f'{source.name}: {error}')
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
    output: OutputFolder, source: Source, kind: Export, existing: Existing
) -> None:
    target = output.export_path(source, kind)
    if target is None or (existing is Existing.skip and os.path.lexists(target)):
        return
    if kind is Export.nifti:
        from napari_kdsam.io.nifti import write_nifti_labels

        labels = _labels(output, source)
        write_nifti_labels(target, labels, like=source.location, mark=True)
        return
    labels = _labels(output, source)
    if labels.any():
        from napari_kdsam.io.dicom_seg import write_dicom_seg

        write_dicom_seg(target, labels, source.location)


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
