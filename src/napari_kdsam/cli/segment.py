"""``napari-kdsam segment``: prompts and image files to label images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_kdsam.cli.console import (
    SOME_FAILED,
    WRONG_USAGE,
    complain,
    exit_on,
    file_progress,
    make_folder,
    note,
    say,
)
from napari_kdsam.cli.options import (
    Boxes,
    Device,
    ExistingFiles,
    ModelName,
    Negatives,
    OutFolder,
    Points,
    PromptsFile,
    SecondLook,
    prompts_from_options,
)
from napari_kdsam.core.choices import Existing, ExistingFile, LabelFormat
from napari_kdsam.core.errors import ImageError, KDSAMError, counted

if TYPE_CHECKING:
    from napari_kdsam.batch.single_file import FileReport, FileSegmenter, Outputs
    from napari_kdsam.core.prompts import ObjectPrompt


def segment(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar='INPUT',
            help='Image files: PNG, JPEG, TIFF, NPY, DICOM, NIfTI, video or zarr.',
            show_default=False,
        ),
    ],
    out: OutFolder,
    points: Points = None,
    negatives: Negatives = None,
    boxes: Boxes = None,
    prompts_file: PromptsFile = None,
    overlay: Annotated[
        bool, typer.Option('--overlay', help='Also draw the masks on the image.')
    ] = False,
    model: ModelName = 'kdsam',
    device: Device = 'auto',
    label_format: Annotated[
        LabelFormat,
        typer.Option(
            '--format',
            help='File format of the labels; auto: TIFF for stacks, else PNG.',
        ),
    ] = LabelFormat.auto,
    frames: Annotated[
        list[int] | None,
        typer.Option(
            '--frame',
            min=0,
            metavar='N',
            help='A frame to segment, counted from 0 (repeatable); all by default.',
        ),
    ] = None,
    second_look: SecondLook = True,
    existing: ExistingFiles = ExistingFile.fail,
) -> None:
    """Segment objects in image files.

    Coordinates are rows and columns of image pixels counted from 0. All points and at
    most one box describe one object; several boxes without points are several objects;
    a file given with --prompts describes any number of them.

    Every input gives STEM_labels.png (or .tif), where object n has the value n and the
    earlier object keeps the pixels where objects overlap; STEM.json with prompts,
    scores and versions, which --prompts accepts; and with --overlay STEM_overlay.png,
    for stacks a sheet of up to six frames. In a stack every frame (or each given with
    --frame) is segmented with the same prompts; the label TIFF has as many frames as
    the stack.

    A prompts file is {"format": 1, "objects": [{"points": [[R,C], ...], "labels":
    [1, 0, ...], "box": [R0,C0,R1,C1], "frame": N}, ...]}, every part of an object
    optional, or {"format": 1, "images": {"name.png": {"objects": [...]}, ...}}; or a
    CSV table or COCO file, as `batch --help` says.

    Exit code: 0 all inputs done or skipped, 1 some input failed, 2 wrong usage, prompt,
    model or device, or a file in the way.
    """
    with ExitStack() as stack:
        with exit_on(KDSAMError, WRONG_USAGE):
            from napari_kdsam.batch.inputs import files_named_by
            from napari_kdsam.io.results import is_result

            named = (item for path in inputs for item in files_named_by(str(path)))
            paths = (Path(item.location) for item in named)
            inputs = list({path.resolve(): path for path in paths}.values())
            images = [path for path in inputs if not is_result(path)]
            summary = [
                f'{path.name}: left out, as it is a result of an earlier run'
                for path in inputs
                if path not in images
            ]
            if not images:
                raise ImageError(
                    f'{summary[0].replace(": left out,", " is left out")}; give the '
                    'image that it was made of.'
                )
            given = prompts_from_options(points, negatives, boxes, prompts_file)
            prompts = given.assigned([str(path) for path in images])
            for path in images:
                prompts.for_image(str(path))
            for text in prompts.notes:
                note(text)
            make_folder(out)
            # torch loads only once everything that needs no torch is right.
            from napari_kdsam.batch.output_folder import OutputFolder
            from napari_kdsam.batch.single_file import (
                SINGLE_ENDINGS,
                FileSegmenter,
                Outputs,
            )
            from napari_kdsam.io.formats import stem_of
            from napari_kdsam.model.loading import load_model

            folder = OutputFolder(out)
            stack.enter_context(folder.owned())
            kept = [*images, prompts_file] if prompts_file else images
            stems = folder.stems(
                [stem_of(path.name) for path in images], kept, SINGLE_ENDINGS
            )
            plan = [
                (path, Outputs(out, stem, overlay, label_format))
                for path, stem in zip(images, stems, strict=True)
            ]
            targets = {path: outputs.targets(path) for path, outputs in plan}
            if existing is not ExistingFile.skip:
                every = [target for path in images for target in targets[path]]
                folder.guard(every, Existing(existing))
            segmenter = FileSegmenter(
                load_model(model, device), second_look=second_look
            )
        failed = skipped = 0
        for path, outputs in plan:
            there = [item.name for item in targets[path] if os.path.lexists(item)]
            if there and existing is ExistingFile.skip:
                summary.append(f'{path.name}: skipped, {there[0]} was there already')
                skipped += 1
                continue
            objects = prompts.for_image(str(path))
            try:
                if problem := folder.check_names(targets[path]):
                    raise ImageError(problem)
                report = _segment_file(segmenter, path, objects, outputs, frames or ())
            except (KDSAMError, MemoryError) as error:
                reason = _reason(path.name, error)
                complain(reason)
                summary.append(f'{path.name}: failed ({reason.rstrip(".")})')
                failed += 1
            else:
                summary.append(_success(path.name, report))
    for line in summary:
        say(line)
    done = len(images) - failed - skipped
    say(f'{done} of {len(images)} images done; results are in {out}')
    if failed:
        raise typer.Exit(SOME_FAILED)


def _segment_file(
    segmenter: FileSegmenter,
    path: Path,
    objects: Sequence[ObjectPrompt],
    outputs: Outputs,
    frames: Sequence[int],
) -> FileReport:
    from napari_kdsam.io.formats import open_for_segmenting

    with file_progress(path.name) as on_frame, open_for_segmenting(path) as image:
        return segmenter.segment(image, objects, outputs, frames, on_frame)


def _reason(name: str, error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return f'{name} does not fit in memory; reduce it or cut it into parts.'
    message = str(error)
    return message if name in message else f'{name}: {message}'


def _success(name: str, report: FileReport) -> str:
    objects, frames = (
        len(report.record['objects']),
        len(report.record['result']['frames']),
    )
    found = counted(objects, 'object')
    if report.record['image']['frame_count'] > 1:
        found += f' in {counted(frames, "frame")}'
    files = ', '.join(path.name for path in report.written)
    return f'{name}: {found}, {report.pixels} pixels -> {files}'
