"""Exports of a batch: what failed frames and the patient's name do to them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from napari_kdsam.batch.exports import export
from napari_kdsam.batch.inputs import Source, image_key
from napari_kdsam.batch.label_files import write_frame
from napari_kdsam.batch.output_folder import COCO_NAME, OutputFolder
from napari_kdsam.batch.records import (
    OF_ANOTHER_IMAGE,
    THERE_ALREADY,
    FrameResult,
    Record,
    StackFrame,
    StackRecord,
    Status,
)
from napari_kdsam.batch.runner import Summary
from napari_kdsam.core.choices import Existing, Export, ExportOptions
from napari_kdsam.io.coco import read_coco_masks
from napari_kdsam.io.label_images import write_stack
from napari_kdsam.segmentation.frame_labels import LabelledObject

pydicom = pytest.importorskip('pydicom')
nibabel = pytest.importorskip('nibabel')
pytest.importorskip('highdicom')
pytest.importorskip('pycocotools')

from dicom_files import dataset_of  # noqa: E402

EVERY_FORM = list(Export)
STACK = np.zeros((3, 20, 30), np.uint8)


def stack_of(folder: Path, name: str) -> Source:
    """An image of three frames, as DICOM or NIfTI."""
    if name.endswith('.dcm'):
        dataset = dataset_of(STACK, frames=3, StudyInstanceUID='1.2.3')
        dataset.SeriesInstanceUID, dataset.Modality = '1.2.3.1', 'US'
        dataset.AccessionNumber, dataset.StudyDate = 'A-77', '20200102'
        dataset.PatientBirthDate, dataset.PatientSex = '19510203', 'F'
        dataset.save_as(folder / name, enforce_file_format=True)
    else:
        nibabel.save(nibabel.Nifti1Image(STACK.T, np.eye(4)), folder / name)
    return Source(str(folder / name), name.split('.')[0], 3)


def finished(
    output: OutputFolder,
    source: Source,
    failed: Sequence[int] = (),
    skipped: bool = False,
) -> Summary:
    """A batch that is over: an object in each frame that did not fail."""
    labels = np.zeros_like(STACK)
    labels[:, 5:9, 5:9] = 1
    labels[list(failed)] = 0
    write_stack(output.stack_path(source), iter(labels), labels.shape, labels.dtype)
    frames = tuple(
        StackFrame(
            status=Status.failed if n in failed else Status.done, reason='', objects=()
        )
        for n in range(3)
    )
    record = StackRecord(fingerprint='x', frames=frames)
    output.stack_record_path(source).write_text(record.to_json())
    summary = Summary([source])
    for number, frame in enumerate(frames):
        status = Status.skipped if skipped else frame.status
        summary.take(FrameResult(source.location, number, status))
    return summary


@pytest.fixture
def output(tmp_path: Path) -> OutputFolder:
    (tmp_path / 'results').mkdir()
    return OutputFolder(tmp_path / 'results')


def names_in(output: OutputFolder) -> set[str]:
    return {path.name for path in output.path.iterdir()}


@pytest.mark.parametrize('name', ['cine.dcm', 'cine.nii.gz'])
def test_a_stack_without_failed_frames_is_exported(
    tmp_path: Path, output: OutputFolder, name: str
) -> None:
    source = stack_of(tmp_path, name)
    assert export(output, finished(output, source), EVERY_FORM) == []
    assert {f'cine_labels{name[4:]}', COCO_NAME} <= names_in(output)


@pytest.mark.parametrize('name', ['cine.dcm', 'cine.nii.gz'])
@pytest.mark.parametrize('skipped', [False, True])
def test_a_stack_with_failed_frames_is_refused_in_every_form(
    tmp_path: Path, output: OutputFolder, name: str, skipped: bool
) -> None:
    source = stack_of(tmp_path, name)
    summary = finished(output, source, failed=[1, 2], skipped=skipped)
    problems = export(output, summary, EVERY_FORM)
    assert len(problems) == 2
    for problem in problems:
        assert 'frames 1, 2 failed' in problem
        assert '--resume' in problem
    assert f'cine_labels{name[4:]}' not in names_in(output)
    assert json.loads((output.path / COCO_NAME).read_text())['images'] == []


@pytest.mark.parametrize('name', ['cine.dcm', 'cine.nii.gz'])
def test_on_demand_a_stack_with_failed_frames_is_exported_as_incomplete(
    tmp_path: Path, output: OutputFolder, name: str
) -> None:
    source = stack_of(tmp_path, name)
    summary = finished(output, source, failed=[1])
    options = ExportOptions(incomplete=True)
    assert export(output, summary, EVERY_FORM, options) == []
    written = names_in(output)
    assert f'cine_labels_incomplete{name[4:]}' in written
    assert 'labels_incomplete.coco.json' in written
    assert not {f'cine_labels{name[4:]}', COCO_NAME} & written
    if name.endswith('.dcm'):
        made = pydicom.dcmread(output.path / 'cine_labels_incomplete.dcm')
        assert made.ContentLabel == 'INCOMPLETE'
        assert 'INCOMPLETE' in made.SeriesDescription
        assert made.ContentDescription == 'frame 1 failed'
    # Those of an earlier run are replaced, those of others are not.
    assert export(output, summary, EVERY_FORM, options) == []
    (output.path / f'cine_labels_incomplete{name[4:]}').write_bytes(b'mine')
    (problem,) = export(output, summary, EVERY_FORM[:2], options)
    assert 'no run wrote it' in problem


def test_what_is_there_of_an_earlier_run_is_named(
    tmp_path: Path, output: OutputFolder
) -> None:
    source = stack_of(tmp_path, 'cine.dcm')
    export(output, finished(output, source), [Export.dicom_seg])
    (problem,) = export(output, finished(output, source, [0]), [Export.dicom_seg])
    assert 'of an earlier run' in problem


def test_existing_exports_are_left_alone_if_they_are_to_be_skipped(
    tmp_path: Path, output: OutputFolder
) -> None:
    source = stack_of(tmp_path, 'cine.dcm')
    (output.path / 'cine_labels.dcm').write_bytes(b'mine')
    options = ExportOptions(existing=Existing.skip)
    assert export(output, finished(output, source), [Export.dicom_seg], options) == []
    assert (output.path / 'cine_labels.dcm').read_bytes() == b'mine'


def test_on_demand_a_segmentation_does_not_say_who_the_patient_is(
    tmp_path: Path, output: OutputFolder
) -> None:
    source = stack_of(tmp_path, 'cine.dcm')
    summary = finished(output, source)
    path = output.path / 'cine_labels.dcm'
    export(output, summary, [Export.dicom_seg])
    assert 'Doe' in str(pydicom.dcmread(path).PatientName)
    export(output, summary, [Export.dicom_seg], ExportOptions(with_patient=False))
    made = pydicom.dcmread(path)
    for name in ('PatientName', 'PatientID', 'PatientBirthDate', 'AccessionNumber'):
        assert not made.get(name)
    content = path.read_bytes()
    for secret in (b'Doe', b'secret-7', b'A-77', b'20200102', b'19510203'):
        assert secret not in content
    assert made.StudyInstanceUID == '1.2.3'
    assert made.PatientIdentityRemoved == 'YES'


def image_of(output: OutputFolder, path: Path, stem: str, value: int = 1) -> Source:
    """An image whose labels are finished."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b'pixels of ' + str(path).encode())
    source = Source(str(path), stem)
    labels = np.full((4, 5), value, np.uint8)
    objects = (LabelledObject(value, 0.9, 20, f'class {value}'),)
    record = Record(fingerprint='x', image=image_key(str(path)), objects=objects)
    write_frame(output.labels_path(source, 0), labels, record)
    return source


def summary_of(*sources: Source, status: Status = Status.done) -> Summary:
    summary = Summary(list(sources))
    for source in sources:
        reason = '' if status is Status.done else f'it {THERE_ALREADY}'
        summary.take(FrameResult(source.location, 0, status, reason))
    return summary


def coco_of(output: OutputFolder) -> dict[str, str]:
    """Class of the object of each image, by the name that the file has for it."""
    return {
        image.name: image.classes[int(image.labels.max())]
        for image in read_coco_masks(output.path / COCO_NAME)
    }


def test_images_of_one_name_are_told_apart_by_their_folders(
    tmp_path: Path, output: OutputFolder
) -> None:
    places = [tmp_path / 'scans' / name for name in ('p1/a.png', 'p2/a.png', 'b.png')]
    sources = [
        image_of(output, path, f'{path.stem}_{number}', number)
        for number, path in enumerate(places, start=1)
    ]
    assert export(output, summary_of(*sources), [Export.coco]) == []
    expected = {'p1/a.png': 'class 1', 'p2/a.png': 'class 2', 'b.png': 'class 3'}
    assert coco_of(output) == expected
    assert export(output, summary_of(sources[0]), [Export.coco]) == []
    assert coco_of(output) == {'a.png': 'class 1'}


def test_addresses_beside_files_are_named_in_full(output: OutputFolder) -> None:
    from napari_kdsam.batch.exports import _names_in_coco

    urls = ['s3://bucket/p1/a.png', 's3://bucket/p2/a.png']
    assert list(_names_in_coco(urls).values()) == ['p1/a.png', 'p2/a.png']
    mixed = _names_in_coco([*urls, '/data/a.png'])
    assert list(mixed.values()) == [*urls, 'a.png']


@pytest.mark.parametrize('existing', [Existing.skip, Existing.resume])
def test_coco_holds_what_is_done_in_this_run_and_in_earlier_ones(
    tmp_path: Path, output: OutputFolder, existing: Existing
) -> None:
    options = ExportOptions(existing=existing)
    names = ('p1/a.png', 'p1/b.png', 'p2/a.png')
    sources = [
        image_of(output, tmp_path / name, f'{number}', number)
        for number, name in enumerate(names, start=1)
    ]
    first, second = summary_of(*sources[:2]), summary_of(*sources[1:])
    for summary in (first, second):
        if summary is second:
            source = summary.sources[0]
            reason = f'2_labels.png {THERE_ALREADY}'
            summary.take(FrameResult(source.location, 0, Status.skipped, reason))
        output.write_manifest(summary.sources, summary.ordered())
        assert export(output, summary, [Export.coco], options) == []
    assert coco_of(output) == {
        name: f'class {number}' for number, name in enumerate(names, start=1)
    }


def test_frames_of_a_stack_that_was_there_already_are_in_coco(
    tmp_path: Path, output: OutputFolder
) -> None:
    source = stack_of(tmp_path, 'cine.dcm')
    summary = finished(output, source, skipped=True)
    options = ExportOptions(existing=Existing.skip)
    assert export(output, summary, [Export.coco], options) == []
    images = json.loads((output.path / COCO_NAME).read_text())['images']
    assert [image['frame'] for image in images] == [0, 1, 2]


def test_labels_of_another_image_are_not_exported_and_that_is_said(
    tmp_path: Path, output: OutputFolder
) -> None:
    source = image_of(output, tmp_path / 'a.png', 'a')
    summary = summary_of(source)
    reason = f'a_labels.png {THERE_ALREADY}{OF_ANOTHER_IMAGE}'
    summary.take(FrameResult(source.location, 0, Status.skipped, reason))
    (problem,) = export(output, summary, [Export.coco])
    assert 'not exported' in problem and 'of another image' in problem
    assert coco_of(output) == {}


def test_a_coco_file_of_somebody_else_is_not_replaced(
    tmp_path: Path, output: OutputFolder
) -> None:
    source = image_of(output, tmp_path / 'a.png', 'a')
    (output.path / COCO_NAME).write_text('{"mine": 1}')
    (problem,) = export(output, summary_of(source), [Export.coco])
    assert 'no run wrote it' in problem
    assert (output.path / COCO_NAME).read_text() == '{"mine": 1}'
