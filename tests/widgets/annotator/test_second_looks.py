"""In the viewer a second look replaces the first mask, if that is still in view."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fakes import RADIUS, LookingModel

from napari_kdsam.core.intensity import IntensityMapping
from napari_kdsam.core.prompts import Prompt
from napari_kdsam.widgets.shared.requests import Request

SIDE = 1000
# Of the fake model's middle disc on the whole image, and in a window twice as wide.
FIRST = RADIUS * SIDE / 256
SECOND = RADIUS * 4 * FIRST / 256


@pytest.fixture
def fake_model() -> LookingModel:
    return LookingModel()


@pytest.fixture
def session(annotate, fake_model):
    """An annotator on a stack of two large frames, with the gate closed."""
    fake_model.gate.close()
    rng = np.random.default_rng(0)
    opened = annotate(rng.integers(0, 255, (2, SIDE, SIDE), np.uint8))
    # The neighbour would be encoded, too.
    opened.controller.frames.prefetching = False
    yield opened
    fake_model.gate.open()


def disc(radius: float) -> Any:
    return pytest.approx(np.pi * radius**2, rel=0.1)


def shown(session: Any) -> int:
    return int((session.preview != 0).sum())


def wait_until(qtbot: Any, happened: Any) -> None:
    qtbot.waitUntil(happened, timeout=30_000)


def wait_for_second(session: Any) -> None:
    session.model.gate.open()
    wait_until(session.qtbot, lambda: shown(session) == disc(SECOND))


def test_the_first_mask_is_shown_at_once_and_gives_way_to_the_better_one(session):
    session.click(0, 500, 500)
    assert session.model.gate.reached.wait(10)
    assert shown(session) == disc(FIRST)
    stages, controller = [], session.controller
    controller.workspace.updated.connect(lambda: stages.append(session.stage()))
    wait_for_second(session)
    assert set(stages) == {'ready'}, 'nothing else is shown in between'
    assert controller.workspace.chosen_candidate == 1
    assert [c.close_up is not None for c in controller.workspace.candidates] == [
        False,
        True,
        False,
    ]
    assert session.widget.candidates.buttons[1].text().startswith('★')
    session.widget.action_bar.commit.click()
    assert (session.labels != 0).sum() == disc(SECOND)


def test_a_commit_before_the_second_look_commits_what_is_seen(session):
    session.click(0, 500, 500)
    assert session.model.gate.reached.wait(10)
    session.widget.action_bar.commit.click()
    assert (session.labels != 0).sum() == disc(FIRST)
    session.model.gate.open()
    session.qtbot.wait(300)
    assert (session.labels != 0).sum() == disc(FIRST)
    assert shown(session) == 0


def test_what_is_committed_is_what_the_session_replays(session):
    session.click(0, 500, 500)
    wait_for_second(session)
    seen = session.preview[0] != 0
    session.widget.action_bar.commit.click()
    (item,) = session.workspace.session.state.objects
    replayed = np.zeros((SIDE, SIDE), bool)
    replayed[item.region.slices] = item.region.mask()
    np.testing.assert_array_equal(replayed, seen)
    np.testing.assert_array_equal(session.labels[0] != 0, seen)


def test_undoing_a_commit_brings_the_better_mask_back(session):
    session.click(0, 500, 500)
    wait_for_second(session)
    session.widget.action_bar.commit.click()
    session.widget.action_bar.undo.click()
    session.wait_for('ready')
    wait_for_second(session)
    assert session.model.encoded == 2, 'frame and window are known'


def test_a_second_look_at_an_earlier_prompt_is_dropped(session):
    session.click(0, 500, 500)
    assert session.model.gate.reached.wait(10)
    session.points.add(np.array((0.0, 500.0, 520.0)))
    session.model.gate.open()
    wait_until(
        session.qtbot,
        lambda: session.stage() == 'ready' and session.preview[0, 500, 556] != 0,
    )
    wait_until(
        session.qtbot,
        lambda: session.workspace.shown.predictions[0].best.close_up is not None,
    )
    window = session.workspace.shown.predictions[0].best.close_up.window
    assert window[3] - window[1] > 4 * FIRST + 10, 'around both discs'
    assert session.model.encoded == 3


def test_a_second_look_at_another_frame_is_dropped_and_taken_on_return(session):
    session.click(0, 500, 500)
    assert session.model.gate.reached.wait(10)
    session.viewer.dims.set_point(0, 1)
    session.settle()
    session.model.gate.open()
    session.qtbot.wait(300)
    assert shown(session) == 0
    session.viewer.dims.set_point(0, 0)
    wait_for_second(session)


def test_a_second_look_at_another_image_is_dropped(session):
    session.click(0, 500, 500)
    assert session.model.gate.reached.wait(10)
    other = session.viewer.add_image(np.zeros((SIDE, SIDE), np.uint8))
    session.controller.set_image(other)
    session.model.gate.open()
    session.qtbot.wait(300)
    assert shown(session) == 0


def test_another_candidate_is_looked_at_when_it_is_chosen(session):
    session.click(0, 500, 500)
    wait_for_second(session)
    session.controller.choose_candidate(0)
    assert shown(session) == disc(FIRST / 2), 'at once'
    wait_until(
        session.qtbot, lambda: session.workspace.candidates[0].close_up is not None
    )
    assert session.workspace.chosen_candidate == 0
    session.controller.choose_candidate(1)
    assert shown(session) == disc(SECOND), 'kept'
    session.qtbot.wait(100)
    assert session.model.encoded == 3


def test_an_open_question_is_about_the_masks_in_view(session):
    session.model.gate.open()
    session.click(0, 500, 500)
    wait_for_second(session)
    session.controller.objects.commit()
    session.model.gate.close()
    session.controller.objects.set_overlap('ask')
    session.click(0, 500, 540)
    assert session.model.gate.reached.wait(10)
    session.controller.objects.commit()
    assert session.workspace.question is not None
    seen = shown(session)
    session.model.gate.open()
    session.qtbot.wait(300)
    assert session.workspace.question is not None
    assert shown(session) == seen


def test_without_second_looks_the_first_mask_stays(session):
    session.controller.flow.set_second_look(False)
    session.model.gate.open()
    session.click(0, 500, 500)
    session.qtbot.wait(300)
    assert shown(session) == disc(FIRST)
    assert session.model.encoded == 1
    session.controller.flow.set_second_look(True)
    wait_for_second(session)


def test_a_small_image_is_not_looked_at_again(annotate, fake_model):
    session = annotate()
    session.click(60, 60)
    session.qtbot.wait(100)
    assert fake_model.encoded == 1


def test_several_boxes_are_each_looked_at_again(session):
    session.draw((0, 100, 100), (0, 160, 160))
    session.model.gate.open()
    session.draw((0, 700, 700), (0, 760, 760))
    wait_until(
        session.qtbot,
        lambda: all(p.best.close_up for p in session.workspace.shown.predictions),
    )
    assert len(session.workspace.shown.predictions) == 2
    assert set(np.unique(session.preview)) == {0, 1, 2}


def test_a_request_goes_before_a_second_look_and_ends_one_under_way(
    qtbot, fake_model, fake_factory
):
    from napari_kdsam.widgets.shared.inference_thread import InferenceThread

    thread = InferenceThread(fake_factory)
    answers: list[Any] = []
    looks: list[Any] = []
    thread.answered.connect(answers.append)
    thread.looked_again.connect(looks.append)
    boxes = tuple(Prompt(box=(n, n, n + 60.0, n + 60.0)) for n in (100.0, 500.0))
    frame = np.random.default_rng(0).integers(0, 255, (SIDE, SIDE), np.uint8)

    def request(number: int, **changes: Any) -> Request:
        values: dict[str, Any] = {'prompts': boxes, **changes}
        return Request(
            number,
            'frame',
            lambda: frame,
            mapping=IntensityMapping(),
            model='fake',
            device='auto',
            **values,
        )

    try:
        thread.submit(request(1))
        wait_until(qtbot, lambda: len(answers) == 1)
        first = answers[0].predictions
        fake_model.gate.close()
        thread.look_again(request(2, first_look=first))
        assert fake_model.gate.reached.wait(10)
        thread.submit(request(3))
        fake_model.gate.open()
        wait_until(qtbot, lambda: len(answers) == 2)
        wait_until(qtbot, lambda: len(looks) == 1)
        assert looks[0].predictions == ()
        assert fake_model.encoded == 2, 'of two windows only the first'
        thread.look_again(request(4, first_look=first))
        wait_until(qtbot, lambda: len(looks) == 2)
        assert [p.best.close_up is not None for p in looks[1].predictions] == [
            True,
            True,
        ]
    finally:
        fake_model.gate.open()
        thread.stop(timeout=10)
