"""Labels as DICOM Segmentation files, which know what image they belong to.

A written file is a SEG object of type BINARY with one segment for each label, linked to
the source image and to its frames, of the same pixel spacing and, where the source has
one, in the same frame of reference.

What is copied from the source is what the standard asks of every image of a patient's
study (types 1 and 2 of the modules Patient, General Study and Frame of Reference), so
that an archive files the result with its image: name, ID, birth date and sex of the
patient; UID, ID, date, time and accession number of the study; the UIDs it is linked
to. The referring physician stays empty, as the standard allows. Nothing else that says
who the patient is, no remark, no institution and no device is copied: an image that has
been anonymised gives an anonymous segmentation.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_kdsam import __version__
from napari_kdsam.core.errors import ImageError, KDSAMError, MissingExtraError, excerpt
from napari_kdsam.core.files import MARK, atomic_path
from napari_kdsam.core.label_image import label_dtype
from napari_kdsam.io.dicom_header import frame_count_of
from napari_kdsam.io.dicom_mark import MARK_BYTES, is_dicom
from napari_kdsam.io.dicom_values import numbers_of, spacing_of
from napari_kdsam.io.image_file import reading
from napari_kdsam.io.label_images import check_labels

try:
    import highdicom
    from highdicom.seg import Segmentation, SegmentDescription
    from highdicom.spatial import get_image_coordinate_system
    from pydicom import dcmread
    from pydicom.datadict import tag_for_keyword
    from pydicom.dataset import Dataset
    from pydicom.sr.codedict import codes
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid
    from pydicom.valuerep import DA, TM
except ImportError as _error:
    raise MissingExtraError('Writing DICOM-SEG', 'medical') from _error

_PATIENT_AND_STUDY = (
    'PatientName',
    'PatientID',
    'PatientBirthDate',
    'PatientSex',
    'StudyInstanceUID',
    'StudyID',
    'StudyDate',
    'StudyTime',
    'AccessionNumber',
)
_IMAGE = (
    'SpecificCharacterSet',
    'SOPClassUID',
    'SOPInstanceUID',
    'SeriesInstanceUID',
    'Modality',
    'Rows',
    'Columns',
    'NumberOfFrames',
    'LossyImageCompression',
    'LossyImageCompressionRatio',
    'LossyImageCompressionMethod',
)
_PLACE = (
    'FrameOfReferenceUID',
    'PositionReferenceIndicator',
    'ImagePositionPatient',
    'ImageOrientationPatient',
    'PixelSpacing',
    'SliceThickness',
    'SpacingBetweenSlices',
    'SequenceOfUltrasoundRegions',
    'SharedFunctionalGroupsSequence',
    'PerFrameFunctionalGroupsSequence',
)
_NUMBERS = (
    'ImagePositionPatient',
    'ImageOrientationPatient',
    'PixelSpacing',
    'SliceThickness',
    'SpacingBetweenSlices',
    'LossyImageCompressionRatio',
)
_LINKS = ('SOPInstanceUID', 'StudyInstanceUID', 'SeriesInstanceUID', 'Rows')
_SERIES_NUMBER = 1000
_MAX_NAME = 64


def write_dicom_seg(
    path: Path | str,
    labels: NDArray[Any],
    source_path: Path | str,
    names: Mapping[int, str] | None = None,
    *,
    with_patient: bool = True,
    missing: str = '',
) -> dict[int, int]:
    """Write labels as a DICOM Segmentation of a source image.

    Parameters
    ----------
    path : path-like
        The file, usually ``.dcm``.
    labels : numpy.ndarray
        (H, W) or (T, H, W) whole numbers, 0 for background, of the source's size.
    source_path : path-like
        The DICOM image that was labelled, single-frame or multi-frame.
    names : mapping, optional
        Label to the name of its segment; ``Label n`` for those left out.
    with_patient : bool
        Whether what says who the patient is, and when the study was, is copied from the
        source. UIDs are in any case, since they are the link to the source.
    missing : str
        What the labels lack; a segmentation that lacks something is marked incomplete.

    Returns
    -------
    dict
        Label to its segment number; segments count from 1 in the order of the labels.

    Raises
    ------
    ImageError
        If the labels are empty or of another size, the source is no DICOM image, or
        the file cannot be written.
    """
    path, source_path = Path(path), Path(source_path)
    check_labels(path.name, labels)
    with reading(source_path.name):
        source = _source(source_path, with_patient)
        count = frame_count_of(source_path.name, source)
        size = (count, int(source.Rows), int(source.Columns))
    frames = labels if labels.ndim == 3 else labels[None]
    if frames.shape != size:
        raise ImageError(
            f'{path.name}: the labels have {_described(frames.shape)} but '
            f'{source_path.name} has {_described(size)}; label that image.'
        )
    values = [int(value) for value in np.unique(frames) if value]
    if not values:
        raise ImageError(
            f'{path.name}: there is no label to write; DICOM-SEG needs at least one.'
        )
    numbers = {value: number for number, value in enumerate(values, start=1)}
    segments = [
        _segment(number, (names or {}).get(value) or f'Label {value}')
        for value, number in numbers.items()
    ]
    numbered = np.searchsorted([0, *values], frames).astype(label_dtype(len(values)))
    with _linking(path.name, source_path.name):
        with warnings.catch_warnings():
            # They quote the patient's name.
            warnings.simplefilter('ignore')
            made = _segmentation(source, numbered, segments)
        if not with_patient:
            made.PatientIdentityRemoved = 'YES'
            made.DeidentificationMethod = 'Patient and study left out'
        if missing:
            made.ContentLabel = 'INCOMPLETE'
            made.SeriesDescription = 'Segmentation, INCOMPLETE'
            made.ContentDescription = missing[:_MAX_NAME]
    with atomic_path(path) as part, _linking(path.name, source_path.name):
        made.save_as(part, enforce_file_format=True)
    return numbers


@contextmanager
def _linking(name: str, source: str) -> Iterator[None]:
    """Turn whatever attributes of the source lead to into one sentence."""
    try:
        yield
    except (KDSAMError, OSError, MemoryError):
        raise
    except Exception as error:
        raise ImageError(
            f'{name} cannot be linked to {source}, which lacks what DICOM-SEG needs of '
            f'an image ({excerpt(error)}); write the labels as TIFF or NIfTI.'
        ) from error


def _source(path: Path, with_patient: bool) -> Any:
    """The attributes of an image that a segmentation of it is made from."""
    copied = _PATIENT_AND_STUDY if with_patient else ('StudyInstanceUID',)
    wanted = [*copied, *_IMAGE, *_PLACE]
    with path.open('rb') as file:
        known = is_dicom(file.read(MARK_BYTES))
    if not known:
        raise ImageError(
            f'{path.name} is not a DICOM file; DICOM-SEG needs the DICOM image '
            'that was labelled.'
        )
    # Forced, because old devices write no preamble.
    source = dcmread(path, stop_before_pixels=True, specific_tags=wanted, force=True)
    # Only an object with its transfer syntax is taken for a file.
    source.file_meta.setdefault('TransferSyntaxUID', ExplicitVRLittleEndian)
    missing = [name for name in _LINKS if name not in source]
    if missing:
        raise ImageError(
            f'{path.name} has no {missing[0]}, so nothing can be linked to it; choose '
            'an image as it came from the device or archive.'
        )
    for name in _PATIENT_AND_STUDY:
        source.setdefault(name, '')
    for name, parse in (('PatientBirthDate', DA), ('StudyDate', DA), ('StudyTime', TM)):
        if not _is_valid(source.get(name), parse):
            setattr(source, name, '')
    for name in _NUMBERS:
        _keep_numbers(source, name)
    if 'SliceThickness' not in source and 'ImagePositionPatient' in source:
        source.SliceThickness = None
    if source.PatientSex not in ('M', 'F', 'O'):
        source.PatientSex = ''
    return source


def _keep_numbers(source: Any, name: str) -> None:
    """Write the numbers of an attribute as such, or leave it out."""
    values = numbers_of(source, name)
    if values and None not in values:
        setattr(source, name, values if len(values) > 1 else values[0])
    elif name in source:
        del source[name]


def _is_valid(value: Any, parse: Any) -> bool:
    with suppress(ValueError):
        parse(str(value or ''))
        return True
    return False


def _segment(number: int, name: str) -> SegmentDescription:
    return SegmentDescription(
        segment_number=number,
        # A backslash would part the name into several.
        segment_label=name.replace('\\', '/')[:_MAX_NAME],
        # What it is, is for the reader of the name to say; all of it is tissue.
        segmented_property_category=codes.SCT.Tissue,
        segmented_property_type=codes.SCT.Tissue,
        algorithm_type='SEMIAUTOMATIC',
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name='napari-kdsam',
            family=codes.DCM.ArtificialIntelligence,
            version=__version__,
        ),
    )


def _segmentation(
    source: Any, frames: NDArray[Any], segments: Sequence[SegmentDescription]
) -> Any:
    spacing = spacing_of(source)
    if get_image_coordinate_system(source) is not None:
        if spacing is None:
            raise ValueError('one pixel spacing')
        return _built(source, frames, segments)
    measures = Dataset()
    if spacing is not None:
        measures.PixelSpacing = list(spacing)
    # highdicom looks for the spacing in other places than ultrasound keeps it, and
    # takes one frame of an image without positions; the header made for that frame is
    # then given all of them.
    first = copy.copy(source)
    first.NumberOfFrames = 1
    groups = Dataset()
    groups.PixelMeasuresSequence = [measures]
    first.SharedFunctionalGroupsSequence = [groups]
    if spacing is not None:
        first.PixelSpacing = list(spacing)
    made = _built(first, np.ones_like(frames[:1]), segments)
    if spacing is None:
        made.SharedFunctionalGroupsSequence[0].pop('PixelMeasuresSequence', None)
    _put_frames(made, frames, len(segments))
    return made


def _built(
    source: Any, frames: NDArray[Any], segments: Sequence[SegmentDescription]
) -> Any:
    return Segmentation(
        source_images=[source],
        pixel_array=frames,
        segmentation_type='BINARY',
        segment_descriptions=segments,
        series_instance_uid=generate_uid(),
        series_number=_SERIES_NUMBER,
        series_description='Segmentation',
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer=MARK,
        manufacturer_model_name='napari-kdsam',
        software_versions=__version__,
        device_serial_number='0',
        content_label='SEGMENTATION',
        # Names of segments may need letters that the source's set does not have.
        specific_character_set='ISO_IR 192',
    )


def _put_frames(made: Any, frames: NDArray[Any], segments: int) -> None:
    """Replace the only frame by those with pixels, one for each segment and time."""
    dimension = Dataset()
    organization = made.DimensionOrganizationSequence[0]
    dimension.DimensionOrganizationUID = organization.DimensionOrganizationUID
    dimension.DimensionIndexPointer = tag_for_keyword('TemporalPositionIndex')
    dimension.FunctionalGroupPointer = tag_for_keyword('FrameContentSequence')
    dimension.DimensionDescriptionLabel = 'Temporal Position Index'
    made.DimensionIndexSequence.append(dimension)
    template = made.PerFrameFunctionalGroupsSequence[0]
    groups, packed, rest = [], [], np.empty(0, np.bool_)
    for number in range(1, segments + 1):
        for time, frame in enumerate(frames, start=1):
            mask = frame == number
            if not mask.any():
                continue
            groups.append(_group(template, number, time, of_several=segments > 1))
            # Frames follow each other without padding to whole bytes.
            bits = np.concatenate([rest, mask.ravel()])
            whole = len(bits) // 8 * 8
            packed.append(np.packbits(bits[:whole], bitorder='little').tobytes())
            rest = bits[whole:]
    packed.append(np.packbits(rest, bitorder='little').tobytes())
    pixels = b''.join(packed)
    made.PixelData = pixels + b'\0' * (len(pixels) % 2)
    made.NumberOfFrames = len(groups)
    made.PerFrameFunctionalGroupsSequence = groups


def _group(template: Any, number: int, time: int, *, of_several: bool) -> Any:
    group = copy.deepcopy(template)
    content = group.FrameContentSequence[0]
    content.DimensionIndexValues = [number, time]
    content.TemporalPositionIndex = time
    image = group.DerivationImageSequence[0].SourceImageSequence[0]
    image.ReferencedFrameNumber = time
    if of_several:
        group.SegmentIdentificationSequence[0].ReferencedSegmentNumber = number
    return group


def _described(shape: Sequence[int]) -> str:
    return ' x '.join(map(str, shape)) + ' pixels'
