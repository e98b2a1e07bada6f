"""What the annotator is doing, as shown to the user."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Stage(Enum):
    """The stages a user can see."""

    NO_IMAGE = 'no image'
    WAITING = 'waiting'
    WORKING = 'working'
    READY = 'ready'
    ERROR = 'error'


@dataclass(frozen=True)
class Status:
    """A stage and one sentence about it."""

    stage: Stage
    text: str


NO_IMAGE = Status(Stage.NO_IMAGE, 'Open an image to begin.')
FIRST_CLICK = Status(Stage.WAITING, 'Click inside the structure to label.')
ONLY_OUTSIDE = Status(
    Stage.WAITING, 'Points outside only trim a mask: add one inside, or a box.'
)
OTHER_VIEW = Status(
    Stage.WAITING, 'Show rows and columns in 2D to annotate (Ctrl+Y leaves 3D).'
)
EMPTY_MASK = Status(Stage.READY, 'The mask is empty: add points or draw a box.')
