"""DICOM Segmentation files, also by other programs and of several images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_kdsam.core.errors import ImageError
from napari_kdsam.io.formats import open_image

pydicom = pytest.importorskip('pydicom')
pytest.importorskip('highdicom')

from dicom_files import dataset_of, example, labels_for  # noqa: E402
from highdicom.seg import Segmentation, SegmentDescription  # noqa: E402
from pydicom.sr.codedict import codes  # noqa: E402
from pydicom.uid import (  # noqa: E402
    ExplicitVRLittleEndian,
    RLELossless,
    generate_uid,
)

from napari_kdsam.io.dicom_seg import read_dicom_seg  # noqa: E402
from napari_kdsam.io.dicom_seg_writer import write_dicom_seg  # noqa: E402


def test_a_segmentation_cut_short_is_refused(tmp_path: Path) -> None:
    source = example('ybr_color')
    write_dicom_seg(tmp_path / 'seg.dcm', labels_for(source), source)
    content = (tmp_path / 'seg.dcm').read_bytes()
    (tmp_path / 'seg.dcm').write_bytes(content[:-5000])
    with pytest.raises(ImageError, match='damaged or not complete'):
        read_dicom_seg(tmp_path / 'seg.dcm')


def test_fewer_frames_than_the_segmentation_labels_are_refused(tmp_path: Path) -> None:
    source = example('ybr_color')
    write_dicom_seg(tmp_path / 'seg.dcm', labels_for(source), source)
    with pytest.raises(ImageError, match='labels in frame 29'):
        read_dicom_seg(tmp_path / 'seg.dcm', 10)


def slices(count: int) -> list[Any]:
    """Images of a series, each a file of its own."""
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    found = []
    for number in range(count):
        image = dataset_of(np.zeros((20, 30), np.uint16), StudyInstanceUID=study)
        image.SOPClassUID = pydicom.uid.CTImageStorage
        image.SOPInstanceUID, image.SeriesInstanceUID = generate_uid(), series
        image.FrameOfReferenceUID, image.PositionReferenceIndicator = frame, ''
        image.PixelSpacing, image.SliceThickness, image.Modality = [0.5, 0.5], 2, 'CT'
        image.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        image.ImagePositionPatient = [0, 0, 2 * number]
        for name in ('PatientBirthDate', 'PatientSex', 'StudyID', 'StudyDate'):
            setattr(image, name, '')
        image.StudyTime = image.AccessionNumber = image.ReferringPhysicianName = ''
        found.append(image)
    return found


def segmentation_by_highdicom(
    path: Path, kind: str, labels: np.ndarray, syntax: str = ExplicitVRLittleEndian
) -> Path:
    whole = np.ceil(labels).astype(int)
    segments = [
        SegmentDescription(n, f'seg {n}', codes.SCT.Tissue, codes.SCT.Tissue, 'MANUAL')
        for n in range(1, whole.max() + 1)
    ]
    Segmentation(
        source_images=slices(len(labels)),
        pixel_array=labels,
        segmentation_type=kind,
        segment_descriptions=segments,
        series_instance_uid=generate_uid(),
        series_number=1,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer='x',
        manufacturer_model_name='x',
        software_versions='1',
        device_serial_number='1',
        transfer_syntax_uid=syntax,
    ).save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize(
    ('kind', 'syntax'),
    [
        ('BINARY', ExplicitVRLittleEndian),
        ('LABELMAP', ExplicitVRLittleEndian),
        ('LABELMAP', RLELossless),
    ],
)
def test_a_segmentation_of_several_images_has_a_frame_for_each_in_their_order(
    tmp_path: Path, kind: str, syntax: str
) -> None:
    labels = np.zeros((4, 20, 30), np.uint8)
    # In the file, segment 1 is first in the last image, and one image has none.
    labels[0, 2:6, 2:6], labels[1, 3:9, 3:9], labels[3, 5:9, 5:20] = 2, 3, 1
    path = segmentation_by_highdicom(tmp_path / 'a.dcm', kind, labels, syntax)
    with open_image(path) as image:
        assert image.holds_labels
        assert np.array_equal(image.every_frame(), labels)
    with pytest.raises(ImageError, match='belongs to 3 images'):
        read_dicom_seg(path)


def test_a_label_map_of_one_image_is_read_without_its_background(
    tmp_path: Path,
) -> None:
    labels = np.zeros((1, 20, 30), np.uint8)
    labels[0, 2:6, 2:6], labels[0, 9:12] = 2, 1
    found = read_dicom_seg(
        segmentation_by_highdicom(tmp_path / 'a.dcm', 'LABELMAP', labels)
    )
    assert np.array_equal(found.labels, labels)
    assert found.names == {1: 'seg 1', 2: 'seg 2'}


def test_segments_of_fractions_are_refused_by_name(tmp_path: Path) -> None:
    labels = np.zeros((1, 20, 30), np.float32)
    labels[0, 2:6, 2:6] = 0.5
    path = segmentation_by_highdicom(tmp_path / 'a.dcm', 'FRACTIONAL', labels)
    with pytest.raises(ImageError, match='FRACTIONAL'):
        open_image(path)
