"""Values of DICOM attributes as devices write them, and the pixel spacing they give.

Decimal commas and words where numbers belong are common in files of real devices; a
value that cannot be taken for a number counts as not stated.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from pydicom.dataset import Dataset

_MODALITY = ('RescaleSlope', 'RescaleIntercept', 'RescaleType', 'ModalityLUTSequence')
_VOI = ('WindowCenter', 'WindowWidth', 'VOILUTFunction', 'VOILUTSequence')
_GROUPS = ('SharedFunctionalGroupsSequence', 'PerFrameFunctionalGroupsSequence')
# Enhanced multi-frame files keep these attributes in a sequence of the same meaning.
_MACROS = {
    'PixelValueTransformationSequence': _MODALITY,
    'FrameVOILUTSequence': _VOI,
    'PixelMeasuresSequence': ('PixelSpacing',),
}
FRAME_KEYWORDS = (*_MODALITY, *_VOI, *_GROUPS, 'PixelSpacing')
_CENTIMETRES = 3
_TISSUE_PLANE = 1
# Devices round the same spacing differently in its two places.
_SAME_SPACING = 0.01


def numbers_of(dataset: Any, keyword: str) -> list[float | None]:
    """Read the values of an attribute as finite numbers.

    Parameters
    ----------
    dataset : pydicom.dataset.Dataset
    keyword : str

    Returns
    -------
    list of float or None
        None for each value that is no number; a decimal comma counts as a point. Empty
        where the attribute is missing or empty.
    """
    value = dataset.get(keyword)
    if value is None or value == '':
        return []
    several = not isinstance(value, str | float | int) and hasattr(value, '__iter__')
    return [_number(item) for item in (value if several else [value])]


def _number(value: Any) -> float | None:
    try:
        number = float(str(value).strip().replace(',', '.'))
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def number_of(dataset: Any, keyword: str) -> float | None:
    """First value of an attribute, if it is a number; windows may be alternatives."""
    values = numbers_of(dataset, keyword)
    return values[0] if values else None


def frame_attributes(dataset: Any, index: int) -> Any:
    """Collect the rescale, window and spacing that hold for one frame.

    Parameters
    ----------
    dataset : pydicom.dataset.Dataset
        Of an image, with its functional groups.
    index : int
        Frame number, counted from 0.
    """
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


def each_frame(dataset: Any, count: int) -> Iterator[Any]:
    """Attributes of every frame, or of one where they are the same for all."""
    stated = len(dataset.get(_GROUPS[1]) or ())
    for index in range(min(count, stated + 1) if stated else 1):
        yield frame_attributes(dataset, index)


def spacing_of(dataset: Any) -> tuple[float, float] | None:
    """Millimetres between pixel centres along (rows, columns), if stated reliably.

    Pixel spacing and the regions of ultrasound may both state it; where they disagree,
    or frames do, none is taken.

    Parameters
    ----------
    dataset : pydicom.dataset.Dataset
        Of an image, with its functional groups and ultrasound regions.
    """
    count = int(number_of(dataset, 'NumberOfFrames') or 1)
    frames = {_stated_spacing(frame) for frame in each_frame(dataset, count)}
    regions = {
        _region_spacing(region)
        for region in dataset.get('SequenceOfUltrasoundRegions') or []
        if _is_measured_tissue(region, dataset)
    }
    if len(frames) > 1 or len(regions) > 1:
        return None
    stated, measured = frames.pop(), regions.pop() if regions else None
    if stated is None or measured is None:
        return stated or measured
    return stated if _is_same(stated, measured) else None


def _stated_spacing(frame: Any) -> tuple[float, float] | None:
    values = [value or 0.0 for value in numbers_of(frame, 'PixelSpacing')]
    return (values[0], values[1]) if len(values) == 2 and min(values) > 0 else None


def _region_spacing(region: Any) -> tuple[float, float]:
    row = number_of(region, 'PhysicalDeltaY') or 0.0
    column = number_of(region, 'PhysicalDeltaX') or 0.0
    return 10 * abs(row), 10 * abs(column)


def _is_same(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return all(
        math.isclose(a, b, rel_tol=_SAME_SPACING)
        for a, b in zip(one, other, strict=True)
    )


def _is_measured_tissue(region: Any, dataset: Any) -> bool:
    """Whether a region is 2D, in centimetres, and of this image.

    A region that reaches beyond the image belongs to the image before it was scaled
    or cut, so its pixel size cannot be trusted.
    """
    return (
        region.get('RegionSpatialFormat') == _TISSUE_PLANE
        and region.get('PhysicalUnitsXDirection') == _CENTIMETRES
        and region.get('PhysicalUnitsYDirection') == _CENTIMETRES
        and bool(number_of(region, 'PhysicalDeltaX'))
        and bool(number_of(region, 'PhysicalDeltaY'))
        and (number_of(region, 'RegionLocationMaxX1') or 0) <= dataset.Columns
        and (number_of(region, 'RegionLocationMaxY1') or 0) <= dataset.Rows
    )
