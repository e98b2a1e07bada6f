"""Overlays and contact sheets: what they show."""

from __future__ import annotations

import numpy as np
import pytest

from napari_kdsam.core.prompts import Prompt
from napari_kdsam.io.overlay import PALETTE, contact_sheet, draw_overlay


def test_an_overlay_outlines_each_object_in_its_colour_and_tints_its_inside() -> None:
    labels = np.zeros((800, 900), int)
    labels[100:300, 100:300] = 1
    labels[500:700, 500:700] = 2
    black = np.zeros(labels.shape, np.uint8)
    drawn = draw_overlay(black, labels)
    assert drawn.shape == (800, 900, 3)
    for label, corner in ((1, 100), (2, 500)):
        np.testing.assert_array_equal(drawn[corner, corner], PALETTE[label - 1])
        tint = drawn[corner + 100, corner + 100]
        assert 0 < tint.max() < PALETTE[label - 1].max()
    assert not drawn[labels == 0].any()


def test_points_inside_and_outside_differ_without_colour_too() -> None:
    image = np.zeros((800, 800), np.uint8)
    prompt = Prompt(points=[(200, 200), (600, 600)], labels=[1, 0])
    drawn = draw_overlay(image, np.zeros_like(image, int), [prompt]).astype(int)
    inside, outside = drawn[190:211, 190:211], drawn[590:611, 590:611]
    green, red = inside.sum((0, 1)), outside.sum((0, 1))
    assert green[1] > green[0]
    assert red[0] > red[1]
    bright = (inside.min(-1) > 200), (outside.min(-1) > 200)
    assert bright[0][8, 10]
    assert not bright[1][8, 10]
    assert bright[1][10, 8]


def test_boxes_are_drawn_on_dark_and_on_bright_images() -> None:
    prompt = Prompt(box=(100, 200, 700, 600))
    for level in (0, 255):
        image = np.full((800, 800), level, np.uint8)
        drawn = draw_overlay(image, np.zeros((800, 800), int), [prompt])
        changed = (drawn != level).any(-1)
        assert changed[100:103, 300].any()
        assert changed[300, 597:600].any()
        assert not changed[300, 300]


@pytest.mark.parametrize(
    ('shape', 'expected'),
    [
        ((240, 320), (720, 960)),
        ((1000, 1500), (1000, 1500)),
        ((3000, 6000), (1024, 2048)),
        ((1, 1), (8, 8)),
        ((1, 5000), (1, 2048)),
    ],
)
def test_overlays_enlarge_small_images_and_reduce_huge_ones(
    shape: tuple[int, int], expected: tuple[int, int]
) -> None:
    labels = np.ones(shape, np.uint8)
    prompt = Prompt(points=[(0, 0)], box=(0, 0, *shape))
    drawn = draw_overlay(np.zeros(shape, np.uint8), labels, [prompt])
    assert drawn.shape == (*expected, 3)


def test_a_contact_sheet_lays_frames_out_in_rows() -> None:
    tiles = [np.full((10, 20, 3), 50 * n, np.uint8) for n in range(1, 5)]
    sheet = contact_sheet(tiles)
    assert sheet.shape == (28, 76, 3)
    assert sheet[0, 56, 0] == 150
    assert sheet[18, 0, 0] == 200
    assert not sheet[18:, 28:].any()
