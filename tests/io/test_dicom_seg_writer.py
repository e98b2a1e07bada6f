"""DICOM Segmentation: linked to its image, read alike by three readers."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_kdsam.core.errors import ImageError
from napari_kdsam.io.formats import open_image

pydicom = pytest.importorskip('pydicom')
highdicom = pytest.importorskip('highdicom')

from dicom_files import dataset_of, example, labels_for, region  # noqa: E402
from pydicom.uid import UltrasoundMultiFrameImageStorage  # noqa: E402

from napari_kdsam.io.dicom_seg import read_dicom_seg  # noqa: E402
from napari_kdsam.io.dicom_seg_writer import write_dicom_seg  # noqa: E402

EXAMPLES = ['rgb_color', 'ybr_color', 'palette_color', 'jpeg2k', 'ct', 'mr']


def masks_by_pydicom(path: Path, count: int) -> dict[int, np.ndarray]:
    """The masks of each segment, by what the standard says and nothing of ours."""
    dataset = pydicom.dcmread(path)
    frames = dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns)
    shared = dataset.SharedFunctionalGroupsSequence[0]
    found = {
        int(segment.SegmentNumber): np.zeros(
            (count, dataset.Rows, dataset.Columns), np.bool_
        )
        for segment in dataset.SegmentSequence
    }
    groups = dataset.PerFrameFunctionalGroupsSequence
    for pixels, group in zip(frames, groups, strict=True):
        holder = group if 'SegmentIdentificationSequence' in group else shared
        number = holder.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        image = group.DerivationImageSequence[0].SourceImageSequence[0]
        found[number][image.get('ReferencedFrameNumber', 1) - 1] |= pixels > 0
    return found


def masks_by_highdicom(path: Path, source: Path, count: int) -> np.ndarray:
    seg = highdicom.seg.segread(path)
    uid = pydicom.dcmread(source, stop_before_pixels=True).SOPInstanceUID
    options: dict[str, Any] = {
        'assert_missing_frames_are_empty': True,
        'combine_segments': False,
    }
    if count > 1:
        return seg.get_pixels_by_source_frame(uid, list(range(1, count + 1)), **options)
    return seg.get_pixels_by_source_instance([uid], **options)


@pytest.mark.parametrize('name', EXAMPLES)
def test_three_readers_find_the_masks_that_were_written(
    tmp_path: Path, name: str
) -> None:
    source = example(name)
    labels = labels_for(source)
    path = tmp_path / 'seg.dcm'
    numbers = write_dicom_seg(path, labels, source)
    assert numbers == {2: 1, 7: 2, 300: 3}
    plain = masks_by_pydicom(path, len(labels))
    library = masks_by_highdicom(path, source, len(labels))
    own = read_dicom_seg(path, len(labels)).labels
    for label, number in numbers.items():
        np.testing.assert_array_equal(plain[number], labels == label)
        np.testing.assert_array_equal(library[..., number - 1] > 0, labels == label)
        np.testing.assert_array_equal(own == number, labels == label)


@pytest.mark.parametrize('name', EXAMPLES)
def test_a_segmentation_has_the_spacing_of_its_image_and_names_it(
    tmp_path: Path, name: str
) -> None:
    source = example(name)
    write_dicom_seg(tmp_path / 'seg.dcm', labels_for(source), source)
    read = read_dicom_seg(tmp_path / 'seg.dcm')
    original = pydicom.dcmread(source, stop_before_pixels=True)
    assert read.source_uid == original.SOPInstanceUID
    with open_image(source) as image, open_image(tmp_path / 'seg.dcm') as written:
        expected = image.spacing and pytest.approx(image.spacing, rel=1e-6)
        assert read.spacing == expected
        assert written.spacing == expected
    seg = pydicom.dcmread(tmp_path / 'seg.dcm')
    referenced = seg.ReferencedSeriesSequence[0]
    assert referenced.SeriesInstanceUID == original.SeriesInstanceUID
    image = referenced.ReferencedInstanceSequence[0]
    assert image.ReferencedSOPInstanceUID == original.SOPInstanceUID
    assert image.ReferencedSOPClassUID == original.SOPClassUID
    assert seg.get('FrameOfReferenceUID') == original.get('FrameOfReferenceUID')
    assert seg.SOPInstanceUID != original.SOPInstanceUID


def cine(path: Path, frames: int, rows: int, columns: int, **attributes: Any) -> Path:
    pixels = np.zeros((frames, rows, columns), np.uint8)
    dataset = dataset_of(pixels, frames=frames, **attributes)
    dataset.Rows, dataset.Columns = rows, columns
    dataset.NumberOfFrames = frames
    for meta, name in (
        (dataset.file_meta, 'MediaStorageSOPClassUID'),
        (dataset, 'SOPClassUID'),
    ):
        setattr(meta, name, UltrasoundMultiFrameImageStorage)
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = '1.2.3', '1.2.3.1'
    dataset.Modality = 'US'
    dataset.save_as(path, enforce_file_format=True)
    return path


@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    labels=arrays(
        np.uint8,
        st.tuples(st.integers(2, 4), st.integers(1, 7), st.integers(4, 7)),
        elements=st.sampled_from([0, 0, 1, 2, 9]),
    )
)
def test_frames_that_do_not_fill_whole_bytes_are_read_back(
    tmp_path: Path, labels: np.ndarray
) -> None:
    source = cine(tmp_path / 'cine.dcm', *labels.shape)
    if not labels.any():
        with pytest.raises(ImageError, match='no label to write'):
            write_dicom_seg(tmp_path / 'seg.dcm', labels, source)
        return
    numbers = write_dicom_seg(tmp_path / 'seg.dcm', labels, source)
    masks = masks_by_pydicom(tmp_path / 'seg.dcm', len(labels))
    library = masks_by_highdicom(tmp_path / 'seg.dcm', source, len(labels))
    for label, number in numbers.items():
        np.testing.assert_array_equal(masks[number], labels == label)
        np.testing.assert_array_equal(library[..., number - 1] > 0, labels == label)


def test_the_spacing_of_an_ultrasound_cine_comes_from_its_regions(
    tmp_path: Path,
) -> None:
    source = cine(
        tmp_path / 'cine.dcm', 3, 16, 16, SequenceOfUltrasoundRegions=[region()]
    )
    labels = np.ones((3, 16, 16), np.uint8)
    write_dicom_seg(tmp_path / 'seg.dcm', labels, source)
    assert read_dicom_seg(tmp_path / 'seg.dcm').spacing == pytest.approx((0.1, 0.2))


def test_only_what_links_a_segmentation_to_its_study_is_copied(tmp_path: Path) -> None:
    source = cine(
        tmp_path / 'cine.dcm',
        2,
        16,
        16,
        PatientBirthDate='19700102',
        PatientSex='F',
        PatientAge='056Y',
        PatientComments='secret comment',
        PatientAddress='secret street',
        OtherPatientIDs='secret other',
        ReferringPhysicianName='secret^referrer',
        OperatorsName='secret^operator',
        InstitutionName='secret hospital',
        StationName='secret station',
        StudyDescription='secret study',
        SeriesDescription='secret series',
        Manufacturer='secret maker',
        DeviceSerialNumber='secret device',
        PatientWeight='71',
    )
    write_dicom_seg(tmp_path / 'seg.dcm', np.ones((2, 16, 16), np.uint8), source)
    seg = pydicom.dcmread(tmp_path / 'seg.dcm')
    assert seg.PatientID == 'secret-7'
    assert seg.PatientName == 'Doe^Jane'
    assert (seg.PatientBirthDate, seg.PatientSex) == ('19700102', 'F')
    assert seg.StudyInstanceUID == '1.2.3'
    assert seg.ReferringPhysicianName in ('', None)
    shown = str(seg).replace('secret-7', '')
    assert 'secret' not in shown
    assert 'PatientAge' not in seg
    assert 'PatientWeight' not in seg


def test_an_anonymous_image_gives_an_anonymous_segmentation(tmp_path: Path) -> None:
    source = cine(tmp_path / 'cine.dcm', 2, 16, 16)
    dataset = pydicom.dcmread(source)
    del dataset.PatientName, dataset.PatientID
    dataset.save_as(source)
    write_dicom_seg(tmp_path / 'seg.dcm', np.ones((2, 16, 16), np.uint8), source)
    seg = pydicom.dcmread(tmp_path / 'seg.dcm')
    assert seg.PatientName in ('', None)
    assert seg.PatientID in ('', None)


def test_names_of_any_alphabet_are_kept_beside_a_name_of_another(
    tmp_path: Path,
) -> None:
    source = cine(
        tmp_path / 'cine.dcm',
        2,
        16,
        16,
        SpecificCharacterSet='ISO_IR 100',
        PatientName='Müller^Jörg',
    )
    labels = np.ones((2, 16, 16), np.uint8)
    labels[:, :4] = 5
    write_dicom_seg(tmp_path / 'seg.dcm', labels, source, {1: '左心室', 5: r'a\b'})
    assert read_dicom_seg(tmp_path / 'seg.dcm').names == {1: '左心室', 2: 'a/b'}
    assert pydicom.dcmread(tmp_path / 'seg.dcm').PatientName == 'Müller^Jörg'


@pytest.mark.parametrize(
    'attributes',
    [
        {'PatientBirthDate': 'unknown', 'PatientSex': 'X', 'StudyTime': 'noon'},
        {'StudyDate': '2020-13-45'},
    ],
)
@pytest.mark.filterwarnings('ignore')
def test_malformed_dates_of_the_source_are_left_empty(
    tmp_path: Path, attributes: dict[str, str]
) -> None:
    source = cine(tmp_path / 'cine.dcm', 2, 16, 16, **attributes)
    write_dicom_seg(tmp_path / 'seg.dcm', np.ones((2, 16, 16), np.uint8), source)
    seg = pydicom.dcmread(tmp_path / 'seg.dcm')
    for name in attributes:
        assert seg[name].value in ('', None)


def test_labels_of_another_size_and_other_files_are_refused(tmp_path: Path) -> None:
    source = example('rgb_color')
    with pytest.raises(ImageError, match='240 x 320 pixels; label that image'):
        write_dicom_seg(tmp_path / 'a.dcm', np.ones((5, 5), np.uint8), source)
    (tmp_path / 'x.png').write_bytes(b'no image' * 100)
    with pytest.raises(ImageError, match='not a DICOM file'):
        write_dicom_seg(
            tmp_path / 'a.dcm', np.ones((5, 5), np.uint8), tmp_path / 'x.png'
        )
    with pytest.raises(ImageError, match='not a binary DICOM Segmentation'):
        read_dicom_seg(source)
    assert not (tmp_path / 'a.dcm').exists()


def test_an_image_without_the_uids_to_link_to_is_refused(tmp_path: Path) -> None:
    dataset_of(np.zeros((8, 8), np.uint8)).save_as(
        tmp_path / 'a.dcm', enforce_file_format=True
    )
    with pytest.raises(ImageError, match='no StudyInstanceUID'):
        write_dicom_seg(
            tmp_path / 's.dcm', np.ones((8, 8), np.uint8), tmp_path / 'a.dcm'
        )


def test_an_image_that_states_a_size_twice_is_refused_in_one_sentence(
    tmp_path: Path,
) -> None:
    source = cine(tmp_path / 'cine.dcm', 2, 16, 16)
    image = pydicom.dcmread(source)
    image.Rows = [16] * 999
    image.save_as(source)
    with pytest.raises(ImageError, match=r'cine\.dcm cannot be read: it is damaged'):
        write_dicom_seg(tmp_path / 'seg.dcm', np.ones((2, 16, 16), np.uint8), source)


@pytest.mark.parametrize(
    ('name', 'tag', 'form', 'odd'),
    [
        ('SliceThickness', (0x0018, 0x0050), b'DS', b'ZZ'),
        ('PixelSpacing', (0x0028, 0x0030), b'DS', b'FD'),
        ('NumberOfFrames', (0x0028, 0x0008), b'IS', b'ZZ'),
        ('Rows', (0x0028, 0x0010), b'US', b'FD'),
        ('StudyDate', (0x0008, 0x0020), b'DA', b'UL'),
        ('PatientName', (0x0010, 0x0010), b'PN', b'FD'),
        ('StudyInstanceUID', (0x0020, 0x000D), b'UI', b'ZZ'),
    ],
)
def test_an_image_with_a_damaged_attribute_gives_a_segmentation_or_one_sentence(
    tmp_path: Path, name: str, tag: tuple[int, int], form: bytes, odd: bytes
) -> None:
    values = {'SliceThickness': 1, 'PixelSpacing': [1, 2], 'StudyDate': '20200101'}
    source = cine(tmp_path / 'cine.dcm', 2, 16, 16, **values)
    content = source.read_bytes()
    mark = struct.pack('<HH', *tag)
    assert content.count(mark + form) == 1, name
    source.write_bytes(content.replace(mark + form, mark + odd))
    try:
        write_dicom_seg(tmp_path / 'seg.dcm', np.ones((2, 16, 16), np.uint8), source)
    except ImageError as error:
        assert len(str(error)) < 500
        assert not (tmp_path / 'seg.dcm').exists()


def test_no_warning_quotes_the_patient(
    tmp_path: Path, recwarn: pytest.WarningsRecorder, capfd: pytest.CaptureFixture[str]
) -> None:
    source = example('ybr_color')
    name = str(pydicom.dcmread(source, stop_before_pixels=True).PatientName)
    assert name
    write_dicom_seg(tmp_path / 'seg.dcm', labels_for(source), source)
    said = [str(warning.message) for warning in recwarn] + [*capfd.readouterr()]
    assert not any(name in text for text in said)
