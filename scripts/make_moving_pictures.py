"""Make the moving pictures in docs/images: a first label, a series, following with a stop.

The mouse and the keys are real events in a real window; the arrow and the names of the
keys are drawn on the pictures afterwards. Run it where there is a display, or with
xvfb-run. Uses the bundled weights and the drawn phantoms; no other images.
"""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import napari
import numpy as np
from make_screenshot import FOLDER, open_window, rest, settle, wait_until
from PIL import Image, ImageDraw, ImageFont
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QWidget

from napari_kdsam.phantoms import (
    Phantom,
    dermoscopy_phantom,
    endoscopy_phantom,
    ultrasound_phantom,
)
from napari_kdsam.widgets.batch.controller import Phase
from napari_kdsam.widgets.batch.dock import BatchWidget
from napari_kdsam.widgets.batch.setup import BatchMethod
from napari_kdsam.widgets.series.dock import SeriesWidget
from napari_kdsam.widgets.series.remembered import SeriesChoices

SIZE = (1366, 768)
SHOWN = (960, 540)
_ARROW = ((0, 0), (0, 17), (4, 13), (7, 20), (10, 19), (7, 12), (12, 12))
_STEPS = 5
# PyQt6's hints of its static methods ask for a self.
_EVENTS: Any = QTest
# Frames of the cine with and without the polyp that is followed.
_SEEN, _NOT_SEEN = 8, 4


@dataclass
class Film:
    """Pictures of a window, with where the mouse is and what is pressed."""

    viewer: napari.Viewer
    frames: list[Image.Image] = field(default_factory=list)
    milliseconds: list[int] = field(default_factory=list)
    spot: tuple[float, float] = (SIZE[0] * 0.5, SIZE[1] * 0.9)

    @property
    def canvas(self) -> QWidget:
        """What mouse and keys go to."""
        return next(
            widget
            for top in QApplication.topLevelWidgets()
            for widget in top.findChildren(QWidget)
            if 'CanvasBackend' in type(widget).__name__ and widget.isVisible()
        )

    def shoot(self, milliseconds: int, key: str = '') -> None:
        """Take a picture that is shown for so long."""
        pixels = self.viewer.screenshot(canvas_only=False, flash=False)
        picture = Image.fromarray(pixels[..., :3])
        pen = ImageDraw.Draw(picture)
        left, top = self.spot
        pen.polygon(
            [(left + x, top + y) for x, y in _ARROW], fill='white', outline='black'
        )
        if key:
            font = ImageFont.load_default(30)
            place = (picture.width * 0.46, picture.height - 90)
            around = pen.textbbox(place, key, font, anchor='mm')
            pen.rounded_rectangle(
                (around[0] - 18, around[1] - 12, around[2] + 18, around[3] + 12),
                10,
                fill='#f5f5f5',
                outline='#404040',
                width=2,
            )
            pen.text(place, key, fill='#202020', font=font, anchor='mm')
        self.frames.append(picture.resize(SHOWN, Image.Resampling.LANCZOS))
        self.milliseconds.append(milliseconds)

    def click(self, row: float, column: float) -> None:
        """Move the mouse to a place of the image and click there."""
        canvas, camera = self.canvas, self.viewer.camera
        x = canvas.width() / 2 + (column - camera.center[-1]) * camera.zoom
        y = canvas.height() / 2 + (row - camera.center[-2]) * camera.zoom
        self.press(canvas, QPoint(round(x), round(y)))

    def press(self, widget: QWidget, place: QPoint | None = None) -> None:
        """Move the mouse to a widget, or a place in it, and click."""
        place = place or widget.rect().center()
        at = widget.mapTo(widget.window(), place)
        left, top = self.spot
        for step in range(1, _STEPS + 1):
            share = step / _STEPS
            self.spot = (
                left + (at.x() - left) * share,
                top + (at.y() - top) * share,
            )
            self.shoot(90)
        _EVENTS.mouseMove(widget, place)
        _EVENTS.qWait(50)
        _EVENTS.mouseClick(widget, Qt.MouseButton.LeftButton, pos=place)

    def key(
        self,
        key: Qt.Key,
        name: str,
        held: Qt.KeyboardModifier = Qt.KeyboardModifier.NoModifier,
    ) -> None:
        """Press a key, and show which."""
        self.shoot(700, name)
        _EVENTS.keyClick(self.canvas, key, held)
        rest()

    def save(self, name: str) -> None:
        """Write the pictures as one that moves."""
        path = FOLDER / name
        self.frames[0].save(
            path,
            save_all=True,
            append_images=self.frames[1:],
            duration=self.milliseconds,
            loop=0,
            quality=70,
            method=6,
        )
        sys.stdout.write(f'{path.name}: {path.stat().st_size / 1e6:.2f} MB\n')


def first_label() -> None:
    """A click, the mask, the label."""
    phantom = dermoscopy_phantom(seed=1)
    options = {'name': 'lesion', 'rgb': True}
    viewer, widget = open_window((phantom.image, options, 'image'))
    viewer.window.resize(*SIZE)
    rest()
    film = Film(viewer)
    film.shoot(900)
    film.click(*phantom.click)
    settle(widget)
    film.shoot(1400)
    film.key(Qt.Key.Key_W, 'W')
    film.shoot(2200)
    film.save('first-label.webp')
    viewer.close()


def series(folder: Path) -> None:
    """Four images of a folder: click, next."""
    phantoms: list[Phantom] = [
        endoscopy_phantom(seed=3),
        dermoscopy_phantom(seed=2),
        ultrasound_phantom(seed=4),
        endoscopy_phantom(seed=5),
    ]
    folder.mkdir()
    for number, phantom in enumerate(phantoms, 1):
        Image.fromarray(phantom.image).save(folder / f'image {number}.png')
    viewer, widget = open_window()
    dock = SeriesWidget(viewer, lambda _: widget.guided)
    viewer.window.add_dock_widget(dock, name='Label a series of images', area='left')
    viewer.window.resize(*SIZE)
    rest()
    dock.choose(SeriesChoices(str(folder), str(folder / 'labels')))
    film = Film(viewer)
    film.shoot(900)
    film.press(dock.start)
    for phantom in phantoms:
        wait_until(lambda: not dock.walk.busy)
        rest()
        film.shoot(500)
        film.click(*phantom.click)
        settle(widget)
        film.shoot(700)
        film.key(Qt.Key.Key_PageDown, 'Page Down')
    wait_until(lambda: not dock.walk.busy)
    rest()
    film.shoot(2500)
    film.save('series.webp')
    dock.walk.close()
    viewer.close()


def following() -> None:
    """A polyp followed from one click until the camera sees something else."""
    first, second = endoscopy_phantom(seed=3), endoscopy_phantom(seed=8)
    cine = [np.roll(first.image, 4 * frame, axis=1) for frame in range(_SEEN)]
    cine += [np.roll(second.image, 4 * frame, axis=1) for frame in range(_NOT_SEEN)]
    viewer, widget = open_window(
        (np.stack(cine), {'name': 'cine', 'rgb': True}, 'image')
    )
    viewer.window.resize(*SIZE)
    viewer.dims.set_point(0, 0)
    rest()
    film = Film(viewer)
    film.shoot(900)
    film.click(*first.click)
    settle(widget)
    film.shoot(700)
    film.key(Qt.Key.Key_W, 'W')
    dock = BatchWidget(viewer, open_annotator=lambda _: widget.guided)
    viewer.window.add_dock_widget(dock, name='Segment a stack or layers')
    dock.watch.setChecked(True)
    dock.choices.method.value = BatchMethod.FOLLOW_KEYS
    rest()
    film.shoot(1200)
    film.press(dock.start_button)
    while dock.controller.phase is not Phase.IDLE:
        rest()
        film.shoot(250)
    rest()
    film.shoot(2500)
    film.key(Qt.Key.Key_R, 'Alt + R', Qt.KeyboardModifier.AltModifier)
    film.shoot(2500)
    film.save('following.webp')
    viewer.close()


if __name__ == '__main__':
    # Sessions of whoever runs this must not turn up in the pictures.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        os.environ['XDG_DATA_HOME'] = os.environ['XDG_CONFIG_HOME'] = home
        first_label()
        series(Path(home) / 'scans')
        following()
