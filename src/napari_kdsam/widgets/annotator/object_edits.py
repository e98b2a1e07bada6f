"""Join two objects, split one along a line, and go through all of them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from napari_kdsam.annotation.label_commands import ReplaceObjects
from napari_kdsam.annotation.object_parts import cut_along
from napari_kdsam.annotation.state import CommittedObject, Draft
from napari_kdsam.core.errors import KDSAMError, counted
from napari_kdsam.widgets.annotator.objects import ObjectActions, last_number
from napari_kdsam.widgets.annotator.workspace import Workspace
from napari_kdsam.widgets.shared.layer_moves import show_box

if TYPE_CHECKING:
    from napari_kdsam.core.stack_index import FrameIndex

_NO_LINE = (
    'Draw a scribble across the object first, then point at the object and split it.'
)
_NOT_CUT = 'The scribble does not cut through this object; draw it from side to side.'


class ObjectEdits:
    """Change how objects are divided, and look at one after the other.

    Parameters
    ----------
    workspace : Workspace
    objects : ObjectActions
    """

    def __init__(self, workspace: Workspace, objects: ObjectActions) -> None:
        self._workspace = workspace
        self._objects = objects
        # Where the first of two objects is that are to be joined.
        self._first: tuple[float, ...] | None = None
        self._seen: tuple[FrameIndex, int] | None = None

    def join_at(self, point: tuple[float, ...]) -> bool:
        """Join the objects at two world points, given one after the other.

        The first keeps its number and its class. False, and said so, until there are
        two.
        """
        found = self._objects.object_at(point)
        if found is None:
            return False
        item, target = found
        first, self._first = self._first, None
        earlier = self._objects.object_at(first) if first is not None else None
        kept = earlier[0] if earlier is not None else None
        if kept is None or kept.frame != item.frame or kept.region == item.region:
            self._first = point
            self._workspace.say(
                f'Label {item.label}: point at the other part and press the key again.'
            )
            return False
        joined = replace(kept, region=kept.region.plus(item.region))
        draft = self._workspace.session.state.draft(item.frame)
        command = ReplaceObjects(target, (kept, item), (joined,), draft)
        if not self._objects.execute(command):
            return False
        self._workspace.say(f'Joined as label {kept.label}; undo parts them.')
        return True

    def split_at(self, point: tuple[float, ...]) -> bool:
        """Split the object at a world point along the last scribble on its frame.

        The largest part keeps the number. False, and said so, if nothing is cut.
        """
        found = self._objects.object_at(point)
        if found is None:
            return False
        item, target = found
        state = self._workspace.session.state
        draft = state.draft(item.frame)
        if not draft.scribbles:
            self._workspace.say(_NO_LINE)
            return False
        regions = cut_along(item.region, draft.scribbles[-1].places)
        if len(regions) < 2:
            self._workspace.say(_NOT_CUT)
            return False
        number = last_number(state, target, item.semantic)
        parts = [replace(item, region=regions[0], draft=Draft())]
        for region in regions[1:]:
            number += 1
            label = item.label if item.semantic else number
            parts.append(
                replace(item, number=number, label=label, region=region, draft=Draft())
            )
        left = replace(draft, scribbles=draft.scribbles[:-1])
        try:
            target.check_label(max(part.label for part in parts))
        except KDSAMError as error:
            self._workspace.fail(f'Not split: {error}')
            return False
        command = ReplaceObjects(target, (item,), tuple(parts), left)
        if not self._objects.execute(command):
            return False
        self._workspace.say(f'Split into {counted(len(parts), "object")}.')
        return True

    def show_next(self, step: int) -> None:
        """Bring the next object, or the one before, large into view.

        Parameters
        ----------
        step : int
            1 forwards and -1 backwards, through frames and numbers.
        """
        workspace = self._workspace
        record = workspace.record
        if record is None or not record.session.state.objects:
            workspace.say('There is no object yet.')
            return
        ordered = sorted(
            record.session.state.objects, key=lambda item: (item.frame, item.number)
        )
        item = ordered[self._place_after(ordered, step)]
        self._seen = (item.frame, item.number)
        show_box(workspace.viewer, record.image, item.frame, item.region.box)
        if record.target is not None:
            record.target.layer.selected_label = item.label
        named = record.session.state.class_named(item.class_id)
        place = ordered.index(item) + 1
        workspace.say(f'Object {place} of {len(ordered)}: label {item.label}, {named}.')

    def _place_after(self, ordered: list[CommittedObject], step: int) -> int:
        keys = [(item.frame, item.number) for item in ordered]
        seen = self._seen
        if seen is None or seen[0] != self._workspace.frame:
            # On another frame the walk begins anew.
            seen = (self._workspace.frame, 0 if step > 0 else ordered[-1].number + 1)
        if step > 0:
            return next((n for n, key in enumerate(keys) if key > seen), 0)
        before = [n for n, key in enumerate(keys) if key < seen]
        return before[-1] if before else len(keys) - 1
