"""Every kind of image layer: stacks, colour, lazy arrays, transforms."""

from __future__ import annotations

import numpy as np
import pytest
from fakes import LazyStack


def stack(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 255, shape, np.uint8)


@pytest.mark.parametrize(
    ('image', 'rgb'),
    [
        (stack(90, 160), False),
        (stack(160, 90).astype(np.uint16) * 200, False),
        (stack(90, 160).astype(np.float32) / 255, False),
        (stack(90, 160, 3), True),
        (stack(90, 160, 4), True),
        (stack(90, 160, 3).astype(np.float64) / 255, True),
    ],
    ids=['grey8', 'tall16', 'float', 'rgb', 'rgba', 'rgb-float'],
)
def test_every_kind_of_single_image_can_be_clicked_and_committed(annotate, image, rgb):
    session = annotate(image, rgb=rgb)
    session.click(45, 50)
    session.controller.objects.commit()
    assert session.labels.shape == image.shape[:2]
    assert session.labels[45, 50] == 1


@pytest.mark.parametrize('rgb', [False, True])
def test_a_stack_is_annotated_frame_by_frame(annotate, rgb):
    frames = stack(5, 60, 90, 3) if rgb else stack(5, 60, 90)
    session = annotate(frames, rgb=rgb)
    session.controller.frames.prefetching = False
    session.viewer.dims.set_current_step(0, 3)
    session.click(3, 30, 40)
    assert session.preview.shape == (1, 60, 90)
    session.controller.objects.commit()
    assert session.labels.shape == (5, 60, 90)
    assert session.labels[3, 30, 40] == 1
    assert not session.labels[[0, 1, 2, 4]].any()
    session.viewer.dims.set_current_step(0, 1)
    session.click(1, 30, 60)
    session.controller.objects.commit()
    assert session.labels[1, 30, 60] == 2
    assert session.model.encoded == 2


def test_a_draft_waits_on_its_frame_while_others_are_looked_at(annotate):
    session = annotate(stack(4, 60, 90))
    session.viewer.dims.set_current_step(0, 2)
    session.click(2, 30, 40)
    session.viewer.dims.set_current_step(0, 0)
    assert session.stage() == 'waiting'
    assert not session.widget.action_bar.commit.isEnabled()
    session.viewer.dims.set_current_step(0, 2)
    assert session.stage() == 'ready'
    assert session.preview[0, 30, 40] == 1
    assert session.model.decoded == 1


def test_moving_to_another_frame_while_encoding_puts_no_mask_there(annotate):
    session = annotate(stack(4, 60, 90))
    session.model.encode_seconds = 0.3
    session.points.add(np.array((0, 30, 40)))
    session.viewer.dims.set_current_step(0, 3)
    session.qtbot.wait(600)
    assert not session.preview.any()
    session.viewer.dims.set_current_step(0, 0)
    session.wait_for('ready')
    assert session.preview[0, 30, 40] == 1


def test_a_lazy_stack_is_never_loaded_whole(annotate):
    lazy = LazyStack(stack(6, 60, 90))
    session = annotate(lazy, rgb=False, contrast_limits=(0, 255), multiscale=False)
    session.controller.frames.prefetching = False
    session.viewer.dims.set_current_step(0, 4)
    lazy.frames_read.clear()
    session.click(4, 30, 40)
    session.controller.objects.commit()
    assert session.labels[4, 30, 40] == 1
    assert lazy.frames_read == {4}


@pytest.mark.parametrize('kind', ['dask', 'zarr'])
def test_dask_and_zarr_stacks_are_annotated(annotate, kind, tmp_path):
    frames = stack(3, 60, 90)
    if kind == 'dask':
        import dask.array

        image = dask.array.from_array(frames, chunks=(1, 60, 90))
    else:
        import zarr

        image = zarr.create_array(
            tmp_path / 'a.zarr', shape=frames.shape, dtype='u1', chunks=(1, 60, 90)
        )
        image[:] = frames
    session = annotate(image, contrast_limits=(0, 255))
    session.viewer.dims.set_current_step(0, 1)
    session.click(1, 30, 40)
    session.controller.objects.commit()
    assert session.labels[1, 30, 40] == 1


def test_a_multiscale_image_is_annotated_at_full_resolution(annotate):
    image = stack(400, 600)
    session = annotate([image, image[::2, ::2], image[::4, ::4]], multiscale=True)
    session.click(200, 300)
    session.controller.objects.commit()
    assert session.labels.shape == (400, 600)
    assert session.labels[200, 300] == 1


@pytest.mark.parametrize(
    'transform',
    [
        {'scale': (0.5, 0.1)},
        {'translate': (-40, 300)},
        {'rotate': 30},
        {'scale': (0.2, 0.3), 'translate': (5, -7), 'rotate': 20, 'shear': [0.1]},
        {'affine': np.array([[0, 2, 5], [1, 0, -3], [0, 0, 1]])},
    ],
    ids=['scale', 'translate', 'rotate', 'all', 'affine'],
)
def test_a_transformed_image_gives_the_mask_of_the_plain_one(annotate, transform):
    image = stack(80, 140)
    plain = annotate(image)
    plain.click(30, 50)
    moved = annotate(image, **transform)
    world = moved.controller.workspace.image.data_to_world((30, 50))
    moved.click(*moved.points.world_to_data(world))
    np.testing.assert_array_equal(moved.preview, plain.preview)
    moved.controller.objects.commit()
    layer = moved.controller.workspace.target_layer
    corner = (79, 139)
    np.testing.assert_allclose(
        layer.data_to_world(corner),
        moved.controller.workspace.image.data_to_world(corner),
    )
    np.testing.assert_allclose(
        moved.controller.workspace.layers.preview.data_to_world(corner),
        moved.controller.workspace.image.data_to_world(corner),
    )


def test_a_scaled_stack_keeps_preview_and_labels_on_the_frame(annotate):
    session = annotate(stack(5, 60, 90), scale=(2.5, 0.5, 0.25), translate=(10, 0, 3))
    session.viewer.dims.set_current_step(0, 3)
    assert session.workspace.frame == (3,)
    session.click(3, 30, 40)
    image = session.workspace.image
    np.testing.assert_allclose(
        session.workspace.layers.preview.data_to_world((0, 30, 40)),
        image.data_to_world((3, 30, 40)),
    )
    session.controller.objects.commit()
    assert session.labels[3, 30, 40] == 1
    assert session.labels.sum() == (session.labels[3] > 0).sum()


def test_changing_the_scale_of_the_image_moves_the_helper_layers_with_it(annotate):
    session = annotate(stack(60, 90))
    session.click(30, 40)
    session.workspace.image.scale = (3, 2)
    np.testing.assert_allclose(session.points.scale, (3, 2))
    preview = session.workspace.layers.preview
    np.testing.assert_allclose(preview.data_to_world((10, 10)), (30, 20))
    session.click(30, 60)
    assert session.preview[30, 60] == 1


def test_an_image_of_nans_is_reported_in_one_sentence(annotate):
    session = annotate(np.full((40, 50), np.nan, np.float32))
    session.points.add(np.array((20, 20)))
    session.wait_for('error')
    assert 'no finite pixel' in session.workspace.status.text


def test_an_unreadable_frame_is_reported_and_the_others_stay_usable(annotate):
    frames = LazyStack(stack(3, 60, 90))
    session = annotate(frames, rgb=False, contrast_limits=(0, 255), multiscale=False)
    session.viewer.dims.set_current_step(0, 1)
    frames.broken = {1}
    session.points.add(np.array((1, 30, 40)))
    session.wait_for('error')
    assert 'the disk is gone' in session.workspace.status.text
    session.viewer.dims.set_current_step(0, 2)
    session.click(2, 30, 40)
    assert session.preview[0, 30, 40] == 1


def test_a_four_dimensional_stack_is_annotated_at_its_time_and_plane(annotate):
    session = annotate(stack(3, 4, 60, 90))
    session.viewer.dims.set_current_step(0, 2)
    session.viewer.dims.set_current_step(1, 1)
    session.click(2, 1, 30, 40)
    session.controller.objects.commit()
    assert session.labels.shape == (3, 4, 60, 90)
    assert session.labels[2, 1, 30, 40] == 1
    assert session.labels.astype(bool).sum() == session.labels[2, 1].astype(bool).sum()
    session.controller.undo()
    assert not session.labels.any()


def test_in_a_view_of_other_axes_or_in_3d_the_status_says_how_to_go_on(annotate):
    session = annotate(stack(5, 60, 90))
    session.viewer.dims.set_current_step(0, 2)
    session.click(2, 30, 40)
    session.viewer.dims.ndisplay = 3
    assert '2D' in session.workspace.status.text
    session.viewer.dims.ndisplay = 2
    session.wait_for('ready')
    session.viewer.dims.order = (1, 0, 2)
    assert '2D' in session.workspace.status.text
    session.viewer.dims.order = (0, 1, 2)
    session.wait_for('ready')
    assert session.preview[0, 30, 40] == 1


@pytest.mark.parametrize('view', ['3D', 'other axes', 'hidden'])
def test_a_prompt_where_nothing_can_be_seen_is_said_and_not_kept(annotate, view):
    session = annotate(stack(5, 60, 90))
    session.viewer.dims.set_current_step(0, 2)
    session.click(2, 30, 40)
    if view == '3D':
        session.viewer.dims.ndisplay = 3
    elif view == 'hidden':
        session.viewer.layers['scan'].visible = False
    else:
        session.viewer.dims.order = (1, 0, 2)
    said = session.workspace.status.text
    decoded = session.model.decoded
    session.points.add(np.array((2.0, 10, 80)))
    session.settle()
    session.controller.cursor.place_point()
    assert session.workspace.status.text == said
    session.viewer.dims.ndisplay = 2
    session.viewer.dims.order = (0, 1, 2)
    session.viewer.layers['scan'].visible = True
    session.wait_for('ready')
    assert session.points.data.tolist() == [[2, 30, 40]]
    assert len(session.workspace.draft.points) == 1
    assert session.model.decoded == decoded


@pytest.mark.parametrize('renamed', ['scan', 'other'])
def test_an_image_that_is_renamed_like_another_stays_chosen(annotate, renamed):
    session = annotate()
    image = session.workspace.image
    session.viewer.add_image(stack(90, 160), name='other', visible=False)
    session.settle()
    name = 'other' if renamed == 'scan' else 'scan'
    session.viewer.layers[renamed].name = name
    session.settle()
    assert session.workspace.image == image
    assert session.widget.image_choice.value == image
    session.click(45, 50)


def test_the_pixels_of_an_image_that_is_gone_are_never_taken_for_anothers():
    from napari.layers import Image

    from napari_kdsam.widgets.annotator.image_record import ImageRecord

    image = Image(stack(20, 30))
    # Each record is gone before the next one takes its place in memory.
    tokens = [ImageRecord(image, print).token(()) for _ in range(50)]
    assert len(set(tokens)) == 50
