"""The mask under the mouse: only looked at, and never of another place."""

from __future__ import annotations

import time

import numpy as np
import pytest
from annotator_window import Annotating
from fakes import Gate

from napari_kdsam.widgets.annotator.status import StatusKind


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(2).integers(0, 255, shape, np.uint8)


@pytest.fixture
def hovering(annotate):
    """An annotator in a window that is shown, with the preview on and the image ready."""
    session: Annotating = annotate(noise(120, 160))
    canvas = session.show_canvas()
    session.controller.hover.turn(True)
    session.qtbot.waitUntil(
        lambda: session.controller.flow.engine is not None, timeout=30_000
    )

    def hover(row: float, column: float) -> None:
        """Move there, and a little around, until there is a mask."""
        spot = canvas.at(row, column)

        def is_shown() -> bool:
            canvas.move(spot)
            canvas.move(spot.__class__(spot.x() + 1, spot.y()))
            # A machine that is too slow has turned it off.
            return bool(session.preview.any()) or not session.controller.hover.on

        session.qtbot.waitUntil(is_shown, timeout=30_000)

    return session, canvas, hover


def test_what_is_hovered_is_what_a_click_gives_and_is_never_committed(hovering):
    session, canvas, hover = hovering
    state = session.workspace.session.state
    hover(60, 80)
    assert session.workspace.shown is None
    assert session.workspace.session.state == state
    assert not session.controller.objects.commit()
    assert session.workspace.target_layer is None
    spot = canvas.at(60, 80)
    canvas.move(spot)
    session.viewer.mouse_over_canvas = True
    session.viewer.mouse_over_canvas = False
    assert not session.preview.any()
    hover(60, 80)
    shown = session.preview.copy()
    point = session.controller.hover._shown[2].points[0]
    session.click(point.row, point.column)
    np.testing.assert_array_equal(session.preview, shown)
    canvas.move(canvas.at(20, 20))
    np.testing.assert_array_equal(session.preview, shown)


def test_it_goes_with_the_mouse_the_tool_and_the_image(hovering):
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest

    session, canvas, hover = hovering
    hover(60, 80)
    canvas.move(canvas.at(20, 20))
    far = session.controller.hover._shown
    assert far is None or far[2].points[0].row < 40
    hover(60, 80)
    spot, away = canvas.at(60, 80), canvas.at(20, 20)
    hover(60, 80)
    QTest.mousePress(canvas.native, Qt.MouseButton.LeftButton, pos=spot)
    assert session.controller.hover._shown is None
    QTest.mouseMove(canvas.native, away)
    QTest.mouseRelease(canvas.native, Qt.MouseButton.LeftButton, pos=away)
    session.settle()
    session.controller.clear()
    for hinder, free in (
        (
            lambda: session.controller.tools.set_polarity(False),
            lambda: session.controller.tools.set_polarity(True),
        ),
        (
            lambda: setattr(session.workspace.image, 'visible', False),
            lambda: setattr(session.workspace.image, 'visible', True),
        ),
        (
            lambda: setattr(session.viewer.dims, 'ndisplay', 3),
            lambda: setattr(session.viewer.dims, 'ndisplay', 2),
        ),
    ):
        hover(60, 80)
        hinder()
        canvas.move(canvas.at(60, 80) if session.viewer.dims.ndisplay == 2 else spot)
        session.qtbot.wait(250)
        assert not session.preview.any()
        free()
        session.settle()


def test_the_pointer_shows_whether_the_next_click_is_inside(hovering):
    session, canvas, _ = hovering
    pointer, tools = session.controller.pointer, session.controller.tools
    pointer._show(canvas.native)
    inside = canvas.native.cursor().pixmap().toImage()
    assert pointer.shown is True
    tools.toggle_polarity()
    assert pointer.shown is False
    outside = canvas.native.cursor().pixmap().toImage()
    assert outside != inside
    tools.use_box()
    assert pointer.shown is None
    assert canvas.native.cursor().pixmap().isNull()


def test_an_answer_for_a_place_that_was_left_is_not_shown(hovering, monkeypatch):
    session, canvas, hover = hovering
    hover(60, 80)
    gate = Gate()
    monkeypatch.setattr(session.model, 'decode', gate.before(session.model.decode))
    decoded = session.model.decoded
    there, here = canvas.at(60, 140), canvas.at(30, 30)
    canvas.move(there)
    session.qtbot.waitUntil(gate.reached.is_set, timeout=30_000)
    for _ in range(20):
        canvas.move(here)
        canvas.move(here.__class__(here.x() + 1, here.y()))
    assert not session.preview.any()
    gate.open()
    session.qtbot.waitUntil(lambda: bool(session.preview.any()), timeout=30_000)
    assert session.preview[30, 30]
    assert not session.preview[60, 140]
    assert session.model.decoded == decoded + 2


def test_a_slow_machine_turns_it_off_and_says_so(hovering, monkeypatch):
    session, canvas, hover = hovering
    decode = session.model.decode

    def slowly(*values, **named):
        time.sleep(0.15)
        return decode(*values, **named)

    monkeypatch.setattr(session.model, 'decode', slowly)
    for row in (20, 40, 60, 80, 100, 30, 50):
        if not session.controller.hover.on:
            break
        hover(row, 80)
    assert not session.controller.hover.on
    assert not session.widget.hover.isChecked()
    assert not session.preview.any()
    assert 'hover preview is off' in session.workspace.status.text
    session.click(60, 80)
    assert session.workspace.status.kind is StatusKind.READY
