"""The parts of the annotator's dock, each built once and told what to show."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

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
from napari_kdsam.widgets.annotator.shortcuts import Shortcut, tooltip
from napari_kdsam.widgets.shared.qt_parts import plain_button

if TYPE_CHECKING:
    from napari_kdsam.widgets.annotator.controller import AnnotationController


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
            button.clicked.connect(partial(_call, act))
            self.buttons.append(button)
            grid.addWidget(button, 1, column)
        self.hide()

    def ask(self, text: str) -> None:
        """Show a question, or nothing for an empty one."""
        self.text.setText(text)
        self.setVisible(bool(text))


def _call(act: Callable[[], object], _: bool = True) -> None:
    act()


class ToolBar(QWidget):
    """The prompt tools, one of them in use.

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
        self._controller = controller
        self._group = QButtonGroup(self)
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setSpacing(4)
        tools: tuple[tuple[str, str, Callable[[], None]], ...] = (
            ('+ Inside', 'toggle_polarity', partial(controller.set_polarity, True)),
            ('× Outside', 'toggle_polarity', partial(controller.set_polarity, False)),
            ('✎ Edit', 'reopen', controller.use_pick),
            ('▭ Box', 'use_box', controller.use_box),
            ('∿ Scribble', 'use_scribble', controller.use_scribble),
            ('⬠ Lasso', 'use_lasso', controller.use_lasso),
        )
        self.buttons: dict[str, QPushButton] = {}
        for place, (text, action, act) in enumerate(tools):
            button = plain_button(text, tooltip(action, shortcuts))
            button.setCheckable(True)
            button.clicked.connect(partial(_call, act))
            self._group.addButton(button)
            self.buttons[text.split()[1]] = button
            grid.addWidget(button, place // 3, place % 3)

    def refresh(self) -> None:
        """Mark the tool in use."""
        layers, picking = self._controller.layers, self._controller.pick.active
        tool = layers.shape_tool if layers is not None else None
        positive = layers is None or layers.positive
        in_use = {
            'Inside': positive and tool is None and not picking,
            'Outside': not positive and tool is None and not picking,
            'Edit': picking,
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
    """Commit, clear, undo and redo.

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
        self._controller = controller
        self.commit = plain_button('Commit', tooltip('commit', shortcuts))
        self.clear = plain_button('Clear', tooltip('clear', shortcuts))
        self.refine = plain_button('Refine', tooltip('refine', shortcuts))
        self.undo = plain_button('Undo', tooltip('undo', shortcuts))
        self.redo = plain_button('Redo', tooltip('redo', shortcuts))
        for button, name in (
            (self.commit, 'commit'),
            (self.clear, 'clear'),
            (self.refine, 'refine'),
            (self.undo, 'undo'),
            (self.redo, 'redo'),
        ):
            button.clicked.connect(partial(_call, getattr(controller, name)))
        first, second = QHBoxLayout(), QHBoxLayout()
        first.addWidget(self.commit, stretch=2)
        first.addWidget(self.refine, stretch=1)
        for button in (self.clear, self.undo, self.redo):
            second.addWidget(button)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addLayout(first)
        column.addLayout(second)

    def refresh(self) -> None:
        """Enable what can be done now."""
        controller = self._controller
        self.commit.setEnabled(controller.can_commit)
        self.clear.setEnabled(not controller.draft.empty)
        shown: Any = controller.shown
        self.refine.setEnabled(shown is not None and len(shown.predictions) == 1)
        self.undo.setEnabled(controller.session.can_undo)
        self.redo.setEnabled(controller.session.can_redo)
