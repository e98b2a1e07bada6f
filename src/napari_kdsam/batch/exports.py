"""The labels of a batch in forms that keep the place of an image in the body."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_kdsam.batch.inputs import Source, is_url, name_of
from napari_kdsam.batch.label_files import (
    read_labels,
    read_record,
    read_stack_record,
)
from napari_kdsam.batch.manifest import MANIFEST, labels_of_images
from napari_kdsam.batch.output_folder import COCO_NAME, OutputFolder
from napari_kdsam.batch.records import OF_ANOTHER_IMAGE, StackRecord, Status
from napari_kdsam.batch.runner import Summary
from napari_kdsam.core.choices import Existing, Export, ExportOptions
from napari_kdsam.core.errors import ImageError, KDSAMError, first_of
from napari_kdsam.core.names import printable
from napari_kdsam.io.coco import LabelledImage, write_coco
from napari_kdsam.io.formats import PNG
from napari_kdsam.io.image_file import reading
from napari_kdsam.io.results import is_replaceable
from napari_kdsam.segmentation.frame_labels import LabelledObject


def export(
    output: OutputFolder,
    summary: Summary,
    kinds: Sequence[Export],
    options: ExportOptions = ExportOptions(),  # noqa: B008 - it is frozen
) -> list[str]:
    """Write the labels of finished files in further forms, beside the others.

    NIfTI is written for NIfTI images (``STEM_labels.nii.gz``, with their affine),
    DICOM-SEG for DICOM images (``STEM_labels.dcm``, linked to them), COCO for all in one
    file, with those of earlier runs that the manifest lists. Other images are left out
    of the first two. In COCO an image is called by its path from the folder that all
    images lie in.

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
    problems, finished = [], []
    failed = _failed_in(summary)
    for source in summary.sources:
        # A name may be longer than the system takes, which `Path.is_file` cannot bear.
        is_there = os.path.isfile(output.result_path(source))
        if not is_there or (not source.is_stack and source.location in failed):
            continue
        if reason := _of_another_image(summary, source):
            problems.append(f'{source.name}: its labels are not exported: {reason}.')
        else:
            finished.append(source)
    for kind in kinds:
        if kind is Export.coco:
            problems += _export_coco(output, summary, finished, options)
            continue
        for source in finished:
            record = read_stack_record(output.stack_record_path(source))
            try:
                missing = _failed_frames(record, failed.get(source.location, ()))
                _export_one(output, source, kind, missing, options)
            except KDSAMError as error:
                problems.append(f'{source.name}: {error}')
    return problems


def _of_another_image(summary: Summary, source: Source) -> str:
    """Why labels that were there already are not those of the image; empty if they are."""
    reasons = (r.reason for r in summary.of(source) if r.status is Status.skipped)
    return next((r for r in reasons if OF_ANOTHER_IMAGE in r), '')


def _failed_in(summary: Summary) -> dict[str, set[int]]:
    """Frames that failed in this run, by location."""
    failed: dict[str, set[int]] = {}
    for (location, frame), result in summary.results.items():
        if result.status is Status.failed:
            failed.setdefault(location, set()).add(frame)
    return failed


def _failed_frames(record: StackRecord | None, failed: Iterable[int]) -> list[int]:
    """Frames of a stack that have no labels because something went wrong."""
    # What was there already is skipped in this run, whatever had become of it.
    before = () if record is None else enumerate(record.frames)
    return sorted(
        {*failed, *(n for n, frame in before if frame.status is Status.failed)}
    )


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
    if not is_replaceable(target):
        raise ImageError(
            f'{target.name} is there already and no run wrote it; move it elsewhere.'
        )
    return target


def _incomplete(target: Path) -> Path:
    """What a file is called that lacks frames."""
    start, mark, ending = target.name.rpartition('labels')
    return target.with_name(f'{start}{mark}_incomplete{ending}')


@dataclass(frozen=True)
class _Done:
    """An image whose labels are finished, in this run or an earlier one."""

    location: str
    labels: Path

    @property
    def stack_record(self) -> StackRecord | None:
        """What became of the frames of a stack."""
        return read_stack_record(self.labels.with_suffix('.json'))


def _export_coco(
    output: OutputFolder,
    summary: Summary,
    finished: Sequence[Source],
    options: ExportOptions,
) -> list[str]:
    done = [_Done(source.location, output.result_path(source)) for source in finished]
    done += _of_earlier_runs(output, summary)
    now = _failed_in(summary)
    failed = {
        item.location: frames
        for item in done
        if (frames := _failed_frames(item.stack_record, now.get(item.location, ())))
    }
    problems, target = [], output.path / COCO_NAME
    chosen = done
    if not options.incomplete:
        chosen = [item for item in done if item.location not in failed]
        problems = [
            f'{name_of(location)}: it is not in {COCO_NAME}, because {_said(frames)}; '
            'mend that and add --resume, or add --export-incomplete.'
            for location, frames in failed.items()
        ]
    missing = [n for frames in failed.values() for n in frames]
    # It lists what is done, and so grows with each run, as the manifest does.
    growing = replace(options, existing=Existing.overwrite)
    try:
        path = _target(target, missing if options.incomplete else [], growing)
        if path is not None:
            everything = [*(source.location for source in summary.sources)]
            everything += [item.location for item in done]
            write_coco(path, _labelled(chosen, _names_in_coco(everything)))
    except KDSAMError as error:
        problems.append(str(error))
    return problems


def _of_earlier_runs(output: OutputFolder, summary: Summary) -> Iterator[_Done]:
    """Images that the manifest lists and this run was not given."""
    own = {os.path.realpath(source.location) for source in summary.sources}
    for location, name in labels_of_images(output.path / MANIFEST).items():
        labels = output.path / Path(name).name
        if os.path.realpath(location) not in own and labels.is_file():
            yield _Done(location, labels)


def _names_in_coco(locations: Iterable[str]) -> dict[str, str]:
    """Each image's path from the folder that all lie in, by its location."""
    parts = {
        location: tuple(location.split('/'))
        if is_url(location)
        else Path(os.path.abspath(location)).parts
        for location in locations
    }
    urls = [location for location in parts if is_url(location)]
    paths = [location for location in parts if not is_url(location)]
    # Beside files, an address is told apart by the whole of it.
    names = {location: location for location in urls}
    for group in (paths,) if paths else (urls,):
        folders = [parts[location][:-1] for location in group]
        common = len(os.path.commonprefix(folders)) if folders else 0
        names.update((item, '/'.join(parts[item][common:])) for item in group)
    return {location: printable(name) for location, name in names.items()}


def _labels(output: OutputFolder, source: Source) -> NDArray[Any]:
    path = output.result_path(source)
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
        from napari_kdsam.io.dicom_seg_writer import write_dicom_seg

        write_dicom_seg(
            target,
            labels,
            source.location,
            with_patient=options.with_patient,
            missing=_said(missing) if missing else '',
        )


def _labelled(
    done: Sequence[_Done], names: Mapping[str, str]
) -> Iterator[LabelledImage]:
    for item in done:
        name = names[item.location]
        if PNG.names(item.labels.name):
            record = read_record(item.labels)
            objects = record.objects if record is not None else ()
            yield LabelledImage(name, read_labels(item.labels), _classes(objects))
            continue
        stack = item.stack_record
        with reading(item.labels.name), tifffile.TiffFile(item.labels) as tiff:
            for number, page in enumerate(tiff.pages):
                # Labels that somebody else has made have no record.
                frames = () if stack is None else stack.frames
                frame = frames[number] if number < len(frames) else None
                if frame is None or frame.status is Status.done:
                    classes = _classes(() if frame is None else frame.objects)
                    yield LabelledImage(name, page.asarray(), classes, number)


def _classes(objects: Iterable[LabelledObject]) -> dict[int, str]:
    return {item.label: item.name for item in objects if item.name}
