"""Open napari with the annotator docked and the demonstration's results loaded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from napari_kdsam.errors import MissingExtraError

if TYPE_CHECKING:
    from napari_kdsam.demo import DemoResult


def show(results: Sequence[DemoResult], *, block: bool = True) -> None:
    """Show images and labels in napari, the last one visible and ready to click.

    Parameters
    ----------
    results : sequence of DemoResult
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

        from napari_kdsam.widgets.annotator import AnnotatorWidget
    except ImportError as error:
        raise MissingExtraError('Showing results in napari', 'all') from error
    viewer = napari.Viewer(title='napari-kdsam demonstration')
    for number, result in enumerate(results, start=1):
        visible = number == len(results)
        viewer.add_image(
            result.image, name=result.name, rgb=result.rgb, visible=visible
        )
        viewer.add_labels(result.labels, name=f'{result.name} labels', visible=visible)
    viewer.window.add_dock_widget(AnnotatorWidget(viewer), name='Click to label')
    if block:
        napari.run()
