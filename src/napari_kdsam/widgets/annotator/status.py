"""What the annotator tells the user: what it is doing, and what it must know."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray


class StatusKind(Enum):
    """What the annotator can be doing."""

    NO_IMAGE = 'no image'
    WAITING = 'waiting'
    WORKING = 'working'
    READY = 'ready'
    ERROR = 'error'


@dataclass(frozen=True)
class StatusLine:
    """What the annotator is doing, and one sentence about it."""

    kind: StatusKind
    text: str


@dataclass(frozen=True)
class OverlapQuestion:
    """Asked before a commit that touches other labels.

    Attributes
    ----------
    pixels : int
        How many pixels of other labels the masks cover.
    labels : tuple of int
        The labels that have them.
    """

    pixels: int
    labels: tuple[int, ...]

    @classmethod
    def about(cls, under: NDArray[Any]) -> OverlapQuestion | None:
        """Ask about the labels under a mask; None if there are none."""
        covered = under[under != 0]
        if covered.size == 0:
            return None
        return cls(int(covered.size), tuple(int(n) for n in np.unique(covered)))

    def describe(self) -> str:
        """One sentence for the window."""
        many = len(self.labels) > 1
        names = ', '.join(str(label) for label in self.labels[:5])
        more = '…' if len(self.labels) > 5 else ''
        return (
            f'The mask covers {self.pixels} pixels of label{"s" if many else ""} '
            f'{names}{more}. Keep {"them" if many else "it"}, or overwrite?'
        )


NO_IMAGE = StatusLine(StatusKind.NO_IMAGE, 'Open an image to begin.')
FIRST_CLICK = StatusLine(StatusKind.WAITING, 'Click inside the structure to label.')
ONLY_OUTSIDE = StatusLine(
    StatusKind.WAITING, 'Points outside only trim a mask: add one inside, or a box.'
)
OTHER_VIEW = StatusLine(
    StatusKind.WAITING, 'Show rows and columns in 2D to annotate (Ctrl+Y leaves 3D).'
)
HIDDEN_IMAGE = StatusLine(
    StatusKind.WAITING, 'This image is hidden: show it, or choose another, to annotate.'
)
UNSEEN_IMAGE = StatusLine(
    StatusKind.WAITING, 'That click came before this image was seen: click again.'
)
NO_TOOL = 'Another layer is selected: choose a tool, such as Inside, to go on here.'
EMPTY_MASK = StatusLine(
    StatusKind.READY, 'The mask is empty: add points or draw a box.'
)
