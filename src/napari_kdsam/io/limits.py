"""How much a file may ask for before it is refused, and how to allow more."""

from __future__ import annotations

import os

from napari_kdsam.core.errors import ImageError

MEGAPIXELS_VARIABLE = 'NAPARI_KDSAM_MAX_MEGAPIXELS'
FRAMES_VARIABLE = 'NAPARI_KDSAM_MAX_FRAMES'
# Far above any clinical image, far below what would exhaust a computer's memory.
_MEGAPIXELS = 500
# Ten hours of video.
_FRAMES = 1_000_000
_MOST_MISSING = 1_000
# Those of 8-bit RGBA.
_BYTES_PER_PIXEL = 4
# What deflate packs into a byte of a 1-bit PNG; JPEG stays below it.
PIXELS_PER_BYTE = 8 * 1032
# A strip, tile or chunk is unpacked whole, also where it is larger than the image.
_CHUNK_SHARE = 4
_MOST_CHUNKS = 100_000
# The worst that a compression does to noise, and room for its own header.
_EXPANSION, _HEADER_BYTES = 2, 65_536
_MOST_DIGITS = 10


def _setting(variable: str, usual: int) -> int:
    chosen = os.environ.get(variable, '')
    if not chosen:
        return usual
    digits = chosen.isascii() and chosen.isdigit() and len(chosen) < _MOST_DIGITS
    if not digits or int(chosen) < 1:
        raise ImageError(
            f'{variable} is {chosen[:200]!r}; set it to a whole number from 1, or '
            'remove it.'
        )
    return int(chosen)


def max_frame_pixels() -> int:
    """Pixels that a frame may have.

    The environment variable ``NAPARI_KDSAM_MAX_MEGAPIXELS`` overrides the default, 500
    million.

    Raises
    ------
    ImageError
        If the variable is no whole number from 1.
    """
    return _setting(MEGAPIXELS_VARIABLE, _MEGAPIXELS) * 1_000_000


def check_size(name: str, frame_shape: tuple[int, ...], itemsize: int = 1) -> None:
    """Refuse large frames before anything is decoded.

    Parameters
    ----------
    name : str
        File name for the message.
    frame_shape : tuple of int
        (rows, columns), or with channels last.
    itemsize : int
        Bytes for each value.

    Raises
    ------
    ImageError
        If there are more than `max_frame_pixels`, or more bytes than those would need
        as 8-bit RGBA.
    """
    rows, columns, *channels = frame_shape
    most = max_frame_pixels()
    pixels, each = rows * columns, itemsize * (channels[0] if channels else 1)
    if pixels > most or pixels * each > most * _BYTES_PER_PIXEL:
        raise ImageError(
            f'{name} has {rows} x {columns} pixels of {each} bytes, more than the '
            f'{most // 1_000_000} megapixels of {_BYTES_PER_PIXEL} bytes that are '
            f'read; reduce it, cut it into parts, or set {MEGAPIXELS_VARIABLE}.'
        )


def check_promised_size(
    name: str,
    rows: int,
    columns: int,
    file_bytes: int,
    pixels_per_byte: int = PIXELS_PER_BYTE,
) -> None:
    """Refuse pictures with more pixels than their compression packs into their files.

    Parameters
    ----------
    name : str
        File name for the message.
    rows, columns : int
        What the file says.
    file_bytes : int
        Size of the file.
    pixels_per_byte : int, optional
        The most that the compression packs into a byte.

    Raises
    ------
    ImageError
        If there are more pixels for each byte.
    """
    if rows * columns > pixels_per_byte * file_bytes:
        raise ImageError(
            f'{name} says that it has {rows} x {columns} pixels, more than fit into its '
            f'{file_bytes} bytes: it is damaged or not complete; copy or export it again.'
        )


def check_frame_count(name: str, count: int) -> None:
    """Refuse stacks of more frames than anyone would go through.

    The environment variable ``NAPARI_KDSAM_MAX_FRAMES`` overrides the default, a
    million.

    Raises
    ------
    ImageError
        If there are more.
    """
    most = _setting(FRAMES_VARIABLE, _FRAMES)
    if count > most:
        raise ImageError(
            f'{name} says that it has {count} frames, more than the {most} that are '
            f'read; cut it into parts, or set {FRAMES_VARIABLE}.'
        )


def check_held_frames(name: str, count: int, possible: int) -> None:
    """Refuse files that say that they have many more frames than fit into them.

    A file that was cut short still gives the frames that are there.

    Parameters
    ----------
    name : str
        File name for the message.
    count, possible : int
        Frames that the file says it has, and that it may hold at most.

    Raises
    ------
    ImageError
        If more than 1,000 are missing.
    """
    if count > possible + _MOST_MISSING:
        raise ImageError(
            f'{name} says that it has {count} frames, but no more than {possible} fit '
            'into it: it is damaged or not complete; copy or export it again.'
        )


def check_chunks(name: str, count: int, chunk_bytes: int, frame_bytes: int) -> None:
    """Refuse frames that are kept in too many parts, or in parts that are too large.

    Parameters
    ----------
    name : str
        File name for the message.
    count : int
        Strips, tiles or chunks of one frame.
    chunk_bytes, frame_bytes : int
        Size of one of them, and of the frame, unpacked.

    Raises
    ------
    ImageError
        If there are more than 100,000, or one is larger than the frame and than a
        quarter of the bytes that a frame may have.
    """
    if count > _MOST_CHUNKS:
        raise ImageError(
            f'{name} keeps a frame in {count} parts, more than the {_MOST_CHUNKS} that '
            'are read; save it with larger strips, tiles or chunks.'
        )
    most = max_frame_pixels() * _BYTES_PER_PIXEL // _CHUNK_SHARE
    if chunk_bytes > max(most, frame_bytes):
        raise ImageError(
            f'{name} keeps its pixels in parts of {chunk_bytes // 1_000_000} MB, more '
            f'than the {most // 1_000_000} MB that are read; save it with smaller '
            f'strips, tiles or chunks, or set {MEGAPIXELS_VARIABLE}.'
        )


def check_packed(name: str, packed_bytes: int, chunk_bytes: int) -> None:
    """Refuse a compressed part that holds more than it may: it unpacks to anything.

    Parameters
    ----------
    name : str
        File name for the message.
    packed_bytes, chunk_bytes : int
        Size of a strip, tile or chunk in the file, and unpacked.

    Raises
    ------
    ImageError
        If it is larger packed than no compression would make it.
    """
    if packed_bytes > _EXPANSION * chunk_bytes + _HEADER_BYTES:
        raise ImageError(
            f'{name} cannot be read: {packed_bytes} compressed bytes stand for '
            f'{chunk_bytes} bytes of pixels; export it again.'
        )
