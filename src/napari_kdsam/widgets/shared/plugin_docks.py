"""Panels of this plugin in a viewer, each of them once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QDockWidget

if TYPE_CHECKING:
    from napari.viewer import Viewer

_PLUGIN, _SHOWN_AS = 'napari-kdsam', 'KD SAM'


def plugin_dock(viewer: Viewer, title: str, *, front: bool = False) -> Any:
    """The widget of a panel, which is opened if it is not.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    title : str
        As in the manifest.
    front : bool
        Whether to bring a panel that is open already before those at its side.
    """
    window = viewer.window
    # napari's menu gives the panel another name than its own function does.
    menu_name, name = (f'{title} ({owner})' for owner in (_SHOWN_AS, _PLUGIN))
    for known in (menu_name, name):
        found: Any = window.dock_widgets.get(known)
        if found is not None:
            if front:
                _bring_to_front(found)
            return found
    made = _panel_class(title)(napari_viewer=viewer)
    # So the menu, too, finds the panel that is there.
    window.add_dock_widget(made, name=menu_name)
    return made


def _bring_to_front(widget: Any) -> None:
    panel = widget.parent()
    if isinstance(panel, QDockWidget):
        panel.show()
        panel.raise_()


def _panel_class(title: str) -> Any:
    from npe2 import PluginManager

    for widget in PluginManager.instance().iter_widgets():
        if widget.plugin_name == _PLUGIN and widget.display_name == title:
            return widget.get_callable()
    raise LookupError(f'The plugin has no panel called {title!r}.')
