"""Small parts of docks."""

from __future__ import annotations


def test_the_arrow_of_a_section_is_seen_on_dark_and_on_light(qtbot):
    from napari_kdsam.widgets.shared.qt_parts import folded_section

    section = folded_section('Limits')
    qtbot.addWidget(section)
    for icon in (section.collapsedIcon(), section.expandedIcon()):
        picture = icon.pixmap(14, 14).toImage()
        drawn = [
            picture.pixelColor(x, y)
            for x in range(picture.width())
            for y in range(picture.height())
            if picture.pixelColor(x, y).alpha() > 128
        ]
        assert drawn
        assert all(64 < color.lightness() < 192 for color in drawn)
    section.expand(animate=False)
    assert 'transparent' in section.toggleButton().styleSheet()


def test_a_long_name_is_shortened_in_its_middle_and_whole_in_the_tooltip(qtbot):
    from qtpy.QtCore import QEvent, QPoint
    from qtpy.QtGui import QHelpEvent
    from qtpy.QtWidgets import QApplication, QComboBox, QToolTip

    from napari_kdsam.widgets.shared.qt_parts import modest_choice

    def shown(name):
        choice = QComboBox()
        qtbot.addWidget(choice)
        modest_choice(choice)
        choice.addItem(name)
        choice.setToolTip('Where commits go')
        choice.setFixedSize(160, 30)
        choice.show()
        return choice, choice.grab().toImage()

    image, picture = shown('9f86d081884c7d659a2feaa0c55ad015')
    labels, other = shown('9f86d081884c7d659a2feaa0c55ad015 labels')
    assert picture != other
    place = QPoint(5, 5)
    for choice, said in (
        (labels, '9f86d081884c7d659a2feaa0c55ad015 labels\nWhere commits go'),
        (shown('short')[0], 'Where commits go'),
    ):
        at = choice.mapToGlobal(place)
        QApplication.sendEvent(choice, QHelpEvent(QEvent.Type.ToolTip, place, at))
        assert QToolTip.text() == said


def test_what_is_scrolled_down_is_never_cut_at_its_side(qtbot):
    from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

    from napari_kdsam.widgets.shared.qt_parts import scrolling

    dock, content, label = QWidget(), QWidget(), QLabel('Inside')
    qtbot.addWidget(dock)
    QVBoxLayout(content).addWidget(label)
    content.setMinimumHeight(2000)
    scroll = scrolling(content, 60)
    QVBoxLayout(dock).addWidget(scroll)
    dock.resize(10, 200)
    dock.show()

    def is_whole():
        return scroll.viewport().width() >= content.minimumSizeHint().width()

    qtbot.waitUntil(is_whole)
    label.setText('0 of 20 frames done, and a few words more')
    qtbot.waitUntil(is_whole)
    assert not scroll.horizontalScrollBar().isVisible()
