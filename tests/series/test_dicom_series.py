"""A series whose labels are DICOM-SEG, of DICOM images and of pictures beside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_kdsam.series.entries import ImageStatus
from napari_kdsam.series.label_files import LabelsOfImage
from napari_kdsam.series.series import Series

pydicom = pytest.importorskip('pydicom')
pytest.importorskip('highdicom')

from dicom_files import dataset_of  # noqa: E402

SHAPE = (24, 32)
SECRETS = ('Doe^Jane', 'secret-7', '19700102', '20240506', 'secret hospital')


def write_image(path: Path, number: int) -> str:
    """A single-frame image that says whose it is; its SOP instance UID."""
    pixels = np.random.default_rng(number).integers(0, 255, SHAPE, np.uint8)
    uid = f'1.2.3.4.{number}'
    dataset = dataset_of(
        pixels,
        SOPInstanceUID=uid,
        StudyInstanceUID='1.2.3',
        SeriesInstanceUID='1.2.3.9',
        PatientBirthDate='19700102',
        StudyDate='20240506',
        InstitutionName='secret hospital',
        AccessionNumber='secret-7',
    )
    dataset.file_meta.MediaStorageSOPInstanceUID = uid
    dataset.save_as(path, enforce_file_format=True)
    return uid


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    scans = tmp_path / 'scans'
    scans.mkdir()
    write_image(scans / 'a.dcm', 1)
    write_image(scans / 'b.dcm', 2)
    Image.fromarray(np.zeros(SHAPE, np.uint8)).save(scans / 'c.png')
    return scans


def labels_of(*numbers: int) -> np.ndarray:
    labels = np.zeros(SHAPE, np.uint16)
    for place, number in enumerate(numbers):
        labels[4 + 6 * place : 8 + 6 * place, 5:15] = number
    return labels


def test_segmentations_are_linked_to_their_image_and_name_classes_but_nobody(
    folder, tmp_path
):
    output = tmp_path / 'labels'
    series = Series(folder, output, 'dicom-seg')
    for place in range(3):
        series.save(place, LabelsOfImage(labels_of(1), {1: 'polyp'}))
    names = [series.entry(place).labels for place in range(3)]
    assert names == ['a_labels.dcm', 'b_labels.dcm', 'c_labels.png']
    for number, name in enumerate(names[:2], start=1):
        content = (output / name).read_bytes()
        assert not [secret for secret in SECRETS if secret.encode() in content]
        seg = pydicom.dcmread(output / name)
        assert seg.Modality == 'SEG'
        assert seg.PatientIdentityRemoved == 'YES'
        assert seg.StudyInstanceUID == '1.2.3'
        assert [s.SegmentLabel for s in seg.SegmentSequence] == ['polyp']
        (group,) = seg.PerFrameFunctionalGroupsSequence
        image = group.DerivationImageSequence[0].SourceImageSequence[0]
        assert image.ReferencedSOPInstanceUID == f'1.2.3.4.{number}'
    table = (output / 'series.csv').read_text()
    assert not [secret for secret in SECRETS if secret in table]
    series.close()
    series = Series(folder, output, 'dicom-seg')
    for place in range(3):
        start = series.start_of(place, SHAPE)
        assert not start.notice
        assert start.classes == {1: 'polyp'}
        np.testing.assert_array_equal(start.labels, labels_of(1))
    series.close()


def test_segments_count_from_one_and_the_table_says_what_the_file_does(
    folder, tmp_path
):
    series = Series(folder, tmp_path / 'labels', 'dicom-seg')
    series.save(0, LabelsOfImage(labels_of(3, 7), {3: 'polyp', 7: 'ulcer'}))
    entry = series.entry(0)
    start = series.start_of(0, SHAPE)
    assert dict(entry.classes) == start.classes == {1: 'polyp', 2: 'ulcer'}
    np.testing.assert_array_equal(start.labels, labels_of(1, 2))
    series.close()


def test_no_lesion_writes_no_segmentation_and_takes_the_own_one_away(folder, tmp_path):
    output = tmp_path / 'labels'
    series = Series(folder, output, 'dicom-seg')
    series.save(0, LabelsOfImage(labels_of(1), {1: 'polyp'}))
    series.save(0, LabelsOfImage(labels_of()), no_lesion=True)
    assert not (output / 'a_labels.dcm').exists()
    series.close()
    series = Series(folder, output, 'dicom-seg')
    assert series.entry(0).status is ImageStatus.no_lesion
    assert series.start_of(0, SHAPE).labels is None
    series.close()


def test_segmentations_in_the_folder_of_the_images_are_no_images(folder):
    series = Series(folder, folder, 'dicom-seg')
    series.save(0, LabelsOfImage(labels_of(1), {1: 'polyp'}))
    series.close()
    series = Series(folder, folder, 'dicom-seg')
    assert [image.name for image in series.images] == ['a.dcm', 'b.dcm', 'c.png']
    assert series.start_of(0, SHAPE).labels.any()
    series.close()


def test_an_image_that_cannot_be_linked_to_is_said_and_nothing_is_written(
    folder, tmp_path
):
    from napari_kdsam.core.errors import KDSAMError

    dataset = pydicom.dcmread(folder / 'a.dcm')
    del dataset.StudyInstanceUID
    dataset.save_as(folder / 'a.dcm')
    output = tmp_path / 'labels'
    series = Series(folder, output, 'dicom-seg')
    with pytest.raises(KDSAMError, match='no StudyInstanceUID') as error:
        series.save(0, LabelsOfImage(labels_of(1), {1: 'polyp'}))
    assert 'Doe' not in str(error.value)
    assert not list(output.glob('*.dcm'))
    assert series.entry(0).status is ImageStatus.new
    series.close()
