"""Going through the results of a batch: accept, reject, correct."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from napari_kdsam.core.errors import KDSAMError
from napari_kdsam.widgets.batch.progress import BatchPlan, FollowPlan, Item, State
from napari_kdsam.widgets.shared.image_annotator import (
    ImageAnnotator,
    annotator_in_front,
)
from napari_kdsam.widgets.shared.label_classes import classes_of

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from napari_kdsam.widgets.batch.controller import BatchController
    from napari_kdsam.widgets.batch.record import Batch

OpenAnnotator = Callable[['Viewer'], ImageAnnotator]
_NOTHING = 'There is no frame to look at.'
_NO_RESULT = 'This frame is not among those to look at.'


@dataclass(frozen=True, eq=False)
class _Step:
    """An answer that can be taken back."""

    item: Item
    plan: BatchPlan
    take_back: Callable[[], object]


class BatchReview:
    """Bring the results of the last batch into view, and take the user's answers.

    Parameters
    ----------
    controller : BatchController
    open_annotator : callable
        Gives the annotator of the viewer.

    Attributes
    ----------
    only_flagged : bool
        Whether only frames that someone should look at are gone through.
    """

    def __init__(
        self,
        controller: BatchController,
        open_annotator: OpenAnnotator = annotator_in_front,
    ) -> None:
        self._controller = controller
        self._open_annotator = open_annotator
        self._steps: list[_Step] = []
        self._answered: set[Item] = set()
        self._batch: Batch | None = None
        self.only_flagged = True
        controller.began.connect(self._on_began)
        controller.ended.connect(self._on_ended)

    @property
    def results(self) -> list[Item]:
        """What is gone through, in its order."""
        batch = self._controller.batch
        if batch is None:
            return []
        return sorted(batch.plan.reasons) if self.only_flagged else batch.plan.results

    @property
    def can_answer(self) -> bool:
        """Whether the frame in view is a result that nothing was said of yet."""
        return self._item() is not None

    @property
    def can_undo(self) -> bool:
        """Whether there is an answer to take back."""
        return bool(self._steps)

    def step(self, by: int) -> None:
        """Bring the next result into view, or the one before; round at the ends."""
        results = self.results
        if not results:
            self._controller.say(_NOTHING)
            return
        seen = self._controller.item
        if by > 0:
            later = [item for item in results if seen is None or item > seen]
            found = later[0] if later else results[0]
        else:
            earlier = [item for item in results if seen is None or item < seen]
            found = earlier[-1] if earlier else results[-1]
        self._show(found)

    def accept(self) -> None:
        """Take the frame in view as right, and bring the next result into view.

        Where objects were followed no further because of it, they are from there on.
        """
        batch, item = self._controller.batch, self._item()
        if batch is None or item is None:
            self._controller.say(_NO_RESULT)
            return
        plan, output = batch.plan, batch.outputs[item.image]
        frame = batch.frame(item)
        labelled = bool(output.reader()(frame).any())
        if not labelled and plan.state(item) is State.FAILED:
            self._controller.say(
                'This frame failed and has no labels; paint or commit one first.'
            )
            return
        flagged = item in plan.reasons
        if (
            flagged
            and labelled
            and isinstance(plan, FollowPlan)
            and plan.breaks_off(item.frame)
        ):
            self._controller.continue_from_here()
        else:
            earlier = plan.copy()
            plan.accept(item, labelled)
            written = output.release(frame)
            take_back = partial(output.unrelease, frame, written)
            self._steps.append(_Step(item, earlier, take_back))
        self._answered.add(item)
        self._go_on('Accepted')

    def reject(self) -> None:
        """Take what the batch wrote on the frame in view away; then the next result."""
        batch, item = self._controller.batch, self._item()
        if batch is None or item is None:
            self._controller.say(_NO_RESULT)
            return
        output, frame = batch.outputs[item.image], batch.frame(item)
        if output.written(frame) is None:
            self._controller.say(
                'No label of this frame is of the batch, so there is nothing to reject.'
            )
            return
        earlier = batch.plan.copy()
        try:
            removed = output.remove(frame)
        except KDSAMError as error:
            self._controller.say(f'Not rejected: {error}')
            return
        batch.plan.accept(item, labelled=False)
        take_back = partial(output.take_back, frame, removed)
        self._steps.append(_Step(item, earlier, take_back))
        self._answered.add(item)
        self._go_on('Rejected')

    def undo(self) -> None:
        """Take the last answer back, and bring its frame into view."""
        batch = self._controller.batch
        if not self._steps or batch is None:
            self._controller.say('There is nothing to undo.')
            return
        step = self._steps[-1]
        try:
            step.take_back()
        except KDSAMError as error:
            self._controller.say(f'Not undone: {error}')
            return
        self._steps.pop()
        batch.plan.restore(step.plan)
        self._answered.discard(step.item)
        self._controller.show(step.item)
        self._controller.say(f'{batch.title(step.item)} is to be looked at again.')

    def correct(self) -> None:
        """Open the annotator on the frame in view, with the labels of the batch."""
        batch, item = self._controller.batch, self._controller.item
        if batch is None or item is None:
            self._controller.say(_NO_RESULT)
            return
        self._controller.show(item)
        annotator = self._open_annotator(self._controller.viewer)
        labels = batch.outputs[item.image].layer
        annotator.show(batch.sources[item.image].image, labels, classes_of(labels))

    def _item(self) -> Item | None:
        batch, item = self._controller.batch, self._controller.item
        if batch is None or item is None or item in self._answered:
            return None
        plan = batch.plan
        known = item in plan.reasons or plan.state(item) is State.DONE
        return item if known else None

    def _go_on(self, what: str) -> None:
        batch = self._controller.batch
        if batch is None:
            return
        left = [item for item in self.results if item not in self._answered]
        if left:
            seen = self._controller.item
            later = [item for item in left if seen is None or item > seen]
            self._show(later[0] if later else left[0], what)
        else:
            self._controller.say(f'{what}. Every frame was looked at.')

    def _show(self, item: Item, what: str = '') -> None:
        batch, results = self._controller.batch, self.results
        assert batch is not None
        self._controller.show(item)
        which = ' to look at' if self.only_flagged else ''
        place = f'{results.index(item) + 1} of {len(results)}{which}'
        said = f'{what}. ' if what else ''
        self._controller.say(f'{said}{batch.title(item)}, {place}.')

    def _on_began(self) -> None:
        # Answers of before belong to frames that are being done anew.
        self._steps.clear()
        if self._batch is not self._controller.batch:
            self._batch = self._controller.batch
            self._answered.clear()

    def _on_ended(self) -> None:
        """Show the first frame to look at."""
        batch = self._controller.batch
        if batch is None:
            return
        flagged = sorted(batch.plan.reasons)
        self._answered -= set(flagged)
        self.only_flagged = bool(flagged)
        if flagged and self._controller.item not in flagged:
            self._controller.show(flagged[0])
        self._controller.updated.emit()
