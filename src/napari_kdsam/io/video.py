"""Video files through PyAV: any frame by its number, exactly, decoded when asked for.

Frame n is the n-th in the order of showing. Where to start decoding is found from the
time stamps of the packets, which are read, but not decoded, once per file.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_kdsam.core.errors import ImageError, MissingExtraError
from napari_kdsam.io.formats import VIDEO
from napari_kdsam.io.image_file import FrameLayout, ImageFile, reading
from napari_kdsam.io.limits import check_size
from napari_kdsam.io.orientation import UPRIGHT, orientation_of_matrix, upright

try:
    import av
    from av.error import InvalidDataError
    from av.sidedata.sidedata import Type
except ImportError as _error:
    raise MissingExtraError('Reading video', VIDEO.extra) from _error

# Decoding on is cheaper than seeking as long as the wanted frame is this near.
_NEAR_FRAMES = 8
# Frames are stored at most this far from their place in the order of showing.
_REORDERED_FRAMES = 16
_EIGHT_BIT_GREY = ('gray', 'gray8')


@dataclass(frozen=True)
class _Index:
    """Time stamps of the frames in the file.

    Attributes
    ----------
    times : tuple of int or None
        Of each frame, in the order of showing; None if packets lack them.
    starts : tuple of tuple of int
        (time stamp, stamp to seek to) of each frame that decoding can start at.
    count : int
        Frames that are there.
    cut : frozenset of int
        Time stamps of frames that the file breaks off in.
    """

    times: tuple[int, ...] | None
    starts: tuple[tuple[int, int], ...]
    count: int
    cut: frozenset[int]


class VideoFile(ImageFile):
    """A video, decoded frame by frame.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    stream : bytes, optional
        The video itself, where the file is no video but holds one.

    Attributes
    ----------
    rate : float or None
        Frames per second.
    """

    def __init__(self, path: Path, stream: bytes = b'') -> None:
        self._path, self._stream_bytes = path, stream
        # Readers share one decoder, which must not be asked twice at a time.
        self._lock = threading.RLock()
        self._container = self._opened()
        try:
            if not self._container.streams.video:
                raise ImageError(f'{path.name} holds no video, only other streams.')
            self._stream = self._container.streams.video[0]
            self._frames = self._decoded()
            # Of the frame that the decoder gave last.
            self._shown = 0
            self._first = next(self._frames, (None, None))[1]
            if self._first is None:
                raise ImageError(
                    f'No frame of {path.name} can be decoded: it is damaged or not '
                    'complete; copy or export it again.'
                )
            check_size(path.name, (self._first.height, self._first.width))
            pixels = _pixels_of(path.name, self._first)
            rate = self._stream.average_rate
            self.rate = float(rate) if rate else None
            count = self._declared_count() or self._index.count
            super().__init__(path.name, FrameLayout(count, pixels.shape), pixels.dtype)
        except BaseException:
            self._container.close()
            raise

    def _opened(self) -> Any:
        within = self._stream_bytes
        return av.open(BytesIO(within) if within else str(self._path))

    def _declared_count(self) -> int:
        # Frames that an edit list cuts off are counted, but never shown.
        entries = getattr(self._stream, 'index_entries', None) or ()
        return int(self._stream.frames) - sum(entry.is_discard for entry in entries)

    @cached_property
    def _index(self) -> _Index:
        shown: list[int | None] = []
        starts, cut = [], set()
        with self._opened() as container:
            stream = container.streams.video[0]
            for packet in container.demux(stream):
                if not packet.size or packet.is_discard:
                    continue
                shown.append(packet.pts)
                if packet.pts is None:
                    continue
                if packet.is_corrupt:
                    cut.add(packet.pts)
                elif packet.is_keyframe:
                    seek = packet.pts if packet.dts is None else packet.dts
                    starts.append((packet.pts, seek))
        times = sorted(stamp for stamp in shown if stamp is not None)
        if len(set(times)) < len(shown):
            return _Index(None, (), len(shown), frozenset())
        if len(times) < self._stream.frames:
            times = _without_gap(times)
        return _Index(tuple(times), tuple(sorted(starts)), len(times), frozenset(cut))

    def _read(self, index: int) -> NDArray[Any]:
        with self._lock:
            frame = self._first if index == 0 else self._found(index)
            if frame is None or frame.is_corrupt:
                raise ImageError(
                    f'Frame {index} of {self.name} cannot be decoded: the video is '
                    'damaged or not complete; copy or export it again.'
                )
            pixels = _pixels_of(self.name, frame)
        if pixels.shape != self.frame_shape:
            raise ImageError(
                f'Frame {index} of {self.name} is of size {pixels.shape[:2]}, others of '
                f'{self.frame_shape[:2]}; export the video in one size.'
            )
        return pixels.astype(self.dtype, copy=False)

    def _found(self, index: int) -> Any:
        times = self._index.times
        if index >= self._index.count:
            return None
        target = index if times is None else times[index]
        if target in self._index.cut:
            return None
        if not self._shown < index <= self._shown + _NEAR_FRAMES:
            self._seek(target, None)
        frame = self._decode_to(target)
        if frame is None and times is not None:
            # A start that leads past the frame is one too late.
            for step in (1, len(self._index.starts)):
                self._seek(target, step)
                frame = self._decode_to(target)
                if frame is not None:
                    break
        # After a failure the next frame seeks anew.
        self._shown = index if frame is not None else self.frame_count
        return frame

    def _seek(self, target: int, earlier: int | None) -> None:
        """Start decoding at or before a time stamp, or some starts earlier still."""
        starts = self._index.starts
        place = bisect_right(starts, (target, target)) - 1 - (earlier or 0)
        begin = starts[max(place, 0)][1] if starts else self._stream.start_time or 0
        try:
            self._container.seek(min(begin, target), stream=self._stream, backward=True)
        except OSError:
            # A bare stream has no places to go to, so that it is decoded from its start.
            self._container.close()
            self._container = self._opened()
            self._stream = self._container.streams.video[0]
        self._frames = self._decoded()

    def _decode_to(self, target: int) -> Any:
        counted = self._index.times is None
        for number, frame in self._frames:
            stamp = number if counted else frame.pts
            if stamp >= target:
                return frame if stamp == target else None
        return None

    def _decoded(self) -> Iterator[tuple[int, Any]]:
        """Frames from where the file is, counted from there."""
        number = 0
        for packet in self._container.demux(self._stream):
            try:
                frames = packet.decode()
            except InvalidDataError:
                # Frames after a damaged one may still be good.
                continue
            for frame in frames:
                yield number, frame
                number += 1

    def close(self) -> None:
        with self._lock:
            self._container.close()


def _without_gap(times: list[int]) -> list[int]:
    """Cut a video that breaks off at the first frame that is missing near its end.

    Frames are not stored in the order of showing, so the last ones that are there may
    come after some that are not.
    """
    steps = [after - before for before, after in pairwise(times)]
    if not steps:
        return times
    usual = median(steps)
    first = max(0, len(steps) - _REORDERED_FRAMES)
    for place in range(first, len(steps)):
        if steps[place] > 1.5 * usual:
            return times[: place + 1]
    return times


def _pixels_of(name: str, frame: Any) -> NDArray[Any]:
    """(H, W, 3) uint8, or grey (H, W) uint8 or uint16, turned upright."""
    name = frame.format.name
    if name in _EIGHT_BIT_GREY:
        wanted = 'gray'
    elif name.startswith('gray') and 'f' not in name:
        wanted = 'gray16le'
    else:
        wanted = 'rgb24'
    pixels = frame.to_ndarray(format=wanted)
    return upright(pixels, _orientation(name, frame))


def _orientation(name: str, frame: Any) -> int:
    """As TIFF and EXIF number it, by the display matrix that comes with the frame."""
    found = [data for data in frame.side_data if data.type == Type.DISPLAYMATRIX]
    if not found:
        return UPRIGHT
    # Nine numbers a b u, c d v, x y w in the byte order of this computer.
    matrix = np.frombuffer(bytes(found[0]), np.int32).astype(float)
    orientation = orientation_of_matrix(*matrix[[0, 1, 3, 4]])
    if orientation is None:
        raise ImageError(
            f'{name} is to be shown turned, but not by quarters; export it upright.'
        )
    return orientation


def open_video(path: Path) -> VideoFile:
    """Open a video file.

    Parameters
    ----------
    path : pathlib.Path
        MP4, AVI, MOV or MKV, of any codec FFmpeg knows.

    Returns
    -------
    VideoFile
        RGB frames uint8, grey videos uint8 or uint16; turned and mirrored
        as its display matrix says.
        `frame_count` is what the file declares; where it declares nothing (MKV) the
        frames in it are counted.

    Raises
    ------
    ImageError
        If it is not a video, no frame of it can be decoded, or it is to be shown
        askew; later, when a frame is
        asked for that is missing or damaged.
    """
    with reading(path.name):
        return VideoFile(path)
