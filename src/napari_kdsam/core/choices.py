"""Names that users choose from on the command line; imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
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


@dataclass(frozen=True)
class ExportOptions:
    """How labels are written in further forms.

    Attributes
    ----------
    existing : Existing
        ``skip`` leaves files alone that are there already; others were refused or may
        be replaced.
    incomplete : bool
        Whether stacks with failed frames are written too, under names that say so.
    with_patient : bool
        Whether DICOM-SEG says who the patient is; see `write_dicom_seg`.
    """

    existing: Existing = Existing.overwrite
    incomplete: bool = False
    with_patient: bool = True
