"""Earlier sessions of the image: which there are, and what to do with one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QComboBox, QGridLayout, QLabel, QPushButton, QWidget

from napari_kdsam.widgets.shared.qt_parts import modest_choice, plain_button

if TYPE_CHECKING:
    from napari_kdsam.widgets.annotator.autosave import Offer
    from napari_kdsam.widgets.annotator.controller import AnnotationController


class OfferBar(QWidget):
    """Offer earlier work on the image, hidden while there is none.

    Parameters
    ----------
    controller : AnnotationController
    """

    def __init__(self, controller: AnnotationController) -> None:
        super().__init__()
        self._autosave = controller.autosave
        self._shown: tuple[Offer, ...] = ()
        self.text = QLabel()
        self.text.setWordWrap(True)
        self.choice = QComboBox()
        self.choice.setToolTip('The earlier session to restore or delete')
        modest_choice(self.choice)
        self.restore = self._button(
            'Restore',
            'Bring the objects and prompts back, as one step you can undo',
            lambda: controller.restore_session(self._place),
        )
        self.delete = self._button(
            'Delete',
            'Delete this earlier work when the image is left',
            lambda: controller.delete_session(self._place),
        )
        self.undelete = self._button(
            'Undo delete', 'Offer the deleted work again', controller.undelete_sessions
        )
        self.later = self._button(
            'Not now', 'Keep it for another time', controller.hide_sessions
        )
        self.buttons = [self.restore, self.delete, self.undelete, self.later]
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 6)
        grid.addWidget(self.text, 0, 0, 1, len(self.buttons))
        grid.addWidget(self.choice, 1, 0, 1, len(self.buttons))
        for column, button in enumerate(self.buttons):
            grid.addWidget(button, 2, column)
        self.hide()

    def refresh(self) -> None:
        """Show what there is now."""
        offers, deleted = self._autosave.offers, self._autosave.deleted
        if offers != self._shown:
            self._shown = offers
            self.choice.clear()
            self.choice.addItems([f'{one.when}: {one.content}' for one in offers])
        self.choice.setVisible(len(offers) > 1)
        self.restore.setVisible(bool(offers))
        self.delete.setVisible(bool(offers))
        self.undelete.setVisible(bool(deleted))
        self.text.setText(_describe(offers, deleted))
        self.setVisible(bool(offers or deleted))

    @property
    def _place(self) -> int:
        return max(0, self.choice.currentIndex())

    @staticmethod
    def _button(text: str, help_text: str, act: Callable[[], object]) -> QPushButton:
        button = plain_button(text, help_text)
        button.clicked.connect(lambda _: act())
        return button


def _describe(offers: tuple[Offer, ...], deleted: tuple[Offer, ...]) -> str:
    if len(offers) > 1:
        return f'Earlier work on this image, {len(offers)} sessions:'
    if offers:
        return f'Earlier work on this image: {offers[0].content} ({offers[0].when}).'
    if deleted:
        return f'Earlier work is deleted when you leave the image ({deleted[0].when}).'
    return ''
