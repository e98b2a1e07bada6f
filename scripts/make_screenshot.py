"""Make the screenshots in docs/images: a committed label, and the next one in preview.

Run it where there is a display, or with xvfb-run. Uses the bundled weights, the real
ultrasound that comes with pydicom and the drawn phantoms; no other images.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import napari
import numpy as np
from PIL import Image
from qtpy.QtWidgets import QApplication

from napari_kdsam import sample_data
from napari_kdsam.annotation.cleanup import CleanUp
from napari_kdsam.annotation.state import ObjectClass
from napari_kdsam.phantoms import dermoscopy_phantom, ultrasound_phantom
from napari_kdsam.widgets.annotator.dock import AnnotatorWidget
from napari_kdsam.widgets.annotator.prompt_layers import PromptLayers
from napari_kdsam.widgets.batch.dock import BatchWidget
from napari_kdsam.widgets.batch.setup import BatchMethod
from napari_kdsam.widgets.compare.dock import CompareWidget

FOLDER = Path(__file__).resolve().parent.parent / 'docs' / 'images'
SIZE = (1366, 768)


def wait_until(done: Callable[[], bool], seconds: float = 60) -> None:
    """Run Qt's event loop until `done`, or stop with an error after `seconds`."""
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            sys.exit('The window did not get there in time.')
        QApplication.processEvents()
        time.sleep(0.01)


def settle(widget: AnnotatorWidget) -> None:
    """Wait for the mask, and for the window to be painted."""
    stages = ('ready', 'error')
    wait_until(lambda: widget.controller.workspace.status.kind.value in stages)
    end = time.monotonic() + 0.5
    wait_until(lambda: time.monotonic() > end)


def open_window(*layers: tuple[Any, ...]) -> tuple[napari.Viewer, AnnotatorWidget]:
    """Open napari with image layers and the annotator."""
    viewer = napari.Viewer()
    for data, options, kind in layers:
        if kind == 'image':
            viewer.add_image(data, **options)
    widget = AnnotatorWidget(viewer)
    viewer.window.add_dock_widget(widget, name='Click to label', area='right')
    viewer.window.resize(*SIZE)
    return viewer, widget


def prompt_layers(widget: AnnotatorWidget) -> PromptLayers:
    """Where prompts are drawn."""
    layers = widget.controller.workspace.layers
    assert layers is not None
    return layers


def click(widget: AnnotatorWidget, *position: float, inside: bool = True) -> None:
    """Add a point prompt and wait for the mask."""
    widget.controller.tools.set_polarity(inside)
    prompt_layers(widget).points.add(np.array(position, float))
    settle(widget)


def box(
    widget: AnnotatorWidget, row0: float, col0: float, row1: float, col1: float
) -> None:
    """Draw a box prompt and wait for the mask."""
    corners = [[(row0, col0), (row0, col1), (row1, col1), (row1, col0)]]
    prompt_layers(widget).shapes.add_rectangles(np.array(corners, float))
    settle(widget)


def save(viewer: napari.Viewer, name: str) -> None:
    """Write a screenshot of the whole window."""
    picture = viewer.screenshot(canvas_only=False, flash=False)
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / name
    Image.fromarray(picture[..., :3]).quantize(256, dither=Image.Dither.NONE).save(
        path, optimize=True
    )
    sys.stdout.write(f'{path.relative_to(FOLDER.parent.parent)}\n')


def ultrasound() -> None:
    """A lymph node committed, the second half in preview."""
    viewer, widget = open_window(*sample_data.lymph_node_ultrasound())
    box(widget, 82, 34, 142, 158)
    widget.controller.objects.commit()
    box(widget, 84, 158, 138, 258)
    save(viewer, 'ultrasound.png')
    viewer.close()


def dermoscopy() -> None:
    """A phantom lesion committed, a click with its three candidates in preview."""
    phantom = dermoscopy_phantom(seed=1)
    options = {'name': 'dermoscopy phantom', 'rgb': True}
    viewer, widget = open_window((phantom.image, options, 'image'))
    click(widget, *phantom.click)
    save(viewer, 'dermoscopy-click.png')
    widget.controller.objects.commit()
    rest()
    save(viewer, 'dermoscopy-committed.png')
    viewer.close()


def cine() -> None:
    """A stack in the light theme: classes, clean-up with an ellipse, frames done."""
    viewer, widget = open_window(*sample_data.heart_ultrasound_cine())
    viewer.theme = 'light'
    widget.controller.objects.set_classes(
        (
            ObjectClass(1, 'left ventricle', '#00e5ff'),
            ObjectClass(2, 'valve', '#ffb300'),
        )
    )
    record = widget.controller.workspace.record
    assert record is not None
    rows, columns = record.frames.plane_shape
    for frame in (0, 1, 2, 5):
        viewer.dims.set_point(0, frame)
        click(widget, frame, rows / 2, columns / 2)
        widget.controller.objects.commit()
    viewer.dims.set_point(0, 3)
    click(widget, 3, rows / 2, columns / 2)
    widget.controller.objects.set_cleanup(CleanUp(fill_holes=True, snap='ellipse'))
    widget.cleanup.folded.expand(animate=False)
    rest()
    save(viewer, 'stack-light.png')
    widget.controller.show_help()
    rest()
    grab(widget.help_window, 'shortcuts.png')
    viewer.close()


def comparison() -> None:
    """Labels of a stack of phantoms against the truth, with the errors of a frame."""
    phantoms = [ultrasound_phantom(seed=seed) for seed in range(8)]
    truth = np.stack([phantom.mask for phantom in phantoms]).astype(np.uint8)
    labels = np.stack([np.roll(mask, i * i, i % 2) for i, mask in enumerate(truth)])
    placed = {'scale': (1, 0.1, 0.1), 'units': ('pixel', 'mm', 'mm')}
    viewer = napari.Viewer()
    viewer.add_image(np.stack([p.image for p in phantoms]), name='phantoms', **placed)
    viewer.add_labels(truth, name='reader 1', visible=False, **placed)
    viewer.add_labels(labels, name='mine', visible=False, **placed)
    widget = CompareWidget(viewer)
    viewer.window.add_dock_widget(
        widget, name='Compare labels with a reference', area='right'
    )
    viewer.window.resize(*SIZE)
    rest()
    widget.compare()
    wait_until(lambda: widget.found is not None)
    widget.show_errors(True)
    widget.panel.view.selectRow(0)
    widget.go_to(widget.panel.view.contents.place(0))
    rest()
    save(viewer, 'compare.png')
    viewer.close()


def stack_batch() -> None:
    """A heart followed through a cine from one click."""
    ((pixels, options, _),) = sample_data.heart_ultrasound_cine()
    viewer = napari.Viewer()
    viewer.add_image(pixels, **options)
    widget = BatchWidget(viewer)
    viewer.window.add_dock_widget(widget, name='Segment a stack or layers')
    viewer.window.resize(*SIZE)
    viewer.dims.set_point(0, 0)
    viewer.add_points([(0, 95, 185)], name='clicks', size=6)
    widget.choices.method.value = BatchMethod.FOLLOW_PROMPTS
    rest()
    widget.start()
    wait_until(lambda: sum(widget.controller.counts[:3]) == len(pixels), 120)
    viewer.dims.set_point(0, 12)
    rest()
    save(viewer, 'batch.png')
    viewer.close()


def rest() -> None:
    """Let the window be painted."""
    end = time.monotonic() + 0.5
    wait_until(lambda: time.monotonic() > end)


def grab(window: Any, name: str) -> None:
    """Write a picture of one window of its own."""
    path = FOLDER / name
    window.grab().save(str(path))
    sys.stdout.write(f'{path.relative_to(FOLDER.parent.parent)}\n')


if __name__ == '__main__':
    # Sessions of whoever runs this must not turn up in the pictures.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        os.environ['XDG_DATA_HOME'] = home
        for make in (ultrasound, dermoscopy, cine, comparison, stack_batch):
            make()
