"""Files that hold results: told by what they say of themselves, not by their names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import tifffile
from PIL.PngImagePlugin import PngImageFile

from napari_kdsam.core.errors import ImageError, MissingExtraError
from napari_kdsam.core.files import MARK
from napari_kdsam.io.formats import DICOM, NIFTI, PNG, TIFF
from napari_kdsam.io.image_file import reading

# The mark of images that are drawn to be segmented.
DRAWN = 'image'
# The mark of labels made by hand, which no run replaces.
MANUAL = 'annotator'
# COCO files may be large; theirs is at the start.
_START_BYTES = 4096
_COCO_MARK = f'"contributor": "{MARK}"'.encode('ascii')


def is_result(path: Path) -> bool:
    """Whether a file holds labels, or a drawing of them, that this package made.

    Parameters
    ----------
    path : pathlib.Path
        A PNG, TIFF, NIfTI or DICOM file. Other kinds hold no such thing, and neither
        does what cannot be read.
    """
    return _mark_of(path) not in ('', DRAWN)


def is_replaceable(path: Path) -> bool:
    """Whether a file is a result of a run, as the run has left it, not made by hand.

    Parameters
    ----------
    path : pathlib.Path
        As for `is_result`, or a JSON file: of `segment`, or COCO. A NIfTI file keeps
        its mark in programs that edit it, so that its voxels are compared.
    """
    if path.suffix.lower() == '.json':
        return _is_json_result(path)
    mark = _mark_of(path)
    if mark == MANUAL:
        return False
    if not NIFTI.names(path.name) or not mark:
        return mark != ''
    from napari_kdsam.io.nifti import mark_of_voxels

    try:
        return mark == mark_of_voxels(path)
    except ImageError:
        return False


def _mark_of(path: Path) -> str:
    name = path.name
    try:
        if not path.is_file():
            return ''
        with reading(name):
            if PNG.names(name):
                # What follows the pixels is not looked at, or they would be decoded.
                # Image.open would refuse what is larger than Pillow's own limit.
                with PngImageFile(path) as picture:
                    return str(picture.info.get(MARK, ''))
            if TIFF.names(name):
                with tifffile.TiffFile(path) as tiff:
                    software = tiff.pages.first.tags.get('Software')
                    said = str(software.value) if software else ''
                    return said.removeprefix(f'{MARK} ') if MARK in said else ''
            if NIFTI.names(name):
                from napari_kdsam.io.nifti import description_of

                said = description_of(path)
                return said if said.startswith(MARK) else ''
            if DICOM.names(name):
                return _dicom_mark(path)
    except (ImageError, MissingExtraError, ImportError, OSError):
        pass
    return ''


def _dicom_mark(path: Path) -> str:
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError
    from pydicom.uid import SegmentationStorage

    wanted = ['SOPClassUID', 'Manufacturer']
    try:
        found = dcmread(path, stop_before_pixels=True, specific_tags=wanted)
    except InvalidDicomError:
        return ''
    is_seg = found.get('SOPClassUID') == SegmentationStorage
    return MARK if is_seg and found.get('Manufacturer') == MARK else ''


def _is_json_result(path: Path) -> bool:
    try:
        with path.open('rb') as file:
            if _COCO_MARK in file.read(_START_BYTES):
                return True
        found: Any = json.loads(path.read_bytes())
        return MARK in found['result']['versions']
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False
