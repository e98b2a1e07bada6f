"""The labels of a frame, or why there are none."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from napari_kdsam.core.errors import ImageError, KDSAMError
from napari_kdsam.core.intensity import IntensityMapping
from napari_kdsam.core.label_image import add_object, label_dtype

NOTHING_FOUND = 'Nothing was found.'
_logger = logging.getLogger(__name__)

# Label, (rows, columns) bool mask and predicted IoU.
NumberedMask = tuple[int, NDArray[np.bool_], float]


class NothingToDo(KDSAMError):
    """A frame that is left out; the message says why."""


@dataclass(frozen=True)
class LabelledObject:
    """An object in a frame.

    Attributes
    ----------
    label : int
        Its value in the label image.
    score : float
        Predicted IoU.
    pixels : int
        Labelled pixels.
    name : str
        What it probably is; empty where that is not known.
    """

    label: int
    score: float
    pixels: int
    name: str = ''

    def to_list(self) -> list[Any]:
        """Its fields for a record, the name only where there is one."""
        values: list[Any] = [self.label, self.score, self.pixels]
        return [*values, self.name] if self.name else values


@dataclass(frozen=True, eq=False)
class FrameLabels:
    """The labels of a frame.

    Attributes
    ----------
    labels : numpy.ndarray
        (rows, columns) uint8, uint16 or uint32.
    objects : tuple of LabelledObject
        What was looked for, in the order of the prompts or by how sure it is.
    note : str
        Why someone should look at it; empty if there is no reason.
    intensity : IntensityMapping or None
        How the model saw the frame's values, where it saw them.
    """

    labels: NDArray[Any]
    objects: tuple[LabelledObject, ...] = ()
    note: str = ''
    intensity: IntensityMapping | None = None


_Result = TypeVar('_Result')

# What becomes of a frame; `NothingToDo` if it is left out.
Outcome = FrameLabels | KDSAMError


def label_masks(
    shape: tuple[int, int],
    found: Iterable[NumberedMask],
    highest: int,
    intensity: IntensityMapping | None = None,
    note: str = '',
) -> FrameLabels:
    """Put masks into one label image; where they overlap, the earlier keeps the pixels.

    Parameters
    ----------
    shape : tuple of int
        (rows, columns).
    found : iterable of (label, mask, score)
        Taken one after another, so that one mask is in memory at a time.
    highest : int
        The highest label there can be in any frame of the image.
    intensity : IntensityMapping, optional
    note : str, optional
        Where it is empty and there is no labelled pixel, that is noted.
    """
    labels = np.zeros(shape, label_dtype(highest))
    objects = []
    for label, mask, score in found:
        pixels = add_object(labels, label, mask)
        objects.append(LabelledObject(label, round(score, 4), pixels))
    if not note and not any(item.pixels for item in objects):
        note = NOTHING_FOUND
    return FrameLabels(labels, tuple(objects), note, intensity)


def attempt(work: Callable[[], _Result]) -> _Result | KDSAMError:
    """Do a frame so that the others go on, whatever is wrong with this one."""
    try:
        return work()
    except KDSAMError as error:
        return error
    except MemoryError:
        return ImageError('There is not enough memory for it; reduce the image.')
    except Exception as error:
        _logger.exception('A frame could not be segmented')
        return KDSAMError(f'Segmenting failed: {error}')
