"""The forms in which DICOM stores colour (PS3.3 C.7.6.3.1.2), and RGB from each.

What the file states is not always what its compressed stream holds: JPEG and JPEG 2000
have marks of their own, and decoders go by those. YBR_PARTIAL of a JPEG stream has the
full range all the same, because JPEG knows no other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut, convert_color_space
from pydicom.uid import (
    JPEG2000TransferSyntaxes,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
)

from napari_kdsam.core.errors import ImageError
from napari_kdsam.io.dicom_values import number_of

_GREY = ('MONOCHROME1', 'MONOCHROME2')
_PALETTE = 'PALETTE COLOR'
_FULL = ('YBR_FULL', 'YBR_FULL_422')
_PARTIAL = ('YBR_PARTIAL_422', 'YBR_PARTIAL_420')
_OF_JPEG_2000 = ('YBR_ICT', 'YBR_RCT')
_JPEG = (JPEGBaseline8Bit, JPEGExtended12Bit)
# Of values of this kind (VR CS).
_LONGEST_NAME = 16
_COLORS = ('Red', 'Green', 'Blue')
PALETTE_KEYWORDS = (
    'PaletteColorLookupTableUID',
    *(
        f'{color}PaletteColorLookupTable{part}'
        for color in _COLORS
        for part in ('Descriptor', 'Data')
    ),
    *(f'Segmented{color}PaletteColorLookupTableData' for color in _COLORS),
)
# Codestream marks of JPEG 2000: its start, coding style, and the end of its header.
_START, _CODING_STYLE, _FIRST_TILE = b'\xff\x4f\xff\x51', b'\xff\x52', b'\xff\x90'


@dataclass(frozen=True)
class DicomColor:
    """What the samples of an image are.

    Attributes
    ----------
    stated : str
        Photometric interpretation of the file.
    decoded_as : str
        Photometric interpretation that pydicom's decoder has to go by.
    is_color : bool
        Whether frames become RGB.
    is_partial : bool
        Whether decoding gives luminance and chroma in 16..235 and 16..240.
    """

    stated: str
    decoded_as: str
    is_color: bool = False
    is_partial: bool = False

    @property
    def is_inverted(self) -> bool:
        """Whether low values are bright."""
        return self.stated == 'MONOCHROME1'

    @property
    def has_palette(self) -> bool:
        """Whether values are places in a table of colours."""
        return self.stated == _PALETTE


def dicom_color_of(
    name: str, dataset: Any, pixel_bytes: int, first_frame: Callable[[], bytes]
) -> DicomColor:
    """Find out what the samples of an image are.

    Parameters
    ----------
    name : str
        File name for the message.
    dataset : pydicom.dataset.Dataset
        Of the image, with its file meta information.
    pixel_bytes : int
        Length of uncompressed pixel data.
    first_frame : callable
        Gives the compressed stream of the first frame.

    Raises
    ------
    ImageError
        If the form is not supported; it is named.
    """
    stated = ' '.join(str(dataset.get('PhotometricInterpretation', '')).upper().split())
    samples = int(dataset.get('SamplesPerPixel') or 1)
    if stated in (*_GREY, _PALETTE) and samples == 1:
        return DicomColor(stated, stated, stated == _PALETTE)
    if stated in _GREY and samples == 3:
        return DicomColor('RGB', 'RGB', is_color=True)
    syntax = dataset.file_meta.TransferSyntaxUID
    found = (
        _three_samples(stated, syntax, dataset, pixel_bytes, first_frame)
        if samples == 3
        else None
    )
    if found is None:
        held = f'{stated[:_LONGEST_NAME] or "nothing"} with {samples} sample{"s" * (samples != 1)}'
        raise ImageError(
            f'{name} says that its colours are stored as {held} of '
            f'{dataset.get("BitsAllocated", 8)} bits a pixel in {syntax.name}, which '
            'cannot be read; export it as RGB.'
        )
    return found


def _three_samples(
    stated: str,
    syntax: Any,
    dataset: Any,
    pixel_bytes: int,
    first_frame: Callable[[], bytes],
) -> DicomColor | None:
    is_ybr = stated in (*_FULL, *_PARTIAL)
    decoded = 'YBR_FULL' if is_ybr else 'RGB'
    if syntax in JPEG2000TransferSyntaxes:
        if stated in _OF_JPEG_2000:
            return DicomColor(stated, stated, is_color=True)
        if is_ybr and _transforms_components(first_frame()):
            decoded = 'RGB'
        known = is_ybr or stated == 'RGB'
    elif syntax in _JPEG:
        decoded = _form_of_jpeg(first_frame()) or decoded
        known = is_ybr or stated == 'RGB'
    elif not syntax.is_encapsulated and stated in ('YBR_FULL_422', 'YBR_PARTIAL_422'):
        whole = int(dataset.Rows) * int(dataset.Columns) * 3
        frames = int(number_of(dataset, 'NumberOfFrames') or 1)
        # Some programs unpack the chroma and leave the name.
        decoded = 'YBR_FULL' if pixel_bytes >= whole * frames else 'YBR_FULL_422'
        known = True
    else:
        known = stated in ('RGB', *_FULL)
    # Only 8-bit samples are converted.
    if not known or (decoded != 'RGB' and int(dataset.get('BitsAllocated', 8)) != 8):
        return None
    is_partial = stated in _PARTIAL and not syntax.is_encapsulated
    return DicomColor(stated, decoded, is_color=True, is_partial=is_partial)


def _form_of_jpeg(stream: bytes) -> str | None:
    """What the mark of Adobe or JFIF in a JPEG stream says; None without one."""
    try:
        with Image.open(BytesIO(stream)) as picture:
            info = picture.info
    except (OSError, SyntaxError, ValueError):
        return None
    if 'adobe_transform' in info:
        return {0: 'RGB', 1: 'YBR_FULL'}.get(info['adobe_transform'])
    return 'YBR_FULL' if 'jfif' in info else None


def _transforms_components(stream: bytes) -> bool:
    """Whether decoding a JPEG 2000 stream undoes a transform of RGB."""
    place = stream.find(_START) + 2
    while place > 1 and (mark := stream[place : place + 2]) != _FIRST_TILE:
        if mark == _CODING_STYLE:
            return stream[place + 8] == 1
        length = int.from_bytes(stream[place + 2 : place + 4], 'big')
        if length < 2:
            break
        place += 2 + length
    return False


def full_range_rgb(partial: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Turn YBR_PARTIAL samples, luminance 16..235 and chroma 16..240, into RGB."""
    black = np.array([16, 128, 128], np.float32)
    grey = np.array([0, 128, 128], np.float32)
    spread = np.array([255 / 219, 255 / 224, 255 / 224], np.float32)
    full = np.rint((partial - black) * spread + grey).clip(0, 255).astype(np.uint8)
    rgb: NDArray[np.uint8] = convert_color_space(full, 'YBR_FULL', 'RGB')
    return rgb


def palette_table(dataset: Any) -> tuple[int, NDArray[np.uint8]]:
    """Read the palette of an image.

    Parameters
    ----------
    dataset : pydicom.dataset.Dataset
        Of the image; its tables may be plain, segmented or one of the standard's.

    Returns
    -------
    tuple of (int, numpy.ndarray)
        Stored value of the first entry, and (N, 3) uint8 colours.
    """
    if 'RedPaletteColorLookupTableDescriptor' not in dataset:
        table = apply_color_lut(
            np.arange(256), palette=str(dataset.PaletteColorLookupTableUID)
        )
        return 0, table[:, :3].astype(np.uint8)
    count, first, bits = dataset.RedPaletteColorLookupTableDescriptor
    # The descriptor writes 65536 entries as 0.
    count, first = int(count) or 65536, int(first)
    entries = np.arange(count) + first
    table = apply_color_lut(entries, _unpadded(dataset, count, int(bits)))[:, :3]
    if table.dtype.itemsize > 1 and table.max() > 255:
        table = table >> 8
    return first, table.astype(np.uint8)


def _unpadded(dataset: Any, count: int, bits: int) -> Any:
    """The palette as pydicom takes it: no byte too many, in this machine's order."""
    made = Dataset()
    made.file_meta = dataset.file_meta
    for keyword in PALETTE_KEYWORDS:
        if keyword not in dataset:
            continue
        value = dataset[keyword].value
        if keyword.endswith('Data') and not keyword.startswith('Segmented'):
            size = 2 if len(value) >= 2 * count else 1
            table = np.frombuffer(value[: size * count], f'u{size}')
            if size == 2 and not dataset.file_meta.TransferSyntaxUID.is_little_endian:
                table = table.byteswap()
            value = table.tobytes()
        setattr(made, keyword, value)
    return made
