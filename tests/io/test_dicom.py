"""Reading DICOM: what a viewer shows, and nothing that identifies a patient."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_kdsam.core.errors import ImageError, MissingExtraError
from napari_kdsam.io import formats
from napari_kdsam.io.formats import open_image
from napari_kdsam.io.image_file import ImageFile

pydicom = pytest.importorskip('pydicom')

from dicom_files import dataset_of, item, region  # noqa: E402
from pydicom.dataset import Dataset  # noqa: E402
from pydicom.sequence import Sequence  # noqa: E402
from pydicom.uid import (  # noqa: E402
    MPEG2MPML,
    DeflatedExplicitVRLittleEndian,
    RLELossless,
)

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)
DEEP = np.arange(-2000, 2096, 16, dtype=np.int16).reshape(16, 16)


def opened(folder: Path, dataset: Dataset, name: str = 'a.dcm') -> ImageFile:
    dataset.save_as(folder / name, enforce_file_format=True)
    return open_image(folder / name)


def frame_of(folder: Path, dataset: Dataset, index: int = 0) -> np.ndarray:
    image = opened(folder, dataset)
    frame = image.frame(index)
    assert frame.shape == image.frame_shape
    assert frame.dtype == image.dtype
    return frame


def problem_with(path: Path) -> str:
    with pytest.raises(ImageError) as caught:
        open_image(path).frame(0)
    message = str(caught.value)
    assert path.name in message
    assert str(path.parent) not in message
    assert message.endswith('.')
    return message


@pytest.mark.parametrize(
    ('example', 'shape'),
    [
        ('rgb_color', (240, 320, 3)),
        ('ybr_color', (30, 240, 320, 3)),
        ('palette_color', (350, 800, 3)),
        ('jpeg2k', (480, 640, 3)),
    ],
)
def test_the_real_ultrasound_images_of_pydicom_are_read_as_rgb(
    example: str, shape: tuple[int, ...]
) -> None:
    with open_image(pydicom.examples.get_path(example)) as image:
        assert image.shape == shape
        last = image.frame(image.frame_count - 1)
    assert last.shape == shape[-3:]
    assert last.dtype == np.uint8
    assert last.max() > 200


def test_both_sizes_of_the_lymph_node_have_the_same_colours() -> None:
    small = open_image(pydicom.examples.get_path('rgb_color')).frame(0)
    large = open_image(pydicom.examples.get_path('jpeg2k')).frame(0)
    halved = large.reshape(240, 2, 320, 2, 3).mean((1, 3))
    assert np.abs(halved - small).mean() < 8


def test_ybr_pixels_become_rgb(tmp_path: Path) -> None:
    red = np.zeros((4, 4, 3), np.uint8)
    red[...] = (76, 85, 255)
    dataset = dataset_of(red, PhotometricInterpretation='YBR_FULL')
    np.testing.assert_allclose(frame_of(tmp_path, dataset)[0, 0], (254, 0, 0), atol=2)


def palette(count: int, bits: int, first: int = 0) -> dict[str, Any]:
    step = 257 if bits == 16 else 1
    dtype = np.uint16 if bits == 16 else np.uint8
    ramp = (np.arange(count) * step).astype(dtype)
    tables = {'Red': ramp, 'Green': ramp[::-1], 'Blue': np.zeros_like(ramp)}
    made: dict[str, Any] = {'PhotometricInterpretation': 'PALETTE COLOR'}
    for colour, table in tables.items():
        name = f'{colour}PaletteColorLookupTable'
        made[f'{name}Descriptor'] = [count % 65536, first, bits]
        made[f'{name}Data'] = table.tobytes()
    return made


@pytest.mark.parametrize('bits', [8, 16])
def test_a_palette_becomes_8_bit_rgb(tmp_path: Path, bits: int) -> None:
    read = frame_of(tmp_path, dataset_of(RAMP, **palette(256, bits)))
    np.testing.assert_array_equal(read[..., 0], RAMP)
    np.testing.assert_array_equal(read[..., 1], 255 - RAMP)


def test_palette_values_beyond_the_table_take_its_ends(tmp_path: Path) -> None:
    read = frame_of(tmp_path, dataset_of(RAMP, **palette(100, 16, first=50)))
    reds = read[..., 0].ravel()
    assert reds[0] == reds[50] == 0
    assert reds[60] == 10
    assert reds[149] == reds[255] == 99


def test_a_16_bit_palette_that_only_uses_8_bits_is_not_black(tmp_path: Path) -> None:
    attributes = palette(256, 16)
    low = np.arange(256, dtype=np.uint16)
    attributes['RedPaletteColorLookupTableData'] = low.tobytes()
    attributes['GreenPaletteColorLookupTableData'] = low.tobytes()
    read = frame_of(tmp_path, dataset_of(RAMP, **attributes))
    np.testing.assert_array_equal(read[..., 0], RAMP)


@pytest.mark.parametrize('name', ['a.dcm', 'a.DICOM', '1.2.840.10008.7', 'image'])
def test_dicom_is_known_by_suffix_or_by_content(tmp_path: Path, name: str) -> None:
    image = opened(tmp_path, dataset_of(RAMP), name)
    np.testing.assert_array_equal(image.frame(0), RAMP)


def test_grey_without_window_keeps_its_values(tmp_path: Path) -> None:
    read = frame_of(tmp_path, dataset_of(DEEP))
    assert read.dtype == np.int16
    np.testing.assert_array_equal(read, DEEP)


def test_rescaling_alone_gives_rescaled_values(tmp_path: Path) -> None:
    dataset = dataset_of(DEEP, RescaleSlope=0.5, RescaleIntercept=10)
    np.testing.assert_array_equal(frame_of(tmp_path, dataset), DEEP * 0.5 + 10)


@pytest.mark.parametrize(
    ('function', 'expected'),
    [
        # Window 100 wide at 40, with C.11.2.1.2's half pixel for LINEAR.
        ('LINEAR', lambda x: (x - 39.5) / 99 + 0.5),
        ('LINEAR_EXACT', lambda x: (x - 40) / 100 + 0.5),
        ('SIGMOID', lambda x: 1 / (1 + np.exp(-4 * (x - 40) / 100))),
    ],
)
def test_the_window_is_applied_after_rescaling(
    tmp_path: Path, function: str, expected: Any
) -> None:
    dataset = dataset_of(
        DEEP,
        RescaleSlope=1,
        RescaleIntercept=-1024,
        WindowCenter=[40, 300],
        WindowWidth=[100, 1500],
        VOILUTFunction=function,
    )
    shown = expected(DEEP.astype(float) - 1024)
    np.testing.assert_array_equal(
        frame_of(tmp_path, dataset), np.rint(np.clip(shown, 0, 1) * 255)
    )


def test_a_window_of_width_one_is_a_threshold(tmp_path: Path) -> None:
    dataset = dataset_of(RAMP, WindowCenter=100, WindowWidth=1)
    np.testing.assert_array_equal(frame_of(tmp_path, dataset), (RAMP > 99) * 255)


def table_of(entries: np.ndarray, first: int, vr: str) -> Sequence:
    data = entries.tobytes() if vr == 'OW' else entries.tolist()
    made = item(LUTDescriptor=[len(entries), first, 12], LUTData=data)
    made['LUTData'].VR, made['LUTDescriptor'].VR = vr, 'US'
    return Sequence([made])


@pytest.mark.parametrize('vr', ['OW', 'US'])
def test_a_voi_table_is_applied(tmp_path: Path, vr: str) -> None:
    entries = np.arange(199, -1, -1, dtype=np.uint16) * 16
    dataset = dataset_of(RAMP, VOILUTSequence=table_of(entries, 20, vr))
    expected = entries[np.clip(RAMP.astype(int) - 20, 0, 199)] / 4095 * 255
    np.testing.assert_array_equal(frame_of(tmp_path, dataset), np.rint(expected))


def test_a_modality_table_is_applied(tmp_path: Path) -> None:
    entries = np.arange(256, dtype=np.uint16) ** 2 // 16
    modality = table_of(entries, 0, 'OW')
    dataset = dataset_of(RAMP, ModalityLUTSequence=modality)
    np.testing.assert_array_equal(frame_of(tmp_path, dataset), entries[RAMP])


def test_monochrome1_is_inverted_with_and_without_window(tmp_path: Path) -> None:
    inverted = {'PhotometricInterpretation': 'MONOCHROME1'}
    plain = frame_of(tmp_path, dataset_of(RAMP, **inverted))
    np.testing.assert_array_equal(plain, 255 - RAMP)
    window = {'WindowCenter': 128, 'WindowWidth': 256}
    shown = frame_of(tmp_path, dataset_of(RAMP, **inverted, **window))
    np.testing.assert_array_equal(shown, 255 - RAMP)
    twelve = (RAMP.astype(np.uint16) * 16, {'BitsStored': 12, 'HighBit': 11})
    read = frame_of(tmp_path, dataset_of(twelve[0], **twelve[1], **inverted))
    np.testing.assert_array_equal(read, 4095 - twelve[0])
    signed = frame_of(tmp_path, dataset_of(DEEP, **inverted))
    assert (np.diff(signed.astype(int).ravel()) == -16).all()


def test_each_frame_of_an_enhanced_file_has_its_own_window(tmp_path: Path) -> None:
    stack = np.stack([RAMP, RAMP])
    windows = [
        item(
            FrameVOILUTSequence=Sequence([item(WindowCenter=c, WindowWidth=1)]),
        )
        for c in (100, 200)
    ]
    shared = item(
        PixelMeasuresSequence=Sequence([item(PixelSpacing=[0.2, 0.3])]),
        PixelValueTransformationSequence=Sequence(
            [item(RescaleSlope=1, RescaleIntercept=-10, RescaleType='US')]
        ),
    )
    dataset = dataset_of(
        stack,
        frames=2,
        PerFrameFunctionalGroupsSequence=Sequence(windows),
        SharedFunctionalGroupsSequence=Sequence([shared]),
    )
    image = opened(tmp_path, dataset)
    np.testing.assert_array_equal(image.frame(0), (RAMP > 109) * 255)
    np.testing.assert_array_equal(image.frame(1), (RAMP > 209) * 255)
    assert image.spacing == (0.2, 0.3)


def test_one_bit_pixels_become_boolean(tmp_path: Path) -> None:
    mask = RAMP > 99
    dataset = dataset_of(RAMP, BitsAllocated=1, BitsStored=1, HighBit=0)
    dataset.PixelData = np.packbits(mask.ravel(), bitorder='little').tobytes()
    np.testing.assert_array_equal(frame_of(tmp_path, dataset), mask)


def test_multi_frame_files_are_read_one_frame_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_kdsam.io import dicom

    stack = np.stack([RAMP, RAMP + 1, RAMP + 2])
    image = opened(tmp_path, dataset_of(stack, frames=3))
    assert image.shape == (3, 16, 16)
    decoded = []
    original = dicom.pixel_array

    def spy(source: Any, **options: Any) -> np.ndarray:
        frame = original(source, **options)
        decoded.append(frame.shape)
        return frame

    monkeypatch.setattr(dicom, 'pixel_array', spy)
    np.testing.assert_array_equal(image.frame(2), stack[2])
    assert decoded == [(16, 16)]


def test_compressed_and_deflated_files_are_read(tmp_path: Path) -> None:
    stack = np.stack([RAMP, RAMP.T])
    packed = dataset_of(stack, frames=2)
    packed.compress(RLELossless, stack, generate_instance_uid=False)
    np.testing.assert_array_equal(frame_of(tmp_path, packed, 1), RAMP.T)
    deflated = dataset_of(RAMP)
    deflated.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    np.testing.assert_array_equal(frame_of(tmp_path, deflated), RAMP)


@pytest.mark.parametrize(
    ('regions', 'spacing'),
    [
        ([region()], (0.1, 0.2)),
        ([region(), region()], (0.1, 0.2)),
        ([region(), region(PhysicalUnitsXDirection=4)], (0.1, 0.2)),
        ([region(), region(RegionSpatialFormat=3, PhysicalDeltaX=9)], (0.1, 0.2)),
        ([region(), region(PhysicalDeltaX=0.03)], None),
        ([region(PhysicalDeltaX=0.0)], None),
        ([region(RegionLocationMaxX1=600)], None),
        ([], None),
    ],
    ids=[
        'centimetres',
        'two alike',
        'one in seconds',
        'one of a spectrum',
        'two that differ',
        'zero',
        'of another image',
        'none',
    ],
)
def test_ultrasound_regions_give_the_spacing_only_where_it_is_certain(
    tmp_path: Path, regions: list[Dataset], spacing: tuple[float, float] | None
) -> None:
    dataset = dataset_of(RAMP, SequenceOfUltrasoundRegions=Sequence(regions))
    found = opened(tmp_path, dataset).spacing
    assert found == (None if spacing is None else pytest.approx(spacing))


def test_pixel_spacing_is_rows_then_columns_in_millimetres(tmp_path: Path) -> None:
    assert opened(tmp_path, dataset_of(RAMP, PixelSpacing=[0.5, 0.25])).spacing == (
        0.5,
        0.25,
    )


def test_attributes_that_identify_the_patient_are_never_read(tmp_path: Path) -> None:
    image = opened(tmp_path, dataset_of(RAMP))
    held = str(vars(image))
    assert 'secret-7' in str(pydicom.dcmread(tmp_path / 'a.dcm'))
    assert 'secret-7' not in held
    assert 'Doe' not in held


def test_dicom_without_pixel_data_is_refused(tmp_path: Path) -> None:
    dataset = dataset_of(RAMP)
    del dataset.PixelData
    dataset.save_as(tmp_path / 'a.dcm', enforce_file_format=True)
    assert 'without an image' in problem_with(tmp_path / 'a.dcm')


def test_dicom_cut_short_is_refused(tmp_path: Path) -> None:
    opened(tmp_path, dataset_of(RAMP))
    content = (tmp_path / 'a.dcm').read_bytes()
    (tmp_path / 'a.dcm').write_bytes(content[:-100])
    assert 'damaged or not complete' in problem_with(tmp_path / 'a.dcm')


def test_an_encrypted_file_is_refused_as_such(tmp_path: Path) -> None:
    # The beginning of a CMS envelope: a sequence that says it is enveloped data.
    envelope = bytes.fromhex('3082100006092a864886f70d010703a082')
    (tmp_path / 'a.dcm').write_bytes(envelope + bytes(range(256)) * 8)
    assert 'is encrypted; decrypt it' in problem_with(tmp_path / 'a.dcm')


def test_video_dicom_is_refused_by_the_name_of_its_compression(tmp_path: Path) -> None:
    dataset = dataset_of(RAMP)
    dataset.file_meta.TransferSyntaxUID = MPEG2MPML
    dataset.PixelData = pydicom.encaps.encapsulate([b'no film'])
    dataset['PixelData'].VR = 'OB'
    dataset['PixelData'].is_undefined_length = True
    dataset.save_as(tmp_path / 'a.dcm', enforce_file_format=True)
    assert 'MPEG2' in problem_with(tmp_path / 'a.dcm')


def test_a_missing_decoder_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from napari_kdsam.io import dicom

    class Missing:
        is_available = False

    monkeypatch.setattr(dicom, 'get_decoder', lambda syntax: Missing)
    with pytest.raises(MissingExtraError, match=r'JPEG 2000.*napari-kdsam\[medical\]'):
        open_image(pydicom.examples.get_path('jpeg2k'))


def test_a_dicom_without_rows_is_refused(tmp_path: Path) -> None:
    dataset_of(RAMP, Rows=0, PixelData=b'').save_as(
        tmp_path / 'a.dcm', enforce_file_format=True
    )
    assert 'no pixels' in problem_with(tmp_path / 'a.dcm')


@pytest.mark.filterwarnings('ignore')
@settings(
    max_examples=80,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_damaged_dicom_gives_pixels_or_an_image_error_and_nothing_else(
    tmp_path: Path, data: st.DataObject
) -> None:
    path = tmp_path / 'a.dcm'
    dataset_of(RAMP, **palette(256, 16)).save_as(path, enforce_file_format=True)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(132, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(140, len(content)))])
    try:
        image = open_image(path)
        frame = image.frame(image.frame_count - 1)
    except ImageError as error:
        assert 'a.dcm' in str(error)
    else:
        assert frame.shape == image.frame_shape


def test_every_dicom_suffix_is_listed() -> None:
    assert {'.dcm', '.dicom'} <= set(formats.SUFFIXES)
