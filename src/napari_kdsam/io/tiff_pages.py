"""Compare the pages of a TIFF file without making an object of each."""

from __future__ import annotations

import struct

import tifffile

# How tifffile calls files that say what their pages are to each other.
_TOLD_KINDS = (
    *('shaped', 'lsm', 'mmstack', 'ome', 'imagej', 'ndtiff', 'fluoview', 'stk', 'sis'),
    *('svs', 'scn', 'qpi', 'ndpi', 'bif', 'avs', 'eer', 'philips', 'scanimage', 'nih'),
    'mdgel',
)
# Where a page's pixels are, what it is called and which it is: that may differ.
_OF_ITS_OWN = frozenset({269, 270, 273, 279, 285, 297, 305, 306, 315, 324, 325})
# Bytes of a value of each TIFF type.
_TYPE_BYTES = {
    **dict.fromkeys((1, 2, 6, 7), 1),
    **dict.fromkeys((3, 8), 2),
    **dict.fromkeys((4, 9, 11, 13), 4),
    **dict.fromkeys((5, 10, 12, 16, 17, 18), 8),
}
# A palette of 16 bits has 393,216 bytes.
_MOST_BYTES = 1_000_000


def is_plain_stack(tiff: tifffile.TiffFile) -> bool:
    """Whether pages are frames of a stack, because all are described in the same way.

    Reads the descriptions alone, some microseconds a page.

    Parameters
    ----------
    tiff : tifffile.TiffFile
        Whose chain of pages is whole.

    Returns
    -------
    bool
        False also where that is not seen at once: where a program has said what the
        pages are to each other, or descriptions differ in what may not matter.
    """
    count = len(tiff.pages)
    if count < 2 or any(getattr(tiff, f'is_{kind}', False) for kind in _TOLD_KINDS):
        return False
    place = tiff.pages.first.offset
    first, place = _description(tiff, place)
    for _ in range(count - 1):
        found, place = _description(tiff, place)
        if first is None or found != first:
            return False
    return True


def _description(
    tiff: tifffile.TiffFile, place: int
) -> tuple[list[tuple[int, int, int, bytes]] | None, int]:
    """Tags of the page at a place in the file, and the place of the next page.

    A tag is its code, type, number of values and their bytes. None for tags of
    unknown types or sizes.
    """
    form, file = tiff.tiff, tiff.filehandle
    file.seek(place)
    (tags,) = struct.unpack(form.tagnoformat, file.read(form.tagnosize))
    block = file.read(tags * form.tagsize + form.offsetsize)
    (following,) = struct.unpack(form.offsetformat, block[-form.offsetsize :])
    found: list[tuple[int, int, int, bytes]] = []
    for start in range(0, tags * form.tagsize, form.tagsize):
        tag = block[start : start + form.tagsize]
        code, kind = struct.unpack(form.tagformat1, tag[:4])
        if code in _OF_ITS_OWN:
            continue
        number, value = struct.unpack(form.tagformat2, tag[4:])
        size = number * _TYPE_BYTES.get(kind, _MOST_BYTES + 1)
        if size > _MOST_BYTES:
            return None, following
        if size > form.tagoffsetthreshold:
            (elsewhere,) = struct.unpack(form.offsetformat, value)
            file.seek(elsewhere)
            value = file.read(size)
        found.append((code, kind, number, value))
    return found, following
