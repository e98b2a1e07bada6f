"""The header of a DICOM file and where its pixels are, however the file is packed."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from pydicom import dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.filereader import read_dataset, read_file_meta_info
from pydicom.tag import Tag
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from napari_kdsam.core.errors import ImageError
from napari_kdsam.io.dicom_mark import (
    MARK_BYTES,
    PREAMBLE,
    PREFIX,
    has_preamble,
    is_bare_data_set,
)
from napari_kdsam.io.dicom_values import number_of, numbers_of
from napari_kdsam.io.limits import check_frame_count, check_size

PIXELS = ('PixelData', 'FloatPixelData', 'DoubleFloatPixelData')
# Larger values stay in the file; lookup tables (128 kB at most) do not.
_DEFERRED_BYTES = 1_000_000
_UNDEFINED_LENGTH = 0xFFFFFFFF
# The object identifier of CMS enveloped data, 1.2.840.113549.1.7.3.
_ENVELOPED_DATA = bytes.fromhex('06092a864886f70d010703')
_ENVELOPE_REACH = 32
# The group length stands first in the file meta information, and takes this much.
_GROUP_LENGTH_BYTES = 12
# A deflated file is unpacked as far as its header, and then as far as its pixels.
_UNPACKED_HEADER_BYTES = 16_000_000
_SYNTAXES = {
    (True, True): ImplicitVRLittleEndian,
    (False, True): ExplicitVRLittleEndian,
    (False, False): ExplicitVRBigEndian,
}


@dataclass(frozen=True, eq=False)
class Header:
    """What a file says of its pixels.

    Attributes
    ----------
    path : pathlib.Path
    dataset : pydicom.dataset.Dataset
        The attributes asked for, and the transfer syntax; no pixels.
    source : pathlib.Path or pydicom.dataset.Dataset
        What `pixel_array` takes.
    pixels : pydicom element or None
        The pixel data as they are in the file; None where there are none.
    options : dict
        Further arguments of `pixel_array`.
    """

    path: Path
    dataset: Any
    source: Any
    pixels: Any
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def syntax(self) -> Any:
        """Transfer syntax UID."""
        return self.dataset.file_meta.TransferSyntaxUID

    @property
    def pixel_bytes(self) -> int:
        """Length of the pixel data; 0 where the file does not say it."""
        length = getattr(self.pixels, 'length', None)
        if length is None:
            length = len(self.pixels.value or b'')
        return 0 if length == _UNDEFINED_LENGTH else int(length)

    @contextmanager
    def pixel_stream(self) -> Iterator[BinaryIO]:
        """Open the value of the pixel data."""
        if self.pixels.value is not None:
            yield BytesIO(self.pixels.value)
            return
        with self.path.open('rb') as file:
            file.seek(self.pixels.value_tell)
            yield file


def read_dicom_header(path: Path, wanted: Sequence[str]) -> Header:
    """Read attributes of a file, leaving its pixels where they are.

    Parameters
    ----------
    path : pathlib.Path
    wanted : sequence of str
        Keywords of the attributes; others never enter memory.

    Raises
    ------
    ImageError
        If it is not DICOM, is encrypted, or does not say how its pixels are stored.
    """
    with path.open('rb') as file:
        start = file.read(MARK_BYTES)
    if not has_preamble(start) and not is_bare_data_set(start):
        if _is_encrypted(start):
            raise ImageError(
                f'{path.name} is encrypted; decrypt it with the program it comes from, '
                'and open the result.'
            )
        raise ImageError(
            f'{path.name} lacks the mark of a DICOM file; export it from its viewer '
            'again.'
        )
    if has_preamble(start) and _is_deflated(path):
        return _inflated(path, wanted)
    dataset = dcmread(
        path,
        defer_size=_DEFERRED_BYTES,
        specific_tags=[*wanted, *PIXELS],
        force=True,
    )
    pixels = _pixels_of(dataset)
    options = {} if pixels is None else _completed(path.name, dataset, pixels)
    for keyword in PIXELS:
        if keyword in dataset:
            del dataset[keyword]
    return Header(path, dataset, path, pixels, options)


def _pixels_of(dataset: Any) -> Any:
    held = [keyword for keyword in PIXELS if keyword in dataset]
    return dataset.get_item(held[0], keep_deferred=True) if held else None


def _is_encrypted(start: bytes) -> bool:
    """Whether a file is an envelope as DICOM's secure media (PS3.15) have."""
    return start[:1] == b'\x30' and _ENVELOPED_DATA in start[:_ENVELOPE_REACH]


def _completed(name: str, dataset: Any, pixels: Any) -> dict[str, Any]:
    """Note the transfer syntax where the file leaves it to be seen; for `pixel_array`."""
    if dataset.file_meta.get('TransferSyntaxUID'):
        return {}
    syntax = _SYNTAXES.get(dataset.original_encoding)
    if syntax is None or getattr(pixels, 'length', 0) == _UNDEFINED_LENGTH:
        raise ImageError(
            f'{name} does not say how its pixels are stored (no transfer syntax); '
            'export it again.'
        )
    dataset.file_meta.TransferSyntaxUID = syntax
    return {'transfer_syntax_uid': syntax}


def _is_deflated(path: Path) -> bool:
    meta = read_file_meta_info(path)
    return bool(meta.get('TransferSyntaxUID') == DeflatedExplicitVRLittleEndian)


def _inflated(path: Path, wanted: Sequence[str]) -> Header:
    """Unpack a deflated file, no further than its frames need; they stay in memory."""
    meta: FileMetaDataset = read_file_meta_info(path)
    with path.open('rb') as file:
        file.seek(
            PREAMBLE
            + len(PREFIX)
            + _GROUP_LENGTH_BYTES
            + int(meta.FileMetaInformationGroupLength)
        )
        packed = file.read()
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    content = unpacker.decompress(packed, _UNPACKED_HEADER_BYTES)
    dataset = _parsed(content, wanted, meta)
    needed = left = _pixel_bytes(path.name, dataset)
    while left > 0 and not unpacker.eof:
        part = unpacker.decompress(unpacker.unconsumed_tail, left)
        if not part:
            break
        content, left = content + part, left - len(part)
    source = _parsed(content, [*wanted, *PIXELS], meta)
    pixels = _pixels_of(source)
    if pixels is not None and len(pixels.value) > needed:
        # Frames have an even length together.
        source[pixels.tag].value = pixels.value[: needed + needed % 2]
    return Header(path, dataset, source, _pixels_of(source))


def _pixel_bytes(name: str, dataset: Any) -> int:
    """Bytes of all frames of an uncompressed image."""
    shape = int(dataset.get('Rows') or 0), int(dataset.get('Columns') or 0)
    check_size(name, shape)
    samples = int(dataset.get('SamplesPerPixel') or 1)
    bits = math.prod(shape) * samples * int(dataset.get('BitsAllocated') or 8)
    count = frame_count_of(name, dataset)
    check_frame_count(name, count)
    return math.ceil(bits * count / 8)


def frame_count_of(name: str, dataset: Any) -> int:
    """Read how many frames an image has; 1 where it does not say.

    Raises
    ------
    ImageError
        If it does not say so in numbers.
    """
    stated = number_of(dataset, 'NumberOfFrames')
    if stated is None and numbers_of(dataset, 'NumberOfFrames'):
        raise ImageError(
            f'{name} does not say in numbers how many frames it has; export it again.'
        )
    return max(1, int(stated or 1))


def _parsed(content: bytes, keywords: Sequence[str], meta: Any) -> Any:
    dataset = read_dataset(
        BytesIO(content),
        is_implicit_VR=False,
        is_little_endian=True,
        specific_tags=[Tag(keyword) for keyword in keywords],
    )
    dataset.file_meta = meta
    return dataset
