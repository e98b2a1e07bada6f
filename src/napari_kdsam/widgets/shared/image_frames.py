"""The frames of an image layer: where they are, how they are counted and read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_kdsam.core.errors import ImageError
from napari_kdsam.core.stack_index import FrameIndex, flat_index, frame_at, frame_count
from napari_kdsam.widgets.shared.transforms import data_of, spatial_shape

if TYPE_CHECKING:
    from napari.components import Dims
    from napari.layers import Image


@dataclass(frozen=True, eq=False)
class ImageFrames:
    """The frames of an image layer, as it is now."""

    image: Image

    @property
    def shape(self) -> tuple[int, ...]:
        """(..., rows, columns) of the image."""
        return spatial_shape(self.image)

    @property
    def leading_shape(self) -> tuple[int, ...]:
        """Lengths of the axes before rows and columns."""
        return self.shape[:-2]

    @property
    def plane_shape(self) -> tuple[int, int]:
        """(rows, columns) of a frame."""
        return self.shape[-2], self.shape[-1]

    @property
    def count(self) -> int:
        """Frames of the stack; 1 for a single image."""
        return frame_count(self.leading_shape)

    def check(self) -> None:
        """Raise an ImageError if there is no pixel."""
        if min(self.shape, default=0) < 1 or len(self.shape) < 2:
            raise ImageError(
                f'its shape is {self.shape}; open an image with rows and columns.'
            )

    def flat_index(self, frame: FrameIndex) -> int:
        """A frame's place in the stack, counting along the last leading axis first."""
        return flat_index(frame, self.leading_shape)

    def index_of(self, place: int) -> FrameIndex:
        """The frame at a place in the stack."""
        return frame_at(place, self.leading_shape)

    def at(self, point: tuple[float, ...]) -> FrameIndex:
        """Index of the frame at a world point, the nearest if it is beyond the stack."""
        position = self.image.world_to_data(point[-len(self.shape) :])
        leading = zip(position[:-2], self.leading_shape, strict=True)
        return tuple(int(np.clip(round(i), 0, size - 1)) for i, size in leading)

    def pixel_at(
        self, point: tuple[float, ...]
    ) -> tuple[FrameIndex, tuple[int, int]] | None:
        """Frame and (row, column) at a world point; None beside the image."""
        shape = self.shape
        position = self.image.world_to_data(point[-len(shape) :])
        *frame, row, column = (int(round(value)) for value in position[: len(shape)])
        if any(
            not 0 <= i < n for i, n in zip((*frame, row, column), shape, strict=True)
        ):
            return None
        return tuple(frame), (row, column)

    def in_plane(self, dims: Dims) -> bool:
        """Whether the view shows the image's rows and columns, in 2D."""
        last_two = {dims.ndim - 2, dims.ndim - 1}
        return dims.ndisplay == 2 and set(dims.displayed) == last_two

    def go_to(self, dims: Dims, frame: FrameIndex) -> None:
        """Move the viewer's sliders to a frame."""
        if not frame:
            return
        point = self.image.data_to_world((*frame, 0, 0))
        first = dims.ndim - len(point)
        axes = tuple(range(first, first + len(frame)))
        dims.set_point(axes, point[: len(frame)])

    def reader(
        self, own_shapes: dict[FrameIndex, tuple[int, int]] | None = None
    ) -> Callable[[FrameIndex], Any]:
        """Make a function that reads any frame of what is there now, for a thread.

        Parameters
        ----------
        own_shapes : dict of frame index to (rows, columns), optional
            Where it notes frames of another size than the layer claims, as in a lazy
            stack of files. They are cut, or filled up with 0, at bottom and right.
        """
        return partial(_read, data_of(self.image), self.plane_shape, own_shapes)


def _read(
    data: Any,
    plane: tuple[int, int],
    own_shapes: dict[FrameIndex, tuple[int, int]] | None,
    frame: FrameIndex,
) -> Any:
    pixels = np.asarray(data[frame] if frame else data)
    # Anything else is no picture, and is refused where it is looked at.
    is_picture = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[-1] <= 4)
    if not is_picture:
        return pixels
    own = (pixels.shape[0], pixels.shape[1])
    if own == plane:
        return pixels
    if own_shapes is not None:
        own_shapes[frame] = own
    fitted = np.zeros((*plane, *pixels.shape[2:]), pixels.dtype)
    rows, columns = np.minimum(own, plane)
    fitted[:rows, :columns] = pixels[:rows, :columns]
    return fitted
