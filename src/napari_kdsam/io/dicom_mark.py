"""Knowing a DICOM file by its first bytes, without the packages that read it."""

from __future__ import annotations

import struct

PREAMBLE, PREFIX = 128, b'DICM'
# Enough for the preamble, or for the first elements of a file without one.
MARK_BYTES = 512
# A data set begins with its file meta information or with what identifies it.
_FIRST_GROUPS = (0x0002, 0x0008)
_SHORT_FORMS = b'AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US'.split()
_LONG_FORMS = b'OB OD OF OL OV OW SQ UC UN UR UT'.split()
_ELEMENTS, _LONGEST = 2, 1 << 16


def is_dicom(start: bytes) -> bool:
    """Tell a DICOM file by its first `MARK_BYTES`, with or without a preamble."""
    return has_preamble(start) or is_bare_data_set(start)


def has_preamble(start: bytes) -> bool:
    """Whether a file begins as DICOM files (PS3.10) do."""
    return start[PREAMBLE : PREAMBLE + len(PREFIX)] == PREFIX


def is_bare_data_set(start: bytes) -> bool:
    """Whether a file begins with the elements of a data set, as old devices write it.

    The first two elements have to be in order, in a first group, and of a sensible
    length, so that other files are hardly ever taken for DICOM.
    """
    return any(_follows_order(start, order) for order in '<>')


def _follows_order(start: bytes, order: str) -> bool:
    place, last = 0, (0, -1)
    for _ in range(_ELEMENTS):
        if place + 8 > len(start):
            return False
        group, element = struct.unpack_from(f'{order}HH', start, place)
        if group not in _FIRST_GROUPS or (group, element) <= last:
            return False
        last = group, element
        form = start[place + 4 : place + 6]
        if form in _SHORT_FORMS:
            size, header = struct.unpack_from(f'{order}H', start, place + 6)[0], 8
        elif form in _LONG_FORMS and place + 12 <= len(start):
            size, header = struct.unpack_from(f'{order}I', start, place + 8)[0], 12
        elif order == '<':
            size, header = struct.unpack_from('<I', start, place + 4)[0], 8
        else:
            return False
        if size > _LONGEST:
            return False
        place += header + size
    return True
