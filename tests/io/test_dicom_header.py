"""DICOM files without their usual marks, other objects than images, and hostile ones."""

from __future__ import annotations

import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from napari_kdsam.core.errors import ImageError, NotAnImageError
from napari_kdsam.io.formats import format_of, open_for_segmenting, open_image

pydicom = pytest.importorskip('pydicom')

from dicom_files import dataset_of  # noqa: E402
from pydicom.encaps import encapsulate  # noqa: E402
from pydicom.uid import (  # noqa: E402
    HEVCMP51,
    MPEG2MPHL,
    MPEG2MPML,
    MPEG4HP41,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    MediaStorageDirectoryStorage,
)

from napari_kdsam.io.dicom_header import read_dicom_header  # noqa: E402

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)


@pytest.mark.parametrize(
    'syntax', [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian]
)
@pytest.mark.parametrize('with_meta', [False, True])
def test_a_file_without_preamble_is_known_by_its_content(
    tmp_path: Path, syntax: str, with_meta: bool
) -> None:
    dataset = dataset_of(np.stack([RAMP, RAMP.T]), frames=2)
    dataset.file_meta.TransferSyntaxUID = syntax
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    whole = buffer.getvalue()
    meta = 144 + int.from_bytes(whole[140:144], 'little')
    path = tmp_path / 'IM_0001'
    path.write_bytes(whole[132 if with_meta else meta :])
    assert format_of(path) is not None
    with open_image(path) as image:
        np.testing.assert_array_equal(image.frame(1), RAMP.T)


@pytest.mark.parametrize(
    'content',
    [
        b'',
        b'\x08\x00',
        b'\x00' * 600,
        b'image,row,column\n' * 40,
        b'\x08\x00\x05\x00CS' + b'\xff' * 600,
        bytes(range(256)) * 3,
        b'\x89PNG\r\n\x1a\n' + b'\0' * 600,
    ],
)
def test_other_files_without_suffix_are_not_taken_for_dicom(
    tmp_path: Path, content: bytes
) -> None:
    (tmp_path / 'file').write_bytes(content)
    known = format_of(tmp_path / 'file')
    assert known is None or known.kind != 'DICOM'


@pytest.mark.parametrize(
    ('kind', 'name'),
    [
        ('1.2.840.10008.5.1.4.1.1.88.11', 'Basic Text SR Storage'),
        ('1.2.840.10008.5.1.4.1.1.481.3', 'RT Structure Set Storage'),
        ('1.2.840.10008.5.1.4.1.1.88.59', 'Key Object Selection'),
        ('1.2.840.10008.5.1.4.1.1.11.1', 'Softcopy Presentation State'),
        ('1.2.840.10008.5.1.4.1.1.104.1', 'Encapsulated PDF'),
    ],
)
def test_objects_without_pixels_are_no_images_and_named(
    tmp_path: Path, kind: str, name: str
) -> None:
    dataset = dataset_of(RAMP)
    del dataset.PixelData
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = kind
    dataset.save_as(tmp_path / 'a.dcm', enforce_file_format=True)
    with pytest.raises(NotAnImageError, match=name):
        open_image(tmp_path / 'a.dcm')


def test_a_dicomdir_is_no_image(tmp_path: Path) -> None:
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = '1.2.3'
    dataset.FileSetID = 'DISC'
    dataset.save_as(tmp_path / 'DICOMDIR', enforce_file_format=True)
    with pytest.raises(NotAnImageError, match='its folder'):
        open_image(tmp_path / 'DICOMDIR')


def test_a_damaged_segmentation_is_still_no_image(tmp_path: Path) -> None:
    dataset = dataset_of(RAMP, Modality='SEG', SegmentationType='FRACTIONAL')
    kind = '1.2.840.10008.5.1.4.1.1.66.4'
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = kind
    dataset.save_as(tmp_path / 'a.dcm', enforce_file_format=True)
    with pytest.raises(NotAnImageError, match='Segmentation'):
        open_for_segmenting(tmp_path / 'a.dcm')


@pytest.mark.parametrize('syntax', [ExplicitVRLittleEndian, JPEGBaseline8Bit])
def test_more_frames_than_fit_into_the_file_are_refused_at_once(
    tmp_path: Path, syntax: str
) -> None:
    dataset = dataset_of(RAMP, NumberOfFrames=900_000)
    if syntax == JPEGBaseline8Bit:
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.PixelData = encapsulate([b'\xff\xd8' + b'\0' * 600])
        dataset['PixelData'].is_undefined_length = True
    dataset.save_as(tmp_path / 'a.dcm', enforce_file_format=True)
    with pytest.raises(ImageError, match='900000 frames, but no more than'):
        open_image(tmp_path / 'a.dcm')


def test_a_file_cut_short_gives_the_frames_that_are_there(tmp_path: Path) -> None:
    dataset = dataset_of(np.stack([RAMP, RAMP.T, RAMP]), frames=3)
    dataset.save_as(tmp_path / 'a.dcm', enforce_file_format=True)
    content = (tmp_path / 'a.dcm').read_bytes()
    (tmp_path / 'a.dcm').write_bytes(content[:-300])
    with open_image(tmp_path / 'a.dcm') as image:
        np.testing.assert_array_equal(image.frame(0), RAMP)
        with pytest.raises(ImageError):
            image.frame(2)


def test_a_deflated_file_is_unpacked_no_further_than_its_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = dataset_of(RAMP)
    dataset.PixelData = RAMP.tobytes() + bytes(100_000_000)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.save_as(tmp_path / 'a.dcm', enforce_file_format=True)
    unpacked = []

    class Counting:
        def __init__(self, bits: int) -> None:
            self._unpacker = decompressobj(bits)

        def decompress(self, *arguments: object) -> bytes:
            unpacked.append(self._unpacker.decompress(*arguments))
            return unpacked[-1]

        def __getattr__(self, name: str) -> object:
            return getattr(self._unpacker, name)

    decompressobj = zlib.decompressobj
    monkeypatch.setattr(zlib, 'decompressobj', Counting)
    with open_image(tmp_path / 'a.dcm') as image:
        np.testing.assert_array_equal(image.frame(), RAMP)
    assert 0 < sum(map(len, unpacked)) < 20_000_000


def test_a_deflated_stack_is_read_whole(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    stack = rng.integers(0, 256, (3, 40, 50), np.uint8)
    dataset = dataset_of(stack, frames=3)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.save_as(tmp_path / 'a.dcm', enforce_file_format=True)
    with open_image(tmp_path / 'a.dcm') as image:
        np.testing.assert_array_equal(image.every_frame(), stack)


def film(frames: int, codec: str, form: str) -> bytes:
    av = pytest.importorskip('av')
    buffer = BytesIO()
    with av.open(buffer, 'w', format=form) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, 'yuv420p'
        for number in range(frames):
            picture = np.zeros((48, 64, 3), np.uint8)
            picture[:, :, 0] = 40 * number
            picture[:24, :32] = (0, 200, 0)
            frame = av.VideoFrame.from_ndarray(picture, format='rgb24')
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return buffer.getvalue()


@pytest.mark.parametrize(
    ('codec', 'form', 'syntax'),
    [
        ('libx264', 'mp4', MPEG4HP41),
        ('libx264', 'mpegts', MPEG4HP41),
        ('libx264', 'h264', MPEG4HP41),
        ('mpeg2video', 'mpeg2video', MPEG2MPML),
        ('mpeg2video', 'mpeg', MPEG2MPHL),
        ('mpeg2video', 'mpegts', MPEG2MPHL),
        ('libx265', 'hevc', HEVCMP51),
        ('libx265', 'mpegts', HEVCMP51),
        ('libx265', 'mp4', HEVCMP51),
    ],
)
def test_the_frames_of_a_video_stream_are_read(
    tmp_path: Path, codec: str, form: str, syntax: str
) -> None:
    try:
        stream = film(6, codec, form)
    except (ValueError, OSError) as error:
        pytest.skip(f'no encoder here: {error}')
    colour = np.zeros((48, 64, 3), np.uint8)
    dataset = dataset_of(colour, PhotometricInterpretation='YBR_PARTIAL_420')
    dataset.NumberOfFrames, dataset.PixelSpacing = 6, [0.5, 0.5]
    dataset.file_meta.TransferSyntaxUID = syntax
    # A stream may be cut into fragments anywhere.
    halves = stream[:200], stream[200:] + b'\0' * (len(stream) % 2)
    dataset.PixelData = encapsulate(list(halves), has_bot=False)
    dataset['PixelData'].VR = 'OB'
    dataset['PixelData'].is_undefined_length = True
    dataset.save_as(tmp_path / 'a.dcm', enforce_file_format=True)
    with open_image(tmp_path / 'a.dcm') as image:
        assert (image.frame_count, image.spacing) == (6, (0.5, 0.5))
        for number in (4, 1):
            frame = image.frame(number).astype(int)
            np.testing.assert_allclose(frame[8, 8], (0, 200, 0), atol=25)
            np.testing.assert_allclose(frame[40, 50], (40 * number, 0, 0), atol=25)


def test_the_pixels_of_a_large_file_stay_in_it(tmp_path: Path) -> None:
    stack = np.zeros((5, 500, 600), np.uint8)
    stack[3] = 7
    path = tmp_path / 'a.dcm'
    dataset_of(stack, frames=5).save_as(path, enforce_file_format=True)
    header = read_dicom_header(path, ['Rows'])
    assert header.pixels.value is None
    assert header.pixel_bytes == stack.nbytes
    with open_image(path) as image:
        np.testing.assert_array_equal(image.frame(3), stack[3])
