"""The parts of the annotator's dock, each built once and told what to show."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtWidgets import (
    QButtonGroup,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_kdsam.widgets.annotator.prompt_layers import BOX, LASSO, SCRIBBLE
from napari_kdsam.widgets.annotator.shortcuts import ACTIONS
from napari_kdsam.widgets.shared.qt_parts import on_click, plain_button
from napari_kdsam.widgets.shared.shortcuts import Shortcut, tooltip

if TYPE_CHECKING:
    from napari_kdsam.widgets.annotator.controller import AnnotationController
    from napari_kdsam.widgets.annotator.prompt_tools import PromptTools
    from napari_kdsam.widgets.annotator.workspace import Workspace


# Columns of the grid of tools, which each row divides in its own way.
_COLUMNS, _IN_FIRST_ROW = 12, 4


class QuestionBar(QWidget):
    """A sentence with two answers, hidden while there is nothing to ask.

    Parameters
    ----------
    answers : sequence of (text, tooltip, callable)
    """

    def __init__(self, *answers: tuple[str, str, Callable[[], object]]) -> None:
        super().__init__()
        self.text = QLabel()
        self.text.setWordWrap(True)
        self.buttons: list[QPushButton] = []
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 6)
        grid.addWidget(self.text, 0, 0, 1, len(answers))
        for column, (text, help_text, act) in enumerate(answers):
            button = plain_button(text, help_text)
            on_click(button, act)
            self.buttons.append(button)
            grid.addWidget(button, 1, column)
        self.hide()

    def ask(self, text: str) -> None:
        """Show a question, or nothing for an empty one."""
        self.text.setText(text)
        self.setVisible(bool(text))


class ToolBar(QWidget):
    """The prompt tools, one of them in use.

    Parameters
    ----------
    workspace : Workspace
    tools : PromptTools
    shortcuts : sequence of Shortcut
        For the tooltips.
    """

    def __init__(
        self,
        workspace: Workspace,
        tools: PromptTools,
        shortcuts: tuple[Shortcut, ...],
    ) -> None:
        super().__init__()
        self._workspace = workspace
        self._group = QButtonGroup(self)
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setSpacing(4)
        buttons: tuple[tuple[str, str, Callable[[], None]], ...] = (
            ('+ Inside', 'toggle_polarity', partial(tools.set_polarity, True)),
            ('× Outside', 'toggle_polarity', partial(tools.set_polarity, False)),
            ('✎ Edit', 'reopen', tools.use_pick),
            ('◇ Contour', 'edit_contour', tools.use_contour),
            ('▭ Box', 'use_box', tools.use_box),
            ('∿ Scribble', 'use_scribble', tools.use_scribble),
            ('⬠ Lasso', 'use_lasso', tools.use_lasso),
        )
        self.buttons: dict[str, QPushButton] = {}
        for place, (text, action, act) in enumerate(buttons):
            button = plain_button(text, tooltip(action, shortcuts))
            button.setCheckable(True)
            on_click(button, act)
            self._group.addButton(button)
            self.buttons[text.split()[1]] = button
            row, column = divmod(place, _IN_FIRST_ROW)
            wide = _COLUMNS // (len(buttons) - _IN_FIRST_ROW if row else _IN_FIRST_ROW)
            grid.addWidget(button, row, column * wide, 1, wide)

    def refresh(self) -> None:
        """Mark the tool in use."""
        layers = self._workspace.layers
        picking = layers is not None and layers.picking
        for_contour = layers is not None and layers.for_contour
        tool = layers.shape_tool if layers is not None else None
        positive = layers is None or layers.positive
        adding = layers is not None and layers.adding
        dragging = self._workspace.contour is not None
        in_use = {
            'Inside': adding and positive,
            'Outside': adding and not positive,
            'Edit': picking and not for_contour,
            'Contour': dragging or (picking and for_contour),
            'Box': tool == BOX,
            'Scribble': tool == SCRIBBLE,
            'Lasso': tool == LASSO,
        }
        self._group.setExclusive(False)
        for name, checked in in_use.items():
            self.buttons[name].setChecked(checked)
        self._group.setExclusive(True)
        sign = '+' if positive else '×'
        self.buttons['Scribble'].setText(f'∿ Scribble {sign}')
        self.buttons['Lasso'].setText(f'⬠ Lasso {sign}')


class ActionBar(QWidget):
    """Commit, clear, undo, redo and save.

    Parameters
    ----------
    controller : AnnotationController
    shortcuts : sequence of Shortcut
        For the tooltips.
    """

    def __init__(
        self, controller: AnnotationController, shortcuts: tuple[Shortcut, ...]
    ) -> None:
        super().__init__()
        self._workspace = controller.workspace

        def button(text: str, action: str) -> QPushButton:
            made = plain_button(text, tooltip(action, shortcuts))
            act = partial(ACTIONS[action], controller)
            on_click(made, act)
            return made

        self.commit = button('Commit', 'commit')
        self.clear = button('Clear', 'clear')
        self.refine = button('Refine', 'refine')
        self.undo = button('Undo', 'undo')
        self.redo = button('Redo', 'redo')
        self.save = button('Save', 'save_labels')
        first, second = QHBoxLayout(), QHBoxLayout()
        first.addWidget(self.commit, stretch=2)
        first.addWidget(self.refine, stretch=1)
        for widget in (self.clear, self.undo, self.redo, self.save):
            second.addWidget(widget)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addLayout(first)
        column.addLayout(second)

    def refresh(self) -> None:
        """Enable what can be done now."""
        workspace = self._workspace
        shown = workspace.shown
        dragging = workspace.contour is not None
        self.commit.setEnabled(dragging or workspace.draft.predictable)
        self.clear.setEnabled(dragging or not workspace.draft.empty)
        self.refine.setEnabled(shown is not None and len(shown.predictions) == 1)
        self.undo.setEnabled(dragging or workspace.session.can_undo)
        self.redo.setEnabled(workspace.session.can_redo)
        self.save.setEnabled(workspace.target_layer is not None)
