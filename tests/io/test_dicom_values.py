"""Numbers as devices write them, and the pixel spacing that they give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_kdsam.core.errors import ImageError
from napari_kdsam.io.formats import open_image
from napari_kdsam.io.image_file import ImageFile

pydicom = pytest.importorskip('pydicom')

from dicom_files import dataset_of, item, region  # noqa: E402
from pydicom.sequence import Sequence  # noqa: E402

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)
STACK = np.stack([RAMP, RAMP, RAMP])

pytestmark = pytest.mark.filterwarnings('ignore')


def opened(
    folder: Path, pixels: np.ndarray, frames: int = 1, **texts: Any
) -> ImageFile:
    """Open an image whose attributes given as text are written as they are."""
    plain = {name: value for name, value in texts.items() if not _is_text(value)}
    dataset = dataset_of(pixels, frames, **plain)
    with pydicom.config.disable_value_validation():
        for name, value in texts.items():
            if _is_text(value):
                tag = pydicom.datadict.tag_for_keyword(name)
                form = pydicom.datadict.dictionary_VR(tag)
                content = value.encode('ascii') + b' ' * (len(value) % 2)
                dataset[tag] = pydicom.dataelem.RawDataElement(
                    pydicom.tag.Tag(tag), form, len(content), content, 0, False, True
                )
        dataset.save_as(folder / 'a.dcm', enforce_file_format=True)
    return open_image(folder / 'a.dcm')


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


@pytest.mark.parametrize(
    ('text', 'spacing'),
    [
        (r'0,30\0,25', (0.3, 0.25)),
        (r'0.30\0,25', (0.3, 0.25)),
        (r'3,0e-1\0,25', (0.3, 0.25)),
        (r'0.3mm\0.3mm', None),
        (r'abc\0.3', None),
        (r'nan\nan', None),
        (r'inf\inf', None),
        (r'-0.3\-0.3', None),
        (r'0\0', None),
        ('0.3', None),
        ('0.30,0.30', None),
        ('', None),
    ],
)
def test_a_spacing_is_read_with_a_comma_as_point_or_left_out(
    tmp_path: Path, text: str, spacing: tuple[float, float] | None
) -> None:
    image = opened(tmp_path, RAMP, PixelSpacing=text)
    assert image.spacing == spacing
    np.testing.assert_array_equal(image.frame(), RAMP)


@pytest.mark.parametrize(
    ('slope', 'offset', 'expected'),
    [
        ('2,0', '1,5', RAMP * 2.0 + 1.5),
        ('1,00', '0', RAMP),
        ('abc', '5', RAMP),
        ('2', 'nan', RAMP),
        ('0', '0', RAMP),
    ],
)
def test_a_rescale_is_read_with_a_comma_as_point_or_left_out(
    tmp_path: Path, slope: str, offset: str, expected: np.ndarray
) -> None:
    image = opened(tmp_path, RAMP, RescaleSlope=slope, RescaleIntercept=offset)
    np.testing.assert_array_equal(image.frame(), expected)


@pytest.mark.parametrize(('text', 'frames'), [('3,0', 3), ('3.0', 3), ('1,0', 1)])
def test_a_number_of_frames_is_read_with_a_comma_as_point(
    tmp_path: Path, text: str, frames: int
) -> None:
    stack = np.stack([RAMP // (1 + index) for index in range(frames)])
    image = opened(tmp_path, stack.squeeze(), frames, NumberOfFrames=text)
    assert image.frame_count == frames
    np.testing.assert_array_equal(image.frame(frames - 1), stack[-1])


def test_a_window_is_read_with_a_comma_as_point_or_left_out(tmp_path: Path) -> None:
    exact = {'VOILUTFunction': 'LINEAR_EXACT'}
    image = opened(
        tmp_path, RAMP, WindowCenter='127,5', WindowWidth=r'255,0\80', **exact
    )
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image.frame(), RAMP)
    odd = opened(tmp_path, RAMP.astype(np.int16), WindowCenter='x', WindowWidth='9')
    assert odd.dtype == np.int16


@pytest.mark.parametrize('width', ['0', '-80', '0,5'])
def test_a_window_too_narrow_to_show_greys_is_left_out(
    tmp_path: Path, width: str
) -> None:
    image = opened(tmp_path, RAMP, WindowCenter='100', WindowWidth=width)
    np.testing.assert_array_equal(image.frame(), RAMP)


def test_a_frame_count_is_read_or_refused(tmp_path: Path) -> None:
    assert opened(tmp_path, STACK, 3, NumberOfFrames='3,0').frame_count == 3
    with pytest.raises(ImageError, match='in numbers how many frames'):
        opened(tmp_path, STACK, 3, NumberOfFrames='three')


def per_frame(*spacings: list[float] | None) -> dict[str, Any]:
    groups = [
        item(PixelMeasuresSequence=Sequence([item(PixelSpacing=spacing)]))
        if spacing
        else item()
        for spacing in spacings
    ]
    return {'PerFrameFunctionalGroupsSequence': Sequence(groups)}


def test_a_stack_has_the_spacing_that_its_frames_share(tmp_path: Path) -> None:
    same = opened(tmp_path, STACK, 3, **per_frame(*[[0.2, 0.1]] * 3))
    assert same.spacing == (0.2, 0.1)


@pytest.mark.parametrize(
    'spacings',
    [
        ([0.1, 0.1], [0.2, 0.2], [0.4, 0.4]),
        ([0.1, 0.1], [0.1, 0.1], [0.1, 0.2]),
        ([0.1, 0.1], None, [0.1, 0.1]),
        ([0.1, 0.1], [0.1, 0.1]),
    ],
    ids=['each its own', 'the last differs', 'one without', 'too few'],
)
def test_a_stack_of_frames_that_differ_has_no_spacing(
    tmp_path: Path, spacings: tuple[list[float] | None, ...]
) -> None:
    assert opened(tmp_path, STACK, 3, **per_frame(*spacings)).spacing is None


def test_spacing_of_a_frame_goes_before_that_of_the_file(tmp_path: Path) -> None:
    spacings = [[0.2, 0.2]] * 3
    image = opened(tmp_path, STACK, 3, PixelSpacing=[1, 1], **per_frame(*spacings))
    assert image.spacing == (0.2, 0.2)


@pytest.mark.parametrize(
    ('stated', 'spacing'),
    [
        ([0.1, 0.2], (0.1, 0.2)),
        ([0.1001, 0.2], (0.1001, 0.2)),
        ([0.2, 0.1], None),
        ([1, 1], None),
    ],
    ids=['the same', 'rounded', 'exchanged', 'another'],
)
def test_pixel_spacing_counts_only_if_the_ultrasound_region_agrees(
    tmp_path: Path, stated: list[float], spacing: tuple[float, float] | None
) -> None:
    regions = Sequence([region()])
    image = opened(
        tmp_path, RAMP, PixelSpacing=stated, SequenceOfUltrasoundRegions=regions
    )
    assert image.spacing == spacing


def test_windows_of_some_frames_only_are_not_used(tmp_path: Path) -> None:
    deep = np.stack([np.full((4, 4), value, np.uint16) for value in (100, 5000)])
    window = Sequence([item(WindowCenter=100, WindowWidth=200)])
    groups = Sequence([item(FrameVOILUTSequence=window), item()])
    image = opened(tmp_path, deep, 2, PerFrameFunctionalGroupsSequence=groups)
    assert image.dtype == np.uint16
    assert image.frame(1).max() == 5000
