"""A dock that lets go of the viewer when it is closed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from qtpy.QtCore import QEvent, QTimer
from qtpy.QtWidgets import QDockWidget, QMainWindow, QWidget

# As napari names it.
_LAYER_LIST = 'layer list'


class Dock(QWidget):
    """A widget in a napari dock.

    Attributes
    ----------
    beside_layers : bool
        Whether it opens as a tab of napari's list of layers, so that it is seen beside
        the docks that it is used with.
    """

    beside_layers = False

    def __init__(self) -> None:
        super().__init__()
        self._at_end: list[Callable[[], object]] = []
        # Qt no longer calls methods of an object that is being destroyed.
        self.destroyed.connect(partial(_release, self._at_end))

    def event(self, event: QEvent | None) -> bool:
        """Notice when napari has opened or closed the panel."""
        if event is not None and event.type() == QEvent.Type.ParentChange:
            # Moving to another dock is a change of parents as well, of two steps.
            QTimer.singleShot(0, self._follow_panel)
        return bool(super().event(event))

    def _follow_panel(self) -> None:
        panel = self.parent()
        if isinstance(panel, QDockWidget):
            if not (self.beside_layers and _join_layers(panel)):
                _share_side(panel)
        elif panel is None and not self.isVisible():
            # napari hands a closed panel's widget back instead of destroying it.
            self.deleteLater()

    def at_end(self, *acts: Callable[[], object]) -> None:
        """Call these, in their order, when the dock is destroyed.

        Parameters
        ----------
        *acts : callable
            They must not need a widget, all of which are already gone.
        """
        self._at_end.extend(acts)


def _release(acts: list[Callable[[], object]], _: Any = None) -> None:
    for act in acts:
        act()


def _join_layers(panel: QDockWidget) -> bool:
    """Make a panel a tab of napari's list of layers; False without one in the window."""
    window = panel.window()
    if not isinstance(window, QMainWindow) or panel.isFloating():
        return False
    layers = window.findChild(QDockWidget, _LAYER_LIST)
    if layers is None or layers.isFloating() or layers.isHidden():
        return False
    window.tabifyDockWidget(layers, panel)
    QTimer.singleShot(0, panel.raise_)
    return True


def _share_side(panel: QDockWidget) -> None:
    """Make a panel a tab of the one that is there, instead of halving its height."""
    window = panel.window()
    if not isinstance(window, QMainWindow) or panel.isFloating():
        return
    side = window.dockWidgetArea(panel)
    for other in window.findChildren(QDockWidget):
        if (
            other is not panel
            and isinstance(other.widget(), Dock)
            and not other.isFloating()
            and not other.isHidden()
            and window.dockWidgetArea(other) == side
        ):
            window.tabifyDockWidget(other, panel)
            # A tab that the window has not laid out yet cannot be brought to the front.
            QTimer.singleShot(0, panel.raise_)
            return
