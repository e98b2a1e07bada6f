"""The choices of the batch widget, and which of them matter for a method."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from magicgui.widgets import CheckBox, ComboBox, FloatSpinBox, SpinBox
from psygnal import Signal
from qtpy.QtWidgets import (
    QComboBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_kdsam.inference.drift import DriftLimits
from napari_kdsam.model.registry import list_models
from napari_kdsam.widgets.batch.labels_sink import batch_labels_of, made_by_batch
from napari_kdsam.widgets.batch.prompts import (
    point_layers,
    segmentable_images,
    shape_layers,
)
from napari_kdsam.widgets.batch.setup import BatchMethod, Choices
from napari_kdsam.widgets.preferences import OVERLAPS, Preferences
from napari_kdsam.widgets.shared.labels_writer import labels_fitting
from napari_kdsam.widgets.shared.qt_parts import folded_section, modest_choice
from napari_kdsam.widgets.shared.transforms import spatial_shape

if TYPE_CHECKING:
    from napari.layers import Image, Labels
    from napari.viewer import Viewer

_SELECTED = 'Selected image layers'
_NEW_LABELS = 'New labels layer'
_BATCH_LABELS = "Earlier batch's, or new"
_AGAIN = (
    'Labels of an earlier batch are done again; frames that were changed or accepted '
    'since stay as they are.'
)
_AGAIN_OVERWRITING = (
    'Labels of an earlier batch are done again, and so are frames that were changed or '
    'accepted since.'
)
# There is nobody to ask while a batch runs.
_OVERLAPS = {w: v == 'overwrite' for w, v in OVERLAPS.items() if v != 'ask'}
_MOST_LABELS = 1_000_000
_DEFAULTS = DriftLimits()


class BatchChoices(QWidget):
    """What to segment, from which prompts, and where to.

    Attributes
    ----------
    changed : psygnal.Signal
        Emitted when the user chose something.
    """

    changed = Signal()

    def __init__(self, viewer: Viewer, preferences: Preferences) -> None:
        super().__init__()
        self.viewer = viewer
        self._device = preferences.device
        self._fields: dict[Any, tuple[QWidget, ...]] = {}
        self._shown_for: Any = None
        self._build(preferences)
        self._lay_out()
        self.refresh_layers()

    def _build(self, preferences: Preferences) -> None:
        self.image = ComboBox(choices=lambda _: self._image_choices(), nullable=True)
        self.method = ComboBox(
            choices=[(m.value, m) for m in BatchMethod if m.available]
        )
        self.points = ComboBox(
            choices=lambda _: point_layers(self.viewer), nullable=True
        )
        self.shapes = ComboBox(
            choices=lambda _: shape_layers(self.viewer), nullable=True
        )
        self.each_point = CheckBox(text='Each point is an object')
        self.keys = ComboBox(choices=lambda _: self._labels(), nullable=True)
        self.first = SpinBox(max=0)
        self.last = SpinBox(max=0)
        self.second_look = CheckBox(
            text='Second look at small objects', value=preferences.second_look
        )
        self.model = ComboBox(choices=_models(preferences.first_model))
        self.model.value = preferences.first_model
        self.output = ComboBox(choices=lambda _: [_NEW_LABELS, *self._outputs()])
        self.again = QLabel()
        self.again.setWordWrap(True)
        self.overlap = ComboBox(choices=list(_OVERLAPS.items()))
        self.overlap.value = preferences.overlap == 'overwrite'
        self.first_label = SpinBox(value=1, min=1, max=_MOST_LABELS)
        self.least_overlap = FloatSpinBox(
            value=_DEFAULTS.overlap, min=0, max=1, step=0.05
        )
        self.area_ratio = FloatSpinBox(
            value=_DEFAULTS.area_ratio, min=1.05, max=100, step=0.1
        )
        self.key_area_ratio = FloatSpinBox(
            value=_DEFAULTS.key_area_ratio, min=1.05, max=100, step=0.1
        )
        self.least_score = FloatSpinBox(value=_DEFAULTS.score, min=0, max=1, step=0.05)
        self.least_similarity = FloatSpinBox(
            value=_DEFAULTS.similarity, min=-1, max=1, step=0.02
        )
        self.least_continuity = FloatSpinBox(
            value=_DEFAULTS.continuity, min=-1, max=1, step=0.02
        )
        self.least_agreement = FloatSpinBox(
            value=_DEFAULTS.agreement, min=0, max=1, step=0.05
        )
        self.image.changed.connect(self._on_image)
        self.method.changed.connect(self._on_method)
        self.output.changed.connect(self._say_again)
        self.overlap.changed.connect(self._say_again)

    def _lay_out(self) -> None:
        form = QFormLayout()
        frames = QWidget()
        row = QHBoxLayout(frames)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(2)
        row.addWidget(self.first.native, stretch=1)
        row.addWidget(QLabel('to'))
        row.addWidget(self.last.native, stretch=1)
        for spin in (self.first, self.last):
            _narrow(spin.native)
        self.first.tooltip = self.last.tooltip = 'Both frames are included'
        self._add(form, 'Images', self.image, 'The image layer, or several at once')
        self._fields['frames'] = _row(form, 'Frames', frames)
        self._add(form, 'Prompts', self.method, 'What says where the objects are')
        self._add(form, 'Points', self.points, 'Clicks inside (or outside) objects')
        self._add(form, 'Shapes', self.shapes, 'Boxes, lines and outlines')
        self._add(
            form, '', self.each_point, 'Otherwise all points together are one object'
        )
        self._add(form, 'Follow', self.keys, 'The labels that are right already')
        self._add(
            form,
            '',
            self.second_look,
            'See small objects of large frames again at full resolution',
        )
        self._add(form, 'Model', self.model, 'Labels stay when the model changes')
        self._add(form, 'Labels', self.output, 'Where the objects go')
        form.addRow(self.again)
        self._add(
            form, 'Overlap', self.overlap, 'What happens to labels under a new mask'
        )
        self._add(
            form, 'First label', self.first_label, 'Of the first object of a frame'
        )
        limits = QWidget()
        limits_form = QFormLayout(limits)
        _tidy(form)
        _tidy(limits_form)
        self._add(
            limits_form,
            'Least overlap',
            self.least_overlap,
            'Of an object with itself on the frame before (IoU)',
        )
        self._add(
            limits_form,
            'Area, times',
            self.area_ratio,
            'How much an object may grow or shrink from frame to frame',
        )
        self._add(
            limits_form,
            'Key area, times',
            self.key_area_ratio,
            'How much larger or smaller an object may be than on the key frame',
        )
        self._add(
            limits_form,
            'Least score',
            self.least_score,
            "The model's own estimate of its mask (predicted IoU)",
        )
        self._add(
            limits_form,
            'Least similarity',
            self.least_similarity,
            'Of what is inside the mask to what it was on the key frame',
        )
        self._add(
            limits_form,
            'Least continuity',
            self.least_continuity,
            'Of an object and what is around it with the frame before; a cut breaks it',
        )
        self._add(
            limits_form,
            'Least agreement',
            self.least_agreement,
            'Of an object with itself, followed from two key frames (IoU)',
        )
        self.limits = folded_section('When to stop and ask')
        self.limits.addWidget(limits)
        self.limits.collapse(animate=False)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addLayout(form)
        column.addWidget(self.limits)

    def _add(self, form: QFormLayout, title: str, field: Any, help_text: str) -> None:
        field.tooltip = help_text
        _narrow(field.native)
        self._fields[field] = _row(form, title, field.native)

    def refresh_layers(self, *_: Any) -> None:
        """Offer the layers there are now; what was chosen stays chosen."""
        images = segmentable_images(self.viewer)
        # What is seen is what is meant.
        self._offer(self.image, sorted(images, key=lambda image: bool(image.visible)))
        self._offer(self.points, point_layers(self.viewer))
        self._offer(self.shapes, shape_layers(self.viewer))
        self._refresh_image()

    def _offer(self, choice: ComboBox, likely: list[Any]) -> None:
        before = choice.value
        with choice.changed.blocked():
            choice.reset_choices()
            # A layer that was renamed is another choice for Qt.
            if before is not None and before in choice.choices:
                choice.value = before
            else:
                choice.value = likely[-1] if likely else None

    def _refresh_image(self) -> None:
        image = self._single_image()
        count = 1
        if image is not None:
            for size in spatial_shape(image)[:-2]:
                count *= size
        self.first.max = self.last.max = max(count - 1, 0)
        before = self.output.value
        if self.image.value is not self._shown_for:
            self._shown_for = self.image.value
            self.first.value, self.last.value = 0, max(count - 1, 0)
            before = None
        self._offer(self.keys, self._labels())
        with self.output.changed.blocked():
            self.output.reset_choices()
            known = before in self.output.choices
            self.output.value = before if known else self._usual_output()
        self._say_again()
        self._show_fields(count > 1)

    def _outputs(self) -> list[Any]:
        """Where the objects may go, besides a new layer."""
        if self.image.value != _SELECTED:
            return self._labels()
        images = segmentable_images(self.viewer)
        made = any(batch_labels_of(image, self.viewer) for image in images)
        return [_BATCH_LABELS] if made else []

    def _usual_output(self) -> Any:
        """What an earlier batch has made for the image, if it has."""
        image = self._single_image()
        if image is None:
            return self.output.choices[-1]
        return batch_labels_of(image, self.viewer) or _NEW_LABELS

    def _say_again(self, _: Any = None) -> None:
        output = self.output.value
        layer = None if output in (_NEW_LABELS, _BATCH_LABELS) else output
        again = output == _BATCH_LABELS or (layer is not None and made_by_batch(layer))
        self.again.setText(_AGAIN_OVERWRITING if self.overlap.value else _AGAIN)
        self.again.setVisible(again)

    def _show_fields(self, stack: bool) -> None:
        method = self.method.value
        for field, shown in (
            ('frames', stack),
            (self.points, method.prompted),
            (self.shapes, method.prompted),
            (self.each_point, method.prompted),
            (self.keys, method.labelled),
            (self.second_look, method.looks_again),
            (self.first_label, not method.labelled),
        ):
            for widget in self._fields[field]:
                widget.setVisible(shown)
        self.limits.setVisible(method.follows)

    def _on_image(self, _: Any) -> None:
        self._refresh_image()
        self.changed.emit()

    def _on_method(self, _: Any) -> None:
        self._refresh_image()
        self.changed.emit()

    def use_outputs(self, layers: list[Labels]) -> None:
        """Offer the layers of this run for the next one."""
        self.refresh_layers()
        usual = layers[0] if self._single_image() else _BATCH_LABELS
        if usual in self.output.choices:
            self.output.value = usual

    @property
    def images(self) -> list[Image]:
        """The chosen image layers, from bottom to top."""
        if self.image.value == _SELECTED:
            selected = self.viewer.layers.selection
            return [i for i in segmentable_images(self.viewer) if i in selected]
        image = self._single_image()
        return [] if image is None else [image]

    def read(self) -> Choices:
        """What is chosen now.

        Raises
        ------
        PromptError
            If a limit of drift is out of its range.
        """
        output = self.output.value
        return Choices(
            images=self.images,
            method=self.method.value,
            model=self.model.value,
            device=self._device,
            limits=DriftLimits(
                overlap=self.least_overlap.value,
                area_ratio=self.area_ratio.value,
                key_area_ratio=self.key_area_ratio.value,
                score=self.least_score.value,
                similarity=self.least_similarity.value,
                continuity=self.least_continuity.value,
                agreement=self.least_agreement.value,
            ),
            points=self.points.value,
            shapes=self.shapes.value,
            each_point=self.each_point.value,
            keys=self.keys.value,
            first=self.first.value,
            last=self.last.value,
            output=None if output in (_NEW_LABELS, _BATCH_LABELS) else output,
            again=output == _BATCH_LABELS,
            overwrite=self.overlap.value,
            first_label=self.first_label.value,
            second_look=self.second_look.value,
        )

    def _single_image(self) -> Image | None:
        value = self.image.value
        return None if value == _SELECTED else value

    def _image_choices(self) -> list[Any]:
        images: list[Any] = segmentable_images(self.viewer)
        return [*images, _SELECTED] if len(images) > 1 else images

    def _labels(self) -> list[Labels]:
        image = self._single_image()
        return [] if image is None else labels_fitting(image, self.viewer)


def _models(preferred: str) -> list[str]:
    known = [entry.name for entry in list_models() if entry.available]
    return known if preferred in known else [*known, preferred]


def _narrow(field: QWidget) -> None:
    """Let a field be narrower than its longest text, so that the dock can be, too."""
    field.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    if isinstance(field, QComboBox):
        modest_choice(field)


def _tidy(form: QFormLayout) -> None:
    form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
    form.setContentsMargins(0, 0, 0, 0)
    form.setHorizontalSpacing(4)


def _row(form: QFormLayout, title: str, field: QWidget) -> tuple[QWidget, ...]:
    if not title:
        form.addRow(field)
        return (field,)
    label = QLabel(title)
    form.addRow(label, field)
    return label, field
