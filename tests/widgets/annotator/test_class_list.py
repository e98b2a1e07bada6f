"""The list of object classes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from qtpy.QtCore import Qt

LEFT = Qt.MouseButton.LeftButton
SWATCH, KEY, NAME, COUNT = range(4)


def classes(*names: str):
    from napari_kdsam.annotation.state import ObjectClass

    return tuple(
        ObjectClass(index + 1, name, f'#0000{index + 16:02x}')
        for index, name in enumerate(names)
    )


class Owner:
    """Takes up what the list offers, as the annotator does."""

    def __init__(self, widget) -> None:
        self.widget = widget
        self.classes = classes('object', 'polyp', 'instrument')
        self.current = 1
        self.counts = {1: 12, 2: 1}
        widget.chosen.connect(self.choose)
        widget.classes_changed.connect(self.change)
        self.show()

    def show(self) -> None:
        self.widget.show_classes(self.classes, self.current, self.counts)

    def choose(self, class_id: int) -> None:
        self.current = class_id
        self.show()

    def change(self, changed) -> None:
        self.classes = changed
        if self.current not in {item.id for item in changed}:
            self.current = changed[0].id
        self.show()


@pytest.fixture
def listed(qtbot):
    from napari_kdsam.widgets.annotator.class_list import ClassList

    widget = ClassList()
    qtbot.addWidget(widget)
    widget.resize(280, 120)
    owner = Owner(widget)
    widget.show()
    qtbot.waitExposed(widget)
    widget.activateWindow()
    return owner


def cell(listed, row: int, column: int) -> str:
    return listed.widget.rows.topLevelItem(row).text(column)


def click(qtbot, listed, row: int, column: int, double: bool = False) -> None:
    rows = listed.widget.rows
    item = rows.topLevelItem(row)
    place = rows.visualItemRect(item).center()
    place.setX(rows.columnViewportPosition(column) + rows.columnWidth(column) // 2)
    qtbot.mouseClick(rows.viewport(), LEFT, pos=place)
    if double:
        qtbot.mouseDClick(rows.viewport(), LEFT, pos=place)


def editor_of(listed, qtbot):
    from qtpy.QtWidgets import QLineEdit

    rows = listed.widget.rows
    qtbot.waitUntil(lambda: rows.findChild(QLineEdit) is not None)
    return rows.findChild(QLineEdit)


def type_name(qtbot, listed, text: str) -> None:
    from qtpy.QtWidgets import QLineEdit

    editor = editor_of(listed, qtbot)
    qtbot.keyClicks(editor, text)
    qtbot.keyClick(editor, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: listed.widget.rows.findChild(QLineEdit) is None)


def rename(qtbot, listed, row: int, text: str) -> None:
    click(qtbot, listed, row, NAME, double=True)
    editor_of(listed, qtbot).selectAll()
    type_name(qtbot, listed, text)


def names(listed) -> list[str]:
    return [item.name for item in listed.classes]


def test_each_class_has_a_swatch_its_key_its_name_and_its_number_of_objects(listed):
    from napari_kdsam.widgets.shared.shortcuts import key_text

    shown = [[cell(listed, row, column) for column in range(1, 4)] for row in range(3)]
    assert shown == [
        [key_text('Alt-1'), 'object', '12'],
        [key_text('Alt-2'), 'polyp', '1'],
        [key_text('Alt-3'), 'instrument', '0'],
    ]
    icon = listed.widget.rows.topLevelItem(2).icon(SWATCH)
    assert icon.pixmap(14, 14).toImage().pixelColor(7, 7).name() == '#000012'


def test_keys_that_the_user_has_changed_are_shown(qtbot):
    from napari_kdsam.widgets.annotator.class_list import ClassList

    widget = ClassList(keys=('F5', ''))
    qtbot.addWidget(widget)
    owner = Owner(widget)
    assert [cell(owner, row, KEY) for row in range(3)] == ['F5', '', '']


def test_the_current_class_is_marked_by_more_than_colour(listed):
    rows = [listed.widget.rows.topLevelItem(row) for row in range(3)]
    assert [row.font(NAME).bold() for row in rows] == [True, False, False]
    assert rows[0].background(NAME).color().alpha() > 0
    assert rows[1].background(NAME).color().alpha() == 0


@pytest.mark.parametrize('column', [KEY, NAME, COUNT])
def test_a_click_chooses_a_class(listed, qtbot, column):
    click(qtbot, listed, 2, column)
    assert listed.current == 3
    assert listed.widget.rows.topLevelItem(2).font(NAME).bold()


def test_a_click_on_the_current_class_changes_nothing(listed, qtbot):
    with qtbot.assertNotEmitted(listed.widget.chosen):
        click(qtbot, listed, 0, NAME)


def test_a_double_click_renames_in_place(listed, qtbot):
    rename(qtbot, listed, 1, ' sessile  polyp ')
    assert names(listed) == ['object', 'sessile polyp', 'instrument']
    assert cell(listed, 1, NAME) == 'sessile polyp'


@pytest.mark.parametrize('text', [' ', 'object', 'polyp'])
def test_an_empty_a_taken_and_an_equal_name_change_nothing(listed, qtbot, text):
    with qtbot.assertNotEmitted(listed.widget.classes_changed):
        rename(qtbot, listed, 1, text)
    assert cell(listed, 1, NAME) == 'polyp'


def test_what_is_typed_stays_while_the_list_is_shown_again(listed, qtbot):
    click(qtbot, listed, 1, NAME, double=True)
    editor = editor_of(listed, qtbot)
    qtbot.keyClicks(editor, 'flat po')
    listed.counts = {1: 13, 2: 5}
    listed.show()
    assert editor_of(listed, qtbot).text() == 'flat po'
    type_name(qtbot, listed, 'lyp')
    assert names(listed)[1] == 'flat polyp'
    assert cell(listed, 1, COUNT) == '5'


def test_after_renaming_the_keyboard_is_back_where_it_was(listed, qtbot):
    from qtpy.QtWidgets import QPushButton

    canvas = QPushButton(listed.widget)
    canvas.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
    canvas.show()
    canvas.setFocus()
    qtbot.waitUntil(canvas.hasFocus)
    rename(qtbot, listed, 1, 'adenoma')
    qtbot.waitUntil(canvas.hasFocus)
    click(qtbot, listed, 0, NAME, double=True)
    qtbot.keyClick(editor_of(listed, qtbot), Qt.Key.Key_Escape)
    qtbot.waitUntil(canvas.hasFocus)


def test_clicks_leave_the_keyboard_where_it_was(listed, qtbot):
    from qtpy.QtWidgets import QPushButton

    canvas = QPushButton(listed.widget)
    canvas.show()
    canvas.setFocus()
    qtbot.waitUntil(canvas.hasFocus)
    click(qtbot, listed, 2, NAME)
    qtbot.mouseClick(listed.widget.remove_button, LEFT)
    assert canvas.hasFocus()


def test_the_button_adds_a_class_of_another_colour_and_asks_for_its_name(listed, qtbot):
    qtbot.mouseClick(listed.widget.add_button, LEFT)
    assert len(listed.classes) == 4
    added = listed.classes[-1]
    assert added.id == 4
    assert added.color not in {item.color for item in listed.classes[:-1]}
    assert listed.current == 1
    assert editor_of(listed, qtbot).text() == added.name
    type_name(qtbot, listed, 'bubble')
    assert names(listed) == ['object', 'polyp', 'instrument', 'bubble']


def test_added_classes_have_ids_names_and_colours_of_their_own(listed, qtbot):
    listed.classes = classes('object', 'class 3')
    listed.show()
    for _ in range(8):
        listed.widget.add_button.click()
    for values in zip(*((c.id, c.name, c.color) for c in listed.classes), strict=True):
        assert len(set(values)) == len(listed.classes)


def test_a_class_without_objects_can_be_removed(listed, qtbot):
    listed.choose(3)
    assert listed.widget.remove_button.isEnabled()
    qtbot.mouseClick(listed.widget.remove_button, LEFT)
    assert names(listed) == ['object', 'polyp']
    assert listed.widget.rows.topLevelItemCount() == 2


def test_a_class_in_use_cannot_be_removed(listed, qtbot):
    listed.choose(2)
    with qtbot.assertNotEmitted(listed.widget.classes_changed):
        qtbot.mouseClick(listed.widget.remove_button, LEFT)
    assert '1 object' in listed.widget.remove_button.toolTip()
    listed.counts = {1: 12}
    listed.show()
    assert listed.widget.remove_button.isEnabled()


def test_the_only_class_cannot_be_removed(listed, qtbot):
    listed.classes, listed.counts = classes('object'), {}
    listed.show()
    with qtbot.assertNotEmitted(listed.widget.classes_changed):
        qtbot.mouseClick(listed.widget.remove_button, LEFT)


def dialogs():
    from qtpy.QtWidgets import QApplication, QColorDialog

    return [w for w in QApplication.topLevelWidgets() if isinstance(w, QColorDialog)]


def test_a_click_on_a_swatch_asks_for_another_colour(listed, qtbot):
    from qtpy.QtGui import QColor

    click(qtbot, listed, 1, SWATCH)
    (dialog,) = dialogs()
    assert listed.current == 1, 'the class was chosen, too'
    assert dialog.testOption(dialog.ColorDialogOption.DontUseNativeDialog)
    assert dialog.currentColor().name() == listed.classes[1].color
    dialog.setCurrentColor(QColor('#d55e00'))
    dialog.accept()
    assert listed.classes[1] == replace(classes('', 'polyp')[1], color='#d55e00')
    qtbot.waitUntil(lambda: not dialogs())


def test_a_cancelled_colour_or_that_of_a_removed_class_changes_nothing(listed, qtbot):
    click(qtbot, listed, 2, SWATCH)
    with qtbot.assertNotEmitted(listed.widget.classes_changed):
        dialogs()[0].reject()
    qtbot.waitUntil(lambda: not dialogs())
    click(qtbot, listed, 2, SWATCH)
    listed.classes = listed.classes[:2]
    listed.show()
    with qtbot.assertNotEmitted(listed.widget.classes_changed):
        dialogs()[0].accept()
    qtbot.waitUntil(lambda: not dialogs())


def test_at_most_five_rows_are_visible_and_the_current_one_is(listed, qtbot):
    rows = listed.widget.rows
    listed.classes = classes(*(f'class {n}' for n in range(1, 6)))
    listed.show()
    five = rows.height()
    assert rows.verticalScrollBar().maximum() == 0
    listed.classes = classes(*(f'class {n}' for n in range(1, 12)))
    listed.current = 11
    listed.show()
    qtbot.waitUntil(lambda: rows.verticalScrollBar().maximum() > 0)
    assert rows.height() == five
    shown = rows.viewport().rect()
    assert shown.contains(rows.visualItemRect(rows.topLevelItem(10)))
    assert cell(listed, 9, KEY) == ''


def test_a_long_name_does_not_widen_the_dock(listed):
    listed.classes = classes('object', 'a very long name ' * 10)
    listed.show()
    assert listed.widget.minimumSizeHint().width() < 250
    assert 'a very long name ' * 10 in listed.widget.rows.topLevelItem(1).toolTip(NAME)


@given(
    used=st.lists(
        st.integers(0, 2**24 - 1).map(lambda value: f'#{value:06x}'), max_size=13
    )
)
def test_a_new_colour_is_never_one_in_use(used):
    from napari_kdsam.annotation.classes import color_unlike

    assert color_unlike(used) not in used
