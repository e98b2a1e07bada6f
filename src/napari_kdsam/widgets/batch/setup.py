"""From the choices of the batch widget to a batch that can be started."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING

from napari_kdsam.annotation.draft_prompts import objects_of, prompts_of
from napari_kdsam.annotation.state import Draft
from napari_kdsam.core.errors import ImageError, PromptError
from napari_kdsam.model.registry import BUNDLED_HEAD
from napari_kdsam.segmentation.methods import (
    Automatic,
    FrameMethod,
    NumberedPrompt,
    Prompted,
    Proposed,
)
from napari_kdsam.widgets.batch.jobs import (
    Followed,
    FrameByFrame,
    GivenLabels,
    LayerJob,
)
from napari_kdsam.widgets.batch.labels_sink import (
    LabelsSink,
    Numbering,
    batch_labels_of,
    labels_reader,
)
from napari_kdsam.widgets.batch.progress import BatchPlan, FollowPlan, Item
from napari_kdsam.widgets.batch.prompts import prompts_by_frame, prompts_on_frame
from napari_kdsam.widgets.batch.record import Batch, BatchedImage, JobMaker
from napari_kdsam.widgets.shared.label_classes import classes_of
from napari_kdsam.widgets.shared.labels_writer import new_labels_layer
from napari_kdsam.widgets.shared.layer_reuse import hold

if TYPE_CHECKING:
    from napari.layers import Image, Labels, Points, Shapes
    from napari.viewer import Viewer

    from napari_kdsam.inference.drift import DriftLimits


class BatchMethod(Enum):
    """Where the prompts of a batch come from."""

    SAME = 'These, on every frame'
    EACH = "Each frame's own"
    FOLLOW_PROMPTS = 'Follow these prompts'
    FOLLOW_LABELS = 'Follow these labels'
    FOLLOW_KEYS = 'Follow labelled frames'
    AUTOMATIC = 'None: find everything'
    PROPOSALS = 'None: likely objects'

    @property
    def available(self) -> bool:
        """Whether what it needs came with the package."""
        if self is not BatchMethod.PROPOSALS:
            return True
        return BUNDLED_HEAD.is_file()

    @property
    def prompted(self) -> bool:
        """Whether points and shapes are needed."""
        return self in (BatchMethod.SAME, BatchMethod.EACH, BatchMethod.FOLLOW_PROMPTS)

    @property
    def labelled(self) -> bool:
        """Whether labels are needed."""
        return self in (BatchMethod.FOLLOW_LABELS, BatchMethod.FOLLOW_KEYS)

    @property
    def numbering(self) -> Numbering:
        """What the labels mean that objects come with."""
        if self.follows:
            return Numbering.followed
        return Numbering.found if self in _UNPROMPTED else Numbering.prompted

    @property
    def looks_again(self) -> bool:
        """Whether a second look is of use: each object has a prompt on its frame."""
        return self in (BatchMethod.SAME, BatchMethod.EACH, BatchMethod.PROPOSALS)

    @property
    def follows(self) -> bool:
        """Whether objects are followed through one stack."""
        return self is BatchMethod.FOLLOW_PROMPTS or self.labelled


_UNPROMPTED = (BatchMethod.AUTOMATIC, BatchMethod.PROPOSALS)


@dataclass(frozen=True, eq=False)
class Choices:
    """What the user chose.

    Attributes
    ----------
    images : sequence of napari.layers.Image
    method : BatchMethod
    model, device : str
    limits : DriftLimits
    points : napari.layers.Points or None
    shapes : napari.layers.Shapes or None
    each_point : bool
        Whether each point is an object of its own.
    keys : napari.layers.Labels or None
        Labels to follow from.
    first, last : int
        The frames of a single stack, both included; `last` -1 for all.
    output : napari.layers.Labels or None
        None for a new layer.
    again : bool
        Whether images get the labels layer that an earlier batch has made, where there
        is one.
    overwrite : bool
    first_label : int
    second_look : bool
        Whether small objects of large frames are looked at again.
    """

    images: Sequence[Image]
    method: BatchMethod
    model: str
    device: str
    limits: DriftLimits
    points: Points | None = None
    shapes: Shapes | None = None
    each_point: bool = False
    keys: Labels | None = None
    first: int = 0
    last: int = -1
    output: Labels | None = None
    again: bool = False
    overwrite: bool = False
    first_label: int = 1
    second_look: bool = True


def make_batch(choices: Choices, viewer: Viewer) -> Batch:
    """Make a batch; a new Labels layer is added to the viewer if one is needed.

    Parameters
    ----------
    choices : Choices
    viewer : napari.viewer.Viewer

    Raises
    ------
    KDSAMError
        If something is missing; nothing has changed then.
    """
    if not choices.images:
        raise ImageError('Choose an image layer first.')
    if choices.method.follows and len(choices.images) > 1:
        raise ImageError('Objects are followed through one stack; choose one image.')
    if choices.method.prompted and choices.points is choices.shapes is None:
        raise PromptError('Choose a points or a shapes layer with prompts.')
    sources = [BatchedImage.of(image) for image in choices.images]
    items = _items(choices, sources)
    if choices.method.follows:
        plan, make_job = _followed(choices, viewer, sources[0], items)
    elif choices.method in _UNPROMPTED:
        plan, make_job = _unprompted(choices, sources, items)
    else:
        plan, make_job = _prompted(choices, viewer, sources, items)
    outputs = _outputs(choices, viewer, sources)
    batch = Batch(sources, outputs, plan, make_job, choices.model, choices.device)
    for layer in batch.layers:
        hold(layer)
    return batch


def _items(choices: Choices, sources: Sequence[BatchedImage]) -> list[Item]:
    """All frames of several images, or the chosen ones of a single one."""
    items = [
        Item(number, frame)
        for number, source in enumerate(sources)
        for frame in range(source.frames.count)
    ]
    if len(sources) > 1 or choices.last < 0:
        return items
    chosen = [i for i in items if choices.first <= i.frame <= choices.last]
    if not chosen:
        raise ImageError('The range holds no frame; let "from" be at most "to".')
    return chosen


def _outputs(
    choices: Choices, viewer: Viewer, sources: Sequence[BatchedImage]
) -> list[LabelsSink]:
    layers = [_labels_there(choices, viewer, source.image) for source in sources]
    made = [
        layer or new_labels_layer(source.image, choices.first_label)
        for source, layer in zip(sources, layers, strict=True)
    ]
    active = viewer.layers.selection.active
    for source, there, layer in zip(sources, layers, made, strict=True):
        if there is None:
            # Below the prompts, so that they stay in sight.
            viewer.layers.insert(viewer.layers.index(source.image) + 1, layer)
    # The tools of the layer in use stay in hand.
    viewer.layers.selection.active = active
    outputs = [
        LabelsSink(layer, source.image, choices.overwrite, choices.method.numbering)
        for source, layer in zip(sources, made, strict=True)
    ]
    if choices.method.labelled and choices.keys is not None:
        outputs[0].add_names(classes_of(choices.keys))
        if layers[0] is None:
            # A label keeps its colour from frame to frame.
            made[0].colormap = choices.keys.colormap
    return outputs


def _labels_there(choices: Choices, viewer: Viewer, image: Image) -> Labels | None:
    if choices.output is not None or not choices.again:
        return choices.output
    return batch_labels_of(image, viewer)


def _prompted(
    choices: Choices, viewer: Viewer, sources: Sequence[BatchedImage], items: list[Item]
) -> tuple[BatchPlan, JobMaker]:
    drafts: dict[Item, tuple[Draft, ...]] = {}
    for number, source in enumerate(sources):
        mine = [item for item in items if item.image == number]
        if choices.method is BatchMethod.SAME:
            same = _objects_here(choices, viewer, source)
            drafts |= dict.fromkeys(mine, same)
        else:
            held = prompts_by_frame(source.image, choices.points, choices.shapes)
            for item in mine:
                draft = held.get(source.stack.index(item.frame))
                if draft is not None:
                    drafts[item] = separate(draft, choices.each_point)
    if not drafts:
        raise PromptError('No frame has prompts; add a point or a box first.')
    plan = BatchPlan(items)
    plan.skip(item for item in items if item not in drafts)
    methods = [
        _prompting(
            choices,
            source,
            partial(_held, drafts, number),
            second_look=choices.second_look,
        )
        for number, source in enumerate(sources)
    ]
    return plan, _frame_by_frame(sources, methods)


def _held(
    drafts: dict[Item, tuple[Draft, ...]], image: int, frame: int
) -> tuple[Draft, ...]:
    return drafts.get(Item(image, frame), ())


def _prompting(
    choices: Choices,
    source: BatchedImage,
    drafts_of: Callable[[int], tuple[Draft, ...]],
    *,
    second_look: bool,
) -> Prompted:
    """How the objects that are drafted on a frame are labelled there."""
    shape = source.stack.plane_shape

    def prompts_of_frame(frame: int) -> list[NumberedPrompt]:
        numbered = enumerate(drafts_of(frame), choices.first_label)
        return [(label, prompts_of(draft, shape)[0]) for label, draft in numbered]

    return Prompted(prompts_of_frame, second_look=second_look)


def _frame_by_frame(
    sources: Sequence[BatchedImage], methods: Sequence[FrameMethod]
) -> JobMaker:
    stacks = [source.stack for source in sources]
    return lambda waiting, _: FrameByFrame(stacks, methods, waiting)


def _objects_here(
    choices: Choices, viewer: Viewer, source: BatchedImage
) -> tuple[Draft, ...]:
    draft = prompts_on_frame(
        source.image,
        choices.points,
        choices.shapes,
        source.frames.at(viewer.dims.point),
    )
    if not draft.predictable:
        raise PromptError(
            'This frame has no prompt inside an object; add a point or a box, or go '
            'to a frame that has one.'
        )
    return separate(draft, choices.each_point)


def _unprompted(
    choices: Choices, sources: Sequence[BatchedImage], items: list[Item]
) -> tuple[BatchPlan, JobMaker]:
    method: FrameMethod = Automatic(choices.first_label)
    if choices.method is BatchMethod.PROPOSALS:
        method = Proposed(choices.first_label, choices.second_look)
    return BatchPlan(items), _frame_by_frame(sources, [method] * len(sources))


def _followed(
    choices: Choices, viewer: Viewer, source: BatchedImage, items: list[Item]
) -> tuple[BatchPlan, JobMaker]:
    frames = [item.frame for item in items]
    here = source.frames.flat_index(source.frames.at(viewer.dims.point))
    if choices.method is not BatchMethod.FOLLOW_KEYS and here not in frames:
        raise PromptError(
            'The frame in view is not in the range; go to a frame of the range or '
            'change it.'
        )
    if choices.method is BatchMethod.FOLLOW_PROMPTS:
        drafts = _objects_here(choices, viewer, source)
        plan = FollowPlan(frames, [here])
        given = None
    else:
        if choices.keys is None:
            raise ImageError('Choose a labels layer to follow from.')
        drafts = ()
        given = GivenLabels(labels_reader(choices.keys))
        known = [here] if choices.method is BatchMethod.FOLLOW_LABELS else []
        if known and not given.read(source.stack.index(here)).any():
            raise ImageError(
                'This frame has no label to follow; paint or commit one, or go to a '
                'frame that has one.'
            )
        plan = FollowPlan(frames, known)

    method = None
    if drafts:
        method = _prompting(choices, source, lambda _: drafts, second_look=False)

    def make_job(waiting: tuple[Item, ...], held: dict[int, GivenLabels]) -> LayerJob:
        wanted = [item.frame for item in waiting]
        new_keys = [key for key in plan.keys if key in wanted]
        keys = {frame: labels for frame, labels in held.items() if frame in plan.keys}
        if given is not None:
            keys |= dict.fromkeys(new_keys, given)
        return Followed(
            source.stack,
            frames,
            wanted,
            choices.limits,
            keys,
            known=held,
            search=None if plan.keys else given,
            method=method,
            prompted=here if method and here in new_keys else None,
        )

    return plan, make_job


def separate(draft: Draft, each_point: bool) -> tuple[Draft, ...]:
    """Split a draft into its objects.

    Parameters
    ----------
    draft : Draft
    each_point : bool
        Whether each point inside is an object of its own, where no box is drawn;
        points outside count for all of them.
    """
    inside = [point for point in draft.points if point.positive]
    if not each_point or draft.boxes or len(inside) < 2:
        return objects_of(draft)
    outside = tuple(point for point in draft.points if not point.positive)
    return tuple(Draft(points=(point, *outside)) for point in inside)
