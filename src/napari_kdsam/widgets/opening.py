"""What napari's menu opens: a panel at once, and its content as soon as it is loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, QTimer, Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import QLabel, QSizePolicy, QVBoxLayout, QWidget

from napari_kdsam.widgets.shared.background import BackgroundWorker
from napari_kdsam.widgets.shared.collector import collector_paused
from napari_kdsam.widgets.shared.dock import Dock

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from napari_kdsam.widgets.shared.image_annotator import ImageAnnotator

# Time to paint, of which imports in another thread leave little.
_PAUSE_MS = 30
_LOADING = 'Loading what this panel needs…'


class OpeningDock(Dock):
    """A panel that loads its content off the main thread, and says so meanwhile.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
        Given by napari.

    Attributes
    ----------
    home : tuple of str
        Module and name of the content's class.
    content : QWidget or None
        None while it is loading.
    """

    home: tuple[str, str]

    def __init__(self, napari_viewer: 'Viewer') -> None:  # noqa: UP037
        super().__init__()
        self.content: QWidget | None = None
        self._viewer = napari_viewer
        self._text = QLabel(_LOADING)
        self._text.setWordWrap(True)
        self._text.setContentsMargins(9, 9, 9, 9)
        self._text.setAlignment(Qt.AlignmentFlag.AlignTop)
        # napari fills what is below a panel that does not expand by itself.
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.addWidget(self._text)
        self.setMinimumWidth(300)
        self._loader = _Loader('Opening the panel')
        self._loader.loaded.connect(self._fill)
        self._loader.failed.connect(lambda _, text: self._text.setText(text))
        self.at_end(self._loader.close)
        self._steps: Iterator[None] = iter(())
        # A child, so that nothing goes on in a panel that was closed.
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._go_on)
        QTimer.singleShot(_PAUSE_MS, self._load)

    def _load(self) -> None:
        self._loader.request(lambda _: _loaded(*self.home), self._loader.loaded)

    def filled(self) -> Any:
        """The content; what is still to be loaded for it is loaded now."""
        if self.content is None:
            self._fill(0, _loaded(*self.home))
        for _ in self._steps:
            pass
        return self.content

    def _fill(
        self, _: int, make: Callable[..., tuple[QWidget, Iterator[None]]]
    ) -> None:
        if self.content is not None:
            return
        self.content, self._steps = make(self._viewer)
        self._column.replaceWidget(self._text, self.content)
        # From here on the content knows how wide it has to be.
        self.setMinimumWidth(0)
        self._text.deleteLater()
        self._timer.start(_PAUSE_MS)

    def _go_on(self) -> None:
        for _ in self._steps:
            self._timer.start(_PAUSE_MS)
            return


class AnnotatorDock(OpeningDock):
    """*Click to label*."""

    home = 'napari_kdsam.widgets.annotator.dock', 'AnnotatorWidget'

    @property
    def guided(self) -> ImageAnnotator:
        """For a dock that brings images one after the other."""
        guided: ImageAnnotator = self.filled().guided
        return guided


class SeriesDock(OpeningDock):
    """*Label a series of images*."""

    home = 'napari_kdsam.widgets.series.dock', 'SeriesWidget'
    # Its messages and the annotator's are both to be seen.
    beside_layers = True

    def open_folder(self, images: Path, labels: Path) -> None:
        """Begin with a folder, or go on in it; for a dock that has made labels."""
        self.filled().open_folder(images, labels)


class BatchDock(OpeningDock):
    """*Segment a stack or layers*."""

    home = 'napari_kdsam.widgets.batch.dock', 'BatchWidget'


class MeasureDock(OpeningDock):
    """*Measure objects*."""

    home = 'napari_kdsam.widgets.measure.dock', 'MeasureWidget'


class CompareDock(OpeningDock):
    """*Compare labels with a reference*."""

    home = 'napari_kdsam.widgets.compare.dock', 'CompareWidget'


class _Loader(BackgroundWorker):
    loaded = Signal(int, object)


def _loaded(module: str, name: str) -> Any:
    """What makes the content, and the steps in which it begins, once all is at hand."""
    with collector_paused():
        made: Any = getattr(import_module(module), name)
        if hasattr(made, 'warm_up'):
            made.warm_up()
    if not hasattr(made, 'begin_in_steps'):
        return lambda viewer: (made(viewer), iter(()))

    def make(viewer: Viewer) -> tuple[QWidget, Iterator[None]]:
        content = made(viewer, begin=False)
        return content, content.begin_in_steps()

    return make
