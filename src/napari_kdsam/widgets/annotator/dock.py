"""The dock widget: pick an image, click, commit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from magicgui.widgets import ComboBox
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import (
    QApplication,
    QCheckBox,
    QFileDialog,
    QVBoxLayout,
    QWidget,
)
from superqt import QCollapsible

from napari_kdsam.core.ellipse import Ellipse, fit_ellipse
from napari_kdsam.core.geometry import Mask
from napari_kdsam.model.registry import WEIGHTS_SUFFIXES, list_models
from napari_kdsam.widgets.annotator.candidate_bar import CandidateBar
from napari_kdsam.widgets.annotator.class_list import ClassList
from napari_kdsam.widgets.annotator.cleanup_panel import CleanUpPanel, describe_ellipse
from napari_kdsam.widgets.annotator.controller import AnnotationController
from napari_kdsam.widgets.annotator.frame_strip import FrameStrip
from napari_kdsam.widgets.annotator.guided import GuidedAnnotator
from napari_kdsam.widgets.annotator.help import HelpPanel
from napari_kdsam.widgets.annotator.offer_bar import OfferBar
from napari_kdsam.widgets.annotator.panels import ActionBar, QuestionBar, ToolBar
from napari_kdsam.widgets.annotator.shortcuts import annotator_keys
from napari_kdsam.widgets.annotator.status_bar import StatusBar
from napari_kdsam.widgets.annotator.warm_up import warm_up
from napari_kdsam.widgets.preferences import (
    OUTPUTS,
    OVERLAPS,
    SAVE_AS,
    Preferences,
    SaveAs,
    load_preferences,
    on_change,
    remember_format,
)
from napari_kdsam.widgets.shared.connections import Connections
from napari_kdsam.widgets.shared.dock import Dock
from napari_kdsam.widgets.shared.inference_thread import (
    PredictorFactory,
    make_predictor,
)
from napari_kdsam.widgets.shared.key_bindings import bind, unbind
from napari_kdsam.widgets.shared.layer_choice import image_layers
from napari_kdsam.widgets.shared.qt_parts import (
    folded_section,
    form_of,
    plain_button,
    scrolling,
)
from napari_kdsam.widgets.shared.shortcuts import (
    ANNOTATOR,
    LAYER_SHORTCUTS,
    bound_shortcuts,
    tooltip,
)
from napari_kdsam.widgets.shared.transforms import pixel_size_of

if TYPE_CHECKING:
    from napari.layers import Image
    from napari.viewer import Viewer

_NEW_LABELS = 'New labels layer'
_OPEN_FILE = 'Weights file…'


class AnnotatorWidget(Dock):
    """Turn clicks on an image layer into labels.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
        Given by napari.
    predictor_factory : callable, optional
        Makes a predictor from a model's and a device's name.
    begin : bool
        Whether to take up an image at once, rather than by `begin`.
    """

    warm_up = staticmethod(warm_up)

    def __init__(
        self,
        napari_viewer: 'Viewer',  # noqa: UP037
        predictor_factory: PredictorFactory = make_predictor,
        *,
        begin: bool = True,
    ) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self._preferences, warnings = load_preferences()
        preferences = self._preferences
        self.shortcuts, refused = bound_shortcuts(preferences.keys, ANNOTATOR)
        if preferences.embeddings and predictor_factory is make_predictor:
            predictor_factory = partial(make_predictor, store=preferences.embeddings)
        self.controller = AnnotationController(napari_viewer, predictor_factory)
        self.workspace = self.controller.workspace
        self.guided = GuidedAnnotator(self.controller)
        self._files: list[str] = []
        self._begun = False
        self._fitted: tuple[Mask | None, Ellipse | None] = (None, None)
        self.help_window: HelpPanel | None = None
        self._key_actions = annotator_keys(self.controller, self.shortcuts)
        undo_keys = annotator_keys(self.controller, LAYER_SHORTCUTS)
        self.controller.use_keys(self._key_actions | undo_keys, undo_keys)
        self._build()
        bind(napari_viewer, self._key_actions)
        self.workspace.updated.connect(self._refresh)
        self.controller.help_wanted.connect(self._show_help)
        self._layer_events = Connections()
        self._layer_events.connect(
            napari_viewer.layers.events,
            ('inserted', 'removed', 'reordered', 'renamed'),
            self._refresh_choices,
        )
        self.at_end(
            partial(self.workspace.updated.disconnect, self._refresh),
            partial(self.controller.help_wanted.disconnect, self._show_help),
            self._layer_events.close,
            on_change(self._prefer_anew),
            partial(unbind, napari_viewer, self._key_actions),
            self.controller.close,
        )
        application = QApplication.instance()
        if application is not None:
            # A window may be left to the end of Python, when threads no longer start.
            application.aboutToQuit.connect(self.controller.close)
        self._warnings = [*warnings, *refused]
        self._apply(preferences)
        if begin:
            self.begin()

    def begin(self, image: Image | None = None) -> None:
        """Take up an image; the selected one, or else the one that is seen."""
        self._begun = True
        self._on_image_chosen(image if image in self._images() else self._likeliest())
        if self._warnings:
            self.workspace.say(' '.join(self._warnings))
        self._refresh()

    def begin_in_steps(self) -> Iterator[None]:
        """Take up an image, with pauses for the window."""
        image = self._likeliest()
        if image is not None:
            yield from self.controller.prepare(image)
        self.begin(image)

    def _likeliest(self) -> Image | None:
        active = self.viewer.layers.selection.active
        return active if active in self._images() else self._topmost()

    def _build(self) -> None:
        controller = self.controller
        self.image_choice = ComboBox(choices=lambda _: self._images(), nullable=True)
        self.labels_choice = ComboBox(choices=lambda _: self._label_choices())
        self.model_choice = ComboBox(choices=lambda _: self._model_choices())
        self.device_choice = ComboBox(choices=['auto', 'cpu', 'cuda', 'mps'])
        self.intensity_choice = ComboBox(choices=['automatic', 'as displayed'])
        self.overlap_choice = ComboBox(choices=list(OVERLAPS.items()))
        self.output_choice = ComboBox(choices=list(OUTPUTS.items()))
        self.save_choice = ComboBox(choices=list(SAVE_AS.items()))
        self.save_choice.changed.connect(self._on_format_chosen)
        self.image_choice.changed.connect(self._on_image_chosen)
        self.labels_choice.changed.connect(self._on_labels_chosen)
        self.model_choice.changed.connect(self._on_model_chosen)
        self.device_choice.changed.connect(self._on_model_chosen)
        self.intensity_choice.changed.connect(
            lambda value: controller.flow.set_intensity(value == 'as displayed')
        )
        self.overlap_choice.changed.connect(controller.objects.set_overlap)
        self.output_choice.changed.connect(controller.objects.set_output)
        self.offer = OfferBar(controller)
        self.question = QuestionBar(
            (
                'Keep',
                tooltip('commit', self.shortcuts),
                partial(controller.objects.commit, overwrite=False),
            ),
            (
                'Overwrite',
                tooltip('commit_overwriting', self.shortcuts),
                partial(controller.objects.commit, overwrite=True),
            ),
        )
        self.likely = QuestionBar(
            (
                'Accept',
                tooltip('accept_likely', self.shortcuts),
                controller.likely.accept,
            ),
            ('Dismiss', 'Hide them; nothing was saved', controller.likely.dismiss),
        )
        self.tools = ToolBar(self.workspace, controller.tools, self.shortcuts)
        self.candidates = CandidateBar(tooltip('next_candidate', self.shortcuts))
        self.candidates.chosen.connect(controller.choose_candidate)
        self.action_bar = ActionBar(controller, self.shortcuts)
        class_keys = [s.key for s in self.shortcuts if s.action.startswith('class_')]
        self.classes = ClassList(class_keys)
        self.classes.chosen.connect(controller.objects.choose_class)
        self.classes.classes_changed.connect(controller.objects.set_classes)
        self.cleanup = CleanUpPanel()
        self.cleanup.changed.connect(controller.objects.set_cleanup)
        self.strip = FrameStrip()
        self.strip.frame_chosen.connect(controller.frames.go_to_place)
        self.contrast = QCheckBox('High contrast preview')
        self.contrast.setToolTip('Show masks as bright outlines')
        self.contrast.toggled.connect(controller.set_high_contrast)
        self.hover = QCheckBox('Hover preview')
        self.hover.setToolTip(tooltip('hover_preview', self.shortcuts))
        self.hover.toggled.connect(controller.hover.turn)
        self.help_button = plain_button(
            'Shortcuts', tooltip('show_help', self.shortcuts)
        )
        self.help_button.clicked.connect(lambda _: controller.show_help())
        self.status = StatusBar()
        self._lay_out()

    def _lay_out(self) -> None:
        layers = form_of(
            (
                ('Image', self.image_choice, 'The image layer to label'),
                ('Labels', self.labels_choice, 'Where commits go'),
            )
        )
        output = form_of(
            (
                (
                    'Overlap',
                    self.overlap_choice,
                    'What happens to labels under a new mask',
                ),
                ('Output', self.output_choice, 'What a committed object is called'),
                ('Save as', self.save_choice, 'Format of labels that are saved'),
            )
        )
        engine = form_of(
            (
                ('Model', self.model_choice, 'Labels stay when the model changes'),
                ('Device', self.device_choice, 'Where the model computes'),
                (
                    'Intensity',
                    self.intensity_choice,
                    (
                        'How pixel values reach the model: chosen from the image, or by '
                        "the layer's contrast limits"
                    ),
                ),
            )
        )
        engine.addRow(self.contrast)
        engine.addRow(self.hover)
        content = QWidget()
        column = QVBoxLayout(content)
        column.setContentsMargins(4, 4, 4, 4)
        column.setSpacing(6)
        column.addLayout(layers)
        column.addWidget(self.tools)
        column.addWidget(self.candidates)
        column.addWidget(self.action_bar)
        # Below the buttons, which stay where they are when these come and go.
        column.addWidget(self.question)
        column.addWidget(self.likely)
        column.addWidget(self.offer)
        column.addWidget(self.strip)
        column.addWidget(self.classes)
        column.addLayout(output)
        column.addWidget(self.cleanup)
        column.addWidget(_folded('Model and view', engine))
        column.addWidget(self.help_button)
        column.addStretch()
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(scrolling(content, 300), stretch=1)
        outer.addWidget(self.status)

    def _apply(self, preferences: Preferences) -> None:
        """Start with what the user prefers; a model that is not there is said."""
        model = preferences.first_model
        if Path(model).is_file():
            self._files.append(model)
            self.model_choice.reset_choices()
        elif model not in self.model_choice.choices:
            self._warnings.append(
                f'The preferred model {model!r} is not on this computer; '
                '"napari-kdsam models" tells how to get it.'
            )
        for choice, value in (
            (self.model_choice, model),
            (self.device_choice, preferences.device),
            (self.overlap_choice, preferences.overlap),
            (self.output_choice, preferences.output),
            (self.save_choice, preferences.save_as),
        ):
            if value in choice.choices:
                choice.value = value
        self.contrast.setChecked(preferences.high_contrast)
        self.hover.setChecked(preferences.hover)
        self._apply_to_work(preferences)

    def _apply_to_work(self, preferences: Preferences) -> None:
        self.controller.frames.prefetching = preferences.prefetch
        self.controller.flow.set_second_look(preferences.second_look)
        self.controller.autosave.configure(
            preferences.autosave, preferences.sessions == 'beside the image'
        )

    def _prefer_anew(self) -> None:
        """Take over what was changed in the preferences, and no more than that."""
        before = self._preferences
        self._preferences, warnings = load_preferences()
        self._apply_to_work(self._preferences)
        if self._preferences.high_contrast != before.high_contrast:
            self.contrast.setChecked(self._preferences.high_contrast)
        if self._preferences.hover != before.hover:
            self.hover.setChecked(self._preferences.hover)
        if self._preferences.keys != before.keys:
            warnings.append('Changed keys hold when "Click to label" is opened again.')
        if warnings:
            self.workspace.say(' '.join(warnings))

    def _images(self) -> list[Image]:
        return image_layers(self.viewer)

    def _topmost(self) -> Image | None:
        """The image that is seen; the topmost one where all are hidden."""
        images = self._images()
        return next(reversed([i for i in images if i.visible] or images), None)

    def _label_choices(self) -> list[Any]:
        return [_NEW_LABELS, *self.workspace.possible_targets()]

    def _model_choices(self) -> list[str]:
        known = [entry.name for entry in list_models() if entry.available]
        return [*known, *self._files, _OPEN_FILE]

    def _on_image_chosen(self, image: Image | None) -> None:
        self.controller.show_image(image)
        self._refresh_choices()

    def _on_labels_chosen(self, choice: Any) -> None:
        self.controller.set_target(None if choice == _NEW_LABELS else choice)

    def _on_format_chosen(self, save_as: SaveAs) -> None:
        if save_as != self.controller.saver.save_as:
            self.controller.saver.save_as = save_as
            remember_format(save_as)

    def _on_model_chosen(self, _: Any) -> None:
        if self.model_choice.value == _OPEN_FILE:
            self._ask_for_weights()
        else:
            self._use_chosen_model()

    def _use_chosen_model(self) -> None:
        self.controller.flow.set_model(
            self.model_choice.value, self.device_choice.value
        )

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

    def _show_help(self) -> None:
        if self.help_window is None:
            shortcuts, _ = bound_shortcuts(self._preferences.keys)
            self.help_window = HelpPanel(shortcuts, self)
        self.help_window.show()
        self.help_window.raise_()

    def _refresh_choices(self, event: Any = None) -> None:
        images = self._images()
        # Without an event it is known already which images cannot be annotated.
        if event is not None and self.workspace.image is None and images:
            # napari is still in the middle of adding the layer.
            QTimer.singleShot(0, self._pick_an_image)
        with self.image_choice.changed.blocked():
            self.image_choice.reset_choices()
            # Of two layers with one name, until napari renames the second, one is missing.
            if self.workspace.image in self.image_choice.choices:
                self.image_choice.value = self.workspace.image
        self._refresh_labels()

    def _pick_an_image(self) -> None:
        if self._begun and self.workspace.image is None and self._images():
            self._on_image_chosen(self._topmost())

    def _refresh_labels(self) -> None:
        with self.labels_choice.changed.blocked():
            self.labels_choice.reset_choices()
            if self._target_choice() in self.labels_choice.choices:
                self.labels_choice.value = self._target_choice()

    def _target_choice(self) -> Any:
        target = self.workspace.target_layer
        return _NEW_LABELS if target is None else target

    def _refresh(self) -> None:
        self.status.show_status(self.workspace.status)
        self.offer.refresh()
        question = self.workspace.question
        self.question.ask('' if question is None else question.describe())
        self.likely.ask(self.controller.likely.described)
        self.tools.refresh()
        self.action_bar.refresh()
        self._refresh_candidates()
        self._refresh_classes()
        frames = self.controller.frames
        self.strip.show_frames(frames.count, frames.done, frames.open, frames.current)
        self._refresh_engine()
        for choice, value in (
            (self.overlap_choice, self.controller.objects.overlap),
            (self.output_choice, self.controller.objects.output),
        ):
            if choice.value != value:
                with choice.changed.blocked():
                    choice.value = value
        if self.hover.isChecked() != self.controller.hover.on:
            # By its key, or because this machine is too slow.
            self.hover.setChecked(self.controller.hover.on)
        if self.image_choice.value != self.workspace.image:
            self._refresh_choices()
        elif self._target_choice() != self.labels_choice.value:
            self._refresh_labels()

    def _refresh_candidates(self) -> None:
        workspace = self.workspace
        shown = workspace.shown
        if shown is None or len(workspace.candidates) < 2 or not shown.thumbnails:
            self.candidates.clear()
        else:
            self.candidates.show_candidates(
                shown.thumbnails,
                [candidate.score for candidate in workspace.candidates],
                workspace.chosen_candidate,
                shown.predictions[0].best_index,
            )

    def _refresh_classes(self) -> None:
        """Show classes and clean-up, with the ellipse in the preview."""
        state = self.workspace.session.state
        counts = Counter(item.class_id for item in state.objects)
        self.classes.show_classes(state.classes, state.current_class, counts)
        if self.cleanup.value != state.cleanup:
            self.cleanup.value = state.cleanup
        text, image, shown = '', self.workspace.image, self.workspace.shown
        if state.cleanup.snap == 'ellipse' and image is not None and shown is not None:
            masks = shown.masks(self.workspace.chosen_candidate, state.cleanup)
            # The dock is refreshed several times a click; the mask changes once.
            if masks[0] is not self._fitted[0]:
                self._fitted = masks[0], fit_ellipse(masks[0])
            ellipse = self._fitted[1]
            if ellipse is not None:
                text = describe_ellipse(ellipse, *pixel_size_of(image))
        self.cleanup.show_ellipse(text)

    def _refresh_engine(self) -> None:
        """Show the model, its times and memory."""
        flow = self.controller.flow
        if flow.mapping is not None:
            described = flow.mapping.describe()
            self.intensity_choice.tooltip = f'The model sees {described}'
        engine = flow.engine
        if engine is not None:
            self.status.show_engine(engine.model, engine.device)
            self.status.show_times(engine.encode_ms, flow.decode_ms)
            self.status.show_memory(engine.frames, engine.nbytes)


def _folded(title: str, layout: Any) -> QCollapsible:
    inner = QWidget()
    inner.setLayout(layout)
    folded = folded_section(title)
    folded.addWidget(inner)
    folded.collapse(animate=False)
    return folded
