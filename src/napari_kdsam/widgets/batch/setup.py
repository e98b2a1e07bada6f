"""From the choices of the batch widget to a batch that can be started."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING

from napari_kdsam.annotation.state import Draft
from napari_kdsam.core.errors import ImageError, PromptError
from napari_kdsam.model.registry import BUNDLED_HEAD
from napari_kdsam.widgets.batch.labels_sink import BatchOutput, Written, labels_reader
from napari_kdsam.widgets.batch.progress import BatchPlan, FollowPlan, Item
from napari_kdsam.widgets.batch.prompts import prompts_by_frame, prompts_on_frame
from napari_kdsam.widgets.batch.record import Batch, JobMaker, Source
from napari_kdsam.widgets.batch.work import (
    FollowJob,
    PromptedJob,
    Start,
    UnpromptedJob,
    everything,
    likely_objects,
    separate,
)
from napari_kdsam.widgets.shared.labels_writer import new_labels_layer

if TYPE_CHECKING:
    from napari.layers import Image, Labels, Points, Shapes
    from napari.viewer import Viewer

    from napari_kdsam.inference.predictor import Predictor
    from napari_kdsam.inference.propagation import DriftLimits
    from napari_kdsam.widgets.batch.work import Finder, Job


class Method(Enum):
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
        if self is not Method.PROPOSALS:
            return True
        return BUNDLED_HEAD.is_file()

    @property
    def prompted(self) -> bool:
        """Whether points and shapes are needed."""
        return self in (Method.SAME, Method.EACH, Method.FOLLOW_PROMPTS)

    @property
    def labelled(self) -> bool:
        """Whether labels are needed."""
        return self in (Method.FOLLOW_LABELS, Method.FOLLOW_KEYS)

    @property
    def looks_again(self) -> bool:
        """Whether a second look is of use: each object has a prompt on its frame."""
        return self in (Method.SAME, Method.EACH, Method.PROPOSALS)

    @property
    def follows(self) -> bool:
        """Whether objects are followed through one stack."""
        return self is Method.FOLLOW_PROMPTS or self.labelled


_UNPROMPTED = (Method.AUTOMATIC, Method.PROPOSALS)


@dataclass(frozen=True, eq=False)
class Choices:
    """What the user chose.

    Attributes
    ----------
    images : sequence of napari.layers.Image
    method : Method
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
    overwrite : bool
    first_label : int
    second_look : bool
        Whether small objects of large frames are looked at again.
    """

    images: Sequence[Image]
    method: Method
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
    overwrite: bool = False
    first_label: int = 1
    second_look: bool = True


def make_batch(
    choices: Choices, viewer: Viewer, written: MutableMapping[Labels, Written]
) -> Batch:
    """Make a batch; a new Labels layer is added to the viewer if one is needed.

    Parameters
    ----------
    choices : Choices
    viewer : napari.viewer.Viewer
    written : mapping of napari.layers.Labels to dict
        What batches wrote so far; kept up to date by this one.

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
    sources = [Source.of(image) for image in choices.images]
    items = _items(choices, sources)
    if choices.method.follows:
        plan, make_job = _followed(choices, viewer, sources[0], items)
    elif choices.method in _UNPROMPTED:
        plan, make_job = _unprompted(choices, sources, items)
    else:
        plan, make_job = _prompted(choices, viewer, sources, items)
    outputs = _outputs(choices, viewer, sources, written)
    return Batch(sources, outputs, plan, make_job, choices.model, choices.device)


def _items(choices: Choices, sources: Sequence[Source]) -> list[Item]:
    """All frames of several images, or the chosen ones of a single one."""
    items = [
        Item(number, frame)
        for number, source in enumerate(sources)
        for frame in range(source.record.frame_count)
    ]
    if len(sources) > 1 or choices.last < 0:
        return items
    chosen = [i for i in items if choices.first <= i.frame <= choices.last]
    if not chosen:
        raise ImageError('The range holds no frame; let "from" be at most "to".')
    return chosen


def _outputs(
    choices: Choices,
    viewer: Viewer,
    sources: Sequence[Source],
    written: MutableMapping[Labels, Written],
) -> list[BatchOutput]:
    layers = [choices.output] if choices.output is not None else []
    if not layers:
        layers = [new_labels_layer(s.image, choices.first_label) for s in sources]
        active = viewer.layers.selection.active
        for source, layer in zip(sources, layers, strict=True):
            # Below the prompts, so that they stay in sight.
            viewer.layers.insert(viewer.layers.index(source.image) + 1, layer)
        # The tools of the layer in use stay in hand.
        viewer.layers.selection.active = active
    return [
        BatchOutput(layer, choices.overwrite, written.setdefault(layer, {}))
        for layer in layers
    ]


def _prompted(
    choices: Choices, viewer: Viewer, sources: Sequence[Source], items: list[Item]
) -> tuple[BatchPlan, JobMaker]:
    drafts: dict[Item, tuple[Draft, ...]] = {}
    for number, source in enumerate(sources):
        mine = [item for item in items if item.image == number]
        if choices.method is Method.SAME:
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
    stacks = [source.stack for source in sources]

    def make_job(waiting: tuple[Item, ...], starts: dict[int, Start]) -> Job:
        left = {item: drafts[item] for item in waiting}
        return PromptedJob(stacks, left, choices.first_label, choices.second_look)

    return plan, make_job


def _objects_here(
    choices: Choices, viewer: Viewer, source: Source
) -> tuple[Draft, ...]:
    draft = prompts_on_frame(
        source.image,
        choices.points,
        choices.shapes,
        source.record.frame_at(viewer.dims.point),
    )
    if not draft.predictable:
        raise PromptError(
            'This frame has no prompt inside an object; add a point or a box, or go '
            'to a frame that has one.'
        )
    return separate(draft, choices.each_point)


def _unprompted(
    choices: Choices, sources: Sequence[Source], items: list[Item]
) -> tuple[BatchPlan, JobMaker]:
    stacks = [source.stack for source in sources]
    finder: Callable[[Predictor], Finder] = everything
    if choices.method is Method.PROPOSALS:
        finder = partial(likely_objects, second_look=choices.second_look)

    def make_job(waiting: tuple[Item, ...], starts: dict[int, Start]) -> Job:
        return UnpromptedJob(stacks, waiting, finder, choices.first_label)

    return BatchPlan(items), make_job


def _followed(
    choices: Choices, viewer: Viewer, source: Source, items: list[Item]
) -> tuple[BatchPlan, JobMaker]:
    frames = [item.frame for item in items]
    here = source.record.flat_index(source.record.frame_at(viewer.dims.point))
    if choices.method is not Method.FOLLOW_KEYS and here not in frames:
        raise PromptError(
            'The frame in view is not in the range; go to a frame of the range or '
            'change it.'
        )
    if choices.method is Method.FOLLOW_PROMPTS:
        drafts = _objects_here(choices, viewer, source)
        plan = FollowPlan(frames, [here])
        given = None
    else:
        if choices.keys is None:
            raise ImageError('Choose a labels layer to follow from.')
        drafts = ()
        given = Start(labels_reader(choices.keys))
        known = [here] if choices.method is Method.FOLLOW_LABELS else []
        if known and not given.read(source.stack.index(here)).any():
            raise ImageError(
                'This frame has no label to follow; paint or commit one, or go to a '
                'frame that has one.'
            )
        plan = FollowPlan(frames, known)

    def make_job(waiting: tuple[Item, ...], starts: dict[int, Start]) -> Job:
        left = [item.frame for item in waiting]
        new_keys = [key for key in plan.keys if key in left]
        if given is not None:
            starts = starts | dict.fromkeys(new_keys, given)
        return FollowJob(
            source.stack,
            left,
            choices.limits,
            starts,
            search=None if plan.keys else given,
            drafts=drafts,
            prompted=here if drafts and here in new_keys else None,
            first_label=choices.first_label,
        )

    return plan, make_job
