"""The labels of one image in a file: in any of the forms, written and read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from napari_kdsam.core.errors import ImageError
from napari_kdsam.core.label_image import label_dtype
from napari_kdsam.io.formats import DICOM, NIFTI, TIFF, open_image
from napari_kdsam.io.label_images import mask_frame, write_labels
from napari_kdsam.io.results import MANUAL

LabelForm = Literal['image', 'png', 'tiff', 'nifti', 'dicom-seg', 'coco']
LABEL_FORMS: tuple[LabelForm, ...] = get_args(LabelForm)
_COCO = '.json'
# What labels are looked for in, the likeliest first.
LABEL_SUFFIXES = ('.png', '.tif', '.tiff', '.nii.gz', '.nii', '.dcm', _COCO)


@dataclass(frozen=True, eq=False)
class LabelsOfImage:
    """Labels with what is to be known for writing them.

    Attributes
    ----------
    labels : numpy.ndarray
        (..., rows, columns) whole numbers, 0 for background.
    classes : mapping of int to str
        Label to the name of its class.
    spacing : tuple of float or None
        Millimetres between pixels along all axes, where the image says so.
    """

    labels: NDArray[Any]
    classes: Mapping[int, str] = field(default_factory=dict)
    spacing: tuple[float, ...] | None = None


def suffix_for(form: LabelForm, image: Path, ndim: int) -> str:
    """How the name of the labels of an image ends.

    Parameters
    ----------
    form : LabelForm
        What was asked for. Where the image cannot have it (a stack as PNG, a picture
        as DICOM-SEG), it is what suits the image.
    image : pathlib.Path
    ndim : int
        Axes of the labels.
    """
    if form == 'dicom-seg' and ndim <= 3 and _is_dicom(image):
        return '.dcm'
    if form == 'coco' and ndim <= 3:
        return _COCO
    if form == 'nifti' or ndim > 3 or (form == 'image' and NIFTI.names(image.name)):
        return '.nii' if image.name.lower().endswith('.nii') else '.nii.gz'
    as_tiff = form == 'tiff' or (form == 'image' and TIFF.names(image.name))
    return '.tif' if as_tiff or ndim > 2 else '.png'


def _is_dicom(path: Path) -> bool:
    try:
        return DICOM.names(path.name) or DICOM.marks(path)
    except OSError:
        return False


def can_be_empty(name: str) -> bool:
    """Whether a file of this name can say that there is no object."""
    return not DICOM.names(name)


def write_label_file(path: Path, made: LabelsOfImage, image: Path) -> Mapping[int, int]:
    """Write the labels of an image in the form that the name of the file ends with.

    Parameters
    ----------
    path : pathlib.Path
        With one of the suffixes that `suffix_for` gives.
    made : LabelsOfImage
    image : pathlib.Path
        What was labelled; NIfTI and DICOM-SEG take over its place in the body.

    Returns
    -------
    mapping of int to int
        Label to its number in the file, of those that have another one there.

    Raises
    ------
    ImageError
        If the labels do not fit the form or the image, or the file cannot be written.
    MissingExtraError
        If packages that the form needs are not installed.
    """
    name, labels = path.name, made.labels
    numbers: Mapping[int, int] = {}
    if NIFTI.names(name):
        from napari_kdsam.io.nifti import write_nifti_labels

        if NIFTI.names(image.name):
            write_nifti_labels(path, labels, like=image)
        else:
            write_nifti_labels(path, labels, spacing=made.spacing)
    elif DICOM.names(name):
        from napari_kdsam.io.dicom_seg_writer import write_dicom_seg

        # Nothing that identifies a patient leaves the image unasked.
        numbers = write_dicom_seg(path, labels, image, made.classes, with_patient=False)
    elif name.lower().endswith(_COCO):
        from napari_kdsam.io.coco import LabelledImage, write_coco

        frames = [labels] if labels.ndim == 2 else list(labels)
        write_coco(
            path,
            (
                LabelledImage(
                    image.name,
                    frame,
                    made.classes,
                    None if labels.ndim == 2 else number,
                )
                for number, frame in enumerate(frames)
            ),
        )
    else:
        write_labels(path, labels, MANUAL)
    # Open for writing, without which some systems do not.
    with path.open('r+b') as file:
        os.fsync(file.fileno())
    return numbers


def read_label_file(path: Path, image: str, shape: tuple[int, ...]) -> LabelsOfImage:
    """Read the labels of an image, whoever wrote them.

    Parameters
    ----------
    path : pathlib.Path
        With one of `LABEL_SUFFIXES`.
    image : str
        File name of the image.
    shape : tuple of int
        (..., rows, columns) that the labels must have.

    Raises
    ------
    ImageError
        If it cannot be read, holds no labels, or those of an image of another size.
    MissingExtraError
        If packages that its kind needs are not installed.
    """
    if path.name.lower().endswith(_COCO):
        found, classes = _read_coco(path, image, shape)
    else:
        found, classes = _read_frames(path, shape)
    return LabelsOfImage(found, classes)


def _read_frames(
    path: Path, shape: tuple[int, ...]
) -> tuple[NDArray[Any], dict[int, str]]:
    frames = int(np.prod(shape[:-2], dtype=np.int64))
    with open_image(path) as file:
        if (file.frame_count, *file.frame_shape[:2]) != (frames, *shape[-2:]):
            raise _misfit(path, (file.frame_count, *file.frame_shape[:2]), shape)
        read = [mask_frame(file, number) for number in range(frames)]
    highest = max(int(frame.max(initial=0)) for frame in read)
    labels = np.stack(read).astype(_layer_dtype(highest)).reshape(shape)
    classes: dict[int, str] = {}
    if DICOM.names(path.name):
        from napari_kdsam.io.dicom_seg import read_dicom_seg

        classes = read_dicom_seg(path).names
    return labels, classes


def _read_coco(
    path: Path, image: str, shape: tuple[int, ...]
) -> tuple[NDArray[Any], dict[int, str]]:
    from napari_kdsam.io.coco import read_coco_masks

    labels = np.zeros((int(np.prod(shape[:-2], dtype=np.int64)), *shape[-2:]), np.int64)
    classes: dict[int, str] = {}
    found = False
    for item in read_coco_masks(path):
        if item.name != image:
            continue
        found, frame = True, item.frame or 0
        if item.labels.shape != shape[-2:] or frame >= len(labels):
            raise _misfit(path, item.labels.shape, shape)
        labels[frame] = item.labels
        classes.update(item.classes)
    if not found:
        raise ImageError(f'{path.name} says nothing of {image}.')
    dtype = _layer_dtype(int(labels.max(initial=0)))
    return labels.astype(dtype).reshape(shape), classes


def _layer_dtype(highest: int) -> np.dtype[Any]:
    # There shall be room for further objects.
    return label_dtype(max(highest, 2**16 - 1 if highest < 2**15 else 2**32 - 1))


def _misfit(path: Path, found: tuple[int, ...], shape: tuple[int, ...]) -> ImageError:
    single = found[1:] if found[0] == 1 and len(found) > len(shape) else found
    held, wanted = (' x '.join(map(str, sizes)) for sizes in (single, shape))
    return ImageError(
        f'{path.name} is of an image of another size ({held} instead of {wanted} '
        'pixels).'
    )
