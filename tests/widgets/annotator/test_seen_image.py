"""The image that is seen is the one that is labelled."""

from __future__ import annotations

import numpy as np
import pytest

SIZE = (120, 200)


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, SIZE, np.uint8)


def names_of_visible(session) -> set[str]:
    return {layer.name for layer in session.viewer.layers if layer.visible}


def real_click(session, row: int, column: int) -> None:
    session.show_canvas().click(row, column)
    session.settle()


def labels_over(session, name: str) -> np.ndarray | None:
    """What was committed to an image, None if nothing was."""
    for image, record in session.workspace.records.items():
        if image.name == name and record.target is not None:
            return np.asarray(record.target.layer.data)
    return None


def test_an_image_opened_over_the_annotated_one_is_annotated_next(annotate):
    session = annotate()
    session.viewer.add_image(picture(1), name='next')
    session.settle()
    assert session.workspace.image.name == 'next'
    assert session.widget.image_choice.value.name == 'next'
    assert 'next' in session.workspace.status.text
    real_click(session, 60, 60)
    session.wait_for('ready')
    session.controller.objects.commit()
    assert labels_over(session, 'next')[60, 60] == 1
    assert labels_over(session, 'scan') is None


def test_several_images_opened_at_once_end_at_the_topmost(annotate):
    session = annotate()
    for number in range(4):
        session.viewer.add_image(picture(number), name=f'image {number}')
    session.settle()
    assert session.workspace.image.name == 'image 3'
    assert len(session.workspace.records) == 2, 'those between were taken up as well'


def test_switching_the_eye_off_goes_on_with_the_image_below(annotate):
    session = annotate()
    session.viewer.add_image(picture(1), name='above')
    session.settle()
    session.click(60, 60)
    session.controller.objects.commit()
    session.viewer.layers['above'].visible = False
    session.settle()
    assert session.workspace.image.name == 'scan'
    real_click(session, 30, 30)
    session.wait_for('ready')
    session.controller.objects.commit()
    assert labels_over(session, 'scan')[30, 30] == 1
    assert labels_over(session, 'above')[30, 30] == 0


def test_labels_are_seen_with_their_image_only(annotate):
    session = annotate()
    session.click(60, 60)
    session.controller.objects.commit()
    session.viewer.add_image(picture(1), name='above')
    session.settle()
    session.click(60, 60)
    session.controller.objects.commit()
    session.widget.image_choice.value = session.viewer.layers['scan']
    session.settle()
    assert 'scan labels' in names_of_visible(session)
    assert 'above labels' not in names_of_visible(session)
    session.widget.image_choice.value = session.viewer.layers['above']
    session.settle()
    assert 'above labels' in names_of_visible(session)


def test_the_image_chosen_in_the_panel_is_shown(annotate):
    session = annotate()
    session.viewer.add_image(picture(1), name='above')
    session.settle()
    session.widget.image_choice.value = session.viewer.layers['scan']
    session.settle()
    assert session.workspace.image.name == 'scan'
    assert 'scan' in names_of_visible(session)
    assert 'above' not in names_of_visible(session)
    session.widget.image_choice.value = session.viewer.layers['above']
    session.settle()
    assert session.workspace.image.name == 'above'
    assert 'above' in names_of_visible(session)


def test_an_image_hidden_alone_takes_no_click(annotate):
    session = annotate()
    session.click(60, 60)
    session.viewer.layers['scan'].visible = False
    session.settle()
    assert 'hidden' in session.workspace.status.text
    decoded = session.model.decoded
    real_click(session, 60, 150)
    session.qtbot.wait(200)
    assert session.model.decoded == decoded
    assert not session.controller.objects.commit()
    assert labels_over(session, 'scan') is None
    session.viewer.layers['scan'].visible = True
    session.wait_for('ready')
    session.controller.objects.commit()
    assert labels_over(session, 'scan')[60, 60] == 1


@pytest.mark.parametrize(
    'options',
    [
        {'opacity': 0.4},
        {'blending': 'additive'},
        {'visible': False},
        {'translate': (0, 1000)},
    ],
    ids=['thin', 'additive', 'hidden', 'elsewhere'],
)
def test_an_image_that_covers_nothing_leaves_the_annotated_one_alone(annotate, options):
    session = annotate()
    session.viewer.add_image(picture(1), name='other', **options)
    session.settle()
    assert session.workspace.image.name == 'scan'


def test_images_side_by_side_cover_nothing(annotate):
    session = annotate()
    grid = getattr(session.viewer, 'canvas', session.viewer).grid
    grid.enabled = True
    session.viewer.add_image(picture(1), name='beside')
    session.settle()
    assert session.workspace.image.name == 'scan'
    grid.enabled = False
    session.settle()
    assert session.workspace.image.name == 'beside'


def test_moving_an_image_to_the_top_annotates_it(annotate):
    session = annotate()
    session.viewer.add_image(picture(1), name='above')
    session.settle()
    layers = session.viewer.layers
    layers.move(layers.index('scan'), layers.index('above') + 1)
    session.settle()
    assert session.workspace.image.name == 'scan'


def test_a_stack_out_of_view_in_this_frame_covers_nothing(annotate):
    frames = np.random.default_rng(2).integers(0, 255, (5, *SIZE), np.uint8)
    session = annotate(frames)
    session.viewer.dims.set_current_step(0, 0)
    session.viewer.add_image(frames[:2], name='late', translate=(3, 0, 0))
    session.settle()
    assert session.workspace.image.name == 'scan'
    session.viewer.dims.set_current_step(0, 3)
    session.settle()
    assert session.workspace.image.name == 'late'


def test_the_annotator_opens_on_the_image_that_is_seen(
    make_napari_viewer_proxy, fake_factory
):
    from napari_kdsam.widgets.annotator.dock import AnnotatorWidget

    viewer = make_napari_viewer_proxy(show=False)
    viewer.add_image(picture(0), name='seen')
    viewer.add_image(picture(1), name='hidden', visible=False)
    viewer.layers.selection.clear()
    widget = AnnotatorWidget(viewer, fake_factory)
    viewer.window.add_dock_widget(widget)
    assert widget.workspace.image.name == 'seen'


def hide(layers) -> None:
    layers['above'].visible = False


def show(layers) -> None:
    layers['hidden'].visible = True


def raise_scan(layers) -> None:
    layers.move(layers.index('scan'), len(layers))


@pytest.mark.parametrize(
    ('change', 'seen'), [(hide, 'scan'), (raise_scan, 'scan'), (show, 'hidden')]
)
def test_a_click_faster_than_the_window_labels_what_is_seen_then(
    annotate, change, seen
):
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest

    session = annotate()
    session.viewer.add_image(picture(1), name='above')
    session.viewer.add_image(picture(2), name='hidden', visible=False)
    session.settle()
    assert session.workspace.image.name == 'above'
    canvas = session.show_canvas()
    spot = canvas.at(60, 60)
    canvas.move(spot)
    change(session.viewer.layers)
    QTest.mouseClick(canvas.native, Qt.MouseButton.LeftButton, pos=spot)
    session.wait_for('ready')
    session.controller.objects.commit()
    assert labels_over(session, seen)[60, 60] == 1
    assert labels_over(session, 'above') is None
