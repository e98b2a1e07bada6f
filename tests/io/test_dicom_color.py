"""Every form in which DICOM stores colour gives the colours that were drawn."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_kdsam.core.errors import ImageError
from napari_kdsam.io.formats import open_image

pydicom = pytest.importorskip('pydicom')
imagecodecs = pytest.importorskip('imagecodecs')

from dicom_files import dataset_of  # noqa: E402
from pydicom.encaps import encapsulate  # noqa: E402
from pydicom.pixels.processing import convert_color_space  # noqa: E402
from pydicom.uid import (  # noqa: E402
    ExplicitVRBigEndian,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)

DRAWN = np.zeros((32, 32, 3), np.uint8)
DRAWN[:] = (220, 170, 140)
DRAWN[:16, :16] = (30, 60, 200)
DRAWN[16:, 16:] = (120, 60, 30)


def colours_of(folder: Path, dataset: pydicom.Dataset) -> np.ndarray:
    dataset.save_as(folder / 'a.dcm', enforce_file_format=True)
    with open_image(folder / 'a.dcm') as image:
        assert image.frame_shape == DRAWN.shape
        return image.frame()


def assert_as_drawn(read: np.ndarray, within: int = 4) -> None:
    # Halved chroma blurs the borders of the fields, so their middles are compared.
    for row, column in ((4, 4), (4, 27), (27, 4), (27, 27)):
        np.testing.assert_allclose(
            read[row, column].astype(int), DRAWN[row, column], atol=within
        )


def packed(stream: bytes, form: str, syntax: str) -> pydicom.Dataset:
    dataset = dataset_of(DRAWN, PhotometricInterpretation=form)
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = encapsulate([stream])
    dataset['PixelData'].VR = 'OB'
    dataset['PixelData'].is_undefined_length = True
    return dataset


def jpeg(stored: str, mark: str) -> bytes:
    """A JPEG stream of RGB or YCbCr samples, with one mark of what they are or none."""
    made = Image.fromarray(DRAWN)
    if stored == 'RGB':
        # Under the wrong name, the samples stay as they are.
        made = Image.merge('YCbCr', made.split())
    buffer = BytesIO()
    made.save(buffer, 'JPEG', quality=98, subsampling=0)
    stream = buffer.getvalue()
    if mark == 'JFIF':
        return stream
    length = int.from_bytes(stream[4:6], 'big')
    adobe = {
        'Adobe 0': b'\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00',
        'Adobe 1': b'\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x01',
    }
    return stream[:2] + adobe.get(mark, b'') + stream[4 + length :]


@pytest.mark.parametrize(
    ('stored', 'mark', 'forms'),
    [
        ('YCbCr', 'JFIF', 'RGB YBR_FULL YBR_FULL_422 YBR_PARTIAL_422 YBR_PARTIAL_420'),
        ('YCbCr', '', 'YBR_FULL YBR_FULL_422 YBR_PARTIAL_422 YBR_PARTIAL_420'),
        ('YCbCr', 'Adobe 1', 'RGB YBR_FULL YBR_FULL_422 YBR_PARTIAL_422'),
        ('RGB', '', 'RGB'),
        ('RGB', 'Adobe 0', 'RGB YBR_FULL YBR_FULL_422 YBR_PARTIAL_422'),
    ],
)
def test_jpeg_gives_the_colours_drawn_whatever_the_file_calls_them(
    tmp_path: Path, stored: str, mark: str, forms: str
) -> None:
    for form in forms.split():
        dataset = packed(jpeg(stored, mark), form, JPEGBaseline8Bit)
        assert_as_drawn(colours_of(tmp_path, dataset))


@pytest.mark.parametrize('syntax', [JPEG2000Lossless, HTJ2KLossless])
def test_jpeg_2000_gives_the_colours_drawn_with_and_without_its_transform(
    tmp_path: Path, syntax: str
) -> None:
    if syntax == HTJ2KLossless:
        pytest.importorskip('openjpeg')
        transformed = imagecodecs.htj2k_encode(DRAWN, reversible=True)
        forms = 'YBR_RCT'
    else:
        transformed = imagecodecs.jpeg2k_encode(
            DRAWN, level=0, codecformat='j2k', mct=True, reversible=True
        )
        forms = 'RGB YBR_RCT YBR_ICT YBR_FULL YBR_FULL_422'
        luminance = convert_color_space(DRAWN, 'RGB', 'YBR_FULL')
        plain = imagecodecs.jpeg2k_encode(
            luminance, level=0, codecformat='j2k', mct=False, reversible=True
        )
        assert_as_drawn(colours_of(tmp_path, packed(plain, 'YBR_FULL', syntax)))
    for form in forms.split():
        assert_as_drawn(colours_of(tmp_path, packed(transformed, form, syntax)))


def ybr_422(ybr: np.ndarray) -> bytes:
    """Two luminances, then the chroma that they share."""
    pairs = ybr.reshape(-1, 2, 3)
    return np.stack(
        [pairs[:, 0, 0], pairs[:, 1, 0], pairs[:, 0, 1], pairs[:, 0, 2]], axis=1
    ).tobytes()


@pytest.mark.parametrize('form', ['YBR_FULL_422', 'YBR_PARTIAL_422'])
def test_uncompressed_luminance_with_half_the_chroma_is_read(
    tmp_path: Path, form: str
) -> None:
    ybr = convert_color_space(DRAWN, 'RGB', 'YBR_FULL').astype(float)
    if 'PARTIAL' in form:
        ybr = (ybr - (0, 128, 128)) * (219 / 255, 224 / 255, 224 / 255) + (16, 128, 128)
    ybr = np.rint(ybr).astype(np.uint8)
    dataset = dataset_of(DRAWN, PhotometricInterpretation=form)
    dataset.PixelData = ybr_422(ybr)
    assert_as_drawn(colours_of(tmp_path, dataset))
    # Unpacked by a program that left the name.
    dataset.PixelData = ybr.tobytes()
    assert_as_drawn(colours_of(tmp_path, dataset))


@pytest.mark.parametrize(
    ('form', 'attributes'),
    [
        ('YBR_PARTIAL_420', {}),
        ('YBR_RCT', {}),
        ('HSV', {}),
        ('CMYK', {'SamplesPerPixel': 4}),
        ('RGB', {'SamplesPerPixel': 1}),
    ],
)
def test_a_form_that_is_not_supported_is_refused_by_its_name(
    tmp_path: Path, form: str, attributes: dict[str, int]
) -> None:
    dataset = dataset_of(DRAWN, PhotometricInterpretation=form, **attributes)
    with pytest.raises(ImageError, match=f'{form} .*cannot be read'):
        colours_of(tmp_path, dataset)


def test_16_bit_luminance_and_partial_runs_are_refused_by_name(tmp_path: Path) -> None:
    deep = dataset_of(DRAWN.astype(np.uint16), PhotometricInterpretation='YBR_FULL')
    with pytest.raises(ImageError, match='YBR_FULL .*16 bits'):
        colours_of(tmp_path, deep)
    runs = dataset_of(DRAWN)
    runs.compress(RLELossless, DRAWN, generate_instance_uid=False)
    runs.PhotometricInterpretation = 'YBR_PARTIAL_422'
    with pytest.raises(ImageError, match='YBR_PARTIAL_422 .*RLE'):
        colours_of(tmp_path, runs)


@pytest.mark.filterwarnings('ignore')
def test_names_in_small_letters_and_colour_called_grey_are_understood(
    tmp_path: Path,
) -> None:
    for form in ('rgb', 'MONOCHROME2'):
        dataset = dataset_of(DRAWN, PhotometricInterpretation=form)
        assert_as_drawn(colours_of(tmp_path, dataset), within=0)


def palette_of(count: int) -> dict[str, object]:
    made: dict[str, object] = {'PhotometricInterpretation': 'PALETTE COLOR'}
    for number, colour in enumerate(('Red', 'Green', 'Blue'), start=1):
        table = (np.arange(count) * number % 256).astype(np.uint8).tobytes()
        name = f'{colour}PaletteColorLookupTable'
        made[f'{name}Descriptor'] = [count, 0, 8]
        made[f'{name}Data'] = table + b'\0' * (count % 2)
    return made


def test_a_palette_of_an_odd_number_of_colours_is_read(tmp_path: Path) -> None:
    values = np.arange(64, dtype=np.uint8).reshape(8, 8)
    dataset = dataset_of(values, **palette_of(63))
    dataset.save_as(tmp_path / 'a.dcm', enforce_file_format=True)
    read = open_image(tmp_path / 'a.dcm').frame()
    np.testing.assert_array_equal(read[3, 3], (27, 54, 81))


def test_a_segmented_palette_is_read(tmp_path: Path) -> None:
    values = np.arange(64, dtype=np.uint8).reshape(8, 8)
    dataset = dataset_of(values, PhotometricInterpretation='PALETTE COLOR')
    for colour in ('Red', 'Green', 'Blue'):
        setattr(dataset, f'{colour}PaletteColorLookupTableDescriptor', [64, 0, 8])
        # One value as it is, then a line of 63 entries up to 189.
        table = bytes([0, 1, 0, 1, 63, 189])
        setattr(dataset, f'Segmented{colour}PaletteColorLookupTableData', table)
    dataset.save_as(tmp_path / 'a.dcm', enforce_file_format=True)
    read = open_image(tmp_path / 'a.dcm').frame()
    np.testing.assert_array_equal(read[..., 0], values * 3)


def test_a_palette_of_the_standard_needs_no_table(tmp_path: Path) -> None:
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    dataset = dataset_of(values, PhotometricInterpretation='PALETTE COLOR')
    dataset.PaletteColorLookupTableUID = '1.2.840.10008.1.5.1'
    dataset.save_as(tmp_path / 'a.dcm', enforce_file_format=True)
    read = open_image(tmp_path / 'a.dcm').frame()
    assert read[0, 0].tolist() == [0, 0, 0]
    assert read[15, 15].tolist() == [255, 255, 255]


def test_a_16_bit_palette_in_big_endian_order_is_read(tmp_path: Path) -> None:
    values = np.arange(64, dtype=np.uint8).reshape(8, 8)
    dataset = dataset_of(values, PhotometricInterpretation='PALETTE COLOR')
    dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    for colour in ('Red', 'Green', 'Blue'):
        name = f'{colour}PaletteColorLookupTable'
        setattr(dataset, f'{name}Descriptor', [64, 0, 16])
        setattr(dataset, f'{name}Data', (np.arange(64) * 512).astype('>u2').tobytes())
    dataset.save_as(tmp_path / 'a.dcm', enforce_file_format=True)
    read = open_image(tmp_path / 'a.dcm').frame()
    np.testing.assert_array_equal(read[..., 0], values * 2)
