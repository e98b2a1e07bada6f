"""DICOM files through pydicom: what a viewer shows, frame by frame.

Only the attributes needed to show pixels are read; names, dates and other
identifying attributes never enter memory.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_kdsam.core.errors import ImageError, MissingExtraError
from napari_kdsam.io.formats import DICOM
from napari_kdsam.io.image_file import FrameLayout, ImageFile, reading
from napari_kdsam.io.limits import check_size

try:
    from pydicom import dcmread
    from pydicom.dataset import Dataset
    from pydicom.errors import InvalidDicomError
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.pixels.processing import apply_color_lut
    from pydicom.pixels.utils import pixel_array
except ImportError as _error:
    raise MissingExtraError('Reading DICOM', DICOM.extra) from _error

_PIXELS = ('PixelData', 'FloatPixelData', 'DoubleFloatPixelData')
_MODALITY = ('RescaleSlope', 'RescaleIntercept', 'RescaleType', 'ModalityLUTSequence')
_VOI = ('WindowCenter', 'WindowWidth', 'VOILUTFunction', 'VOILUTSequence')
_PALETTE = tuple(
    f'{color}PaletteColorLookupTable{part}'
    for color in ('Red', 'Green', 'Blue')
    for part in ('Descriptor', 'Data')
) + tuple(
    f'Segmented{color}PaletteColorLookupTableData' for color in ('Red', 'Green', 'Blue')
)
_GROUPS = ('SharedFunctionalGroupsSequence', 'PerFrameFunctionalGroupsSequence')
# Enhanced multi-frame files keep these attributes in a sequence of the same meaning.
_MACROS = {
    'PixelValueTransformationSequence': _MODALITY,
    'FrameVOILUTSequence': _VOI,
    'PixelMeasuresSequence': ('PixelSpacing',),
}
_WANTED = [
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
    'PixelSpacing',
    'SequenceOfUltrasoundRegions',
    *_MODALITY,
    *_VOI,
    *_PALETTE,
    *_GROUPS,
    *_PIXELS,
]
# Larger values stay in the file; lookup tables (128 kB at most) do not.
_DEFERRED_BYTES = 1_000_000
# The object identifier of CMS enveloped data, 1.2.840.113549.1.7.3.
_ENVELOPED_DATA = bytes.fromhex('06092a864886f70d010703')
_ENVELOPE_REACH = 32
_CENTIMETRES = 3
_TISSUE_PLANE = 1


def open_dicom(path: Path) -> ImageFile:
    """Open a DICOM file.

    Parameters
    ----------
    path : pathlib.Path
        Single-frame or multi-frame, grey, colour or palette, any transfer syntax an
        installed decoder knows.

    Returns
    -------
    ImageFile
        RGB frames are uint8 (16-bit colour is kept as stored). Grey frames go through
        the rescale and the (first) window or VOI table of the file to uint8; without
        a window they keep their stored or rescaled values. MONOCHROME1 is inverted.

    Raises
    ------
    ImageError
        If it is not DICOM, has no pixel data, or its compression is not supported.
    MissingExtraError
        If the decoder of its compression is not installed.
    """
    with reading(path.name):
        try:
            dataset = dcmread(
                path, defer_size=_DEFERRED_BYTES, specific_tags=list(_WANTED)
            )
        except InvalidDicomError as error:
            if _is_encrypted(path):
                raise ImageError(
                    f'{path.name} is encrypted; decrypt it with the program it comes '
                    'from, and open the result.'
                ) from error
            raise ImageError(
                f'{path.name} lacks the mark of a DICOM file; export it from its viewer '
                'again.'
            ) from error
        _check_decodable(path.name, dataset)
        source: Any = path
        if dataset.file_meta.TransferSyntaxUID.is_deflated:
            # Such a file is unpacked as a whole; pydicom offers no frame of it alone.
            source = dcmread(path, specific_tags=list(_WANTED))
        for keyword in _PIXELS:
            if keyword in dataset:
                del dataset[keyword]
        return _DicomFile(path, source, dataset)


def _is_encrypted(path: Path) -> bool:
    """Whether a file is an envelope as DICOM's secure media (PS3.15) have."""
    with path.open('rb') as file:
        start = file.read(_ENVELOPE_REACH)
    return start[:1] == b'\x30' and _ENVELOPED_DATA in start


def _check_decodable(name: str, dataset: Any) -> None:
    if not any(keyword in dataset for keyword in _PIXELS):
        raise ImageError(
            f'{name} is a DICOM file without an image (no pixel data); choose an image '
            'of the series.'
        )
    syntax = dataset.file_meta.get('TransferSyntaxUID')
    if syntax is None:
        raise ImageError(
            f'{name} does not say how its pixels are stored (no transfer syntax); '
            'export it again.'
        )
    if not syntax.is_encapsulated:
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


class _DicomFile(ImageFile):
    def __init__(self, path: Path, source: Any, dataset: Any) -> None:
        self._source = source
        self._dataset = dataset
        self._photometric = str(dataset.PhotometricInterpretation)
        self._table = (
            _palette_table(dataset) if self._photometric == 'PALETTE COLOR' else None
        )
        rows, columns = int(dataset.Rows), int(dataset.Columns)
        if rows == 0 or columns == 0:
            raise ImageError(f'{path.name} has no pixels; export it again.')
        check_size(path.name, (rows, columns))
        is_color = dataset.get('SamplesPerPixel', 1) == 3 or self._table is not None
        layout = FrameLayout(
            max(1, int(dataset.get('NumberOfFrames') or 1)),
            (rows, columns, 3) if is_color else (rows, columns),
        )
        super().__init__(
            path.name, layout, self._delivered_dtype(is_color), spacing_of(dataset)
        )

    def _delivered_dtype(self, is_color: bool) -> np.dtype[Any]:
        dataset = self._dataset
        bits = dataset.get('BitsAllocated', 8)
        if self._table is not None:
            return np.dtype(np.uint8)
        if bits == 1:
            return np.dtype(np.bool_)
        if not is_color:
            frame = _frame_attributes(dataset, 0)
            if _has_window(frame):
                return np.dtype(np.uint8)
            if _has_rescale(frame):
                return np.dtype(np.float32)
        stored = np.float32 if 'BitsStored' not in dataset else None
        signed = dataset.get('PixelRepresentation', 0)
        return np.dtype(stored or f'{"i" if signed else "u"}{max(1, bits // 8)}')

    def _read(self, index: int) -> NDArray[Any]:
        stored = pixel_array(self._source, index=index)
        if self._table is not None:
            first, table = self._table
            return table[np.clip(stored.astype(np.int64) - first, 0, len(table) - 1)]
        if stored.ndim == 3:
            return stored.astype(self.dtype, copy=False)
        if self.dtype == np.bool_:
            shown = stored.astype(np.bool_)
            return ~shown if self._photometric == 'MONOCHROME1' else shown
        values = self._shown(stored, _frame_attributes(self._dataset, index))
        return values.astype(self.dtype, copy=False)

    def _shown(self, stored: NDArray[Any], frame: Any) -> NDArray[Any]:
        """Grey values after rescale, window and inversion."""
        inverted = self._photometric == 'MONOCHROME1'
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


def _frame_attributes(dataset: Any, index: int) -> Any:
    """Collect the rescale, window and spacing that hold for one frame."""
    frame = Dataset()
    frame.file_meta = dataset.file_meta
    groups = [dataset]
    shared = dataset.get(_GROUPS[0])
    if shared:
        groups.append(shared[0])
    each = dataset.get(_GROUPS[1])
    if each and index < len(each):
        groups.append(each[index])
    for number, group in enumerate(groups):
        for sequence, keywords in _MACROS.items():
            items = [group] if number == 0 else group.get(sequence) or []
            for keyword in keywords if items else ():
                if keyword in items[0]:
                    frame[keyword] = items[0][keyword]
    for keyword in ('BitsStored', 'BitsAllocated', 'PixelRepresentation'):
        if keyword in dataset:
            frame[keyword] = dataset[keyword]
    return frame


def _has_window(frame: Any) -> bool:
    window = _first(frame.get('WindowCenter')), _first(frame.get('WindowWidth'))
    return bool(frame.get('VOILUTSequence')) or None not in window


def _has_rescale(frame: Any) -> bool:
    return bool(frame.get('ModalityLUTSequence')) or (
        frame.get('RescaleSlope') is not None
        and frame.get('RescaleIntercept') is not None
        and (float(frame.RescaleSlope), float(frame.RescaleIntercept)) != (1.0, 0.0)
    )


def _first(value: Any) -> float | None:
    """First of one or several numbers; DICOM windows may come as alternatives."""
    if value is None or isinstance(value, str):
        return None
    try:
        return float(value)
    except TypeError:
        return float(value[0]) if len(value) else None


def _rescaled(stored: NDArray[Any], frame: Any) -> NDArray[Any]:
    """Apply the modality table or rescale (DICOM PS3.3 C.11.1)."""
    if frame.get('ModalityLUTSequence'):
        return _looked_up(stored, frame.ModalityLUTSequence[0], frame)[0]
    return stored * float(frame.RescaleSlope) + float(frame.RescaleIntercept)


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
        centre, width = _first(frame.WindowCenter), _first(frame.WindowWidth)
        shown = _window(
            values.astype(np.float64),
            centre or 0.0,
            width or 0.0,
            str(frame.get('VOILUTFunction') or 'LINEAR'),
        )
    return np.rint(np.clip(shown, 0.0, 1.0) * 255).astype(np.uint8)


def _window(
    values: NDArray[np.float64], centre: float, width: float, function: str
) -> NDArray[np.float64]:
    smallest = np.finfo(np.float64).eps
    if function == 'SIGMOID':
        steep = np.clip(-4 * (values - centre) / max(width, smallest), -500, 500)
        return 1 / (1 + np.exp(steep))
    if function == 'LINEAR':
        # The standard counts a width of 1 as a threshold at centre - 0.5.
        centre, width = centre - 0.5, width - 1
    return (values - centre) / max(width, smallest) + 0.5


def _palette_table(dataset: Any) -> tuple[int, NDArray[np.uint8]]:
    """Stored value of the first entry, and (N, 3) uint8 colours."""
    count, first, _ = dataset.RedPaletteColorLookupTableDescriptor
    # The descriptor writes 65536 entries as 0.
    entries = np.arange(int(count) or 65536) + int(first)
    table = apply_color_lut(entries, dataset)[:, :3]
    if table.dtype.itemsize > 1 and table.max() > 255:
        table = table >> 8
    return int(first), table.astype(np.uint8)


def spacing_of(dataset: Any) -> tuple[float, float] | None:
    """Millimetres between pixel centres along (rows, columns), if stated reliably.

    Parameters
    ----------
    dataset : pydicom.dataset.Dataset
        Of an image, with its functional groups and ultrasound regions.
    """
    spacing = _frame_attributes(dataset, 0).get('PixelSpacing')
    if spacing is not None and len(spacing) == 2 and min(map(float, spacing)) > 0:
        return float(spacing[0]), float(spacing[1])
    found = {
        (10 * abs(float(region.PhysicalDeltaY)), 10 * abs(float(region.PhysicalDeltaX)))
        for region in dataset.get('SequenceOfUltrasoundRegions') or []
        if _is_measured_tissue(region, dataset)
    }
    return found.pop() if len(found) == 1 else None


def _is_measured_tissue(region: Any, dataset: Any) -> bool:
    """Whether a region is 2D, in centimetres, and of this image.

    A region that reaches beyond the image belongs to the image before it was scaled
    or cut, so its pixel size cannot be trusted.
    """
    return (
        region.get('RegionSpatialFormat') == _TISSUE_PLANE
        and region.get('PhysicalUnitsXDirection') == _CENTIMETRES
        and region.get('PhysicalUnitsYDirection') == _CENTIMETRES
        and bool(region.get('PhysicalDeltaX'))
        and bool(region.get('PhysicalDeltaY'))
        and region.get('RegionLocationMaxX1', 0) <= dataset.Columns
        and region.get('RegionLocationMaxY1', 0) <= dataset.Rows
    )
