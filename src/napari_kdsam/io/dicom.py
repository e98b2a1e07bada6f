"""DICOM files through pydicom: what a viewer shows, frame by frame.

Only the attributes needed to show pixels are read; names, dates and other
identifying attributes never enter memory.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_kdsam.core.errors import ImageError, MissingExtraError, NotAnImageError
from napari_kdsam.io.formats import DICOM
from napari_kdsam.io.image_file import FrameLayout, ImageFile, reading
from napari_kdsam.io.limits import check_held_frames, check_size

try:
    from pydicom import dcmread
    from pydicom.encaps import generate_fragments, get_frame, parse_basic_offsets
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.pixels.utils import pixel_array
    from pydicom.uid import (
        UID,
        MediaStorageDirectoryStorage,
        MPEGTransferSyntaxes,
        SegmentationStorage,
    )
except ImportError as _error:
    raise MissingExtraError('Reading DICOM', DICOM.extra) from _error

from napari_kdsam.io.dicom_color import (
    PALETTE_KEYWORDS,
    DicomColor,
    dicom_color_of,
    full_range_rgb,
    palette_table,
)
from napari_kdsam.io.dicom_header import Header, frame_count_of, read_dicom_header
from napari_kdsam.io.dicom_values import (
    FRAME_KEYWORDS,
    each_frame,
    frame_attributes,
    number_of,
    spacing_of,
)

_WANTED = (
    'SOPClassUID',
    'Rows',
    'Columns',
    'NumberOfFrames',
    'SamplesPerPixel',
    'PhotometricInterpretation',
    'PlanarConfiguration',
    'BitsAllocated',
    'BitsStored',
    'HighBit',
    'PixelRepresentation',
    'SequenceOfUltrasoundRegions',
    *FRAME_KEYWORDS,
    *PALETTE_KEYWORDS,
)
# A frame takes an item of its own (PS3.5 A.4), of at least this much.
_SMALLEST_PACKED = 16
_LINEAR = 'LINEAR'
_LABEL_MAP_STORAGE = UID('1.2.840.10008.5.1.4.1.1.66.7')


def open_dicom(path: Path) -> ImageFile:
    """Open a DICOM file.

    Parameters
    ----------
    path : pathlib.Path
        Single-frame or multi-frame, grey, colour or palette, any transfer syntax an
        installed decoder knows, with or without a preamble.

    Returns
    -------
    ImageFile
        RGB frames are uint8 (16-bit colour is kept as stored). Grey frames go through
        the rescale and the (first) window or VOI table of the file to uint8; without
        a window in each frame they keep their stored or rescaled values. MONOCHROME1 is
        inverted. A DICOM Segmentation gives labels, and says so by `holds_labels`.

    Raises
    ------
    ImageError
        If it is not DICOM, or its compression or form of colour is not supported.
    NotAnImageError
        If it is another object than an image, such as a report or a DICOMDIR.
    MissingExtraError
        If the decoder of its compression is not installed.
    """
    with reading(path.name):
        header = read_dicom_header(path, _WANTED)
        kind = header.dataset.get('SOPClassUID') or header.dataset.file_meta.get(
            'MediaStorageSOPClassUID'
        )
        if kind == MediaStorageDirectoryStorage:
            raise NotAnImageError(
                f'{path.name} is the table of contents of a disc (DICOMDIR); give it '
                'to segment or batch, or choose an image file of the disc, or its folder.'
            )
        if kind in (SegmentationStorage, _LABEL_MAP_STORAGE):
            return _open_segmentation(path)
        if header.pixels is None:
            named = f' ({kind.name})' if kind and kind.name != kind else ''
            raise NotAnImageError(
                f'{path.name} is a DICOM file without an image{named}; choose an image '
                'of the series.'
            )
        _check_decodable(path.name, header.syntax)
        if header.syntax in MPEGTransferSyntaxes:
            return _open_film(path, header)
        return _DicomFile(path, header)


def _open_segmentation(path: Path) -> ImageFile:
    try:
        from napari_kdsam.io.dicom_seg import open_dicom_seg

        return open_dicom_seg(path)
    except (ImageError, MissingExtraError) as error:
        # It is no image to segment, whether its labels can be read or not.
        raise NotAnImageError(
            f'{path.name} is a DICOM Segmentation, not an image: {error}'
        ) from error


def _check_decodable(name: str, syntax: Any) -> None:
    if not syntax.is_encapsulated or syntax in MPEGTransferSyntaxes:
        return
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError as error:
        raise ImageError(
            f'{name} is compressed as {syntax.name}, which cannot be read; export it '
            'uncompressed.'
        ) from error
    if not decoder.is_available:
        raise MissingExtraError(f'Reading {syntax.name} DICOM', DICOM.extra)


def _open_film(path: Path, header: Header) -> ImageFile:
    """Open the video stream that the pixel data of a file are."""
    from napari_kdsam.io.video import VideoFile

    with header.pixel_stream() as stream:
        parse_basic_offsets(stream)
        film = b''.join(generate_fragments(stream))
    try:
        video = VideoFile(path, film)
    except (OSError, ValueError) as error:
        raise ImageError(
            f'{path.name} is compressed as {header.syntax.name}, and no frame of it can '
            'be decoded; copy or export it again.'
        ) from error
    video.spacing = spacing_of(header.dataset)
    return video


class _DicomFile(ImageFile):
    def __init__(self, path: Path, header: Header) -> None:
        dataset = self._dataset = header.dataset
        rows, columns = int(dataset.Rows), int(dataset.Columns)
        if rows == 0 or columns == 0:
            raise ImageError(f'{path.name} has no pixels; export it again.')
        check_size(path.name, (rows, columns))
        count = frame_count_of(path.name, dataset)
        _check_held(path, header, count)

        def first_frame() -> bytes:
            with header.pixel_stream() as stream:
                return get_frame(stream, 0, number_of_frames=count)

        form = dicom_color_of(path.name, dataset, header.pixel_bytes, first_frame)
        self._form = form
        self._table = palette_table(dataset) if form.has_palette else None
        self._source = _countable(header, count)
        self._options = {
            **header.options,
            'photometric_interpretation': form.decoded_as,
            'number_of_frames': count,
        }
        layout = FrameLayout(
            count, (rows, columns, 3) if form.is_color else (rows, columns)
        )
        super().__init__(
            path.name,
            layout,
            _delivered_dtype(dataset, form, count),
            spacing_of(dataset),
        )

    def _read(self, index: int) -> NDArray[Any]:
        form = self._form
        stored = pixel_array(
            self._source, index=index, raw=form.is_partial, **self._options
        )
        if self._table is not None:
            first, table = self._table
            return table[np.clip(stored.astype(np.int64) - first, 0, len(table) - 1)]
        if form.is_partial:
            return full_range_rgb(stored)
        if stored.ndim == 3:
            return stored.astype(self.dtype, copy=False)
        if self.dtype == np.bool_:
            shown = stored.astype(np.bool_)
            return ~shown if form.is_inverted else shown
        values = self._shown(stored, frame_attributes(self._dataset, index))
        return values.astype(self.dtype, copy=False)

    def _shown(self, stored: NDArray[Any], frame: Any) -> NDArray[Any]:
        """Grey values after rescale, window and inversion."""
        inverted = self._form.is_inverted
        values = _rescaled(stored, frame) if _has_rescale(frame) else stored
        if self.dtype == np.uint8 and _has_window(frame):
            eight_bit = _windowed(values, frame)
            return 255 - eight_bit if inverted else eight_bit
        if not inverted:
            return values
        if values.dtype.kind == 'u':
            top = (1 << int(self._dataset.BitsStored)) - 1
            return values.dtype.type(top) - np.minimum(values, top)
        if values.dtype.kind == 'i':
            return ~values
        return -values


def _countable(header: Header, count: int) -> Any:
    """What `pixel_array` takes, whose number of frames it reads without a comma."""
    if not isinstance(header.dataset.get('NumberOfFrames'), str):
        return header.source
    source = header.source
    if source is header.path:
        source = dcmread(header.path, force=True)
    source.NumberOfFrames = count
    return source


def _check_held(path: Path, header: Header, count: int) -> None:
    """Refuse a file that says that it has many more frames than fit into it."""
    held = path.stat().st_size if header.source is path else header.pixel_bytes
    smallest = _SMALLEST_PACKED
    if not header.syntax.is_encapsulated:
        dataset = header.dataset
        smallest = int(dataset.Rows) * int(dataset.Columns)
        smallest *= int(dataset.get('BitsAllocated', 8))
        smallest = max(1, smallest // 8)
    check_held_frames(path.name, count, held // smallest)


def _delivered_dtype(dataset: Any, form: DicomColor, count: int) -> np.dtype[Any]:
    bits = dataset.get('BitsAllocated', 8)
    if form.has_palette:
        return np.dtype(np.uint8)
    if bits == 1:
        return np.dtype(np.bool_)
    if not form.is_color:
        frames = list(each_frame(dataset, count))
        if all(_has_window(frame) for frame in frames):
            return np.dtype(np.uint8)
        if any(_has_rescale(frame) for frame in frames):
            return np.dtype(np.float32)
    stored = np.float32 if 'BitsStored' not in dataset else None
    signed = dataset.get('PixelRepresentation', 0)
    return np.dtype(stored or f'{"i" if signed else "u"}{max(1, bits // 8)}')


def _has_window(frame: Any) -> bool:
    if frame.get('VOILUTSequence'):
        return True
    centre, width = number_of(frame, 'WindowCenter'), number_of(frame, 'WindowWidth')
    if centre is None or width is None:
        return False
    # Less than the standard allows would leave black and white alone.
    return width >= 1 or (width > 0 and _voi_function(frame) != _LINEAR)


def _voi_function(frame: Any) -> str:
    return str(frame.get('VOILUTFunction') or _LINEAR)


def _has_rescale(frame: Any) -> bool:
    rescale = number_of(frame, 'RescaleSlope'), number_of(frame, 'RescaleIntercept')
    # A slope of 0 would make every pixel the same.
    usable = None not in rescale and rescale[0] != 0 and rescale != (1.0, 0.0)
    return bool(frame.get('ModalityLUTSequence')) or usable


def _rescaled(stored: NDArray[Any], frame: Any) -> NDArray[Any]:
    """Apply the modality table or rescale (DICOM PS3.3 C.11.1)."""
    if frame.get('ModalityLUTSequence'):
        return _looked_up(stored, frame.ModalityLUTSequence[0], frame)[0]
    slope, offset = (
        number_of(frame, 'RescaleSlope'),
        number_of(frame, 'RescaleIntercept'),
    )
    return stored * (1.0 if slope is None else slope) + (offset or 0.0)


def _looked_up(values: NDArray[Any], item: Any, frame: Any) -> tuple[NDArray[Any], int]:
    """Look values up in a table; also the number of bits of its entries."""
    count, first, bits = item.LUTDescriptor
    table = item.LUTData
    if isinstance(table, bytes):
        little = frame.file_meta.TransferSyntaxUID.is_little_endian
        table = np.frombuffer(table, '<u2' if little else '>u2')
    # The descriptor writes 65536 entries as 0.
    last = (int(count) or 65536) - 1
    entries = np.clip(values.astype(np.int64) - int(first), 0, last)
    return np.asarray(table)[entries], int(bits)


def _windowed(values: NDArray[Any], frame: Any) -> NDArray[np.uint8]:
    """Apply the VOI table or window (DICOM PS3.3 C.11.2), ending at 0..255."""
    if frame.get('VOILUTSequence'):
        found, bits = _looked_up(values, frame.VOILUTSequence[0], frame)
        shown = found / ((1 << bits) - 1)
    else:
        shown = _window(
            values.astype(np.float64),
            number_of(frame, 'WindowCenter') or 0.0,
            number_of(frame, 'WindowWidth') or 0.0,
            _voi_function(frame),
        )
    return np.rint(np.clip(shown, 0.0, 1.0) * 255).astype(np.uint8)


def _window(
    values: NDArray[np.float64], centre: float, width: float, function: str
) -> NDArray[np.float64]:
    smallest = np.finfo(np.float64).eps
    if function == 'SIGMOID':
        steep = np.clip(-4 * (values - centre) / max(width, smallest), -500, 500)
        return 1 / (1 + np.exp(steep))
    if function == _LINEAR:
        # The standard counts a width of 1 as a threshold at centre - 0.5.
        centre, width = centre - 0.5, width - 1
    return (values - centre) / max(width, smallest) + 0.5
