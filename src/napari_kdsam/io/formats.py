"""Names of file formats that users choose from; imports nothing heavy."""

from __future__ import annotations

from enum import StrEnum


class LabelFormat(StrEnum):
    """File format of label images; ``auto`` is TIFF for stacks and PNG otherwise."""

    auto = 'auto'
    png = 'png'
    tiff = 'tiff'
