"""Evaluation of single structures, and the scores beyond overlap."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import distance_transform_edt

pytest.importorskip('monai', reason='needs the extra "training"')

from evaluation_fakes import TRUTH, FakeSegmenter, disc, run, sample

from napari_kdsam.cli import evaluate as command
from napari_kdsam.core.ellipse import Ellipse
from napari_kdsam.training.data.samples import Sample, single_objects
from napari_kdsam.training.evaluation.clicks import generator_for, off_centre_click
from napari_kdsam.training.evaluation.metrics import circumference_error, score_mask
from napari_kdsam.training.evaluation.results import (
    EvaluationError,
    read_failures,
    read_rows,
)
from napari_kdsam.training.evaluation.segmenter import SegmentedMask
from napari_kdsam.training.evaluation.significance import (
    expected_calibration_error,
    median_with_interval,
)
from napari_kdsam.training.evaluation.tables import accuracy_table, write_report

BOXES = ('box', 'box_jittered')
# Two structures: the first on the left, the second on the right.
BOTH = np.zeros((60, 80), np.uint8)
BOTH[10:30, 5:25], BOTH[20:50, 40:70] = 1, 2
# A table of results as it was before structures were told apart.
EARLIER = (
    'data_set,split,stem,model,prompt,dice,iou,hd95_px,hd95_mm,nsd,clicks,seconds,'
    'encode_seconds\n'
    'busi,val,a,fake,box,0.9,0.82,3.5,,0.5,0,0.1,0.2\n'
    'busi,val,a,fake,box_jittered,0.8,0.67,5,1.25,0.25,0,0.1,0.2\n'
)


def heart(stem: str, mask: Any = BOTH) -> Sample:
    return sample(stem, mask, data_set='fh_ps_aop', objects=2)


class BoxFiller(FakeSegmenter):
    """Answers a box with all of it, so that a square gets exactly what it is."""

    def segment(
        self, state: Any, points: Any, labels: Any, box: Any, previous: Any
    ) -> SegmentedMask:
        self.asked.append((points, labels, box, previous))
        found = np.zeros(state, bool)
        top, left, bottom, right = (round(side) for side in box)
        found[top:bottom, left:right] = True
        return SegmentedMask(found)


def test_each_structure_is_prompted_and_scored_by_itself(tmp_path: Path) -> None:
    fake = BoxFiller(prompts=('box',))
    rows = run(single_objects([heart('a')]), tmp_path, fake, kinds=('box',))
    assert [(r.object_number, r.dice) for r in rows] == [(1, 1.0), (2, 1.0)]
    assert [asked[2] for asked in fake.asked] == [(10, 5, 30, 25), (20, 40, 50, 70)]
    assert len({row.place for row in rows}) == 2


def test_jittered_boxes_of_two_structures_are_drawn_apart(tmp_path: Path) -> None:
    twins = np.where(disc(BOTH.shape, (30, 20), 9), 1, 0).astype(np.uint8)
    twins[disc(BOTH.shape, (30, 60), 9)] = 2
    fake = BoxFiller(prompts=('box',))
    run(single_objects([heart('a', twins)]), tmp_path, fake, kinds=('box_jittered',))
    first, second = (np.array(asked[2]) for asked in fake.asked)
    assert not np.allclose(first, second - (0, 40, 0, 40))


def test_tables_have_a_line_for_each_structure_and_the_mean_of_sets(
    tmp_path: Path,
) -> None:
    samples = single_objects([sample('x'), heart('a'), heart('b')])
    rows = run(samples, tmp_path, BoxFiller(prompts=('box',)), kinds=('box',))
    lines = accuracy_table(rows).splitlines()
    squares = ' | 2 | 100.0 (100.0 to 100.0) |'
    assert '| FH-PS-AOP, pubic symphysis | fake' + squares in lines
    assert '| FH-PS-AOP, fetal head | fake' + squares in lines
    disc_dice = 100 * rows[0].dice
    # Each set counts alike, so the two structures count half each.
    assert f'| Mean of the sets | fake |  | {(disc_dice + 100) / 2:.1f} |' in lines


def test_columns_that_nobody_asked_for_are_left_out(tmp_path: Path) -> None:
    rows = run([sample('a')], tmp_path, FakeSegmenter(), kinds=('clicks_1',))
    heading = accuracy_table(rows).splitlines()[0]
    assert heading == '| Data set | Model | Objects | 1 click |'


def test_a_structure_that_is_not_there_is_listed_with_the_reason(
    tmp_path: Path,
) -> None:
    alone = np.where(BOTH == 1, BOTH, 0)
    samples = single_objects([heart('a', alone), heart('b')])
    rows = run(samples, tmp_path, FakeSegmenter(prompts=('box',)), kinds=('box',))
    assert [(r.stem, r.object_number) for r in rows] == [('a', 1), ('b', 1), ('b', 2)]
    (failure,) = read_failures(tmp_path)
    assert failure.place == ('fh_ps_aop', 'val', 'a', 2)
    assert 'no fetal head' in failure.reason


def test_a_killed_run_goes_on_at_the_next_structure(tmp_path: Path) -> None:
    samples = single_objects([heart('a'), heart('b')])
    whole = run(samples, tmp_path, FakeSegmenter(prompts=('box',)), kinds=BOXES)
    path = tmp_path / 'per_image' / 'fake.csv'
    lines = path.read_text().splitlines(keepends=True)
    # Left are the first structure of a, whole, and a half of its second.
    path.write_text(''.join(lines[: 1 + 2 + 1]))
    again = FakeSegmenter(prompts=('box',))
    rows = run(samples, tmp_path, again, kinds=BOXES)
    assert len(again.asked) == 3 * 2
    assert [(r.place, r.prompt, r.dice) for r in rows] == [
        (r.place, r.prompt, r.dice) for r in whole
    ]


def test_only_the_structures_asked_for_are_returned(tmp_path: Path) -> None:
    samples = single_objects([heart('a')])
    fake = FakeSegmenter(prompts=('box',))
    run(samples, tmp_path, fake, kinds=BOXES)
    rows = run(samples[1:], tmp_path, fake, kinds=BOXES)
    assert {row.object_number for row in rows} == {2}


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    samples = single_objects([heart('a'), sample('b', pixel_size_mm=0.25)])
    rows = run(samples, tmp_path, FakeSegmenter())
    read = read_rows(tmp_path / 'per_image' / 'fake.csv')
    for before, after in zip(rows, read, strict=True):
        assert after.place == before.place
        assert after.area_ratio == pytest.approx(before.area_ratio, rel=1e-5)
        assert after.predicted_iou == before.predicted_iou
        assert (after.circumference_error_mm is None) == (before.stem == 'a')


def test_results_of_an_earlier_version_are_still_read(tmp_path: Path) -> None:
    path = tmp_path / 'results.csv'
    path.write_text(EARLIER)
    first, second = read_rows(path)
    assert first.place == ('busi', 'val', 'a', None)
    assert (first.dice, first.hd95_mm, first.area_ratio) == (0.9, None, None)
    assert (second.hd95_mm, second.clicks, second.predicted_iou) == (1.25, 0, None)
    report = write_report([first, second], tmp_path).read_text(encoding='utf-8')
    assert '| BUSI | fake | 1 | 90.0 (90.0 to 90.0) |' in report
    assert 'Area, box' not in report


def test_results_of_an_earlier_version_are_not_mixed_with_new_ones(
    tmp_path: Path,
) -> None:
    fake = FakeSegmenter(prompts=('box',))
    run([sample('a')], tmp_path, fake, kinds=BOXES)
    path = tmp_path / 'per_image' / 'fake.csv'
    path.write_text(EARLIER)
    with pytest.raises(EvaluationError, match='earlier version.*--overwrite'):
        run([sample('b')], tmp_path, fake, kinds=BOXES)
    assert path.read_text() == EARLIER
    assert len(run([sample('b')], tmp_path, fake, kinds=BOXES, overwrite=True)) == 2


def test_the_limit_counts_images_not_structures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_samples: list[Sample] = []

    def record(samples: list[Sample], *_: Any, **__: Any) -> list[Any]:
        given_samples.extend(samples)
        return []

    images = [heart('a'), heart('b'), sample('c'), sample('d')]
    from napari_kdsam.training.data import shards
    from napari_kdsam.training.evaluation import runner

    monkeypatch.setattr(shards, 'read_shards', lambda *_: images)
    monkeypatch.setattr(runner, 'run_evaluation', record)
    command.evaluate(data=tmp_path, limit=1, out=tmp_path)
    assert [s.name for s in given_samples] == [
        'fh_ps_aop/a#1',
        'fh_ps_aop/a#2',
        'busi/c',
    ]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.text(max_size=5))
def test_an_off_centre_click_is_well_inside_and_the_same_each_time(
    seed: int, name: str
) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.random((12, 15)) < rng.uniform(0.3, 1)
    truth[3, 4] = True
    row, column = off_centre_click(truth, generator_for(name))
    assert (row, column) == off_centre_click(truth, generator_for(name))
    depth = distance_transform_edt(np.pad(truth, 1))[1:-1, 1:-1]
    assert depth[row, column] >= 0.25 * depth.max() > 0


def test_off_centre_clicks_fall_all_over_the_inner_part() -> None:
    clicks = {off_centre_click(TRUTH, generator_for(str(n))) for n in range(300)}
    assert len(clicks) > 150
    offsets = np.array(list(clicks)) - (30, 40)
    assert (offsets.min(axis=0) < -8).all()
    assert (offsets.max(axis=0) > 8).all()


def test_an_off_centre_click_is_one_click_of_its_own(tmp_path: Path) -> None:
    fake = FakeSegmenter()
    kinds = ('clicks_1', 'click_off')
    rows = {row.prompt: row for row in run([sample('a')], tmp_path, fake, kinds=kinds)}
    assert rows['click_off'].clicks == 1
    off, middle = fake.asked
    assert middle[0] == [(30.0, 40.0)] != off[0]
    assert (off[1], off[2], off[3]) == ([1], None, None)


def test_rows_tell_how_much_too_large_or_small_a_mask_is(tmp_path: Path) -> None:
    rows = {r.prompt: r for r in run([sample('a')], tmp_path, FakeSegmenter())}
    areas = {radius: disc((60, 80), (30, 40), radius).sum() for radius in (9, 14, 15)}
    assert rows['box'].area_ratio == pytest.approx(areas[14] / areas[15])
    assert rows['clicks_1'].area_ratio == pytest.approx(areas[9] / areas[15])
    assert score_mask(TRUTH, TRUTH).area_ratio == 1


def test_a_calibrated_segmenter_has_no_calibration_error() -> None:
    achieved = np.random.default_rng(0).uniform(0, 1, 500)
    assert expected_calibration_error(achieved, achieved) == pytest.approx(0)
    # Right in the mean of a bin is calibrated, too.
    assert expected_calibration_error([0.85, 0.85], [0.75, 0.95]) == pytest.approx(0)


def test_an_overconfident_segmenter_is_off_by_its_overconfidence() -> None:
    achieved = np.linspace(0.05, 0.65, 200)
    assert expected_calibration_error(achieved + 0.3, achieved) == pytest.approx(0.3)
    assert expected_calibration_error([1.2], [0.9]) == pytest.approx(0.1)
    assert math.isnan(expected_calibration_error([], []))


def test_the_table_tells_the_calibration_over_all_prompts(tmp_path: Path) -> None:
    fake = FakeSegmenter()
    fake.predicted_iou = 1.0
    rows = run([sample('a')], tmp_path, fake)
    asked = [row.iou for row in rows if not row.prompt.startswith('noc')]
    assert len(asked) == 6
    lines = accuracy_table(rows).splitlines()
    heading = next(line for line in lines if line.endswith('| ECE |'))
    line = lines[lines.index(heading) + 2]
    assert line.endswith(f'| {1 - np.mean(asked):.3f} |')


def test_models_that_predict_no_score_have_no_calibration(tmp_path: Path) -> None:
    fake = FakeSegmenter()
    fake.predicted_iou = None
    assert 'ECE |' not in accuracy_table(run([sample('a')], tmp_path, fake))


@settings(max_examples=30, deadline=None)
@given(
    st.floats(60, 110),
    st.floats(0.6, 1),
    st.floats(0, math.pi),
    st.sampled_from((0.1, 0.25)),
)
def test_the_circumference_error_of_drawn_ellipses_is_that_of_their_axes(
    major: float, thin: float, angle: float, size: float
) -> None:
    shape = (300, 300)
    truth = Ellipse(150, 150, major, major * thin, angle)
    larger = Ellipse(150, 150, major * 1.1, major * thin * 1.1, angle)
    around = truth.measurements((size, size))['circumference']
    found = circumference_error(larger.mask(shape), truth.mask(shape), size)
    assert found == pytest.approx(0.1 * around, rel=0.05)
    back = circumference_error(truth.mask(shape), larger.mask(shape), size)
    assert back == pytest.approx(-found)


def test_the_circumference_of_a_circle_is_known_in_millimetres() -> None:
    circle, nothing = disc((200, 200), (100, 100), 80), np.zeros((200, 200), bool)
    error = circumference_error(nothing, circle, 0.5)
    assert error == pytest.approx(-2 * math.pi * 40, rel=0.01)


def test_circumferences_that_err_both_ways_do_not_cancel(tmp_path: Path) -> None:
    small, large = (disc((60, 80), (30, 40), radius) for radius in (12, 16))
    images = [
        sample(name, truth, data_set='hc18', pixel_size_mm=1.0)
        for name, truth in (('a', small), ('b', large))
    ]
    # It answers with a radius of 14 to each.
    rows = run(images, tmp_path, FakeSegmenter(prompts=('box',)), kinds=('box',))
    errors = [row.circumference_error_mm for row in rows]
    assert errors[0] == pytest.approx(2 * math.pi * 2, rel=0.1)
    assert errors[1] == pytest.approx(-2 * math.pi * 2, rel=0.1)
    lines = accuracy_table(rows).splitlines()
    assert any('Circumference, box (mm)' in line for line in lines)
    assert f'| {np.mean(np.abs(errors)):.1f} (' in lines[-3]


def test_the_median_is_not_moved_by_one_image() -> None:
    found = median_with_interval([0.9, 1.0, 1.1, 1.0, 40.0])
    assert found.value == 1.0
    assert found.low < 1.0 < found.high


def test_figures_show_many_structures_and_a_picture_for_each_set(
    tmp_path: Path,
) -> None:
    pytest.importorskip('matplotlib', reason='needs matplotlib')
    from napari_kdsam.training.evaluation.figures import draw_figures

    sets = [sample('x', data_set=f'set {n}') for n in range(7)]
    samples = single_objects([*sets, heart('a')])
    fake = FakeSegmenter()
    rows = run(samples, tmp_path, fake, kinds=('box', 'clicks_1'))
    paths = draw_figures(rows, samples, ['fake'], {}, tmp_path, 'cpu', lambda *_: fake)
    assert sorted(path.stem for path in paths if path.parent.name == 'predictions') == [
        'fh_ps_aop', *(f'set {n}' for n in range(7)),
    ]  # fmt: skip
    box_plots = Image.open(tmp_path / 'figures' / 'dice_box.png')
    # Nine parts in two rows, so that a page can show them.
    width, height = box_plots.size
    assert width < 1400
    assert height > width / 3
