"""The dock widget that segments a stack, or several layers, in one go."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import (
    QApplication,
    QCheckBox,
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
from napari_kdsam.widgets.batch.setup import make_batch
from napari_kdsam.widgets.preferences import load_preferences
from napari_kdsam.widgets.shared.connections import Connections
from napari_kdsam.widgets.shared.dock import Dock
from napari_kdsam.widgets.shared.inference_thread import (
    PredictorFactory,
    make_predictor,
)
from napari_kdsam.widgets.shared.key_bindings import bind, key_action, unbind
from napari_kdsam.widgets.shared.qt_parts import plain_button, scrolling

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from napari_kdsam.widgets.batch.progress import Item

_HINT = 'Choose images and prompts, then Start.'
_LIST_EVENTS = ('inserted', 'removed', 'reordered')
_LIST_HEIGHT = 120
# Free in napari and among the annotator's keys; they act while the panel is open. Alt with
# F, H, L, P, V or W would open one of napari's menus.
_NEXT_KEY, _ACCEPT_KEY, _CONTINUE_KEY = 'Alt-N', 'Alt-A', 'Alt-O'


class BatchWidget(Dock):
    """Segment every frame of a stack, or several image layers, in the background.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
        Given by napari.
    predictor_factory : callable, optional
        Makes a predictor from a model's and a device's name.
    """

    # napari reads the settings of all plugins, once.
    warm_up = staticmethod(load_preferences)

    def __init__(
        self,
        napari_viewer: 'Viewer',  # noqa: UP037
        predictor_factory: PredictorFactory = make_predictor,
    ) -> None:
        super().__init__()
        self.viewer = napari_viewer
        preferences, _ = load_preferences()
        if preferences.embeddings and predictor_factory is make_predictor:
            predictor_factory = partial(make_predictor, store=preferences.embeddings)
        self.choices = BatchChoices(napari_viewer, preferences)
        self.controller = BatchController(napari_viewer, predictor_factory)
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
        self.at_end(self._connections.close, self.controller.close)
        application = QApplication.instance()
        if application is not None:
            # A window may be left to the end of Python, when threads no longer start.
            application.aboutToQuit.connect(self.controller.close)
        self._refresh()

    def _build(self) -> None:
        controller = self.controller
        self.start_button = plain_button('Start', 'Segment the chosen frames')
        self.pause_button = plain_button('Pause', 'Stand still after this frame')
        self.cancel_button = plain_button(
            'Cancel', 'Stop after this frame; what is done stays'
        )
        self.next_button = plain_button(
            'Next to look at', f'Go to the next frame of the list ({_NEXT_KEY})'
        )
        self.accept_button = plain_button(
            'Accept',
            'Take the frame in view as right, follow on from it where that was broken '
            f'off, and go to the next of the list ({_ACCEPT_KEY})',
        )
        self.continue_button = plain_button(
            'Continue from here',
            'Take the labels of the frame in view as right, and follow on from them '
            f'({_CONTINUE_KEY})',
        )
        self.start_button.clicked.connect(lambda _: self.start())
        self.pause_button.clicked.connect(lambda _: self.toggle_pause())
        self.cancel_button.clicked.connect(lambda _: controller.cancel())
        self.next_button.clicked.connect(lambda _: controller.show_next())
        self.accept_button.clicked.connect(lambda _: controller.accept())
        self.continue_button.clicked.connect(lambda _: controller.continue_from_here())
        actions = {
            _NEXT_KEY: key_action('next_to_look_at', controller.show_next),
            _ACCEPT_KEY: key_action('accept_frame', controller.accept),
            _CONTINUE_KEY: key_action(
                'continue_from_here', controller.continue_from_here
            ),
        }
        bind(self.viewer, actions)
        self.at_end(partial(unbind, self.viewer, actions))
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
        buttons = QHBoxLayout()
        buttons.setSpacing(4)
        for button in (self.start_button, self.pause_button, self.cancel_button):
            buttons.addWidget(button)
        onward = QHBoxLayout()
        onward.setSpacing(4)
        for button in (self.next_button, self.accept_button, self.continue_button):
            onward.addWidget(button)
        content = QWidget()
        inner = QVBoxLayout(content)
        inner.setContentsMargins(0, 4, 0, 4)
        inner.addWidget(self.choices)
        inner.addWidget(self.watch)
        inner.addStretch()
        column = QVBoxLayout(self)
        column.setContentsMargins(4, 0, 4, 4)
        column.setSpacing(6)
        column.addWidget(scrolling(content), stretch=1)
        column.addLayout(buttons)
        column.addWidget(self.bar)
        column.addWidget(self.status)
        column.addWidget(self.frames)
        column.addLayout(onward)
        self.setMinimumWidth(300)

    def start(self) -> None:
        """Begin with what is chosen; says so if something is missing."""
        if self.controller.phase is not Phase.IDLE:
            return
        try:
            batch = make_batch(
                self.choices.read(), self.viewer, self.controller.written
            )
        except KDSAMError as error:
            self.controller.say(str(error))
            return
        if len(batch.outputs) == 1:
            self.choices.use_output(batch.outputs[0].layer)
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
        self.accept_button.setEnabled(controller.in_doubt is not None)
        self.continue_button.setEnabled(controller.can_continue)
        self._show_progress()
        self._show_frames()

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
        self.next_button.setEnabled(bool(listed))
        if listed == self._listed or batch is None:
            return
        self._listed = listed
        self.frames.clear()
        self.frames.addItems([f'{batch.title(i)}: {why}' for i, why in listed])
