"""The dock widget that segments a stack, or several layers, in one go."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import (
    QApplication,
    QCheckBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QListWidget,
    QListWidgetItem,
    QProgressBar,
    QVBoxLayout,
    QWidget,
)

from napari_kdsam.core.errors import KDSAMError
from napari_kdsam.widgets.batch.choices import BatchChoices
from napari_kdsam.widgets.batch.controller import BatchController, Phase
from napari_kdsam.widgets.batch.folder_panel import FolderPanel, OpenSeries
from napari_kdsam.widgets.batch.progress import FollowPlan
from napari_kdsam.widgets.batch.review import BatchReview, OpenAnnotator
from napari_kdsam.widgets.batch.setup import make_batch
from napari_kdsam.widgets.preferences import load_preferences
from napari_kdsam.widgets.shared.connections import Connections
from napari_kdsam.widgets.shared.dock import Dock
from napari_kdsam.widgets.shared.image_annotator import annotator_in_front
from napari_kdsam.widgets.shared.inference_thread import (
    PredictorFactory,
    make_predictor,
)
from napari_kdsam.widgets.shared.key_bindings import bind, key_actions, unbind
from napari_kdsam.widgets.shared.qt_parts import (
    folded_section,
    on_click,
    plain_button,
    scrolling,
)
from napari_kdsam.widgets.shared.series_of_folder import plugin_series
from napari_kdsam.widgets.shared.shortcuts import bound_shortcuts, tooltip

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from napari_kdsam.widgets.batch.progress import Item

_HINT = 'Choose images and prompts, then Start.'
_LIST_EVENTS = ('inserted', 'removed', 'reordered')
_LIST_HEIGHT, _MOST_ROWS = 120, 5
_ANSWERS = {
    'previous_result': '◀ Previous',
    'next_result': 'Next ▶',
    'correct_result': 'Correct',
    'accept_result': 'Accept',
    'reject_result': 'Reject',
    'undo_review': 'Undo',
    'continue_from_here': 'Continue from here',
}
_ANSWERS_A_ROW = 3


class BatchWidget(Dock):
    """Segment every frame of a stack, or several image layers, in the background.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
        Given by napari.
    predictor_factory : callable, optional
        Makes a predictor from a model's and a device's name.
    open_annotator : callable, optional
        Gives the annotator of the viewer.
    open_series : callable, optional
        Opens a folder of images with its labels.
    """

    # napari reads the settings of all plugins, once.
    warm_up = staticmethod(load_preferences)

    def __init__(
        self,
        napari_viewer: 'Viewer',  # noqa: UP037
        predictor_factory: PredictorFactory = make_predictor,
        open_annotator: OpenAnnotator = annotator_in_front,
        open_series: OpenSeries = plugin_series,
    ) -> None:
        super().__init__()
        self.viewer = napari_viewer
        preferences, _ = load_preferences()
        if preferences.embeddings and predictor_factory is make_predictor:
            predictor_factory = partial(make_predictor, store=preferences.embeddings)
        self.choices = BatchChoices(napari_viewer, preferences)
        self.folder = FolderPanel(
            napari_viewer, self.choices, preferences.device, open_series
        )
        self.controller = BatchController(napari_viewer, predictor_factory)
        self.review = BatchReview(self.controller, open_annotator)
        self.shortcuts, refused = bound_shortcuts(preferences.keys, ['Batch'])
        self._listed: list[tuple[Item, str]] = []
        self._build()
        self.controller.updated.connect(self._refresh)
        self._connections = Connections()
        self._connections.connect(
            napari_viewer.layers.events, _LIST_EVENTS, self.choices.refresh_layers
        )
        self._connections.connect(
            napari_viewer.layers.events, ('renamed',), self._on_renamed
        )
        self._connections.connect(
            napari_viewer.dims.events, ('current_step',), self._refresh
        )
        self.at_end(
            self._connections.close, self.controller.close, self.folder.job.close
        )
        application = QApplication.instance()
        if application is not None:
            # A window may be left to the end of Python, when threads no longer start.
            application.aboutToQuit.connect(self.controller.close)
        self._refresh()
        if refused:
            self.controller.say(' '.join(refused))

    def _build(self) -> None:
        controller = self.controller
        self.start_button = plain_button('Start', 'Segment the chosen frames')
        self.pause_button = plain_button('Pause', 'Stand still after this frame')
        self.cancel_button = plain_button(
            'Cancel', 'Stop after this frame; what is done stays'
        )
        review = self.review
        acts: dict[str, Callable[[], object]] = {
            'previous_result': partial(review.step, -1),
            'next_result': partial(review.step, 1),
            'accept_result': review.accept,
            'reject_result': review.reject,
            'undo_review': review.undo,
            'correct_result': review.correct,
            'continue_from_here': controller.continue_from_here,
        }
        self.answers = {
            action: plain_button(text, tooltip(action, self.shortcuts))
            for action, text in _ANSWERS.items()
        }
        for action, button in self.answers.items():
            on_click(button, acts[action])
        self.start_button.clicked.connect(lambda _: self.start())
        self.pause_button.clicked.connect(lambda _: self.toggle_pause())
        self.cancel_button.clicked.connect(lambda _: controller.cancel())
        keys = key_actions(acts, self.shortcuts)
        bind(self.viewer, keys)
        self.at_end(partial(unbind, self.viewer, keys))
        self.flagged_only = QCheckBox('Only frames to look at')
        self.flagged_only.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.flagged_only.setToolTip('Otherwise all results are gone through')
        self.flagged_only.clicked.connect(self._on_flagged_only)
        self.watch = QCheckBox('Show each frame as it is done')
        self.watch.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.watch.toggled.connect(self._on_watch)
        self.bar = QProgressBar()
        self.bar.setFormat('%v of %m')
        self.status = QLabel()
        self.status.setWordWrap(True)
        self.frames = QListWidget()
        self.frames.setWordWrap(True)
        self.frames.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.frames.setMaximumHeight(_LIST_HEIGHT)
        self.frames.setToolTip('Click a frame to go there')
        self.frames.itemClicked.connect(self._on_clicked)
        self.folder_section = folded_section('A folder of images')
        self.folder_section.addWidget(self.folder)
        self.folder_section.collapse(animate=False)
        buttons = QHBoxLayout()
        buttons.setSpacing(4)
        for button in (self.start_button, self.pause_button, self.cancel_button):
            buttons.addWidget(button)
        answers = QGridLayout()
        answers.setSpacing(4)
        for place, action in enumerate(_ANSWERS):
            down, right = divmod(place, _ANSWERS_A_ROW)
            width = _ANSWERS_A_ROW if action == 'continue_from_here' else 1
            answers.addWidget(self.answers[action], down, right, 1, width)
        content = QWidget()
        inner = QVBoxLayout(content)
        inner.setContentsMargins(0, 4, 0, 4)
        inner.addWidget(self.choices)
        inner.addWidget(self.watch)
        inner.addWidget(self.folder_section)
        inner.addStretch()
        column = QVBoxLayout(self)
        column.setContentsMargins(4, 0, 4, 4)
        column.setSpacing(6)
        column.addWidget(scrolling(content, 300), stretch=1)
        column.addLayout(buttons)
        column.addWidget(self.bar)
        column.addWidget(self.status)
        column.addWidget(self.frames)
        column.addWidget(self.flagged_only)
        column.addLayout(answers)

    def start(self) -> None:
        """Begin with what is chosen; says so if something is missing."""
        if self.controller.phase is not Phase.IDLE:
            return
        try:
            batch = make_batch(self.choices.read(), self.viewer)
        except KDSAMError as error:
            self.controller.say(str(error))
            return
        self.choices.use_outputs([output.layer for output in batch.outputs])
        self.controller.start(batch)

    def toggle_pause(self) -> None:
        """Pause, or go on."""
        if self.controller.phase is Phase.RUNNING:
            self.controller.pause()
        else:
            self.controller.resume()

    def _on_renamed(self, event: Any = None) -> None:
        # Two layers may have one name until napari renames the second.
        QTimer.singleShot(0, self.choices.refresh_layers)

    def _on_watch(self, on: bool) -> None:
        self.controller.follows_view = on

    def _on_clicked(self, item: QListWidgetItem) -> None:
        row = self.frames.row(item)
        if 0 <= row < len(self._listed):
            self.controller.show(self._listed[row][0])

    def _refresh(self, event: Any = None) -> None:
        controller = self.controller
        phase = controller.phase
        self.start_button.setEnabled(phase is Phase.IDLE)
        self.choices.setEnabled(phase is Phase.IDLE)
        self.pause_button.setText('Resume' if controller.can_resume else 'Pause')
        self.pause_button.setEnabled(phase is Phase.RUNNING or controller.can_resume)
        self.cancel_button.setEnabled(
            phase in (Phase.RUNNING, Phase.PAUSING, Phase.PAUSED)
        )
        self._show_progress()
        self._show_frames()
        self._show_answers()

    def _show_progress(self) -> None:
        controller = self.controller
        counts = controller.counts
        self.bar.setVisible(counts.total > 0)
        self.bar.setRange(0, max(counts.total, 1))
        self.bar.setValue(counts.done + counts.failed)
        parts = [controller.sentence or _HINT]
        if controller.phase is not Phase.IDLE and counts.total:
            parts.append(f'{counts.describe()}.')
            if controller.pace:
                parts.append(f'{controller.pace}.')
        self.status.setText(' '.join(parts))

    def _show_frames(self) -> None:
        batch = self.controller.batch
        listed = [] if batch is None else sorted(batch.plan.reasons.items())
        self.frames.setVisible(bool(listed))
        if listed == self._listed or batch is None:
            return
        self._listed = listed
        self.frames.clear()
        self.frames.addItems([f'{batch.title(i)}: {why}' for i, why in listed])
        rows = min(len(listed), _MOST_ROWS)
        # A line may need two.
        height = 2 * rows * self.frames.fontMetrics().lineSpacing() + 12
        self.frames.setFixedHeight(min(height, _LIST_HEIGHT))

    def _show_answers(self) -> None:
        """Show what can be said of the results, once there are any."""
        batch, review = self.controller.batch, self.review
        there = batch is not None and bool(batch.plan.results)
        able = {
            'accept_result': review.can_answer,
            'reject_result': review.can_answer,
            'undo_review': review.can_undo,
            'continue_from_here': self.controller.can_continue,
        }
        follows = batch is not None and isinstance(batch.plan, FollowPlan)
        for action, button in self.answers.items():
            button.setVisible(there and (follows or action != 'continue_from_here'))
            button.setEnabled(there and able.get(action, True))
        self.flagged_only.setVisible(there)
        self.flagged_only.setChecked(review.only_flagged)

    def _on_flagged_only(self, on: bool) -> None:
        self.review.only_flagged = on
