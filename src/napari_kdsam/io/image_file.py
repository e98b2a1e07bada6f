"""What every image file looks like once opened, and how its axes are told apart."""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from napari_kdsam.core.errors import ImageError, KDSAMError
from napari_kdsam.io.limits import check_frame_count, check_size
from napari_kdsam.io.orientation import UPRIGHT

COLOR_CHANNELS = (3, 4)
_PANIC = 'PanicException'


@dataclass(frozen=True)
class FrameLayout:
    """How an array's axes divide into frames.

    Attributes
    ----------
    frame_count : int
        Number of frames, 1 for a single image.
    frame_shape : tuple of int
        (H, W), (H, W, 3) or (H, W, 4).
    """

    frame_count: int
    frame_shape: tuple[int, ...]


@dataclass(frozen=True)
class FrameAxis:
    """One of the axes along which the frames of a stack lie.

    Attributes
    ----------
    name : str
        ``frame``, ``t`` (time) or ``z`` (depth).
    size : int
        Frames along it.
    spacing : float or None
        Millimetres between frames, where they are slices and the file says so.
    """

    name: str
    size: int
    spacing: float | None = None


def layout_of(name: str, shape: Sequence[int]) -> FrameLayout:
    """Tell frames, rows, columns and channels of an array apart by fixed rules.

    ======================  ==============================================
    shape                   read as
    ======================  ==============================================
    (H, W)                  one grey image
    (H, W, 1)               one grey image
    (H, W, 3), (H, W, 4)    one RGB or RGBA image
    (3, H, W), (4, H, W)    refused: channels first, or a short stack?
    (T, H, W)               a stack of T grey frames
    (T, H, W, 1)            a stack of T grey frames, whatever T is
    (T, H, W, 3 or 4)       a stack of T RGB or RGBA frames
    ======================  ==============================================

    Parameters
    ----------
    name : str
        File name for the message.
    shape : sequence of int
        The array's shape.

    Raises
    ------
    ImageError
        For any other shape, an array without pixels, or frames that are too large.
    """
    shape = tuple(shape)
    if 0 in shape:
        raise ImageError(
            f'{name} has no pixels (its shape is {shape}); export it again.'
        )
    layout = _match(name, shape)
    check_size(name, layout.frame_shape)
    return layout


def _match(name: str, shape: tuple[int, ...]) -> FrameLayout:
    if len(shape) == 2:
        return FrameLayout(1, shape)
    if len(shape) == 3 and shape[-1] == 1:
        return FrameLayout(1, shape[:2])
    if len(shape) == 3 and shape[-1] in COLOR_CHANNELS:
        return FrameLayout(1, shape)
    if len(shape) == 3 and shape[-1] == 2:
        raise ImageError(
            f'{name} has two channels {shape}; save one of them, or an RGB image.'
        )
    if len(shape) == 3 and shape[0] not in COLOR_CHANNELS:
        return FrameLayout(shape[0], shape[1:])
    if len(shape) == 4 and shape[-1] == 1:
        return FrameLayout(shape[0], shape[1:3])
    if len(shape) == 4 and shape[-1] in COLOR_CHANNELS:
        return FrameLayout(shape[0], shape[1:])
    if len(shape) in (3, 4) and shape[-3] in COLOR_CHANNELS:
        raise ImageError(
            f'{name} has its channels first {shape}; save it with them last '
            '(numpy.moveaxis(a, -3, -1)), or a stack of grey frames as (T, H, W, 1).'
        )
    raise ImageError(
        f'{name} has the shape {shape}, which is neither an image (H, W), '
        '(H, W, 3 or 4) nor a stack of them; save one stack to a file.'
    )


class ImageFile(ABC):
    """An opened image file; pixels are decoded when a frame is asked for.

    Use it as a context manager, or call `close`.

    Parameters
    ----------
    name : str
        File name without its folder.
    layout : FrameLayout
        Number and shape of the frames.
    dtype : numpy.dtype
        Type of the arrays `frame` returns: boolean, integer or float.
    spacing : tuple of float, optional
        Distance between pixel centres along (rows, columns) in millimetres, where
        the file states it reliably; print resolutions (dots per inch) do not count.
    frame_axes : tuple of FrameAxis, optional
        How the frames lie, the last axis changing fastest; one axis ``frame`` for a
        stack by default.

    Attributes
    ----------
    holds_labels : bool
        Whether the file says that its values are labels and no picture.
    stored_orientation : int
        How the first frame lies in the file, as TIFF and EXIF number it; `frame` turns
        it upright.

    Raises
    ------
    ImageError
        If frames are too large or too many (see `limits`), or hold other values.
    """

    holds_labels: bool = False
    stored_orientation: int = UPRIGHT

    def __init__(
        self,
        name: str,
        layout: FrameLayout,
        dtype: np.dtype[Any],
        spacing: tuple[float, float] | None = None,
        frame_axes: tuple[FrameAxis, ...] | None = None,
    ) -> None:
        if dtype.kind not in 'buif':
            raise ImageError(
                f'{name} holds values of type {dtype}; save whole or real numbers.'
            )
        check_size(name, layout.frame_shape, dtype.itemsize)
        check_frame_count(name, layout.frame_count)
        self.name = name
        self.frame_count = layout.frame_count
        self.frame_shape = layout.frame_shape
        self.dtype = dtype
        self.spacing = spacing
        if frame_axes is None:
            stack = layout.frame_count > 1
            frame_axes = (FrameAxis('frame', layout.frame_count),) if stack else ()
        self.frame_axes = frame_axes

    @property
    def is_stack(self) -> bool:
        """Whether there is more than one frame."""
        return self.frame_count > 1

    @property
    def shape(self) -> tuple[int, ...]:
        """(H, W), (H, W, C), (T, H, W) or (T, H, W, C)."""
        frames = (self.frame_count,) if self.is_stack else ()
        return (*frames, *self.frame_shape)

    def frame(self, index: int = 0) -> NDArray[Any]:
        """Decode one frame.

        Parameters
        ----------
        index : int
            Frame number, counted from 0.

        Returns
        -------
        numpy.ndarray
            `frame_shape` of `dtype`: (H, W) grey, (H, W, 3) RGB or (H, W, 4) RGBA.

        Raises
        ------
        ImageError
            If there is no such frame or it cannot be decoded.
        """
        if not 0 <= index < self.frame_count:
            last = self.frame_count - 1
            held = f'frames 0 to {last}' if last else 'only frame 0'
            raise ImageError(f'{self.name} has no frame {index}; it has {held}.')
        with reading(self.name):
            pixels = self._read(index)
        if pixels.shape != self.frame_shape or pixels.dtype != self.dtype:
            raise ImageError(
                f'Frame {index} of {self.name} is {pixels.shape} of {pixels.dtype}, but '
                f'the file says {self.frame_shape} of {self.dtype}: it is damaged; copy '
                'or export it again.'
            )
        return pixels

    def palette_places(self, index: int = 0) -> NDArray[Any] | None:
        """Decode which place in the palette of the file each pixel has.

        Parameters
        ----------
        index : int
            Frame number, counted from 0.

        Returns
        -------
        numpy.ndarray or None
            (H, W) whole numbers, upright as `frame`; None for a file without a palette.

        Raises
        ------
        ImageError
            If it cannot be decoded.
        """
        with reading(self.name):
            return self._read_palette_places(index)

    def every_frame(self) -> NDArray[Any]:
        """Decode the whole file into memory.

        Returns
        -------
        numpy.ndarray
            `shape` of `dtype`.

        Raises
        ------
        ImageError
            If a frame cannot be decoded.
        """
        if not self.is_stack:
            return self.frame(0)
        return np.stack([self.frame(index) for index in range(self.frame_count)])

    @abstractmethod
    def _read(self, index: int) -> NDArray[Any]:
        """Decode a frame that exists; any exception means a damaged file."""

    def _read_palette_places(self, index: int) -> NDArray[Any] | None:
        return None

    def close(self) -> None:  # noqa: B027 - most formats keep nothing open
        """Release the file."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class ArrayFile(ImageFile):
    """An array that is mapped into memory, so that only frames asked for are read.

    Parameters
    ----------
    name : str
        File name without its folder.
    array : numpy.ndarray
        The pixels of all frames, in their order.
    layout : FrameLayout
        Number and shape of the frames.
    """

    def __init__(self, name: str, array: NDArray[Any], layout: FrameLayout) -> None:
        super().__init__(name, layout, array.dtype)
        self._array = array.reshape(layout.frame_count, *layout.frame_shape)

    def _read(self, index: int) -> NDArray[Any]:
        return np.array(self._array[index])


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Turn whatever a decoder raises into an `ImageError` naming the file.

    Parameters
    ----------
    name : str
        File name without its folder.

    Raises
    ------
    ImageError
        For every error but this package's own.
    """
    try:
        yield
    except KDSAMError:
        raise
    except MemoryError as error:
        raise ImageError(
            f'{name} does not fit in memory; reduce it or cut it into parts, or copy or '
            'export it again if it is not that large.'
        ) from error
    except BaseException as error:
        # The panics of decoders written in Rust are no `Exception`.
        if not isinstance(error, Exception) and type(error).__name__ != _PANIC:
            raise
        if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM):
            raise ImageError(
                f'{name} may not be read; ask for permission or copy it elsewhere.'
            ) from error
        raise ImageError(
            f'{name} cannot be read: it is damaged or not complete; copy or export it '
            'again.'
        ) from error
