"""Where a batch writes: a Labels layer, frame by frame."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import ReferenceType, WeakKeyDictionary, ref

import numpy as np
from numpy.typing import NDArray

from napari_kdsam.core.digest import digest_of_values
from napari_kdsam.core.errors import KDSAMError
from napari_kdsam.core.stack_index import FrameIndex, indices_on
from napari_kdsam.segmentation.frame_labels import FrameLabels
from napari_kdsam.widgets.shared.label_classes import classes_of, name_classes
from napari_kdsam.widgets.shared.labels_writer import (
    check_label,
    frame_data,
    labels_fitting,
    set_pixels,
)

if TYPE_CHECKING:
    from napari.layers import Image, Labels
    from napari.viewer import Viewer

_CORRECTED = 'Changed after a batch, so it stays as it is; Overwrite does it again.'
_ACCEPTED = 'Looked at before, so it stays as it is; Overwrite does it again.'


class KeptError(KDSAMError):
    """A frame that somebody has changed or accepted, and that stays as it is."""


class Numbering(Enum):
    """What the labels mean that objects come with.

    Attributes
    ----------
    found
        Nothing; another one is taken where that one is of something else.
    prompted
        The same prompt on every frame.
    followed
        The object of a key frame, with its class.
    """

    found = 'found'
    prompted = 'prompted'
    followed = 'followed'


@dataclass(frozen=True)
class WrittenFrame:
    """Labels that a batch has written on a frame, and the digest of all pixels then.

    A frame that is the user's from now on has neither.
    """

    labels: frozenset[int] = frozenset()
    digest: str = ''


@dataclass(frozen=True, eq=False)
class Removed:
    """Pixels that were taken out of a frame, and what was known of it."""

    indices: tuple[NDArray[np.intp], ...]
    labels: NDArray[Any]
    written: WrittenFrame | None


@dataclass(frozen=True)
class _Written:
    """What batches have written into a layer."""

    image: ReferenceType[Image]
    frames: dict[FrameIndex, WrittenFrame] = field(default_factory=dict)


# Of the layers of all viewers, whatever panel began the batch.
_layers: WeakKeyDictionary[Labels, _Written] = WeakKeyDictionary()


class LabelsSink:
    """Write objects into a Labels layer, and remember what is the batch's own.

    Parameters
    ----------
    layer : napari.layers.Labels
    image : napari.layers.Image
        Whose labels they are.
    overwrite : bool
        Whether labels that were there give way to new ones, also those with the same
        value. What a batch wrote is replaced by a later result in any case, but for
        frames that somebody has changed or accepted since.
    numbering : Numbering
    """

    def __init__(
        self,
        layer: Labels,
        image: Image,
        overwrite: bool = False,
        numbering: Numbering = Numbering.prompted,
    ) -> None:
        self.layer = layer
        self.overwrite = overwrite
        self.numbering = numbering
        earlier = _layers.get(layer)
        if earlier is None or earlier.image() is not image:
            _layers[layer] = earlier = _Written(ref(image))
        self._written = earlier.frames

    def written(self, frame: FrameIndex) -> frozenset[int] | None:
        """Labels that the batch wrote on a frame; None if it is the user's."""
        found = self._written.get(frame)
        return found.labels if found is not None and found.digest else None

    def release(self, frame: FrameIndex) -> WrittenFrame | None:
        """Take the labels of a frame as the user's from now on; for `unrelease`."""
        before = self._written.get(frame)
        self._written[frame] = WrittenFrame()
        return before

    def remove(self, frame: FrameIndex) -> Removed:
        """Take out what the batch has written on a frame, which is the user's then.

        Raises
        ------
        ImageError
            If the layer cannot be written.
        """
        earlier = self._written.get(frame)
        labels = self.reader()(frame)
        gone = np.isin(labels, list(earlier.labels if earlier is not None else ()))
        places = np.nonzero(gone & (labels != 0))
        removed = Removed(indices_on(frame, *places), labels[places], earlier)
        if places[0].size:
            set_pixels(self.layer, removed.indices, 0)
        self.release(frame)
        return removed

    def take_back(self, frame: FrameIndex, removed: Removed) -> None:
        """Write what was removed where nothing else has been written since.

        Raises
        ------
        ImageError
            If the layer cannot be written.
        """
        free = np.asarray(self.layer.data[removed.indices]) == 0
        if free.any():
            indices = tuple(axis[free] for axis in removed.indices)
            set_pixels(self.layer, indices, removed.labels[free])
        self.unrelease(frame, removed.written)

    def unrelease(self, frame: FrameIndex, written: WrittenFrame | None) -> None:
        """Take a frame for the batch's again, as it was."""
        if written is None:
            self._written.pop(frame, None)
        else:
            self._written[frame] = written

    def reader(self) -> Callable[[FrameIndex], NDArray[Any]]:
        """Make a function that reads the (rows, columns) labels of a frame, in a thread."""
        return labels_reader(self.layer)

    def write(self, frame: FrameIndex, found: FrameLabels) -> None:
        """Write the objects of a frame, and name their classes.

        Raises
        ------
        ImageError
            If the layer cannot be written or cannot hold a label.
        KeptError
            If somebody has changed or accepted the frame; nothing is written then.
        """
        before = self.reader()(frame)
        earlier = self._written.get(frame)
        if earlier is not None and not self.overwrite:
            if not earlier.digest:
                raise KeptError(_ACCEPTED)
            if earlier.digest != digest_of_values(before):
                raise KeptError(_CORRECTED)
        gone = frozenset() if earlier is None else earlier.labels
        kept = frozenset(np.unique(before).tolist()) - gone
        labels, named = found.labels, _names(found)
        if self.numbering is Numbering.found:
            labels, named = self._renumbered(labels, named, kept)
        present = frozenset(int(label) for label in np.unique(labels) if label > 0)
        check_label(self.layer, max(present, default=0))
        if self.overwrite:
            gone |= present
        after = np.where(np.isin(before, list(gone)), 0, before)
        new = labels > 0
        if not self.overwrite:
            new &= after == 0
        after[new] = labels[new]
        rows, columns = np.nonzero(before != after)
        if rows.size == 0 and earlier is None and present:
            # Labels that were there already, as on a key frame, stay the user's.
            return
        if rows.size:
            indices = indices_on(frame, rows, columns)
            set_pixels(self.layer, indices, after[rows, columns])
        self._written[frame] = WrittenFrame(present, digest_of_values(after))
        if self.numbering is not Numbering.followed:
            self._name(named, present, gone - kept)

    def add_names(self, named: Mapping[int, str]) -> None:
        """Name the classes of labels that have no name yet."""
        if named:
            name_classes(self.layer, {**named, **classes_of(self.layer)})

    def _name(
        self, named: Mapping[int, str], present: frozenset[int], gone: frozenset[int]
    ) -> None:
        """Name the labels of a frame; what takes the place of a label has not its name."""
        before = classes_of(self.layer)
        if self.layer.ndim > 2:
            # Other frames may have those that are on this one no longer.
            gone &= present
        left = {label: name for label, name in before.items() if label not in gone}
        after = left | {label: named[label] for label in present if label in named}
        if after != before:
            name_classes(self.layer, after)

    def _renumbered(
        self, labels: NDArray[Any], named: dict[int, str], kept: frozenset[int]
    ) -> tuple[NDArray[Any], dict[int, str]]:
        """Let objects keep clear of labels that stay, and of labels of other classes."""
        known = classes_of(self.layer)
        if self.layer.ndim == 2:
            known = {label: name for label, name in known.items() if label in kept}
        new: dict[int, int] = {}
        taken = set(kept)
        for label in np.unique(labels).tolist():
            if label == 0:
                continue
            name, number = named.get(label, ''), label
            while number in taken or known.get(number, name) != name:
                number += 1
            taken.add(number)
            new[label] = number
        if all(label == number for label, number in new.items()):
            return labels, named
        renumbered = np.zeros(labels.shape, np.uint32)
        for label, number in new.items():
            renumbered[labels == label] = number
        return renumbered, {new[label]: named[label] for label in new if label in named}


def labels_reader(layer: Labels) -> Callable[[FrameIndex], NDArray[Any]]:
    """Make a function that reads a frame of what a Labels layer holds now."""
    return partial(frame_data, layer.data)


def made_by_batch(layer: Labels) -> bool:
    """Whether a batch writes or has written into a layer."""
    return layer in _layers


def batch_labels_of(image: Image, viewer: Viewer) -> Labels | None:
    """The labels layer of an image that a batch has written into, the uppermost one."""
    made = [
        layer
        for layer in labels_fitting(image, viewer)
        if made_by_batch(layer) and _layers[layer].image() is image
    ]
    return made[-1] if made else None


def _names(found: FrameLabels) -> dict[int, str]:
    return {item.label: item.name for item in found.objects if item.name}
