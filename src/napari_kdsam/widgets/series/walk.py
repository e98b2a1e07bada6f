"""Walking through a series: one image in the viewer at a time, its labels saved."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QObject, Signal  # type: ignore[attr-defined]

from napari_kdsam.core.errors import KDSAMError, counted, excerpt
from napari_kdsam.series.entries import ImageStatus, SeriesEntry
from napari_kdsam.series.errors import SeriesError
from napari_kdsam.series.images import ImageChoice
from napari_kdsam.series.label_files import LabelForm, LabelsOfImage
from napari_kdsam.series.series import Series, Start
from napari_kdsam.widgets.shared.background import BackgroundWorker
from napari_kdsam.widgets.shared.collector import collector_paused
from napari_kdsam.widgets.shared.connections import Connections
from napari_kdsam.widgets.shared.labels_writer import new_labels_layer
from napari_kdsam.widgets.shared.layer_marks import HELPER_KEY, OURS
from napari_kdsam.widgets.shared.layer_reuse import can_show, show_instead
from napari_kdsam.widgets.shared.transforms import millimetres_of, spatial_shape

if TYPE_CHECKING:
    from napari.layers import Image, Labels, Layer
    from napari.viewer import Viewer

    from napari_kdsam.widgets.shared.image_annotator import ImageAnnotator

OpenAnnotator = Callable[['Viewer'], 'ImageAnnotator']
_SOURCE = 'source'


@dataclass(eq=False)
class _Read:
    """An image that was read, or why it was not.

    Attributes
    ----------
    index : int
    data, attributes : of the image layer
    start : Start
    problem : str
        Why it cannot be opened.
    lost : bool
        Whether the whole folder cannot be read.
    layer, labels : napari.layers.Image and Labels, or None
        Made of these in the main thread; labels are not always there from the start.
    """

    index: int
    data: Any = None
    attributes: dict[str, Any] = field(default_factory=dict)
    start: Start = field(default_factory=Start)
    problem: str = ''
    lost: bool = False
    layer: Image | None = None
    labels: Labels | None = None


@dataclass(frozen=True, eq=False)
class _Save:
    """Labels on their way into a file."""

    index: int
    made: LabelsOfImage
    no_lesion: bool
    then: Callable[[], object]


class SeriesWalk(QObject):
    """Bring images into the viewer one after the other, and save what is made of them.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    open_annotator : callable
        Gives the annotator of the viewer.

    Attributes
    ----------
    changed : Signal
        Emitted when anything that is shown of the series may have changed.
    relisted : Signal
        Emitted when there are other images.
    series : Series or None
    index : int
        Place of the image in view; -1 for none.
    message : str
        A sentence for the user.
    failed : bool
        Whether it is about something that went wrong.
    chosen, text : str
        What the list is cut down to: a filter of `FILTERS`, and a text to be found.
    visible : list of int
        Places of the images that this leaves.
    counts : collections.Counter
        Images of each status.
    """

    changed = Signal()
    relisted = Signal()
    # From the threads.
    _opened = Signal(object, str)
    _read = Signal(object)
    _saved = Signal(object, str)
    _told = Signal(str)

    def __init__(self, viewer: Viewer, open_annotator: OpenAnnotator) -> None:
        super().__init__()
        self.series: Series | None = None
        self.index = -1
        self.message, self.failed = '', False
        self.chosen, self.text = 'All', ''
        self.visible: list[int] = []
        self.counts: Counter[ImageStatus] = Counter()
        self._viewer, self._open_annotator = viewer, open_annotator
        self._image: Image | None = None
        self._labels: Labels | None = None
        self._known: NDArray[Any] | None = None
        self._classes: dict[int, str] = {}
        self._step = 1
        self._suggesting = False
        self._suggests: ImageAnnotator | None = None
        self._wanted: int | None = None
        self._ahead: _Read | None = None
        self._reading_ahead: int | None = None
        self._busy, self._closed = False, False
        self._skipped: list[str] = []
        self._reader = BackgroundWorker('Reading')
        self._saver = BackgroundWorker('Saving')
        self._opened.connect(self._on_opened)
        self._read.connect(self._on_read)
        self._saved.connect(self._on_saved)
        self._told.connect(self._fail)
        self._layers = Connections()
        self._layers.connect(viewer.layers.events, ('inserted',), self._on_inserted)

    @property
    def busy(self) -> bool:
        """Whether an image is being read or saved."""
        return self._busy or self._wanted is not None

    @property
    def entry(self) -> SeriesEntry | None:
        """What is known of the image in view."""
        if self.series is None or self.index < 0:
            return None
        return self.series.entry(self.index)

    @property
    def title(self) -> str:
        """Which image is in view, such as "12 of 300: a.png"."""
        if self.series is None or self.index < 0:
            return ''
        count = len(self.series.images)
        return f'{self.index + 1} of {count}: {self.series.images[self.index].name}'

    def open(self, choice: ImageChoice, output: Path, form: LabelForm) -> None:
        """Begin or go on with a series, after saving what is in view of another."""
        if not self.busy:
            self._finish(partial(self._begin, choice, output, form))

    def next(self) -> None:
        """Commit, save, and show the next image of the list."""
        self._go(1)

    def previous(self) -> None:
        """Commit, save, and show the image before in the list."""
        self._go(-1)

    def go_to(self, index: int) -> None:
        """Commit, save, and show the image at a place."""
        if self.series is not None and index != self.index and not self.busy:
            self._finish(partial(self._show, index))

    def no_lesion(self) -> None:
        """Note that there is nothing to label, and show the next image."""
        image, series = self._image, self.series
        if image is None or series is None or self.busy:
            return
        labels = self._labels_now()
        data = None if labels is None else np.asarray(labels.data)
        if (data is not None and data.any()) or self._annotator().has_prompts(image):
            self._fail(
                'There are prompts or labels on this image; clear or delete them '
                'first, as with undo.'
            )
            return
        empty = np.zeros(spatial_shape(image), np.uint8)
        self._save(empty, True, partial(self._go, 1))

    def mark(self, **changes: Any) -> None:
        """Remember something of the image in view; see `Series.note`."""
        if self.series is None or self.index < 0:
            return
        entry = self.series.entry(self.index)
        if all(getattr(entry, name) == value for name, value in changes.items()):
            return
        self.series.note(self.index, **changes)
        self._saver.do(self._store, self.series)
        self._list()

    def cut_down(self, chosen: str, text: str) -> None:
        """List only images that a filter and a text leave."""
        self.chosen, self.text = chosen, text
        self._list()

    def suggest(self, wanted: bool) -> None:
        """Show likely objects as a start on each image, or no longer."""
        self._suggesting = wanted
        if self.series is not None:
            self._suggests = self._annotator()
            self._suggests.suggest(wanted)

    def tell(self, text: str) -> None:
        """Show a sentence for the user."""
        self._say(text)

    def close(self) -> None:
        """Save what is committed, and let go of everything; layers stay."""
        if self._closed:
            return
        self._closed = True
        if self._suggests is not None:
            self._suggests.suggest(False)
        gc.unfreeze()
        self._layers.close()
        if self.series is not None:
            labels = self._labels_now()
            if labels is not None and self._has_changed(labels):
                job = self._job(np.asarray(labels.data).copy(), False, lambda: None)
                self._saver.do(self._write, self.series, job)
            self._saver.do(self.series.close)
        self._reader.close()
        self._saver.close()

    def _annotator(self) -> ImageAnnotator:
        return self._open_annotator(self._viewer)

    def _begin(self, choice: ImageChoice, output: Path, form: LabelForm) -> None:
        self._busy = True
        self._say('Looking for images…')
        before, self.series = self.series, None
        self._put_away()
        self._list()
        if before is not None:
            # In its own thread, after what is saved last.
            self._saver.do(before.close)
        self._saver.do(self._open, choice, output, form)

    def _open(self, choice: ImageChoice, output: Path, form: LabelForm) -> None:
        try:
            series = Series(choice, output, form)
        except KDSAMError as error:
            self._emit(self._opened, None, str(error))
        except Exception as error:  # noqa: BLE001 - whatever it is, it must be said
            self._emit(self._opened, None, f'Not opened: {excerpt(error)}')
        else:
            self._emit(self._opened, series, '')

    def _on_opened(self, series: Series | None, problem: str) -> None:
        self._busy = False
        if series is None:
            self._fail(problem)
            return
        if self._closed:
            series.close()
            return
        self.series = series
        # napari lets the collector look at everything for each layer that is removed.
        gc.collect()
        gc.freeze()
        self._annotator().offer_classes(series.classes())
        self.suggest(self._suggesting)
        self._list()
        self._say(' '.join(series.notices))
        self._show(series.first_to_do())

    def _go(self, step: int) -> None:
        if self.series is None or self.busy:
            return
        self._step = step
        self._finish(partial(self._show_beyond, step))

    def _beyond(self, step: int) -> int | None:
        """Place of the next image in the list, forwards or backwards."""
        here = self.index
        if step > 0:
            return next((n for n in self.visible if n > here), None)
        return next((n for n in reversed(self.visible) if n < here), None)

    def _show_beyond(self, step: int) -> None:
        index = self._beyond(step)
        if index is not None:
            self._show(index)
            return
        left = self.counts[ImageStatus.new]
        which = 'last' if step > 0 else 'first'
        more = f'{counted(left, "image")} to do.' if left else 'All are done.'
        self._say(' '.join([*self._said_skipped(), f'This is the {which} one. {more}']))

    def _finish(self, then: Callable[[], object]) -> None:
        """Commit and save what is in view, and go on if that was possible."""
        if self._image is None or self._image not in self._viewer.layers:
            labels = self._labels
            if labels is not None and self._has_changed(labels):
                self._save(np.asarray(labels.data).copy(), False, then)
            else:
                then()
            return
        self._annotator().finish(self._image, partial(self._on_finished, then))

    def _on_finished(self, then: Callable[[], object]) -> None:
        if self._busy:
            return
        labels = self._labels_now()
        if labels is not None and self._has_changed(labels):
            self._save(np.asarray(labels.data).copy(), False, then)
        else:
            then()

    def _labels_now(self) -> Labels | None:
        """The layer that the image in view is committed to, also one just removed."""
        if self._image is not None and not self._closed:
            target = self._annotator().labels_of(self._image)
            if target is not None:
                self._labels = target
        return self._labels

    def _has_changed(self, labels: Labels) -> bool:
        known = self._known
        if known is None:
            return bool(np.any(labels.data))
        return not np.array_equal(known, labels.data)

    def _job(
        self, data: NDArray[Any], no_lesion: bool, then: Callable[[], object]
    ) -> _Save:
        image, classes = self._image, dict(self._classes)
        spacing = None
        if image is not None:
            if not self._closed:
                classes.update(self._annotator().classes_of(image))
            spacing = millimetres_of(image.scale, image.units)
        return _Save(self.index, LabelsOfImage(data, classes, spacing), no_lesion, then)

    def _save(
        self, data: NDArray[Any], no_lesion: bool, then: Callable[[], object]
    ) -> None:
        assert self.series is not None
        self._busy = True
        self.changed.emit()
        self._saver.do(self._write, self.series, self._job(data, no_lesion, then))

    def _write(self, series: Series, job: _Save) -> None:
        try:
            # Layers that were let go are Qt's, and for the main thread to collect.
            with collector_paused():
                series.save(job.index, job.made, no_lesion=job.no_lesion)
        except KDSAMError as error:
            self._emit(self._saved, job, str(error))
        except Exception as error:  # noqa: BLE001 - whatever it is, it must be said
            self._emit(self._saved, job, excerpt(error))
        else:
            self._emit(self._saved, job, '')

    def _on_saved(self, job: _Save, problem: str) -> None:
        self._busy = False
        if problem:
            self._fail(f'Not saved, so this image stays: {problem}')
            return
        self._known, self._classes = job.made.labels, dict(job.made.classes)
        self._say('')
        self._list()
        if job.no_lesion:
            job.then()
        else:
            # What was done while it was written is saved, too.
            self._finish(job.then)

    def _show(self, index: int) -> None:
        self._wanted = index
        self.changed.emit()
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead.index == index and not ahead.problem:
            self._take(ahead)
        elif self._reading_ahead != index:
            self._reader.do(self._read_image, self.series, index)

    def _read_image(self, series: Series, index: int) -> None:
        with collector_paused():
            read = self._read_now(series, index)
        self._emit(self._read, read)

    @staticmethod
    def _read_now(series: Series, index: int) -> _Read:
        read = _Read(index)
        try:
            path = series.check_image(index)
            read.data, read.attributes = _layer_of_file(path)
            rgb = bool(read.attributes.get('rgb'))
            shape = read.data.shape[:-1] if rgb else read.data.shape
            read.start = series.start_of(index, tuple(int(size) for size in shape))
        except SeriesError as error:
            read.problem, read.lost = str(error), True
        except KDSAMError as error:
            read.problem = str(error)
        except Exception as error:  # noqa: BLE001 - readers raise anything
            read.problem = excerpt(error) or type(error).__name__
        return read

    def _on_read(self, read: _Read) -> None:
        from napari.layers import Image

        if self._reading_ahead == read.index:
            self._reading_ahead = None
        if self._closed or self.series is None:
            return
        if not read.problem:
            try:
                read.layer = Image(read.data, **read.attributes)
                read.labels = _labels_of(read.layer, read.start.labels)
            except (ValueError, TypeError, MemoryError, KDSAMError) as error:
                read.problem = excerpt(error)
        if read.index == self._wanted:
            self._take_late(read)
        elif not read.problem:
            self._ahead = read
            if read.layer is not None:
                self._annotator().encode_ahead(read.layer)

    def _take_late(self, read: _Read) -> None:
        """Show an image that was waited for, after what was done in the meantime."""
        if read.problem or read.layer is None:
            self._take(read)
            return
        self._wanted, self._ahead = None, read
        self._finish(partial(self._show, read.index))
        self.changed.emit()

    def _take(self, read: _Read) -> None:
        """Show an image that was read; one that cannot be is marked, and passed by."""
        self._wanted = None
        assert self.series is not None
        if read.lost:
            self._fail(read.problem)
            return
        if read.problem or read.layer is None:
            self._pass_by(read)
            return
        entry = self.series.entry(read.index)
        if entry.status is ImageStatus.failed:
            self.series.note(read.index, status=ImageStatus.new, reason='')
        names = read.start.classes or {}
        self._bring(read.layer, read.labels, names)
        self.index = read.index
        self._known, self._classes = read.start.labels, names
        # The annotator may be another one by now.
        self.suggest(self._suggesting)
        self._list()
        self._say(' '.join([*self._said_skipped(), read.start.notice]).strip())
        following = self._beyond(self._step)
        if following is not None:
            self._reading_ahead = following
            self._reader.do(self._read_image, self.series, following)

    def _bring(
        self, image: Image, labels: Labels | None, names: Mapping[int, str]
    ) -> None:
        """Show an image and its labels, in the layers of the one before if possible."""
        if not self._exchange(image, labels, names):
            self._put_away(image, labels, names)
        self._viewer.reset_view()

    def _exchange(
        self, image: Image, labels: Labels | None, names: Mapping[int, str]
    ) -> bool:
        """Let the layers in view show another image, which is much faster."""
        old, old_labels, layers = self._image, self._labels, self._viewer.layers
        if old not in layers or old_labels not in layers or labels is None:
            return False
        assert old is not None and old_labels is not None
        if not (
            old_labels.metadata.get(OURS)
            and can_show(old, image)
            and can_show(old_labels, labels)
        ):
            return False

        def exchange() -> None:
            show_instead(old, image)
            show_instead(old_labels, labels)

        annotator = self._annotator()
        # Its labels are in their file, or another would not be brought.
        annotator.forget_session(old)
        return annotator.exchange(old, old_labels, names, exchange)

    def _put_away(
        self,
        image: Image | None = None,
        labels: Labels | None = None,
        names: Mapping[int, str] = MappingProxyType({}),
    ) -> None:
        """Put the next image into the viewer, and take the one before out of it."""
        layers = self._viewer.layers
        old = [self._image, self._labels]
        if self._image is not None:
            # Its labels are in their file, or it would not be put away.
            self._annotator().forget_session(self._image)
        self._image, self._labels, self.index = image, None, -1
        if image is not None:
            # Below the annotator's layers, which go over to it.
            place = (
                layers.index(old[0]) + 1 if old[0] in layers else _below_helpers(layers)
            )
            layers.insert(place, image)
            if labels is not None:
                layers.insert(place + 1, labels)
                self._labels = labels
            self._annotator().show(image, labels, names)
        for layer in old:
            if layer is not None and layer in layers:
                layers.remove(layer)

    def _pass_by(self, read: _Read) -> None:
        series = self.series
        assert series is not None
        series.note(read.index, status=ImageStatus.failed, reason=read.problem)
        self._saver.do(self._store, series)
        self._skipped.append(read.problem)
        before, self.index = self.index, read.index
        following = self._beyond(self._step)
        if following is None:
            # What is in view stays.
            self.index = before
            self._list()
            self._fail(' '.join([*self._said_skipped(), 'There is none after it.']))
            return
        self.index = before
        self._list()
        self._show(following)

    def _said_skipped(self) -> list[str]:
        skipped, self._skipped = self._skipped, []
        if not skipped:
            return []
        more = f' and {len(skipped) - 1} more' if len(skipped) > 1 else ''
        return [f'Passed by{more}: {skipped[0]}']

    def _store(self, series: Series) -> None:
        try:
            series.store()
        except KDSAMError as error:
            self._emit(self._told, f'Marks and notes are not saved: {error}')

    def _list(self) -> None:
        series = self.series
        self.visible = [] if series is None else series.find(self.chosen, self.text)
        self.counts = Counter() if series is None else series.counts()
        self.relisted.emit()
        self.changed.emit()

    def _on_inserted(self, event: Any) -> None:
        from napari.layers import Labels

        layer, image = event.value, self._image
        if (
            image is not None
            and isinstance(layer, Labels)
            and layer.metadata.get(OURS)
            and layer.metadata.get(_SOURCE) == image.metadata.get(_SOURCE)
        ):
            # Held, so that it is saved even if the window is closed.
            self._labels = layer

    def _say(self, text: str) -> None:
        self.message, self.failed = text, False
        self.changed.emit()

    def _fail(self, text: str) -> None:
        self.message, self.failed = text, True
        self.changed.emit()

    def _emit(self, signal: Any, *values: Any) -> None:
        try:
            signal.emit(*values)
        except RuntimeError:
            # The window was closed, and Qt has deleted this object, in between.
            return


def _below_helpers(layers: Sequence[Layer]) -> int:
    helpers = (i for i, layer in enumerate(layers) if HELPER_KEY in layer.metadata)
    return next(helpers, len(layers))


def _labels_of(image: Image, start: NDArray[Any] | None) -> Labels | None:
    """The labels that an image begins with; None where they are made when needed."""
    if start is None and image.ndim > 2:
        # Those of a stack may be large, and there need not be any.
        return None
    labels = new_labels_layer(image)
    if start is not None:
        # The layer is painted into, and what it began with stays known.
        labels.data = start.copy()
    return labels


def _layer_of_file(path: Path) -> tuple[Any, dict[str, Any]]:
    from napari_kdsam.io.formats import open_for_segmenting
    from napari_kdsam.widgets.shared.file_layers import layer_of

    data, attributes, _ = layer_of(open_for_segmenting(path), path)
    return data, attributes
