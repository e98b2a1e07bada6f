"""Names that users choose from on the command line; imports nothing heavy."""

from __future__ import annotations

from enum import StrEnum


class LabelFormat(StrEnum):
    """File format of label images; ``auto`` is TIFF for stacks and PNG otherwise."""

    auto = 'auto'
    png = 'png'
    tiff = 'tiff'


class Existing(StrEnum):
    """What a command does where there is a result already."""

    fail = 'fail'
    skip = 'skip'
    overwrite = 'overwrite'
    resume = 'resume'


class ExistingFile(StrEnum):
    """`Existing` for commands that cannot resume."""

    fail = 'fail'
    skip = 'skip'
    overwrite = 'overwrite'


class Export(StrEnum):
    """A further form in which a batch writes labels."""

    nifti = 'nifti'
    dicom_seg = 'dicom-seg'
    coco = 'coco'
