"""One method for each action of the shortcut table that needs no more than a line."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from napari_kdsam.annotation.commands import ChooseCandidate, ClearDraft, TogglePoint
from napari_kdsam.widgets.annotator.objects import LAYER_ERRORS
from napari_kdsam.widgets.annotator.prompt_layers import BOX, LASSO, SCRIBBLE
from napari_kdsam.widgets.annotator.status import Stage, Status

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from napari_kdsam.widgets.annotator.frames import FrameActions
    from napari_kdsam.widgets.annotator.keyboard_cursor import KeyboardCursor
    from napari_kdsam.widgets.annotator.objects import ObjectActions
    from napari_kdsam.widgets.annotator.pick_tool import PickTool
    from napari_kdsam.widgets.annotator.prompt_layers import PromptLayers


class KeyMethods:
    """The part of the controller that keys and buttons call."""

    viewer: Viewer
    layers: PromptLayers | None
    objects: ObjectActions
    frames: FrameActions
    cursor: KeyboardCursor
    pick: PickTool
    # The controller has these.
    session: Any
    frame: Any
    draft: Any
    candidates: Any
    chosen_candidate: Any
    updated: Any
    help_wanted: Any
    execute: Any
    set_status: Any
    say: Any

    def __getattr__(self, name: str) -> Any:
        # class_1 to class_9, as the table of shortcuts names them.
        prefix, _, number = name.partition('_')
        if prefix == 'class' and number.isdigit():
            return lambda: self._use_class(int(number))
        raise AttributeError(name)

    def toggle_polarity(self) -> None:
        """Switch the next prompt; in the points layer's select mode, the selected."""
        if self.layers is None:
            return
        points = self.layers.points
        active = self.viewer.layers.selection.active == points
        if active and points.mode == 'select' and points.selected_data:
            places = self.layers.places_of(points.selected_data)
            self.execute(tuple(TogglePoint(*place) for place in places))
        else:
            self.layers.positive = not self.layers.positive
            if self.layers.shape_tool is None:
                self.use_points()
            self.updated.emit()

    def set_polarity(self, positive: bool) -> None:
        """Make the next click one inside or one outside the object."""
        if self.layers is not None:
            self.layers.positive = positive
            self.use_points()

    def use_points(self) -> None:
        """Make left clicks add points."""
        self.pick.leave()
        if self.layers is not None:
            self.layers.use_points()
            self.updated.emit()

    def use_box(self) -> None:
        """Make dragging draw a box; several boxes are several objects."""
        self._use_shape(BOX)

    def use_scribble(self) -> None:
        """Make dragging draw a scribble."""
        self._use_shape(SCRIBBLE)

    def use_lasso(self) -> None:
        """Make dragging draw an outline."""
        self._use_shape(LASSO)

    def use_pick(self) -> None:
        """Make a click reopen a committed object, to change it."""
        self.pick.use()
        self.updated.emit()

    def place_point(self) -> None:
        """Add a point at the keyboard cursor, or else at the mouse."""
        self.cursor.place_point()

    def cursor_left(self) -> None:
        """Move the keyboard cursor."""
        self.cursor.move(0, -1)

    def cursor_right(self) -> None:
        """Move the keyboard cursor."""
        self.cursor.move(0, 1)

    def cursor_up(self) -> None:
        """Move the keyboard cursor."""
        self.cursor.move(-1, 0)

    def cursor_down(self) -> None:
        """Move the keyboard cursor."""
        self.cursor.move(1, 0)

    def choose_candidate(self, index: int) -> None:
        """Show another candidate mask."""
        if 0 <= index < len(self.candidates) and index != self.chosen_candidate:
            self.session.execute(ChooseCandidate(self.frame, index))

    def next_candidate(self) -> None:
        """Show the next candidate mask, after the last the first."""
        if self.candidates:
            self.choose_candidate((self.chosen_candidate + 1) % len(self.candidates))

    def refine(self) -> None:
        """Predict again from the mask shown."""
        self.objects.refine()

    def load_mask(self) -> None:
        """Start the object from the label under the cursor."""
        self.objects.load_mask_at(self.cursor.position)

    def clear(self) -> None:
        """Remove the prompts on the frame in view."""
        if not self.draft.empty:
            self.session.execute(ClearDraft(self.frame))

    def undo(self) -> None:
        """Undo the last prompt, choice, clearing, commit or stroke."""
        self._step(self.session.undo)

    def redo(self) -> None:
        """Redo what was undone last."""
        self._step(self.session.redo)

    def commit_overwriting(self) -> None:
        """Commit over other labels, whatever the policy."""
        self.objects.commit(overwrite=True)

    def reopen(self) -> None:
        """Reopen the object under the cursor."""
        self.objects.reopen_at(self.cursor.position)

    def delete_object(self) -> None:
        """Delete the object under the cursor."""
        self.objects.delete_at(self.cursor.position)

    def next_class(self) -> None:
        """Give the next objects the next class, after the last the first."""
        state = self.session.state
        known = [item.id for item in state.classes]
        place = known.index(state.current_class) if state.current_class in known else -1
        self.objects.choose_class(known[(place + 1) % len(known)])

    def reclassify(self) -> None:
        """Give the object under the cursor the class of the next object."""
        current = self.session.state.current_class
        if not self.objects.reclassify_at(self.cursor.position, current):
            self.say('There is no object under the cursor to give a class to.')

    def next_unfinished(self) -> None:
        """Go to the next frame without objects."""
        self.frames.go_to_unfinished(1)

    def previous_unfinished(self) -> None:
        """Go to the previous frame without objects."""
        self.frames.go_to_unfinished(-1)

    def show_help(self) -> None:
        """Ask for the list of shortcuts."""
        self.help_wanted.emit()

    def _step(self, step: Callable[[], bool]) -> None:
        try:
            step()
        except LAYER_ERRORS as error:
            self.set_status(Status(Stage.ERROR, f'Not done: {error}'))

    def _use_class(self, number: int) -> None:
        classes = self.session.state.classes
        if 1 <= number <= len(classes):
            self.objects.choose_class(classes[number - 1].id)

    def _use_shape(self, tool: str) -> None:
        self.pick.leave()
        if self.layers is not None:
            self.layers.use_shape(tool)
            self.updated.emit()
