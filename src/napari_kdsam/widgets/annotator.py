"""The dock widget: pick an image, click, commit."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from magicgui.widgets import ComboBox
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import (
    QButtonGroup,
    QFileDialog,
    QFormLayout,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_kdsam.model.registry import WEIGHTS_SUFFIXES, list_models
from napari_kdsam.widgets.controller import AnnotationController
from napari_kdsam.widgets.inference_thread import PredictorFactory, make_predictor
from napari_kdsam.widgets.shortcuts import (
    SHORTCUTS,
    KeyAction,
    key_actions,
    tooltip,
)
from napari_kdsam.widgets.status import Stage

if TYPE_CHECKING:
    from napari.layers import Image
    from napari.viewer import Viewer

_NEW_LABELS = 'New labels layer'
_OPEN_FILE = 'Weights file…'
_CANDIDATES = 3
_STAGE_MARKS = {
    Stage.NO_IMAGE: ('○', '#9e9e9e'),
    Stage.WAITING: ('○', '#9e9e9e'),
    Stage.WORKING: ('◐', '#ffb300'),
    Stage.READY: ('●', '#43a047'),
    Stage.ERROR: ('▲', '#ff5252'),
}
_HINT = (
    'Left click adds a point; dragging with the box tool draws a box.'
    '<table cellspacing="0" cellpadding="1">'
    + ''.join(
        f'<tr><td><b>{s.key}</b>&nbsp;</td><td>{s.title}</td></tr>' for s in SHORTCUTS
    )
    + '</table>'
)


class AnnotatorWidget(QWidget):
    """Turn clicks on an image layer into labels.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
        Given by napari.
    predictor_factory : callable, optional
        Makes a predictor from a model's and a device's name.
    """

    def __init__(
        self,
        napari_viewer: 'Viewer',  # noqa: UP037
        predictor_factory: PredictorFactory = make_predictor,
    ) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.controller = AnnotationController(napari_viewer, predictor_factory)
        self._files: list[str] = []
        self._key_actions = key_actions(self.controller, SHORTCUTS)
        self._build()
        for key, action in self._key_actions.items():
            napari_viewer.bind_key(key, action, overwrite=True)
        self.controller.updated.connect(self._refresh)
        self._watched = [
            getattr(napari_viewer.layers.events, name)
            for name in ('inserted', 'removed', 'reordered', 'renamed')
            if hasattr(napari_viewer.layers.events, name)
        ]
        for event in self._watched:
            event.connect(self._refresh_choices)
        # Qt no longer calls methods of an object that is being destroyed.
        self.destroyed.connect(
            partial(
                _release,
                napari_viewer,
                self.controller,
                self._refresh,
                self._watched,
                self._refresh_choices,
                self._key_actions,
            )
        )
        active = napari_viewer.layers.selection.active
        images = self._images()
        self._on_image_chosen(active if active in images else (images or [None])[-1])
        self._refresh()

    def _build(self) -> None:
        self.image_choice = ComboBox(choices=lambda _: self._images(), nullable=True)
        self.labels_choice = ComboBox(choices=lambda _: self._label_choices())
        self.model_choice = ComboBox(choices=lambda _: self._model_choices())
        self.device_choice = ComboBox(choices=['auto', 'cpu', 'cuda', 'mps'])
        self.intensity_choice = ComboBox(choices=['automatic', 'as displayed'])
        self.image_choice.changed.connect(self._on_image_chosen)
        self.labels_choice.changed.connect(self._on_labels_chosen)
        self.model_choice.changed.connect(self._on_model_chosen)
        self.device_choice.changed.connect(self._on_model_chosen)
        self.intensity_choice.changed.connect(
            lambda value: self.controller.set_intensity(value == 'as displayed')
        )

        choices = QFormLayout()
        choices.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        for title, choice, help_text in (
            ('Image', self.image_choice, 'The image layer to label'),
            ('Labels', self.labels_choice, 'Where commits go'),
            ('Model', self.model_choice, 'Labels stay when the model changes'),
            ('Device', self.device_choice, 'Where the model computes'),
            (
                'Intensity',
                self.intensity_choice,
                (
                    'How pixel values reach the model: chosen from the image, or by the '
                    "layer's contrast limits"
                ),
            ),
        ):
            choice.tooltip = help_text
            choice.native.setSizePolicy(
                QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed
            )
            choices.addRow(title, choice.native)

        content = QWidget()
        column = QVBoxLayout(content)
        column.setContentsMargins(4, 4, 4, 4)
        column.addWidget(self._build_offer())
        column.addLayout(choices)
        column.addLayout(self._build_tools())
        column.addLayout(self._build_candidates())
        column.addLayout(self._build_actions())
        hint = QLabel(_HINT)
        hint.setWordWrap(True)
        hint.setTextFormat(Qt.TextFormat.RichText)
        column.addWidget(hint)
        column.addStretch()

        scroll = QScrollArea()
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QScrollArea.Shape.NoFrame)
        scroll.setWidget(content)
        self.status = QLabel()
        self.status.setWordWrap(True)
        self.status.setTextFormat(Qt.TextFormat.RichText)
        self.status.setMinimumHeight(2 * self.status.fontMetrics().lineSpacing() + 6)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(scroll, stretch=1)
        outer.addWidget(self.status)
        self.setMinimumWidth(280)

    def _build_offer(self) -> QWidget:
        self.offer_text = QLabel()
        self.offer_text.setWordWrap(True)
        self.restore_button = _plain_button(
            'Restore', 'Bring the objects and prompts back, as one step you can undo'
        )
        self.discard_button = _plain_button('Delete', 'Delete this earlier work')
        self.restore_button.clicked.connect(lambda _: self.controller.restore_session())
        self.discard_button.clicked.connect(lambda _: self.controller.discard_session())
        self.offer = QWidget()
        grid = QGridLayout(self.offer)
        grid.setContentsMargins(0, 0, 0, 6)
        grid.addWidget(self.offer_text, 0, 0, 1, 2)
        grid.addWidget(self.restore_button, 1, 0)
        grid.addWidget(self.discard_button, 1, 1)
        self.offer.hide()
        return self.offer

    def _build_tools(self) -> QHBoxLayout:
        self.inside_button = _button('+ Inside', 'toggle_polarity', checkable=True)
        self.outside_button = _button('× Outside', 'toggle_polarity', checkable=True)
        self.box_button = _button('▭ Box', 'use_box', checkable=True)
        self.pick_button = _plain_button(
            '✎ Edit', 'Click a committed object to reopen it with its prompts (Shift-W)'
        )
        self.pick_button.setCheckable(True)
        self.pick_button.clicked.connect(lambda _: self.controller.use_pick())
        self.inside_button.clicked.connect(partial(self._choose_polarity, True))
        self.outside_button.clicked.connect(partial(self._choose_polarity, False))
        self.box_button.clicked.connect(self._choose_box)
        self._tools = QButtonGroup(self)
        row = QHBoxLayout()
        for button in (
            self.inside_button,
            self.outside_button,
            self.box_button,
            self.pick_button,
        ):
            self._tools.addButton(button)
            row.addWidget(button)
        return row

    def _build_candidates(self) -> QHBoxLayout:
        row = QHBoxLayout()
        row.addWidget(QLabel('Candidate'))
        self.candidate_buttons = []
        for index in range(_CANDIDATES):
            button = _button('–', 'next_candidate', checkable=True)
            button.clicked.connect(partial(self._choose_candidate, index))
            self.candidate_buttons.append(button)
            row.addWidget(button)
        return row

    def _build_actions(self) -> QGridLayout:
        self.commit_button = _button('Commit', 'commit')
        self.clear_button = _button('Clear', 'clear')
        self.undo_button = _button('Undo', 'undo')
        self.redo_button = _button('Redo', 'redo')
        self.commit_button.clicked.connect(lambda _: self.controller.commit())
        self.clear_button.clicked.connect(lambda _: self.controller.clear())
        self.undo_button.clicked.connect(lambda _: self.controller.undo())
        self.redo_button.clicked.connect(lambda _: self.controller.redo())
        grid = QGridLayout()
        grid.addWidget(self.commit_button, 0, 0)
        grid.addWidget(self.clear_button, 0, 1)
        grid.addWidget(self.undo_button, 1, 0)
        grid.addWidget(self.redo_button, 1, 1)
        return grid

    def _images(self) -> list[Image]:
        from napari.layers import Image

        return [layer for layer in self.viewer.layers if isinstance(layer, Image)]

    def _label_choices(self) -> list[Any]:
        return [_NEW_LABELS, *self.controller.possible_targets()]

    def _model_choices(self) -> list[str]:
        known = [entry.name for entry in list_models() if entry.available]
        return [*known, *self._files, _OPEN_FILE]

    def _on_image_chosen(self, image: Image | None) -> None:
        self.controller.set_image(image)
        self._refresh_choices()

    def _on_labels_chosen(self, choice: Any) -> None:
        self.controller.set_target(None if choice == _NEW_LABELS else choice)

    def _on_model_chosen(self, _: Any) -> None:
        if self.model_choice.value == _OPEN_FILE:
            self._ask_for_weights()
        else:
            self._use_chosen_model()

    def _use_chosen_model(self) -> None:
        self.controller.set_model(self.model_choice.value, self.device_choice.value)

    def _ask_for_weights(self) -> None:
        pattern = ' '.join(f'*{suffix}' for suffix in WEIGHTS_SUFFIXES)
        path, _ = QFileDialog.getOpenFileName(
            self, 'Open weights', '', f'Weights ({pattern})'
        )
        if path:
            self.add_weights_file(path)
        else:
            with self.model_choice.changed.blocked():
                self.model_choice.value = self.controller.flow.model

    def add_weights_file(self, path: str | Path) -> None:
        """Offer a weights file among the models, and choose it."""
        if str(path) not in self._files:
            self._files.append(str(path))
        with self.model_choice.changed.blocked():
            self.model_choice.reset_choices()
            self.model_choice.value = str(path)
        self._use_chosen_model()

    def _choose_polarity(self, positive: bool, _: bool = True) -> None:
        self.controller.set_polarity(positive)

    def _choose_box(self, _: bool = True) -> None:
        self.controller.use_box()

    def _choose_candidate(self, index: int, _: bool = True) -> None:
        self.controller.choose_candidate(index)
        self._refresh()

    def _refresh_choices(self, event: Any = None) -> None:
        images = self._images()
        if self.controller.image is None and images:
            # napari is still in the middle of adding the layer.
            QTimer.singleShot(0, self._pick_an_image)
        with self.image_choice.changed.blocked():
            self.image_choice.reset_choices()
            if self.controller.image in images:
                self.image_choice.value = self.controller.image
        self._refresh_labels()

    def _pick_an_image(self) -> None:
        images = self._images()
        if self.controller.image is None and images:
            self._on_image_chosen(images[-1])

    def _refresh_labels(self) -> None:
        with self.labels_choice.changed.blocked():
            self.labels_choice.reset_choices()
            if self._target_choice() in self.labels_choice.choices:
                self.labels_choice.value = self._target_choice()

    def _target_choice(self) -> Any:
        target = self.controller.target_layer
        return _NEW_LABELS if target is None else target

    def _refresh(self) -> None:
        controller = self.controller
        mark, color = _STAGE_MARKS[controller.status.stage]
        self.status.setText(
            f'<span style="color: {color}">{mark}</span> {controller.status.text}'
        )
        offer = controller.offer
        self.offer.setVisible(offer is not None)
        self.offer_text.setText('' if offer is None else offer.describe())
        layers = controller.layers
        self._tools.setExclusive(False)
        drawing_box = layers is not None and layers.drawing_boxes
        picking = controller.pick.active
        clicking = not drawing_box and not picking
        positive = layers is None or layers.positive
        self.box_button.setChecked(drawing_box)
        self.pick_button.setChecked(picking)
        self.inside_button.setChecked(positive and clicking)
        self.outside_button.setChecked(not positive and clicking)
        self._tools.setExclusive(True)
        candidates = controller.candidates
        for index, button in enumerate(self.candidate_buttons):
            offered = index < len(candidates)
            button.setEnabled(offered and len(candidates) > 1)
            button.setText(f'{candidates[index].score:.2f}' if offered else '–')
            button.setChecked(offered and index == controller.chosen_candidate)
        self.commit_button.setEnabled(controller.can_commit)
        self.clear_button.setEnabled(not controller.draft.empty)
        self.undo_button.setEnabled(controller.session.can_undo)
        self.redo_button.setEnabled(controller.session.can_redo)
        if controller.mapping is not None:
            described = controller.mapping.describe()
            self.intensity_choice.tooltip = f'The model sees {described}'
        if self._target_choice() != self.labels_choice.value:
            self._refresh_labels()


def _release(
    viewer: Viewer,
    controller: AnnotationController,
    refresh: Callable[[], None],
    watched: list[Any],
    refresh_choices: Callable[..., None],
    actions: dict[str, KeyAction],
    _: Any = None,
) -> None:
    """Let go of the viewer; the widget's buttons are already gone."""
    controller.updated.disconnect(refresh)
    for event in watched:
        event.disconnect(refresh_choices)
    for key, action in list(viewer.keymap.items()):
        # Another annotator on this viewer may have taken a key over.
        if action in actions.values():
            viewer.bind_key(key, None)
    controller.close()


def _button(text: str, action: str, *, checkable: bool = False) -> QPushButton:
    button = _plain_button(text, tooltip(action))
    button.setCheckable(checkable)
    return button


def _plain_button(text: str, help_text: str) -> QPushButton:
    button = QPushButton(text)
    button.setToolTip(help_text)
    # The canvas keeps the keyboard, so that the keys go on working after a click.
    button.setFocusPolicy(Qt.FocusPolicy.NoFocus)
    return button
