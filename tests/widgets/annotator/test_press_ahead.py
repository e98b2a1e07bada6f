"""Masks asked for while the mouse button is down, before the point is added."""

from __future__ import annotations

from typing import Any

import numpy as np


class Mouse:
    """The left button over the canvas of a session."""

    def __init__(self, session) -> None:
        from qtpy.QtCore import Qt
        from qtpy.QtTest import QTest

        self._test, self._left = QTest, Qt.MouseButton.LeftButton
        self._canvas = session.show_canvas()
        self._session = session
        # Asking the canvas moves the mouse, which is no good while it is pressed.
        self._corner, self._far = self._canvas.at(0, 0), self._canvas.at(100, 100)
        session.controller.tools.use_points()

    def _place(self, row: float, column: float) -> Any:
        span = self._far - self._corner
        return self._corner + type(span)(
            round(span.x() * column / 100), round(span.y() * row / 100)
        )

    def press(self, row: float, column: float) -> None:
        place = self._place(row, column)
        self._canvas.move(place)
        self._test.mousePress(self._canvas.native, self._left, pos=place)

    def release(self, row: float, column: float) -> None:
        place = self._place(row, column)
        self._test.mouseRelease(self._canvas.native, self._left, pos=place)
        self._session.settle()

    def move(self, row: float, column: float) -> None:
        self._canvas.move(self._place(row, column))


def wait_for_mask(session, row: int, column: int, value: int = 1) -> None:
    session.qtbot.waitUntil(
        lambda: session.preview[row, column] == value, timeout=10_000
    )


def test_the_mask_is_shown_before_the_button_is_let_go(annotate):
    session = annotate()
    mouse = Mouse(session)
    mouse.press(60, 60)
    wait_for_mask(session, 60, 60)
    assert session.workspace.draft.empty
    assert len(session.points.data) == 0
    mouse.release(60, 60)
    session.wait_for('ready')
    assert len(session.workspace.draft.points) == 1
    assert session.workspace.shown is not None
    assert session.preview[60, 60] == 1
    assert session.model.decoded == 1, 'the same question was put twice'


def test_a_quick_click_is_one_prediction_too(annotate):
    session = annotate()
    mouse = Mouse(session)
    mouse.press(60, 60)
    mouse.release(60, 60)
    session.wait_for('ready')
    wait_for_mask(session, 60, 60)
    assert session.model.decoded == 1
    session.controller.objects.commit()
    assert session.labels[60, 60] == 1


def test_a_second_point_is_asked_for_together_with_the_first(annotate):
    session = annotate()
    mouse = Mouse(session)
    session.click(60, 60)
    session.controller.choose_candidate(2)
    mouse.press(60, 150)
    wait_for_mask(session, 60, 150)
    assert session.preview[60, 60] == 1
    mouse.release(60, 150)
    session.wait_for('ready')
    assert len(session.workspace.draft.points) == 2
    assert session.workspace.draft.candidate is None
    assert session.model.decoded == 2


def test_letting_go_elsewhere_brings_the_mask_of_the_prompts_back(annotate):
    session = annotate()
    mouse = Mouse(session)
    session.click(60, 60)
    mouse.press(60, 150)
    wait_for_mask(session, 60, 150)
    mouse.move(60, 100)
    mouse.release(60, 100)
    wait_for_mask(session, 60, 150, 0)
    assert len(session.workspace.draft.points) == 1
    assert session.preview[60, 60] == 1


def test_letting_go_elsewhere_without_prompts_leaves_no_mask(annotate):
    session = annotate()
    mouse = Mouse(session)
    mouse.press(60, 60)
    wait_for_mask(session, 60, 60)
    mouse.move(60, 120)
    mouse.release(60, 120)
    wait_for_mask(session, 60, 60, 0)
    assert not session.preview.any()
    assert session.workspace.draft.empty
    session.controller.objects.commit()
    assert session.workspace.target_layer is None


def test_pressing_outside_the_image_asks_for_nothing(annotate):
    session = annotate()
    mouse = Mouse(session)
    mouse.press(-8, -8)
    mouse.release(-8, -8)
    session.qtbot.wait(100)
    assert session.model.decoded == 0


def test_pressing_with_a_point_outside_the_object_only_asks_for_nothing(annotate):
    session = annotate()
    mouse = Mouse(session)
    session.controller.tools.toggle_polarity()
    mouse.press(60, 60)
    mouse.release(60, 60)
    session.qtbot.wait(100)
    assert [p.positive for p in session.workspace.draft.points] == [False]
    assert session.model.decoded == 0


def test_pressing_while_a_commit_waits_leaves_that_commit_its_mask(annotate):
    session = annotate()
    mouse = Mouse(session)
    session.model.encode_seconds = 0.3
    session.points.add(np.array([60, 60]))
    session.controller.objects.commit()
    mouse.press(60, 150)
    session.qtbot.waitUntil(
        lambda: session.workspace.target_layer is not None, timeout=10_000
    )
    mouse.release(60, 150)
    session.wait_for('ready')
    assert session.labels[60, 60] == 1
    assert session.labels[60, 150] == 0
    assert session.preview[60, 150] == 1


def test_changing_the_frame_with_the_button_down_shows_nothing_of_the_other(annotate):
    stack = np.random.default_rng(3).integers(0, 255, (3, 120, 200), np.uint8)
    session = annotate(stack)
    session.viewer.dims.set_current_step(0, 0)
    mouse = Mouse(session)
    mouse.press(60, 60)
    session.qtbot.waitUntil(lambda: bool(session.preview.any()), timeout=10_000)
    session.viewer.dims.set_current_step(0, 1)
    session.settle()
    assert not session.preview.any()
    assert session.workspace.session.state.draft((0,)).empty
