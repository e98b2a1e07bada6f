"""Likely objects: shown as a start, and labels only once they are accepted."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QTimer

from napari_kdsam.annotation.classes import class_named
from napari_kdsam.annotation.commands import Command, SetClasses, as_one
from napari_kdsam.annotation.contours import contour_of
from napari_kdsam.annotation.label_commands import CommitObject
from napari_kdsam.annotation.region import PixelRegion
from napari_kdsam.annotation.state import CommittedObject, Draft
from napari_kdsam.widgets.annotator.objects import LAYER_ERRORS, last_number
from napari_kdsam.widgets.annotator.prediction import PredictionFlow
from napari_kdsam.widgets.annotator.prompt_layers import line_width
from napari_kdsam.widgets.annotator.workspace import Workspace
from napari_kdsam.widgets.shared.layer_marks import HELPER_KEY
from napari_kdsam.widgets.shared.prompt_geometry import place_in_layer
from napari_kdsam.widgets.shared.transforms import transform_of

if TYPE_CHECKING:
    from napari.layers import Shapes

    from napari_kdsam.core.stack_index import FrameIndex
    from napari_kdsam.segmentation.likely_objects import LikelyObject
    from napari_kdsam.widgets.annotator.image_record import ImageRecord
    from napari_kdsam.widgets.shared.requests import LikelyAnswer

_COLOR = '#00e676'
_TEXT_SIZE = 12
# Share of the image's longer side.
_TEXT_ABOVE = 0.015
_UNNAMED = 'object'
_NOTHING = 'No likely object was found here.'


class LikelyObjects:
    """Look for objects on frames where nothing is labelled yet, and show them.

    Parameters
    ----------
    workspace : Workspace
    flow : PredictionFlow
    follow : callable
        Called with the record of the image after a commit.
    """

    def __init__(
        self,
        workspace: Workspace,
        flow: PredictionFlow,
        follow: Callable[[ImageRecord], None],
    ) -> None:
        self._workspace = workspace
        self._flow = flow
        self._follow = follow
        self._wanted = False
        self._asked: tuple[ImageRecord, FrameIndex] | None = None
        self._found: tuple[LikelyObject, ...] = ()
        self._layer: Shapes | None = None
        self._following = False
        flow.thread.likely_found.connect(self._on_found)
        workspace.updated.connect(self._follow_soon)

    @property
    def shown(self) -> tuple[LikelyObject, ...]:
        """Those that are seen now."""
        return self._found if self._layer is not None else ()

    @property
    def described(self) -> str:
        """A sentence on those that are seen now; empty for none."""
        names = [f'{_name(item)} ({item.certainty:.2f})' for item in self.shown]
        if not names:
            return ''
        return f'Likely: {", ".join(names)}. Accept, or click to label by yourself.'

    def suggest(self, wanted: bool) -> None:
        """Look for likely objects from now on, or no longer."""
        if wanted != self._wanted:
            self._wanted = wanted
            self._forget()
            self._follow_view()
            self._workspace.updated.emit()

    def accept(self) -> bool:
        """Make labels of what is shown, as one step; False if there is nothing."""
        workspace, record = self._workspace, self._workspace.record
        if workspace.hindrance is not None:
            workspace.show_status(workspace.hindrance)
            return False
        # What is seen may be out of date for a moment.
        self._follow_view()
        if not self.shown or record is None or workspace.layers is None:
            workspace.say('There is no likely object to accept.')
            return False
        try:
            commands = self._commands(record, self.shown)
            record.session.execute(as_one(commands))
        except LAYER_ERRORS as error:
            workspace.fail(f'Not accepted: {error}')
            return False
        self._follow(record)
        count = sum(isinstance(command, CommitObject) for command in commands)
        names = ', '.join(dict.fromkeys(_name(item) for item in self._found))
        workspace.say(f'Accepted {count}: {names}; undo takes it back.')
        self._follow_view()
        return True

    def dismiss(self) -> None:
        """Show no likely objects on this frame any more."""
        self._found = ()
        self._hide()
        self._workspace.updated.emit()

    def close(self) -> None:
        """Let go of the viewer."""
        self._wanted = False
        self._workspace.updated.disconnect(self._follow_soon)
        self._forget()

    def _commands(
        self, record: ImageRecord, found: tuple[LikelyObject, ...]
    ) -> list[Command]:
        workspace, frame = self._workspace, self._workspace.frame
        assert workspace.layers is not None
        state = record.session.state
        target = record.ensure_target(workspace.viewer, workspace.layers.preview)
        free = target.frame(frame) == 0
        classes = state.classes
        number = last_number(state, target, state.semantic)
        commits: list[Command] = []
        for item in found:
            rows, columns = free.shape
            mask = item.mask[:rows, :columns]
            inside = free[: mask.shape[0], : mask.shape[1]]
            region = PixelRegion.of_mask(frame, mask & inside)
            if region is None:
                continue
            inside &= ~mask
            class_id = state.current_class
            if item.name:
                classes, class_id = class_named(classes, item.name)
            number += 1
            label = class_id if state.semantic else number
            target.check_label(label)
            commits.append(
                CommitObject(
                    target,
                    CommittedObject(
                        number,
                        label,
                        frame,
                        Draft(boxes=(item.box,)),
                        item.score,
                        region,
                        class_id,
                        state.semantic,
                    ),
                )
            )
        return commits if classes == state.classes else [SetClasses(classes), *commits]

    def _on_found(self, answer: LikelyAnswer) -> None:
        if not self._wanted or answer.request.context != self._asked:
            return
        if answer.error:
            self._workspace.say(answer.error)
            return
        self._found = answer.found
        if not answer.found and self._workspace.draft.empty:
            self._workspace.say(_NOTHING)
        self._follow_view()
        self._workspace.updated.emit()

    def _follow_soon(self) -> None:
        # napari may be in the middle of adding or removing layers.
        if self._wanted and not self._following:
            self._following = True
            QTimer.singleShot(0, self._follow_view)

    def _follow_view(self) -> None:
        """Look at another frame, and show what was found as long as it is a start."""
        self._following = False
        if not self._wanted:
            return
        workspace, record = self._workspace, self._workspace.record
        now = None if record is None else (record, workspace.frame)
        if now != self._asked:
            self._forget()
            self._asked = now
            if record is not None and self._is_empty(record):
                self._flow.look_for_likely(record, workspace.frame)
            return
        if record is None or not self._found or not self._is_empty(record):
            self._hide()
        elif self._layer is None or self._layer not in workspace.viewer.layers:
            self._show(record)

    def _is_empty(self, record: ImageRecord) -> bool:
        frame = self._workspace.frame
        if record.image not in self._workspace.viewer.layers:
            return False
        if not self._workspace.draft.empty or self._workspace.hindrance is not None:
            return False
        return record.target is None or not record.target.frame(frame).any()

    def _forget(self) -> None:
        self._asked, self._found = None, ()
        self._flow.thread.look_for_likely(None)
        self._hide()

    def _hide(self) -> None:
        layer, self._layer = self._layer, None
        if layer is not None and layer in self._workspace.viewer.layers:
            self._workspace.viewer.layers.remove(layer)

    def _show(self, record: ImageRecord) -> None:
        import pandas as pd
        from napari.layers import Shapes

        workspace, frame = self._workspace, self._workspace.frame
        outlines, names = [], []
        for item in self._found:
            region = PixelRegion.of_mask(frame, item.mask)
            assert region is not None
            for number, ring in enumerate(contour_of(region).rings):
                places = [place_in_layer(frame, place) for place in ring.places]
                outlines.append(np.array(places))
                text = f'{_name(item)} {item.certainty:.2f}'
                names.append(text if number == 0 else '')
        above = np.zeros(len(record.frames.shape))
        above[-2] = -_TEXT_ABOVE * max(record.frames.plane_shape)
        self._layer = Shapes(
            outlines,
            ndim=len(record.frames.shape),
            shape_type='polygon',
            name='KD SAM likely objects',
            features=pd.DataFrame({'name': names}),
            text={
                'string': '{name}',
                'color': _COLOR,
                'size': _TEXT_SIZE,
                # Above the object, which is to be seen.
                'anchor': 'upper_left',
                'translation': above,
            },
            face_color='transparent',
            edge_color=_COLOR,
            edge_width=line_width(record.frames.shape),
            metadata={HELPER_KEY: True},
            **transform_of(record.image),
        )
        layers = workspace.viewer.layers
        active = layers.selection.active
        ours = workspace.layers
        known = ours is not None and ours.preview in layers
        below = layers.index(ours.preview) if ours and known else len(layers)
        layers.insert(below, self._layer)
        layers.selection.active = active


def _name(item: LikelyObject) -> str:
    return item.name or _UNNAMED
