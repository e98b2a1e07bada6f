"""Open napari with the annotator docked and the demonstration's results loaded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from napari_kdsam.core.errors import MissingExtraError

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from napari_kdsam.demo import DemoResult


def show(results: Sequence[DemoResult], *, block: bool = True) -> None:
    """Show images and labels in napari, the first one visible and ready to click.

    Parameters
    ----------
    results : sequence of DemoResult, at least one
        Images (H, W[, 3]) or (T, H, W[, 3]) and labels of the same rows and columns.
    block : bool
        Wait until the window is closed.

    Raises
    ------
    MissingExtraError
        If napari or Qt is not installed.
    """
    try:
        import napari

        from napari_kdsam.widgets.annotator.dock import AnnotatorWidget
    except ImportError as error:
        raise MissingExtraError('Showing results in napari', 'all') from error
    viewer = napari.Viewer(title='napari-kdsam demonstration')
    first, *others = results
    _add(viewer, first, visible=True)
    widget = AnnotatorWidget(viewer)
    viewer.window.add_dock_widget(widget, name='Click to label')
    # Fitted before the others come, which differ in size.
    viewer.reset_view()
    for result in others:
        _add(viewer, result, visible=False)
    widget.controller.tools.use_points()
    if block:
        napari.run()


def _add(viewer: Viewer, result: DemoResult, *, visible: bool) -> None:
    from napari.layers import Image, Labels

    image = Image(result.image, name=result.name, rgb=result.rgb, visible=visible)
    labels = Labels(result.labels, name=f'{result.name} labels', visible=visible)
    # At the bottom, so that the layers to click stay on top.
    viewer.layers.insert(0, labels)
    viewer.layers.insert(0, image)
