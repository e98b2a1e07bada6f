"""A batch as it was started: its layers, its frames, and how to make its jobs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_kdsam.core.stack_index import FrameIndex
from napari_kdsam.widgets.batch.jobs import GivenLabels, LayerFrames, LayerJob
from napari_kdsam.widgets.batch.labels_sink import LabelsSink
from napari_kdsam.widgets.batch.progress import BatchPlan, Item
from napari_kdsam.widgets.shared.image_frames import ImageFrames

if TYPE_CHECKING:
    from napari.layers import Image, Labels

# Makes the job for the frames that wait, of plain values that a thread may use.
# Given are the labels of frames that others are followed from.
JobMaker = Callable[[tuple[Item, ...], dict[int, GivenLabels]], LayerJob]


@dataclass(frozen=True, eq=False)
class BatchedImage:
    """An image layer of a batch.

    Attributes
    ----------
    image : napari.layers.Image
    frames : ImageFrames
    stack : LayerFrames
        What the thread reads.
    """

    image: Image
    frames: ImageFrames
    stack: LayerFrames

    @classmethod
    def of(cls, image: Image) -> BatchedImage:
        """Take an image layer as it is now."""
        frames = ImageFrames(image)
        return cls(
            image,
            frames,
            LayerFrames(frames.reader(), frames.leading_shape, frames.plane_shape),
        )


@dataclass(frozen=True, eq=False)
class Batch:
    """A batch as it was started, so that it can go on later.

    Attributes
    ----------
    sources : sequence of BatchedImage
    outputs : sequence of LabelsSink
        One for each source.
    plan : BatchPlan
    make_job : callable
    model, device : str
    """

    sources: Sequence[BatchedImage]
    outputs: Sequence[LabelsSink]
    plan: BatchPlan
    make_job: JobMaker
    model: str
    device: str

    def frame(self, item: Item) -> FrameIndex:
        """Index of a frame along the leading axes of its image."""
        return self.sources[item.image].stack.index(item.frame)

    def title(self, item: Item) -> str:
        """What the frame is called in the list."""
        source = self.sources[item.image]
        name = source.image.name if len(self.sources) > 1 else ''
        index = ', '.join(map(str, self.frame(item)))
        parts = [name, f'Frame {index}' if index else '']
        return ': '.join(part for part in parts if part) or source.image.name

    @property
    def layers(self) -> list[Image | Labels]:
        """The layers without which it cannot go on."""
        images: list[Image | Labels] = [source.image for source in self.sources]
        return [*images, *(output.layer for output in self.outputs)]
