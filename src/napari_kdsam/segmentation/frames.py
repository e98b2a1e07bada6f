"""What is segmented: the frames of a file, or of an image layer."""

from __future__ import annotations

from typing import Any, Protocol

from numpy.typing import NDArray


class Frames(Protocol):
    """The frames of one image, read when they are asked for."""

    def pixels(self, frame: int) -> NDArray[Any]:
        """Read a frame.

        Parameters
        ----------
        frame : int
            Place in the stack, counted from 0; 0 for a single image.

        Returns
        -------
        numpy.ndarray
            (rows, columns), or with 3 or 4 channels last.

        Raises
        ------
        ImageError
            If it cannot be read.
        """
        ...
