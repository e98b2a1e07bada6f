"""Evaluation: simulated prompts, scores, resuming, tables and figures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

pytest.importorskip('monai', reason='needs the extra "training"')

from evaluation_fakes import TRUTH, FakeSegmenter, disc, run, sample

from napari_kdsam.core.errors import ImageError, ModelNotFoundError
from napari_kdsam.training.evaluation.clicks import (
    generator_for,
    jittered_box,
    next_click,
)
from napari_kdsam.training.evaluation.folder import samples_of_folder
from napari_kdsam.training.evaluation.metrics import score_mask
from napari_kdsam.training.evaluation.results import (
    EvaluationError,
    read_failures,
    read_rows,
)
from napari_kdsam.training.evaluation.runner import run_evaluation
from napari_kdsam.training.evaluation.segmenter import SegmentedMask
from napari_kdsam.training.evaluation.significance import (
    mean_with_interval,
    paired_comparison,
    significance_mark,
)
from napari_kdsam.training.evaluation.tables import write_report


def test_first_click_is_in_the_middle_of_the_object() -> None:
    click = next_click(np.zeros_like(TRUTH), TRUTH)
    assert click == ((30, 40), 1)


def test_click_is_negative_on_the_larger_wrongly_included_part() -> None:
    extra = disc(TRUTH.shape, (30, 68), 9)
    missing = disc(TRUTH.shape, (30, 30), 3)
    click = next_click((TRUTH & ~missing) | extra, TRUTH)
    assert click == ((30, 68), 0)


def test_no_click_is_left_when_nothing_is_wrong() -> None:
    assert next_click(TRUTH, TRUTH) is None


def test_a_pixel_is_not_clicked_twice() -> None:
    first = next_click(np.zeros_like(TRUTH), TRUTH)
    assert first is not None
    second = next_click(np.zeros_like(TRUTH), TRUTH, [first[0]])
    assert second is not None
    assert second[0] != first[0]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_every_click_is_on_an_error_of_its_kind(seed: int) -> None:
    rng = np.random.default_rng(seed)
    found, truth = rng.random((2, 9, 11)) < rng.random()
    click = next_click(found, truth)
    if click is None:
        assert (found == truth).all()
        return
    (row, column), label = click
    assert found[row, column] != truth[row, column]
    assert truth[row, column] == bool(label)


@settings(max_examples=100, deadline=None)
@given(
    st.tuples(st.integers(0, 49), st.integers(0, 69), st.integers(1, 10)),
    st.floats(0, 0.45),
    st.text(max_size=5),
)
def test_jittered_box_stays_on_the_image_and_near(
    place: tuple[int, int, int], fraction: float, name: str
) -> None:
    row, column, size = place
    box = (float(row), float(column), float(row + size), float(column + size))
    moved = jittered_box(box, fraction, generator_for(name), (60, 80))
    assert moved == jittered_box(box, fraction, generator_for(name), (60, 80))
    assert moved[0] >= 0 and moved[2] <= 60 and moved[1] >= 0 and moved[3] <= 80
    assert moved[2] - moved[0] > 0.999 and moved[3] - moved[1] > 0.999
    assert np.abs(np.subtract(moved, box)).max() <= max(fraction * size, 1)


def test_equal_masks_score_best_and_an_empty_one_worst() -> None:
    best, worst = score_mask(TRUTH, TRUTH), score_mask(np.zeros_like(TRUTH), TRUTH)
    assert (best.dice, best.iou, best.hd95_px, best.nsd) == (1, 1, 0, 1)
    assert (worst.dice, worst.iou, worst.hd95_px, worst.nsd) == (0, 0, 100, 0)


def test_shifted_square_has_the_scores_worked_out_by_hand() -> None:
    truth = np.zeros((50, 50), bool)
    truth[10:30, 10:30] = True
    shifted = np.roll(truth, 5, axis=1)
    scores = score_mask(shifted, truth)
    assert scores.dice == pytest.approx(0.75)
    assert scores.iou == pytest.approx(0.6)
    assert scores.hd95_px == 5


def test_rows_tell_the_clicks_needed(tmp_path: Path) -> None:
    rows = {
        r.prompt: r
        for r in run([sample('a', pixel_size_mm=0.5)], tmp_path, FakeSegmenter())
    }
    assert list(rows) == [
        'box', 'box_jittered', 'click_off', 'clicks_1', 'clicks_3', 'clicks_5',
        'noc_85', 'noc_90',
    ]  # fmt: skip
    # Radii 9, 11, 13, 15: only the last reaches 0.85 and 0.90.
    assert (rows['noc_85'].clicks, rows['noc_90'].clicks) == (4, 4)
    assert rows['clicks_5'].dice == 1
    assert rows['clicks_1'].iou < rows['clicks_3'].iou < 0.85
    assert rows['box'].hd95_mm == pytest.approx(rows['box'].hd95_px / 2)


def test_never_reaching_the_threshold_counts_as_the_maximum(tmp_path: Path) -> None:
    fake = FakeSegmenter()
    fake.segment = lambda state, *_: SegmentedMask(disc(state, (30, 40), 5))  # type: ignore[method-assign]
    rows = {r.prompt: r for r in run([sample('a')], tmp_path, fake, max_clicks=7)}
    assert rows['noc_85'].clicks == rows['noc_90'].clicks == 7


def test_every_click_hands_on_the_answer_before(tmp_path: Path) -> None:
    fake = FakeSegmenter()
    run([sample('a')], tmp_path, fake)
    clicked = [a for a in fake.asked if a[2] is None][1:]
    assert [a[3] for a in clicked] == [None, *range(1, len(clicked))]
    assert clicked[0][:2] == ([(30.0, 40.0)], [1])


def test_a_model_without_clicks_gets_boxes_only(tmp_path: Path) -> None:
    rows = run([sample('a')], tmp_path, FakeSegmenter(prompts=('box',)))
    assert [row.prompt for row in rows] == ['box', 'box_jittered']


def test_a_killed_run_goes_on_at_the_next_image(tmp_path: Path) -> None:
    images = [sample(stem) for stem in 'abc']
    whole = run(images, tmp_path, FakeSegmenter())
    path = tmp_path / 'per_image' / 'fake.csv'
    lines = path.read_text().splitlines(keepends=True)
    # Image b has lost a row and c's first line is torn.
    path.write_text(''.join(lines[: 1 + 8 + 7]) + lines[18][:20])
    again = FakeSegmenter()
    rows = run(images, tmp_path, again)
    assert [(r.stem, r.prompt, r.clicks) for r in rows] == [
        (r.stem, r.prompt, r.clicks) for r in whole
    ]
    assert len([a for a in again.asked if a[2] is not None]) == 2 * 2
    assert [r.stem for r in read_rows(path)] == [r.stem for r in rows]


def test_names_in_tables_are_no_formulas_and_are_known_again(tmp_path: Path) -> None:
    images = [sample('=1+1'), sample('-b', np.zeros((60, 80), bool))]
    run(images, tmp_path, FakeSegmenter())
    path = tmp_path / 'per_image' / 'fake.csv'
    assert ",'=1+1," in path.read_text()
    assert {row.stem for row in read_rows(path)} == {'=1+1'}
    assert ",'-b," in (tmp_path / 'failures.csv').read_text()
    assert [failure.stem for failure in read_failures(tmp_path)] == ['-b']
    again = FakeSegmenter()
    assert len(run(images, tmp_path, again)) == 8
    assert again.asked == []


def test_other_weights_are_refused_unless_overwritten(tmp_path: Path) -> None:
    run([sample('a')], tmp_path, FakeSegmenter())
    other = FakeSegmenter()
    other.fingerprint = 'two'
    with pytest.raises(EvaluationError, match=r'\(weights\).*--overwrite'):
        run([sample('a')], tmp_path, other)
    assert len(run([sample('a')], tmp_path, other, overwrite=True)) == 8
    notes = json.loads((tmp_path / 'per_image' / 'fake.json').read_text())
    assert notes['settings']['weights'] == 'two'
    assert notes['parameters'] == 1_000_000


def test_an_unreadable_image_is_named_and_tried_again(tmp_path: Path) -> None:
    empty = sample('bad', np.zeros((60, 80), bool))
    rows = run([sample('a'), empty], tmp_path, FakeSegmenter())
    assert {row.stem for row in rows} == {'a'}
    failures = read_failures(tmp_path)
    assert [(f.stem, f.model) for f in failures] == [('bad', 'fake')]
    assert 'empty' in failures[0].reason
    run([sample('a'), sample('bad')], tmp_path, FakeSegmenter())
    assert read_failures(tmp_path) == []


def test_an_unknown_kind_of_prompt_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match='scribble'):
        run([sample('a')], tmp_path, FakeSegmenter(), kinds=('scribble',))


def test_interval_holds_the_mean_and_is_the_same_each_time() -> None:
    values = np.random.default_rng(0).normal(0.8, 0.1, 50)
    mean = mean_with_interval(values)
    assert mean.low < mean.value < mean.high
    assert mean == mean_with_interval(values)
    assert mean_with_interval([0.5]).low == 0.5


def test_paired_test_marks_a_clear_gain_and_no_difference() -> None:
    theirs = {str(i): 0.5 + i / 100 for i in range(30)}
    ours = {name: value + 0.05 for name, value in theirs.items()}
    assert significance_mark(paired_comparison(ours, theirs)) == '+++'
    assert significance_mark(paired_comparison(theirs, ours)) == '−−−'
    same = paired_comparison(theirs, dict(theirs))
    assert (same.p_value, significance_mark(same)) == (1.0, '')


def test_an_unknown_model_is_refused_before_the_first_one_runs(tmp_path: Path) -> None:
    def opener(name: str, _: str) -> FakeSegmenter:
        if name == 'unknown':
            raise ModelNotFoundError('There is no model of this name.')
        return FakeSegmenter(name)

    with pytest.raises(ModelNotFoundError):
        run_evaluation([sample('a')], ['first', 'unknown'], tmp_path, opener=opener)
    assert not list(tmp_path.rglob('*.csv'))


def test_report_has_a_line_for_each_model(tmp_path: Path) -> None:
    fakes = {
        'first': FakeSegmenter('first'),
        'second': FakeSegmenter('second', ('box',)),
    }
    rows = run_evaluation(
        [sample(str(i)) for i in range(3)],
        list(fakes),
        tmp_path,
        progress=False,
        opener=lambda name, _: fakes[name],
    )
    text = write_report(rows, tmp_path).read_text(encoding='utf-8')
    second = [line for line in text.splitlines() if '| second | 3 |' in line]
    # No clicks in the first table, and no area with one click in the other.
    assert [line.count('—') for line in second] == [6, 1]
    assert '| first | 1.0 M |' in text
    assert (tmp_path / 'summary.csv').read_text().startswith('data_set,object,model')


def test_figures_are_drawn(tmp_path: Path) -> None:
    pytest.importorskip('matplotlib', reason='needs matplotlib')
    from napari_kdsam.training.evaluation.figures import draw_figures

    fake, samples = FakeSegmenter(), [sample('a'), sample('b')]
    rows = run(samples, tmp_path, fake)
    paths = draw_figures(rows, samples, ['fake'], {}, tmp_path, 'cpu', lambda *_: fake)
    assert len(paths) == 4
    assert all(Image.open(path).size[0] > 300 for path in paths)


def test_folder_pairs_masks_by_name_and_names_the_missing(tmp_path: Path) -> None:
    (tmp_path / 'images').mkdir()
    (tmp_path / 'masks').mkdir()
    for stem in ('one', 'two', 'three'):
        Image.new('RGB', (80, 60)).save(tmp_path / 'images' / f'{stem}.jpg')
    mask = Image.fromarray(TRUTH.astype(np.uint8) * 255)
    mask.save(tmp_path / 'masks' / 'one.png')
    mask.save(tmp_path / 'masks' / 'two_segmentation.png')
    found = {item.stem: item for item in samples_of_folder(tmp_path)}
    assert sorted(found) == ['one', 'three', 'two']
    image, truth = found['two'].load()
    assert image.shape == (60, 80, 3)
    assert (truth == TRUTH).all()
    with pytest.raises(ImageError, match='three.jpg has no mask'):
        found['three'].load()


def test_grey_images_of_a_folder_are_given_to_models_as_colour(tmp_path: Path) -> None:
    for name in ('images', 'masks'):
        (tmp_path / name).mkdir()
    grey = np.random.default_rng(0).integers(0, 255, (20, 30), np.uint8)
    Image.fromarray(grey).save(tmp_path / 'images' / 'scan.png')
    Image.fromarray((grey > 90).astype(np.uint8)).save(tmp_path / 'masks' / 'scan.png')
    (sample,) = samples_of_folder(tmp_path)
    image, _ = sample.load()
    assert image.shape == (20, 30, 3)
    np.testing.assert_array_equal(image[..., 1], grey)


def test_a_folder_without_masks_is_explained(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match='images'):
        samples_of_folder(tmp_path)
