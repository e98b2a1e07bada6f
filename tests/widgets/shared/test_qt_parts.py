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
