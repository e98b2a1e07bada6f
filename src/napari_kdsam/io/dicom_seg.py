"""Labels in DICOM Segmentation files, of one image or of several."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_kdsam.core.errors import ImageError, MissingExtraError, excerpt
from napari_kdsam.core.label_image import label_dtype
from napari_kdsam.io.dicom_header import frame_count_of
from napari_kdsam.io.dicom_values import spacing_of
from napari_kdsam.io.image_file import FrameLayout, ImageFile, reading
from napari_kdsam.io.limits import check_size

try:
    from pydicom import dcmread
    from pydicom.dataset import Dataset
    from pydicom.errors import InvalidDicomError
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.pixels.utils import pixel_array
except ImportError as _error:
    raise MissingExtraError('Reading DICOM-SEG', 'medical') from _error


@dataclass(frozen=True, eq=False)
class DicomSegmentation:
    """What a SEG file holds.

    Attributes
    ----------
    labels : numpy.ndarray
        (T, H, W) unsigned; pixels of segment n have the value n, and where segments
        overlap the one with the lower number keeps the pixels. T is the frame count of
        the source image.
    names : dict
        Segment number to its name.
    spacing : tuple of float or None
        Millimetres between pixels along (rows, columns).
    source_uid : str
        SOP instance UID of the source image.
    """

    labels: NDArray[Any]
    names: dict[int, str]
    spacing: tuple[float, float] | None
    source_uid: str


def read_dicom_seg(
    path: Path | str, frame_count: int | None = None
) -> DicomSegmentation:
    """Read a DICOM Segmentation of one image.

    Parameters
    ----------
    path : path-like
        The SEG file, binary or a label map.
    frame_count : int, optional
        Frames of the source image. The file does not say it, and may leave out frames
        without pixels; by default the last frame with pixels is the last.

    Raises
    ------
    ImageError
        If it is no such file, is damaged, or belongs to several images.
    """
    path = Path(path)
    with reading(path.name):
        file = _SegmentationFile(path, _read_seg(path), frame_count)
        uids = file.source_uids
        if uids == ['']:
            raise ImageError(
                f'{path.name} does not say which image it belongs to; export it with a '
                'reference to its image.'
            )
        if len(uids) != 1:
            raise ImageError(
                f'{path.name} belongs to {len(uids)} images; read the segmentation of '
                'one.'
            )
        labels = np.stack([file.frame(index) for index in range(file.frame_count)])
        return DicomSegmentation(labels, file.names, file.spacing, uids[0])


def open_dicom_seg(path: Path) -> ImageFile:
    """Open a DICOM Segmentation as labels, frame by frame.

    Parameters
    ----------
    path : pathlib.Path
        The SEG file, binary or a label map, of one or several images.

    Returns
    -------
    ImageFile
        Its frames are those of its image, up to the last one with labels, and hold
        segment numbers; where it belongs to several images, theirs follow each other in
        the order in which the file names the images, also those without labels.

    Raises
    ------
    ImageError
        If it is no such file, is damaged, or holds fractions.
    """
    with reading(path.name):
        dataset = _read_seg(path)
        return _SegmentationFile(path, dataset, named=_named_images(dataset))


def _read_seg(path: Path) -> Any:
    try:
        dataset = dcmread(path)
    except InvalidDicomError as error:
        raise ImageError(f'{path.name} is not a DICOM file.') from error
    # A label map is recent, and has a class of its own.
    kind = dataset.get('SegmentationType')
    if dataset.get('Modality') != 'SEG' or not kind:
        raise ImageError(
            f'{path.name} is not a binary DICOM Segmentation; choose a SEG file of '
            'that type.'
        )
    if kind not in ('BINARY', 'LABELMAP'):
        raise ImageError(
            f'{path.name} holds {excerpt(kind)} segments, which are no labels; export '
            'them as BINARY or LABELMAP.'
        )
    syntax = dataset.file_meta.get('TransferSyntaxUID')
    try:
        readable = not syntax.is_encapsulated or get_decoder(syntax).is_available
    except (AttributeError, NotImplementedError, ValueError):
        readable = False
    if not readable:
        known = getattr(syntax, 'name', None)
        raise ImageError(
            f'{path.name} is compressed as {known}, which cannot be read; export it '
            'uncompressed.'
        )
    return dataset


def _named_images(dataset: Any) -> list[str]:
    """SOP instance UIDs of all images that a file was made of, in its order."""
    return [
        str(image.ReferencedSOPInstanceUID)
        for series in dataset.get('ReferencedSeriesSequence') or []
        for image in series.get('ReferencedInstanceSequence') or []
        if 'ReferencedSOPInstanceUID' in image
    ]


class _SegmentationFile(ImageFile):
    """Labels that are put together of the segments in each frame.

    Attributes
    ----------
    names : dict
        Segment number to its name.
    source_uids : list of str
        SOP instance UIDs of the images it belongs to.
    """

    holds_labels = True

    def __init__(
        self,
        path: Path,
        dataset: Any,
        frame_count: int | None = None,
        named: Sequence[str] = (),
    ) -> None:
        placed = list(_places(dataset))
        labelled = dict.fromkeys(uid for uid, _, _ in placed)
        # Segments come one after the other, each with the images it is in.
        before = dict.fromkeys(named if set(labelled) <= set(named) else ())
        self.source_uids = list(before | labelled)
        counts = dict.fromkeys(self.source_uids, 1)
        for uid, _, number in placed:
            counts[uid] = max(counts[uid], number)
        if len(counts) == 1 and frame_count is not None:
            count = counts[self.source_uids[0]]
            if frame_count < count:
                raise ImageError(
                    f'{path.name} has labels in frame {count - 1} of its image, which '
                    f'has only {frame_count}; choose the image it was made of.'
                )
            counts[self.source_uids[0]] = frame_count
        first = dict(zip(counts, accumulate(counts.values(), initial=0), strict=False))
        self._held: dict[int, list[tuple[int, int]]] = {}
        for place, (uid, segment, number) in enumerate(placed):
            frame = self._held.setdefault(first[uid] + number - 1, [])
            frame.append((segment, place))
        self.names = {
            int(item.SegmentNumber): str(item.SegmentLabel)
            for item in dataset.get('SegmentSequence') or []
            # A label map may describe its background too.
            if int(item.SegmentNumber)
        }
        rows, columns = int(dataset.Rows), int(dataset.Columns)
        check_size(path.name, (rows, columns))
        self._masks = pixel_array(dataset).reshape(len(placed), rows, columns)
        layout = FrameLayout(sum(counts.values()), (rows, columns))
        dtype = label_dtype(max([0, *self.names, int(self._masks.max(initial=0))]))
        super().__init__(path.name, layout, np.dtype(dtype), spacing_of(dataset))

    def _read(self, index: int) -> NDArray[Any]:
        labels = np.zeros(self.frame_shape, self.dtype)
        for segment, place in sorted(self._held.get(index, ())):
            free = (self._masks[place] > 0) & (labels == 0)
            # The pixels of a label map are segment numbers themselves.
            labels[free] = segment or self._masks[place][free]
        return labels


def _places(dataset: Any) -> Iterator[tuple[str, int, int]]:
    """Source image, segment (0 for all) and frame number from 1 of each frame.

    Where a file names no image, the frames of each segment follow each other.
    """
    shared = (dataset.get('SharedFunctionalGroupsSequence') or [Dataset()])[0]
    count = frame_count_of('', dataset)
    groups = dataset.get('PerFrameFunctionalGroupsSequence') or [Dataset()] * count
    numbers: Counter[int] = Counter()
    for group in groups:
        segment = 0
        if dataset.SegmentationType != 'LABELMAP':
            holder = group if 'SegmentIdentificationSequence' in group else shared
            said = holder.get('SegmentIdentificationSequence')
            segment = int(said[0].ReferencedSegmentNumber) if said else 1
        numbers[segment] += 1
        derived = group.get('DerivationImageSequence')
        images = derived[0].get('SourceImageSequence') if derived else None
        if images:
            number = int(images[0].get('ReferencedFrameNumber') or 1)
            yield str(images[0].ReferencedSOPInstanceUID), segment, number
        else:
            yield '', segment, numbers[segment]
