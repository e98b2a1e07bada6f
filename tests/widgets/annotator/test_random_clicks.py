"""Whatever is done to the layers, a click labels the image that was seen there."""

from __future__ import annotations

import gc
import os
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import hypothesis
import numpy as np
from annotator_window import Annotating, Canvas
from fakes import RADIUS
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

# `make clicks` tries many more.
_SEQUENCES = int(os.environ.get('KDSAM_CLICK_SEQUENCES', 3))
_STEPS = 10
_MOST_IMAGES = 4
# Shape and corner: two in the same place, one half beside them, one with frames.
_KINDS = (
    ((120, 200), (0, 0)),
    ((120, 200), (0, 0)),
    ((80, 120), (60, 120)),
    ((3, 120, 200), (0, 0, 0)),
)
# Every disc of the fake model, in pixels of the largest image, and a pixel of rounding.
_REACH = 2 * RADIUS * 200 / 256 + 2
_PLACES = st.tuples(
    st.sampled_from((20, 50, 80, 110)), st.sampled_from(range(15, 240, 25))
)
_WHICH = st.integers(0, _MOST_IMAGES - 1)


@dataclass
class Seen:
    """What was seen at a click: an image, its frame, and the pixel."""

    image: Any
    frame: tuple[int, ...]
    row: float
    column: float


@dataclass
class Window:
    """A window that is used for one sequence after another."""

    session: Annotating
    canvas: Canvas
    numbers: Any = field(default_factory=count)
    sequences: int = 0
    clicks: int = 0
    labelled: int = 0

    @property
    def viewer(self) -> Any:
        return self.session.viewer

    def images(self) -> list[Any]:
        from napari.layers import Image

        return [layer for layer in self.viewer.layers if isinstance(layer, Image)]

    def empty(self) -> None:
        self.viewer.layers.clear()
        self.session.settle()

    def open_image(self, kind: int) -> None:
        shape, corner = _KINDS[kind]
        number = next(self.numbers)
        pixels = np.random.default_rng(number).integers(0, 255, shape, np.uint8)
        self.viewer.add_image(pixels, name=f'image {number}', translate=corner)

    def describe(self) -> str:
        return (
            f'{self.sequences} sequences, {self.clicks} clicks, labels there after '
            f'{self.labelled} steps'
        )

    def seen_at(self, row: float, column: float) -> Seen | None:
        """The topmost visible image at a world point, by the list of layers alone."""
        for image in reversed(self.images()):
            top, left = image.translate[-2:]
            rows, columns = image.data.shape[-2:]
            inside = 0 <= row - top < rows and 0 <= column - left < columns
            if image.visible and inside:
                leading = image.data.ndim - 2
                frame = tuple(self.viewer.dims.current_step[:leading])
                return Seen(image, frame, row - top, column - left)
        return None


class ClickingAround(RuleBasedStateMachine):
    """A user who does anything in any order, sometimes faster than the window."""

    window: Window

    def __init__(self) -> None:
        super().__init__()
        self.clicked: list[Seen] = []
        self.owners: dict[Any, Any] = {}

    @initialize(kinds=st.lists(st.integers(0, 3), min_size=2, max_size=3))
    def begin(self, kinds: list[int]) -> None:
        self.window.empty()
        for kind in kinds:
            self.window.open_image(kind)
        self.window.session.settle()
        self.window.viewer.reset_view()
        self._points_tool()
        self._click((80, 140), self._aim((80, 140)))
        self._commit()
        assert self.window.session.workspace.session.state.objects

    def teardown(self) -> None:
        self.window.session.qtbot.wait(100)
        self.nothing_else_is_labelled()
        self.window.sequences += 1
        print(self.window.describe(), flush=True)

    def _points_tool(self) -> None:
        self.window.session.controller.tools.use_points()

    def _pick(self, which: int) -> Any:
        images = self.window.images()
        return images[which % len(images)] if images else None

    def _aim(self, place: tuple[int, int]) -> Any:
        spot = self.window.canvas.at(*place)
        self.window.canvas.move(spot)
        return spot

    def _click(self, place: tuple[int, int], spot: Any) -> None:
        """Press and release where the mouse is, before the window does anything."""
        from qtpy.QtCore import Qt
        from qtpy.QtTest import QTest

        seen = self.window.seen_at(*place)
        if seen is not None:
            self.clicked.append(seen)
        QTest.mouseClick(self.window.canvas.native, Qt.MouseButton.LeftButton, pos=spot)
        self.window.clicks += 1
        self.window.session.settle()
        if self.window.clicks % 2:
            # Few sequences would have a commit among so much else.
            self._commit()

    def _commit(self) -> None:
        self._key('W')
        session = self.window.session
        session.qtbot.waitUntil(lambda: session.stage() != 'working', timeout=30_000)

    def _key(self, name: str) -> None:
        from qtpy.QtCore import Qt

        self.window.canvas.key(getattr(Qt.Key, f'Key_{name}'))

    @rule(place=_PLACES)
    def click(self, place: tuple[int, int]) -> None:
        self._click(place, self._aim(place))

    @rule(which=_WHICH, place=_PLACES)
    def toggle_eye(self, which: int, place: tuple[int, int]) -> None:
        image, spot = self._pick(which), self._aim(place)
        if image is not None:
            image.visible = not image.visible
        self._click(place, spot)

    @rule(which=_WHICH, place=_PLACES)
    def choose_in_the_panel(self, which: int, place: tuple[int, int]) -> None:
        image, spot = self._pick(which), self._aim(place)
        if image is not None:
            self.window.session.widget.image_choice.value = image
        self._click(place, spot)

    @rule(which=_WHICH, to=st.integers(0, 9), place=_PLACES)
    def reorder(self, which: int, to: int, place: tuple[int, int]) -> None:
        image, spot = self._pick(which), self._aim(place)
        layers = self.window.viewer.layers
        if image is not None:
            layers.move(layers.index(image), to % (len(layers) + 1))
        self._click(place, spot)

    @rule(which=_WHICH, place=_PLACES)
    def remove(self, which: int, place: tuple[int, int]) -> None:
        image, spot = self._pick(which), self._aim(place)
        if len(self.window.images()) > 1:
            self.window.viewer.layers.remove(image)
        self._click(place, spot)

    @rule(kind=st.integers(0, 3), place=_PLACES)
    def open_another(self, kind: int, place: tuple[int, int]) -> None:
        spot = self._aim(place)
        if len(self.window.images()) < _MOST_IMAGES:
            self.window.open_image(kind)
        self._click(place, spot)

    @rule(which=_WHICH, other=_WHICH)
    def rename_like_another(self, which: int, other: int) -> None:
        image, namesake = self._pick(which), self._pick(other)
        if image is not None:
            image.name = namesake.name
        self.window.session.settle()

    @rule(which=_WHICH)
    def select(self, which: int) -> None:
        image = self._pick(which)
        if image is not None:
            self.window.viewer.layers.selection.active = image
        self.window.session.settle()

    @rule(frame=st.integers(0, 2))
    def go_to_frame(self, frame: int) -> None:
        if self.window.viewer.dims.ndim == 3:
            self.window.viewer.dims.set_current_step(0, frame)
        self.window.session.settle()

    @rule(name=st.sampled_from('WWWUJKQG'), wait=st.booleans())
    def press(self, name: str, wait: bool) -> None:
        self._key(name)
        if wait:
            self.window.session.qtbot.wait(100)

    @rule()
    def wait(self) -> None:
        self.window.session.qtbot.wait(100)

    @rule()
    def take_the_points_tool(self) -> None:
        self._points_tool()

    @invariant()
    def nothing_else_is_labelled(self) -> None:
        records = self.window.session.workspace.records
        for image, record in records.items():
            if record.target is not None:
                owner = self.owners.setdefault(record.target.layer, image)
                assert owner is image, f'labels of {owner} are those of {image} as well'
        for labels, image in self.owners.items():
            unexplained = np.array(labels.data) != 0
            self.window.labelled += bool(unexplained.any())
            rows, columns = np.indices(unexplained.shape[-2:])
            for seen in self.clicked:
                if seen.image is image:
                    away = np.hypot(rows - seen.row, columns - seen.column)
                    unexplained[seen.frame] &= away > _REACH
            assert not unexplained.any(), (
                f'{image} has labels where it was not seen when clicked'
            )


def test_random_clicks_label_the_image_that_was_seen(annotate):
    session = annotate()
    # napari collects whenever a layer goes, and looks through all that is there.
    gc.collect()
    gc.freeze()
    window = Window(session, session.show_canvas())
    machine = type('Machine', (ClickingAround,), {'window': window})
    run_state_machine_as_test(
        machine,
        settings=hypothesis.settings(
            max_examples=_SEQUENCES,
            stateful_step_count=_STEPS,
            deadline=None,
            suppress_health_check=list(hypothesis.HealthCheck),
        ),
    )
